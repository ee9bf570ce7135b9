"""Runs a worker whose renderer waits until FOLDER/go exists: `held_worker.py FOLDER [STEP]`.

Only the renderer is fake. While it waits, it creates the file FOLDER/rendering-PID again and again.
If STEP is given, the worker kills itself at the step with the name STEP.
A render takes at least RENDER_SECONDS, an environment variable (0 if it is not set).
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from hashlib import sha256
from pathlib import Path

from anb_core.adapters.system import SystemRuntime
from anb_core.bootstrap import open_bucket, open_old_queue, open_queue, open_store
from anb_core.domain.edit import EditSpec
from anb_core.ports.renderer import Rendered, Resources
from anb_core.ports.stop import Stop
from anb_core.settings.loading import load
from anb_core.telemetry import configure_logging
from anb_core.usecases.shutdown import Shutdown
from anb_worker import app
from anb_worker.scratch import ScratchDisk, default_root
from anb_worker.settings import WorkerSettings
from anb_worker.signals import stop_on_signals


class HeldRenderer:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def render(
        self,
        source: Path,
        edit: EditSpec,  # noqa: ARG002 - the port's signature
        title: str,  # noqa: ARG002
        workdir: Path,
        *,
        on_progress: Callable[[float], None],
        on_step: Callable[[str], None],
        stop: Stop,
        resources: Resources,  # noqa: ARG002
    ) -> Rendered:
        on_step("main")
        on_progress(0.5)
        until = time.monotonic() + float(os.environ.get("RENDER_SECONDS", "0"))
        while time.monotonic() < until:
            stop.check()
            time.sleep(0.02)
        while not (self._folder / "go").exists():
            (self._folder / f"rendering-{os.getpid()}").touch()
            stop.check()
            time.sleep(0.02)
        path = workdir / "finished.mp4"
        path.write_bytes(b"finished " + source.read_bytes())
        data = path.read_bytes()
        return Rendered(path, len(data), sha256(data).hexdigest(), width=1280, height=720, duration=1.0, frames=30)


def main() -> None:
    folder, die_at = Path(sys.argv[1]), sys.argv[2:]

    def on_step(name: str) -> None:
        if name in die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    settings = load(WorkerSettings)
    configure_logging(settings.log_format, settings.log_level)
    runtime = SystemRuntime()
    shutdown = Shutdown(settings.drain, runtime)
    stop_on_signals(shutdown)
    with (
        closing(open_store(settings)) as store,
        closing(open_bucket(settings, patience=settings.heartbeat)) as objects,
        closing(open_queue(settings)) as queue,
        ScratchDisk(default_root()) as scratch,
        ExitStack() as stack,
    ):
        old_queue = open_old_queue(settings)
        if old_queue is not None:
            stack.callback(old_queue.close)
        app.run(
            settings,
            store=store,
            objects=objects,
            queue=queue,
            old_queue=old_queue,
            renderer=HeldRenderer(folder),
            scratch=scratch,
            shutdown=shutdown,
            runtime=runtime,
            on_step=on_step,
        )


if __name__ == "__main__":
    main()
