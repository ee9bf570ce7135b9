"""Tests that the step `verify` of a render detects every fault in a file that was joined from parts."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

import av
import imageio_ffmpeg
import pytest
from pydantic import TypeAdapter

from anb_core.domain.output_checks import OutputFacts
from anb_core.ports.stop import Stop
from anb_worker.render import ffmpeg_commands
from anb_worker.render.child_programs import examine_output
from anb_worker.render.ffmpeg_commands import CARD_QUALITY, Sound, Tool
from tests.support.rendering import make_clip, run_here

TOOL = Tool(Path(imageio_ffmpeg.get_ffmpeg_exe()), max_pixels=10**6, max_alloc=2**28, threads=1)
LENGTHS = (1, 2, 3, 5)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Encoded video files. Each key is a number of frames. The tests join the files to one video."""
    folder = tmp_path_factory.mktemp("parts")
    drawn = make_clip(folder / "drawn.mp4", "-f", "lavfi", "-i", "testsrc2=s=160x90:r=30:d=0.2", "-c:v", "libx264")
    made = {frames: folder / f"{frames}.mp4" for frames in LENGTHS}
    for frames, path in made.items():
        run(ffmpeg_commands.card_command(TOOL, drawn, frames, CARD_QUALITY, path))
    return made


def run(command: Sequence[str]) -> None:
    subprocess.run(command, check=True, capture_output=True)


def join(paths: Sequence[Path], frames: Sequence[int], folder: Path) -> Path:
    listing, sound, output = folder / "parts.txt", folder / "sound.mp4", folder / "output.mp4"
    listing.write_text(
        ffmpeg_commands.join_list([(str(path), count) for path, count in zip(paths, frames, strict=True)])
    )
    run(ffmpeg_commands.sound_command(TOOL, [Sound(sum(frames))], sound))
    command = ffmpeg_commands.join_command(TOOL, listing, sound, output)
    run([*command[: command.index("concat") + 1], "-safe", "0", *command[command.index("concat") + 1 :]])
    return output


def examine(output: Path, expected: Sequence[tuple[Path, int]]) -> OutputFacts:
    return examine_output(output, expected, workdir=output.parent, stop=Stop())


@pytest.mark.parametrize("frames", [(1,), (1, 1, 1), (5, 1, 5), (2, 2), (5, 2, 5), (1, 5), (5, 3), (3, 1)], ids=str)
def test_parts_of_a_few_pictures_are_fine(parts: dict[int, Path], tmp_path: Path, frames: tuple[int, ...]) -> None:
    paths = [parts[count] for count in frames]
    facts = examine(join(paths, frames, tmp_path), list(zip(paths, frames, strict=True)))
    assert (facts.frames, facts.uneven_frames, facts.undecodable_parts, facts.unlike_parts) == (sum(frames), 0, 0, 0)


def test_the_facts_are_the_same_in_the_sandbox_as_without_it(parts: dict[int, Path], tmp_path: Path) -> None:
    frames = (5, 1, 5)
    expected = [(parts[count], count) for count in frames]
    output = join([path for path, _ in expected], frames, tmp_path)
    printed = run_here("anb_worker.render.verify", output, *(f"{count}:{path}" for path, count in expected))
    assert TypeAdapter(OutputFacts).validate_json(printed) == examine(output, expected)


@pytest.mark.parametrize("expected", [(2, 9), (4, 7), (11, 1)], ids=["a later picture", "one out of turn", "none"])
def test_a_part_that_begins_with_no_key_frame_is_noticed(
    parts: dict[int, Path], tmp_path: Path, expected: tuple[int, int]
) -> None:
    output = join([parts[5], parts[1], parts[5]], [5, 1, 5], tmp_path)
    assert examine(output, [(parts[5], count) for count in expected]).undecodable_parts == 1


def test_a_part_whose_first_picture_is_damaged_is_noticed(parts: dict[int, Path], tmp_path: Path) -> None:
    output = join([parts[5], parts[1], parts[5]], [5, 1, 5], tmp_path)
    with av.open(output) as opened:
        only = next(packet for packet in opened.demux(video=0) if packet.pts == 5 * ffmpeg_commands.CLOCK // 30)
        begin, size = only.pos or 0, only.size
    data = bytearray(output.read_bytes())
    data[begin + size // 2 : begin + size] = bytes(size - size // 2)
    output.write_bytes(data)
    assert examine(output, [(parts[5], 5), (parts[1], 1), (parts[5], 5)]).undecodable_parts == 1


def test_a_part_that_no_player_can_seek_to_is_noticed(parts: dict[int, Path], tmp_path: Path) -> None:
    output = join([parts[5], parts[1]], [5, 1], tmp_path)
    data = output.read_bytes()
    at = data.index(b"stss") + 8  # The MP4 box `stss` has the number of keyframes, then their frame numbers.
    assert data[at : at + 12] == bytes([0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 6])
    output.write_bytes(data[: at + 11] + b"\x05" + data[at + 12 :])
    assert examine(output, [(parts[5], 5), (parts[1], 1)]).undecodable_parts == 1


def test_a_part_that_begins_late_is_noticed(parts: dict[int, Path], tmp_path: Path) -> None:
    output = join([parts[5], parts[1]], [6, 1], tmp_path)
    assert examine(output, [(parts[5], 5), (parts[1], 1)]).undecodable_parts == 1


def test_a_part_of_another_encoder_is_noticed(parts: dict[int, Path], tmp_path: Path) -> None:
    other = make_clip(
        tmp_path / "other.mp4",
        *("-i", parts[5], "-c:v", "libx264", "-profile:v", "baseline", "-video_track_timescale", ffmpeg_commands.CLOCK),
    )
    assert examine(join([parts[1], other], [1, 5], tmp_path), [(parts[1], 1), (other, 5)]).unlike_parts == 1
