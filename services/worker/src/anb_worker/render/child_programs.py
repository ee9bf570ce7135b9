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
"""The limits of each program. For an ordinary file, a program uses about a hundredth of `cpu_seconds`."""


def probe_upload(source: Path, trim: Trim, limits: InputLimits, *, workdir: Path, stop: Stop) -> SourceFacts:
    """Run the program `probe`. It describes the streams of an upload, and the part of the upload that `trim` keeps.

    Raises:
        BadInput: `too_demanding` or `corrupt`, because the upload made the child process fail.
        Transient: the child process failed for another reason.
        AnbError: another thread requested a stop (see `Stop`).
    """
    arguments = [str(source.absolute()), str(trim.start), str(trim.length), str(limits.max_pixels)]
    arguments.append(str(limits.max_seconds))
    printed = _run("anb_worker.render.probe", arguments, [source], workdir, stop, of_upload=True)
    return TypeAdapter(SourceFacts).validate_json(printed)


def draw_title(title: str, output: Path, *, workdir: Path, stop: Stop) -> tuple[int, int] | None:
    """Run the program `drawing`, which draws a title into the PNG file `output` in `workdir`.

    Returns the picture's width and height in pixels. If no letter can be drawn, returns None and writes no file.

    Raises:
        Transient: the child process failed.
        AnbError: another thread requested a stop (see `Stop`).
    """
    # Pass the title in a file, because other users of this machine can read the command line.
    text = output.with_suffix(".json")
    text.write_text(json.dumps(title))
    return _draw("title", text, output, workdir, stop)


def fit_watermark(source: Path, output: Path, *, workdir: Path, stop: Stop) -> tuple[int, int] | None:
    """Run the program `drawing`, which converts the deployment's own watermark to the PNG file `output` in `workdir`.

    Returns the picture's width and height in pixels, or None if `source` is not a PNG picture.
    Raises the same errors as `draw_title`.
    """
    return _draw("watermark", source, output, workdir, stop)


def _draw(kind: str, source: Path, output: Path, workdir: Path, stop: Stop) -> tuple[int, int] | None:
    arguments = [kind, str(source.absolute()), str(output.absolute())]
    limits = replace(_LIMITS, file_bytes=16 * 1024**2)
    try:
        printed = _run("anb_worker.render.drawing", arguments, [source], workdir, stop, of_upload=True, limits=limits)
    except BadInput:
        # The title or the watermark made the program crash. Raise no BadInput, because the upload is not the cause.
        return None
    return TypeAdapter(tuple[int, int] | None).validate_json(printed)


def examine_output(output: Path, parts: Sequence[tuple[Path, int]], *, workdir: Path, stop: Stop) -> OutputFacts:
    """Run the program `verify`, which describes a finished file.

    `parts` has the path and the number of frames of each part that was joined to make the finished file.

    Raises:
        Transient: the child process failed, probably because the finished file is damaged.
        AnbError: another thread requested a stop (see `Stop`).
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
        # The programs catch all exceptions that a damaged file causes. So the file did not cause this exception.
        # But if a signal ended the program (negative exit code), the file may have crashed it.
        raise blame(finished, f"running {module}", of_upload=of_upload and finished.code < 0)
    return finished.stdout
