"""Starts the programs `probe`, `drawing` and `verify` as child processes, and checks the JSON that they print."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import TypeAdapter

from anb_core.domain.edit import Trim
from anb_core.domain.errors import BadInput
from anb_core.domain.input_checks import InputLimits
from anb_core.domain.output_checks import OutputFacts
from anb_core.domain.source_facts import SourceFacts
from anb_core.ports.stop import Stop
from anb_worker.render.sandbox import ChildLimits, blame, run_python

_LIMITS = ChildLimits(cpu_seconds=60, wall_seconds=180.0, memory_bytes=2 * 1024**3, file_bytes=0)
"""A minute of computing is a hundred times what an honest file needs."""


def probe_upload(source: Path, trim: Trim, limits: InputLimits, *, workdir: Path, stop: Stop) -> SourceFacts:
    """What is in an upload; of the part that `trim` keeps, what is really there. See the program `probe`.

    Raises:
        BadInput: too_demanding, corrupt.
        Transient: the child could not do its work.
        AnbError: what `stop` was asked with.
    """
    arguments = [str(source.absolute()), str(trim.start), str(trim.length), str(limits.max_pixels)]
    arguments.append(str(limits.max_seconds))
    printed = _run("anb_worker.render.probe", arguments, [source], workdir, stop, of_upload=True)
    return TypeAdapter(SourceFacts).validate_json(printed)


def draw_title(title: str, output: Path, *, workdir: Path, stop: Stop) -> tuple[int, int] | None:
    """Draw a title into a PNG file in `workdir`; its width and height, or None where nothing of it can be drawn, and
    there is no file. See the program `drawing`.

    Raises:
        Transient: the child could not do its work.
        AnbError: what `stop` was asked with.
    """
    # Not on the command line, which others on this machine can read.
    text = output.with_suffix(".json")
    text.write_text(json.dumps(title))
    return _draw("title", text, output, workdir, stop)


def fit_watermark(given: Path, output: Path, *, workdir: Path, stop: Stop) -> tuple[int, int] | None:
    """Bring an operator's watermark into a PNG file in `workdir`; its width and height, or None when it is no picture.

    Raises as `draw_title` does.
    """
    return _draw("watermark", given, output, workdir, stop)


def _draw(what: str, source: Path, output: Path, workdir: Path, stop: Stop) -> tuple[int, int] | None:
    arguments = [what, str(source.absolute()), str(output.absolute())]
    limits = replace(_LIMITS, file_bytes=16 * 1024**2)
    try:
        printed = _run("anb_worker.render.drawing", arguments, [source], workdir, stop, of_upload=True, limits=limits)
    except BadInput:
        # What breaks the one that draws it can't be drawn; that is no reason to refuse the video.
        return None
    return TypeAdapter(tuple[int, int] | None).validate_json(printed)


def examine_output(output: Path, parts: Sequence[tuple[Path, int]], *, workdir: Path, stop: Stop) -> OutputFacts:
    """What is in a finished file that was joined from `parts`, each with its frames. See the program `verify`.

    Raises:
        Transient: the child broke, most likely because of what is in the file.
        AnbError: what `stop` was asked with.
    """
    arguments = [str(output), *(f"{frames}:{path}" for path, frames in parts)]
    printed = _run("anb_worker.render.verify", arguments, [output, *(path for path, _ in parts)], workdir, stop)
    return TypeAdapter(OutputFacts).validate_json(printed)


def _run(
    module: str,
    arguments: Sequence[str],
    read: Iterable[Path],
    workdir: Path,
    stop: Stop,
    *,
    of_upload: bool = False,
    limits: ChildLimits = _LIMITS,
) -> str:
    finished = run_python(module, arguments, workdir=workdir, stop=stop, limits=limits, read=read)
    if finished.code != 0:
        # These programs take every error of a library for the file's; only a crash gets past them.
        raise blame(finished, f"running {module}", of_upload=of_upload and finished.code < 0)
    return finished.stdout
