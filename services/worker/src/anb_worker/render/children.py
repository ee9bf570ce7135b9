"""Starts the programs that look into files, and takes what they print with a grain of salt."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import TypeAdapter

from anb_core.domain.edit import Trim
from anb_core.domain.render import OutputFacts, SourceFacts
from anb_core.ports.renderer import Stop
from anb_worker.render.sandbox import ChildLimits, blame, run_python

_LIMITS = ChildLimits(cpu_seconds=60, wall_seconds=180.0, memory_bytes=2 * 1024**3, file_bytes=0)
"""A minute of computing is a hundred times what an honest file needs."""


def look(source: Path, trim: Trim, *, max_pixels: int, workdir: Path, stop: Stop) -> SourceFacts:
    """What is in an upload; of the part that `trim` keeps, what is really there. See the program `probe`.

    Raises:
        BadInput: too_demanding, corrupt.
        Transient: the child could not do its work.
        AnbError: what `stop` was asked with.
    """
    arguments = [str(source.absolute()), str(trim.start), str(trim.length), str(max_pixels)]
    printed = _run("anb_worker.render.probe", arguments, [source], workdir, stop, of_upload=True)
    return TypeAdapter(SourceFacts).validate_json(printed)


def examine(output: Path, parts: Sequence[tuple[Path, int]], *, workdir: Path, stop: Stop) -> OutputFacts:
    """What is in a finished file that was joined from `parts`, each with its frames. See the program `verify`.

    Raises:
        Transient: the child broke, most likely because of what is in the file.
        AnbError: what `stop` was asked with.
    """
    arguments = [str(output), *(f"{frames}:{path}" for path, frames in parts)]
    printed = _run("anb_worker.render.verify", arguments, [output, *(path for path, _ in parts)], workdir, stop)
    return TypeAdapter(OutputFacts).validate_json(printed)


def _run(
    module: str, arguments: Sequence[str], read: Iterable[Path], workdir: Path, stop: Stop, *, of_upload: bool = False
) -> str:
    finished = run_python(module, arguments, workdir=workdir, stop=stop, limits=_LIMITS, read=read)
    if finished.code != 0:
        # These programs take every error of a library for the file's; only a crash gets past them.
        raise blame(finished, f"running {module}", of_upload=of_upload and finished.code < 0)
    return finished.output
