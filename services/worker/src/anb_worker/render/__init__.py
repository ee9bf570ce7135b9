"""The render engine makes a finished, verified video from an uploaded file, and implements anb_core.ports.renderer.

    engine = RenderEngine(cache_dir)    one engine per process; imported from anb_worker.render.engine
    engine.warm(stop)                   composes the project's own cards, unless the container image already has them
    engine.render(...)                  blocks the calling thread; the process may have other threads

Uploads are opened only by child processes with few rights (see sandbox). No Python code runs between fork and exec.
The callbacks run in the calling thread. An exception in a callback ends the render, and is raised to the caller.
`on_step` gets the names in STEPS, in the order of STEPS.
Several processes may share the folder `cache_dir` with the cards. Clear the folder only while no process runs.
The package's `__init__` imports nothing, so that a child process loads only the modules that the child needs.
"""
