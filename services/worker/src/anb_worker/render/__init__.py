"""The render engine: makes a finished, verified video from an uploaded file. Implements anb_core.ports.renderer.

    engine = RenderEngine(cache_dir)    one engine per process; imported from anb_worker.render.engine
    engine.warm(stop)                   composes the project's own cards, unless the container image already has them
    engine.render(...)                  blocks the calling thread; other threads may run at the same time

Uploads are opened only by child processes with few rights (see `sandbox`).
No Python code runs between fork and exec, because such code is not safe in a process with threads.
The callbacks of `render` are called in the calling thread. An exception in a callback ends the render.
`on_step` is called with each name in STEPS, in this order.
`cache_dir` is the folder with the cards. Several processes may share it. Clear it only while no such process runs.
This file imports nothing, so that a child process loads only the modules that it needs.
"""
