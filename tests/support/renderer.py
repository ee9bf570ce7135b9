from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from anb_core.domain.edit import EditSpec
from anb_core.ports.renderer import Rendered, Resources
from anb_core.ports.stop import Stop

SOURCE = b"a video, as its owner sent it"
FINISHED = b"the finished video"


@dataclass
class FakeRenderer:
    """A fake renderer that writes a fixed result. Each render calls `during` before it finishes."""

    during: Callable[[], None] = lambda: None

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
        assert source.read_bytes() == SOURCE
        on_step("probe")
        on_step("main")
        on_progress(0.5)
        self.during()
        stop.check()
        path = workdir / "finished.mp4"
        path.write_bytes(FINISHED)
        on_progress(1.0)
        return Rendered(path, len(FINISHED), "5a" * 32, width=1280, height=720, duration=12.5, frames=375)
