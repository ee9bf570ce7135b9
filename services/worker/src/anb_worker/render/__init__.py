"""The render engine makes a finished, verified video from an uploaded file, and implements anb_core.ports.renderer.

    engine = RenderEngine(cache_dir)    from anb_worker.render.engine; once per process; starts no process yet
    engine.warm(stop)                   composes the project's own cards, unless the container image already has them
    engine.render(...)                  blocks the calling thread; the process may have other threads

Only child processes with few rights open an upload (see sandbox). No Python code runs between fork and exec.
The callbacks run in the calling thread. An exception that a callback raises ends the render and reaches the caller.
`on_step` gets the names in STEPS, in that order.
Any number of processes may share `cache_dir`, which holds the cards. Clear the folder only while no process runs.
This module imports nothing, because each child process loads only the modules that it needs.
"""
