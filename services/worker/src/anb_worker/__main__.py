"""`python -m anb_worker` runs one worker, configured by the environment, until SIGTERM or SIGINT."""

from contextlib import ExitStack, closing

from anb_core.adapters.system import SystemRuntime
from anb_core.bootstrap import open_bucket, open_old_queue, open_queue, open_store
from anb_core.domain.input_checks import InputLimits
from anb_core.settings.loading import load_or_exit
from anb_core.telemetry import configure_logging
from anb_core.usecases.shutdown import Shutdown
from anb_worker import app, sandbox_requirement
from anb_worker.render.drop_rights import protections
from anb_worker.render.engine import RenderEngine
from anb_worker.scratch import ScratchDisk, default_root
from anb_worker.settings import WorkerSettings
from anb_worker.signals import stop_on_signals


def main() -> None:
    """Run the worker until SIGTERM or SIGINT. Return after the current job is finished or interrupted."""
    settings = load_or_exit(WorkerSettings)
    configure_logging(settings.log_format, settings.log_level)
    if settings.sandbox == "require":
        sandbox_requirement.demand(protections())
    runtime = SystemRuntime()
    shutdown = Shutdown(settings.drain, runtime)
    stop_on_signals(shutdown)
    with (
        closing(open_store(settings)) as store,
        closing(open_bucket(settings, patience=settings.heartbeat)) as objects,
        closing(open_queue(settings)) as queue,
        ScratchDisk(default_root(), limit=settings.scratch_limit) as scratch,
        ExitStack() as stack,
    ):
        old_queue = open_old_queue(settings)
        if old_queue is not None:
            stack.callback(old_queue.close)
        limits = InputLimits(max_seconds=settings.max_duration.total_seconds())
        engine = RenderEngine(scratch.cache, input_limits=limits)
        app.run(
            settings,
            store=store,
            objects=objects,
            queue=queue,
            old_queue=old_queue,
            renderer=engine,
            scratch=scratch,
            shutdown=shutdown,
            runtime=runtime,
            prepare=engine.warm,
        )


if __name__ == "__main__":
    main()
