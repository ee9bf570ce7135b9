"""Starts the programs `probe`, `drawing` and `verify` as child processes, and parses their JSON output."""

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
"""The limits of each program. For an ordinary file, a program needs about a hundredth of this CPU time."""


def probe_upload(source: Path, trim: Trim, limits: InputLimits, *, workdir: Path, stop: Stop) -> SourceFacts:
    """Describe the streams of an upload, and the packets of the part that `trim` keeps. Runs the program `probe`.

    Raises:
        BadInput: the error code is `too_demanding` or `corrupt`.
        Transient: the child process failed for another reason.
        AnbError: the error of a stop request (see `Stop`).
    """
    arguments = [str(source.absolute()), str(trim.start), str(trim.length), str(limits.max_pixels)]
    arguments.append(str(limits.max_seconds))
    printed = _run("anb_worker.render.probe", arguments, [source], workdir, stop, of_upload=True)
    return TypeAdapter(SourceFacts).validate_json(printed)


def draw_title(title: str, output: Path, *, workdir: Path, stop: Stop) -> tuple[int, int] | None:
    """Draw a title into the PNG file `output` in `workdir`. Runs the program `drawing`.

    Returns the picture's width and height in pixels. If no letter can be drawn, returns None and writes no file.

    Raises:
        Transient: the child process failed.
        AnbError: the error of a stop request (see `Stop`).
    """
    # The title is passed in a file, because other users of this machine can read the command line.
    text = output.with_suffix(".json")
    text.write_text(json.dumps(title))
    return _draw("title", text, output, workdir, stop)


def fit_watermark(source: Path, output: Path, *, workdir: Path, stop: Stop) -> tuple[int, int] | None:
    """Convert an operator's watermark to the PNG file `output` in `workdir`.

    Returns the picture's width and height in pixels. Returns None when `source` is not a PNG picture.
    Raises the same errors as `draw_title`.
    """
    return _draw("watermark", source, output, workdir, stop)


def _draw(kind: str, source: Path, output: Path, workdir: Path, stop: Stop) -> tuple[int, int] | None:
    arguments = [kind, str(source.absolute()), str(output.absolute())]
    limits = replace(_LIMITS, file_bytes=16 * 1024**2)
    try:
        printed = _run("anb_worker.render.drawing", arguments, [source], workdir, stop, of_upload=True, limits=limits)
    except BadInput:
        # The title or watermark crashed the drawing program. Raise no BadInput, because the video has no fault.
        return None
    return TypeAdapter(tuple[int, int] | None).validate_json(printed)


def examine_output(output: Path, parts: Sequence[tuple[Path, int]], *, workdir: Path, stop: Stop) -> OutputFacts:
    """Describe a finished file. Runs the program `verify`.

    `parts` has the file and the number of frames of each part of the finished file.

    Raises:
        Transient: the child process failed, probably because the finished file is damaged. A new attempt may succeed.
        AnbError: the error of a stop request (see `Stop`).
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
        # The programs catch the library errors that a damaged file causes.
        # Any other exception is no fault of the file, but a crash (negative exit code) may be a fault of the file.
        raise blame(finished, f"running {module}", of_upload=of_upload and finished.code < 0)
    return finished.stdout
