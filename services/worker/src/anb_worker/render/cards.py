"""A cache of intros, outros and watermarks that a render can use without further work.

The cache is a folder, which several processes may share. Each entry is a subfolder.
A process makes an entry under another name while it holds a lock. It then renames the complete entry.
The name of an entry contains a digest of everything that the entry depends on.
The digest covers the code that makes the entry, and the name of the ffmpeg binary.
For an entry that is made from a file of the deployment, the digest also covers this file.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from anb_core import domain
from anb_core.domain.decoding_checks import check_pictures, check_sound
from anb_core.domain.edit import EditSpec, Switch, Trim
from anb_core.domain.errors import BadInput, Transient
from anb_core.domain.input_checks import InputLimits
from anb_core.domain.output_format import FPS
from anb_core.domain.render_plan import plan_render
from anb_core.ports.stop import Stop
from anb_worker.render.child_programs import fit_watermark, probe_upload
from anb_worker.render.ffmpeg_commands import (
    CARD_QUALITY,
    MASTER_QUALITY,
    Tool,
    card_command,
    extract_command,
    parse_moments,
    parse_spans,
    picture_command,
    take_two_channels,
)
from anb_worker.render.layout import CARD_SECONDS
from anb_worker.render.sandbox import ChildLimits, blame, run, run_python

_ONLY_MAIN = EditSpec(watermark=Switch(enabled=False), intro=Switch(enabled=False), outro=Switch(enabled=False))
_KEPT = 4
"""Maximum number of entries of each kind. The kinds are `intro`, `outro`, `watermark` and `own` (see `Cards`).
Older entries are kept because a running render may still use them."""


@dataclass(frozen=True, slots=True)
class Card:
    """An intro or outro that can be joined to a main part without another encoding."""

    picture: Path
    """An MP4 file that has only the video stream."""
    frames: int
    """The length of the card, as a number of frames of the output."""
    sound: Path | None = None
    """A NUT file with the sound, made by `extract_command`. None means silence."""
    takes_title: bool = False
    """Whether the video's title is drawn over the card."""


class Cards:
    """Returns cards and watermarks from the folders `shipped` (read-only) and `folder`. Makes missing ones in `folder`.

    The argument `operator_file` is the deployment's own file. None means the project's own intro, outro or watermark.

    Raises:
        OSError: the disk failed or is full.
        Transient: `bad_resource` if the deployment's own file can't be used.
        AnbError: another thread requested a stop (see `Stop`).
    """

    def __init__(
        self, folder: Path, shipped: Path, tool: Tool, input_limits: InputLimits, child_limits: ChildLimits
    ) -> None:
        self._folder = folder
        self._shipped = shipped
        self._tool = tool
        self._input_limits = input_limits
        self._child_limits = child_limits
        self._code = _digest_of_code()
        self._digests: dict[Path, str] = {}

    def intro(self, operator_file: Path | None, stop: Stop) -> Card:
        """Return the intro. A render draws the video's title only over the project's own intro."""
        if operator_file is not None:
            return self._operator_card("intro", operator_file, stop)
        return Card(self.project_parts(stop) / "intro.mp4", round(CARD_SECONDS * FPS), takes_title=True)

    def outro(self, operator_file: Path | None, stop: Stop) -> Card:
        """Return the outro."""
        if operator_file is not None:
            return self._operator_card("outro", operator_file, stop)
        return Card(self.project_parts(stop) / "outro.mp4", round(CARD_SECONDS * FPS))

    def watermark(self, operator_file: Path | None, stop: Stop) -> Path:
        """Return the watermark as a PNG file."""
        if operator_file is None:
            return self.project_parts(stop) / "watermark.png"

        def fit(entry: Path) -> None:
            if fit_watermark(operator_file, entry / "watermark.png", workdir=entry, stop=stop) is None:
                raise Transient("bad_resource", "The operator's watermark can't be used: it is not a PNG picture.")

        name = self._name("watermark", operator_file)
        return self._entry(name, fit, stop) / "watermark.png"

    def project_parts(self, stop: Stop) -> Path:
        """Return the folder with the project's own intro, outro and watermark. Creating it takes 10 seconds."""
        name = self._name("own")
        return self._entry(name, self._compose(stop), stop)

    def _compose(self, stop: Stop) -> Callable[[Path], None]:
        def compose(entry: Path) -> None:
            arguments = [str(entry)]
            finished = run_python(
                "anb_worker.render.composing", arguments, workdir=entry, stop=stop, limits=self._child_limits
            )
            if finished.code != 0:
                raise blame(finished, "composing the cards")
            for name, quality in (("intro", MASTER_QUALITY), ("outro", CARD_QUALITY)):
                drawn = entry / f"{name}.mov"
                command = card_command(self._tool, drawn, round(CARD_SECONDS * FPS), quality, entry / f"{name}.mp4")
                self._run(command, entry, stop, "encoding the cards")
                drawn.unlink()

        return compose

    def _operator_card(self, role: str, operator_file: Path, stop: Stop) -> Card:
        def normalise(entry: Path) -> None:
            source = probe_upload(operator_file, Trim(), self._input_limits, workdir=entry, stop=stop)
            plan = plan_render(source, _ONLY_MAIN, self._input_limits, intro_frames=0, outro_frames=0)
            decoded = entry / "decoded.txt"
            picture = picture_command(
                self._tool, plan, operator_file, watermark=None, output=entry / "picture.mp4", decoded=decoded
            )
            self._run(picture, entry, stop, f"reading the operator's {role}", operator_file)
            check_pictures(plan, parse_moments(decoded.read_text()))
            if plan.audio_index is not None:
                sound = extract_command(self._tool, plan, operator_file, entry / "sound.nut", decoded)
                self._run(sound, entry, stop, f"reading the operator's {role}", operator_file)
                check_sound(plan, parse_spans(decoded.read_text()))
            decoded.unlink()
            (entry / "card.json").write_text(json.dumps({"frames": plan.frames}))

        name = self._name(role, operator_file)
        try:
            entry = self._entry(name, normalise, stop)
        except BadInput as error:
            raise Transient("bad_resource", f"The operator's {role} can't be used: {error.message}") from error
        sound = entry / "sound.nut"
        frames = json.loads((entry / "card.json").read_text())["frames"]
        return Card(entry / "picture.mp4", frames, sound if sound.exists() else None)

    def _run(self, command: list[str], workdir: Path, stop: Stop, doing: str, *read: Path) -> None:
        """Run an ffmpeg command. If the command reads the deployment's own file, `read` is the path of this file.

        Raises:
            BadInput: the file is damaged.
        """
        finished = run(command, workdir=workdir, stop=stop, limits=self._child_limits, read=read)
        if finished.code != 0 and (unmixed := take_two_channels(command, finished.stderr)):
            finished = run(unmixed, workdir=workdir, stop=stop, limits=self._child_limits, read=read)
        if finished.code != 0:
            raise blame(finished, doing, of_upload=bool(read))

    def _name(self, role: str, operator_file: Path | None = None) -> str:
        """Return the name of a cache entry: `role`, a hyphen, and a digest of everything that the entry depends on.

        `role` is the kind of the entry: `intro`, `outro`, `watermark` or `own`.
        """
        digest = hashlib.sha256(self._tool.path.name.encode() + self._code)
        if operator_file is not None:
            if operator_file not in self._digests:
                with operator_file.open("rb") as file:
                    self._digests[operator_file] = hashlib.file_digest(file, "sha256").hexdigest()
            digest.update(self._digests[operator_file].encode())
        return f"{role}-{digest.hexdigest()[:32]}"

    def _entry(self, name: str, make: Callable[[Path], None], stop: Stop) -> Path:
        shipped = self._shipped / name
        if shipped.is_dir():
            return shipped
        entry = self._folder / name
        if not entry.is_dir():
            self._folder.mkdir(parents=True, exist_ok=True)
            with _locked(self._folder / "lock", stop):
                if not entry.is_dir():
                    arriving = self._folder / "arriving"
                    # The folder exists if another process was killed while it made an entry.
                    shutil.rmtree(arriving, ignore_errors=True)
                    self._make_room(name.partition("-")[0], arriving)
                    arriving.mkdir()
                    try:
                        make(arriving)
                        _sync(arriving)
                        arriving.rename(entry)
                    finally:
                        shutil.rmtree(arriving, ignore_errors=True)
        with suppress(OSError):
            # The modification time records the entry's last use. Ignore the error in a read-only folder.
            os.utime(entry)
        return entry

    def _make_room(self, role: str, trash: Path) -> None:
        """Remove the least recently used entries whose names begin with `role`. Keep at most _KEPT - 1 of them."""
        entries = sorted(self._folder.glob(f"{role}-*"), key=lambda entry: entry.stat().st_mtime)
        for entry in entries[: 1 - _KEPT]:
            # Rename the entry first, so that no other process uses the entry while its files are removed.
            shutil.rmtree(entry.rename(trash), ignore_errors=True)


def _digest_of_code() -> bytes:
    """Return a digest of all code on which the content of an entry may depend.

    The digest covers more code than necessary. A change of the other code makes a new entry, which only costs seconds.
    If the digest covered too little code, an outdated entry would be used.
    """
    digest = hashlib.sha256()
    for folder in (Path(domain.__file__).parent, Path(__file__).parent):
        for file in sorted(folder.rglob("*.py")):
            digest.update(file.read_bytes())
    return digest.digest()


def _locked(path: Path, stop: Stop) -> AbstractContextManager[object]:
    """Wait for an exclusive file lock. The lock is released at the end of the `with` block."""

    def give_up() -> bool:
        stop.check()
        return False

    # If the process dies, the kernel releases this lock. A soft lock is only a file, which would remain.
    return FileLock(path, poll_interval=0.1, fallback_to_soft=False).acquire(cancel_check=give_up)


def _sync(folder: Path) -> None:
    """Flush a folder and its files to disk (fsync). Otherwise a crash after the rename could leave incomplete files."""
    for path in (*folder.iterdir(), folder):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
