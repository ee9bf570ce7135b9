"""The render engine: an uploaded file goes in, the finished video comes out, verified (anb_core.ports.renderer says how
it is used).

    engine = RenderEngine(cache_dir)    from anb_worker.render.engine, once a process; it starts and reads nothing yet
    engine.warm(stop)                   composes the project's own cards ahead, so that no job waits for them; in an
                                        image they are composed already
    engine.render(...)                  blocks the calling thread; may be called in a process with many threads

An upload is opened only in children with few rights (see sandbox); no code runs between fork and exec. The callbacks
are called in the calling thread, an error that they raise kills the render and passes through. `on_step` gets the names
in STEPS, in that order. `cache_dir` holds the cards, and may be shared by any number of processes; whatever is in it
can be deleted while none of them runs. Nothing is imported here: children start with a part of this package only.
"""
