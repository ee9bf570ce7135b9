"""`python -m anb_worker`: one worker, configured by the environment, until SIGTERM or SIGINT."""

from anb_core.adapters.system import SystemRuntime
from anb_core.bootstrap import build
from anb_core.domain.input_checks import InputLimits
from anb_core.settings.capabilities import Settings
from anb_core.settings.loading import load_or_exit
from anb_core.telemetry import configure_logging
from anb_core.usecases.shutdown import Shutdown
from anb_worker import app, confinement
from anb_worker.render.drop_rights import protections
from anb_worker.render.engine import RenderEngine
from anb_worker.scratch import ScratchDisk, default_root
from anb_worker.signals import stop_on_signals


def main() -> None:
    """Run until told to stop; the exit code is 0 after a clean drain."""
    settings = load_or_exit(Settings)
    configure_logging(settings.log_format, settings.log_level)
    if settings.sandbox == "require":
        confinement.demand(protections())
    runtime = SystemRuntime()
    shutdown = Shutdown(settings.drain, runtime)
    stop_on_signals(shutdown)
    with build(settings) as core, ScratchDisk(default_root(), limit=settings.scratch_limit) as scratch:
        limits = InputLimits(max_seconds=settings.max_duration.total_seconds())
        engine = RenderEngine(scratch.cache, input_limits=limits)
        app.run(core, engine, scratch=scratch, shutdown=shutdown, runtime=runtime, prepare=engine.warm)


if __name__ == "__main__":
    main()
