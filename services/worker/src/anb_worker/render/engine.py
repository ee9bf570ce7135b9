"""The render engine: runs the steps of a render, from the uploaded file to the verified result.

`python -m anb_worker.render.engine` composes the project's own cards in the folder SHIPPED.
The build of the container image runs this program.
"""

import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import imageio_ffmpeg
import structlog

from anb_core.domain.decoding_checks import check_pictures, check_sound
from anb_core.domain.edit import EditSpec
from anb_core.domain.errors import Transient
from anb_core.domain.input_checks import InputLimits
from anb_core.domain.output_checks import find_flaws
from anb_core.domain.output_format import HEIGHT, WIDTH
from anb_core.domain.render_plan import RenderPlan, plan_render
from anb_core.ports.renderer import Rendered, Resources
from anb_core.ports.stop import Stop
from anb_worker.render import ffmpeg_commands
from anb_worker.render.beside import Beside
from anb_worker.render.cards import Card, Cards
from anb_worker.render.child_programs import draw_title, examine_output, probe_upload
from anb_worker.render.drop_rights import protections
from anb_worker.render.ffmpeg_commands import Sound, Tool
from anb_worker.render.layout import TITLE_MIDDLE
from anb_worker.render.processors import has_room_beside, processors
from anb_worker.render.sandbox import ChildLimits, blame, run

_log = structlog.get_logger(__name__)

SHIPPED = Path(sys.prefix) / "share" / "anb-video" / "cards"
"""The folder for the project's own cards that were composed when the worker was installed. It may be missing."""

_MAX_ALLOC_BYTES = 512 * 1024**2
"""The largest block of memory that ffmpeg may allocate, in bytes."""
_MOST_THREADS = 8
"""Maximum number of threads. More threads would use more memory, but not encode 720p faster."""


class RenderEngine:
    """Makes finished videos with ffmpeg. Implements anb_core.ports.renderer.Renderer.

    `cache_dir` is the folder for the cache of cards.
    `shipped` is a read-only folder with the project's own cards, and may be missing.
    `ffmpeg` is the path of the ffmpeg binary. The default is the binary of the package imageio-ffmpeg.
    `threads` is the number of threads. The default is the number of processors, but at most 8.
    """

    def __init__(
        self,
        cache_dir: Path,
        *,
        shipped: Path = SHIPPED,
        ffmpeg: Path | None = None,
        threads: int | None = None,
        input_limits: InputLimits | None = None,
        child_limits: ChildLimits | None = None,
    ) -> None:
        self._input_limits = input_limits or InputLimits()
        self._child_limits = child_limits or ChildLimits()
        self._tool = Tool(
            path=(ffmpeg or Path(imageio_ffmpeg.get_ffmpeg_exe())).absolute(),
            max_pixels=self._input_limits.max_pixels,
            max_alloc=_MAX_ALLOC_BYTES,
            threads=threads or min(_MOST_THREADS, processors()),
        )
        self._alone = self._tool.threads == 1 or not has_room_beside(self._tool.threads)
        self._cards = Cards(cache_dir.absolute(), shipped, self._tool, self._input_limits, self._child_limits)

    def warm(self, stop: Stop) -> None:
        """Compose the project's own cards if they do not exist, so that the first job need not wait 10 seconds.

        Logs a warning if this system lacks a protection of the sandbox.

        Raises:
            Transient: the cards can't be composed.
            AnbError: another thread requested a stop (see `Stop`).
        """
        self._check_tool()
        if missing := [name for name, holds in protections().items() if not holds]:
            _log.warning("this system lacks protections for the children that read uploads", missing=missing)
        self._cards.project_parts(stop)

    def render(
        self,
        source: Path,
        edit: EditSpec,
        title: str,
        workdir: Path,
        *,
        on_progress: Callable[[float], None],
        on_step: Callable[[str], None],
        stop: Stop,
        resources: Resources,
    ) -> Rendered:
        """Make a finished video. See anb_core.ports.renderer."""
        self._check_tool()
        with Beside(stop, alone=self._alone) as beside:
            render = _Render(
                beside=beside,
                tool=self._tool,
                input_limits=self._input_limits,
                child_limits=self._child_limits,
                cards=self._cards,
                source=source.absolute(),
                edit=edit,
                title=title,
                workdir=workdir.absolute(),
                stop=stop,
                resources=resources,
            )
            for name, begin, end, step in _TABLE:
                on_step(name)
                on_progress(begin)
                step(render, _scaled(on_progress, begin, end))
                stop.check()
        on_progress(1.0)
        return render.rendered()

    def _check_tool(self) -> None:
        if not os.access(self._tool.path, os.X_OK):
            raise Transient("ffmpeg_missing", f"There is no ffmpeg at {self._tool.path}: install imageio-ffmpeg.")


@dataclass(slots=True, kw_only=True)
class _Render:
    """The state of one render. Each step is a method, which uses the fields and files that earlier steps have set."""

    beside: Beside
    tool: Tool
    input_limits: InputLimits
    child_limits: ChildLimits
    cards: Cards
    source: Path
    edit: EditSpec
    title: str
    workdir: Path
    stop: Stop
    resources: Resources
    plan: RenderPlan = field(init=False)
    intro: Card = field(init=False)
    outro: Card = field(init=False)
    await_sound: Callable[[], None] = field(init=False)
    await_title: Callable[[], None] = field(init=False)

    def probe(self, _report: Callable[[float], None]) -> None:
        """Probe the upload, get the cards, and plan the render. This step rejects most unusable uploads.

        Sound and title need only the plan, so they are made beside the picture.
        """
        facts = probe_upload(self.source, self.edit.trim, self.input_limits, workdir=self.workdir, stop=self.stop)
        # First plan without cards, to reject an unusable upload before a card has to be made.
        plan_render(facts, self.edit, self.input_limits, intro_frames=0, outro_frames=0)
        if self.edit.intro.enabled:
            self.intro = self.cards.intro(self.resources.intro, self.stop)
        if self.edit.outro.enabled:
            self.outro = self.cards.outro(self.resources.outro, self.stop)
        self.plan = plan_render(
            facts,
            self.edit,
            self.input_limits,
            intro_frames=self.intro.frames if self.edit.intro.enabled else 0,
            outro_frames=self.outro.frames if self.edit.outro.enabled else 0,
        )
        self.await_sound = self.beside.start(self._make_sound)
        self.await_title = self.beside.start(self._lay_title)

    def main(self, report: Callable[[float], None]) -> None:
        """Render the picture of the main part. This step takes about 90 % of the time."""
        watermark = None
        if self.plan.watermark:
            watermark = self.cards.watermark(self.resources.watermark, self.stop)
        decoded = self.workdir / "decoded.txt"
        command = ffmpeg_commands.picture_command(
            self.tool, self.plan, self.source, watermark=watermark, output=self._file("main.mp4"), decoded=decoded
        )
        read = [self.source] if watermark is None else [self.source, watermark]

        def on_line(line: str) -> None:
            name, _, value = line.partition("=")
            if name == "frame" and value.strip().isdigit():
                report(min(1.0, int(value) / self.plan.main_frames))

        self._run(command, "rendering the picture", read, on_line, of_upload=True)
        check_pictures(self.plan, ffmpeg_commands.parse_moments(decoded.read_text()))

    def join(self, _report: Callable[[float], None]) -> None:
        """Join the pictures of the parts without encoding them again, and add the sound."""
        listing = self._file("parts.txt")
        if self.plan.outro_frames:
            shutil.copyfile(self.outro.picture, self._file("outro.mp4"))
        listing.write_text(ffmpeg_commands.join_list([(path.name, frames) for path, frames in self._parts()]))
        command = ffmpeg_commands.join_command(self.tool, listing, self._file("sound.mp4"), self._file("output.mp4"))
        self._run(command, "joining the parts")

    def verify(self, _report: Callable[[float], None]) -> None:
        """Check the finished file. ffmpeg may exit with code 0 even if its output is wrong."""
        facts = examine_output(self._file("output.mp4"), self._parts(), workdir=self.workdir, stop=self.stop)
        flaws = find_flaws(facts, frames=self.plan.frames)
        if flaws:
            raise Transient("verification_failed", f"The output is not what was planned: {'; '.join(flaws)}.")

    def rendered(self) -> Rendered:
        """Return the finished file with its size, checksum and duration."""
        path = self._file("output.mp4")
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = os.fstat(file.fileno()).st_size
        plan = self.plan
        return Rendered(path, size, digest, width=WIDTH, height=HEIGHT, duration=plan.duration, frames=plan.frames)

    def _make_sound(self, stop: Stop) -> None:
        """Decode the sound of the main part, and encode the sound of the finished video."""
        main = None
        if self.plan.audio_index is not None:
            main, decoded = self._file("main.nut"), self._file("heard.txt")
            command = ffmpeg_commands.extract_command(self.tool, self.plan, self.source, main, decoded)
            self._run(command, "reading the sound", [self.source], of_upload=True, stop=stop)
            check_sound(self.plan, ffmpeg_commands.parse_spans(decoded.read_text()))
        sounds = [Sound(self.plan.main_frames, main)]
        if self.plan.intro_frames:
            sounds.insert(0, Sound(self.plan.intro_frames, self.intro.sound))
        if self.plan.outro_frames:
            sounds.append(Sound(self.plan.outro_frames, self.outro.sound))
        command = ffmpeg_commands.sound_command(self.tool, sounds, self._file("sound.mp4"))
        read = [Path(sound.file) for sound in sounds if sound.file is not None]
        self._run(command, "making the sound", read, stop=stop)

    def _lay_title(self, stop: Stop) -> None:
        """Draw the title over the project's own intro. The deployment's own intro is copied and gets no title."""
        if not self.plan.intro_frames:
            return
        picture = self._file("title.png")
        size = None
        if self.intro.takes_title:
            size = draw_title(self.title, picture, workdir=self.workdir, stop=stop)
        if size is None:
            shutil.copyfile(self.intro.picture, self._file("intro.mp4"))
            return
        command = ffmpeg_commands.title_command(
            replace(self.tool, threads=1),  # the picture takes longer in any case, and more threads take more memory
            self.intro.picture,
            self.plan.intro_frames,
            title=picture,
            top_left=((WIDTH - size[0]) // 2, TITLE_MIDDLE - size[1] // 2),
            output=self._file("intro.mp4"),
        )
        self._run(command, "laying the title over the intro", [self.intro.picture], stop=stop)

    def _parts(self) -> list[tuple[Path, int]]:
        """Return the path and the number of frames of each part of the finished file, in order."""
        frames = {"intro": self.plan.intro_frames, "main": self.plan.main_frames, "outro": self.plan.outro_frames}
        return [(self._file(f"{name}.mp4"), count) for name, count in frames.items() if count]

    def _file(self, name: str) -> Path:
        return self.workdir / name

    def _run(
        self,
        command: list[str],
        doing: str,
        read: Sequence[Path] = (),
        on_line: Callable[[str], None] = lambda _: None,
        *,
        of_upload: bool = False,
        stop: Stop | None = None,
    ) -> None:
        """Run an ffmpeg command. Work beside the steps passes its own `stop`."""
        workdir, stop, limits = self.workdir, stop or self.stop, self.child_limits
        finished = run(command, workdir=workdir, stop=stop, limits=limits, read=read, on_line=on_line)
        if finished.code != 0 and (unmixed := ffmpeg_commands.take_two_channels(command, finished.stderr)):
            finished = run(unmixed, workdir=workdir, stop=stop, limits=limits, read=read)
        if finished.code != 0:
            raise blame(finished, doing, of_upload=of_upload)


# Each step has a name, the progress of the render at its start and at its end, and a method.
# The progress values are based on measured durations of the steps.
_TABLE: tuple[tuple[str, float, float, Callable[[_Render, Callable[[float], None]], None]], ...] = (
    ("probe", 0.0, 0.03, _Render.probe),
    ("main", 0.03, 0.88, _Render.main),
    ("audio", 0.88, 0.92, lambda render, _: render.await_sound()),
    ("title", 0.92, 0.97, lambda render, _: render.await_title()),
    ("join", 0.97, 0.98, _Render.join),
    ("verify", 0.98, 1.0, _Render.verify),
)

STEPS = tuple(name for name, *_ in _TABLE)
"""The names of the steps, in the order of their execution."""


def _scaled(on_progress: Callable[[float], None], begin: float, end: float) -> Callable[[float], None]:
    """Return a callback that converts the progress of a step (0 to 1) to that of the render (`begin` to `end`)."""
    return lambda share: on_progress(begin + share * (end - begin))


if __name__ == "__main__":
    RenderEngine(SHIPPED).warm(Stop())
