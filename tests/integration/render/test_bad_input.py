"""Tests that a bad upload is refused with the right code, and that a worker's error does not count as a bad upload."""

from pathlib import Path

import pytest

from anb_core.domain.edit import EditSpec, Trim
from anb_core.domain.errors import BadInput, Transient
from anb_core.domain.input_checks import InputLimits
from anb_worker.render.engine import RenderEngine
from anb_worker.render.mp4_boxes import boxes
from anb_worker.render.sandbox import ChildLimits
from tests.support.rendering import ONLY_MAIN, MakeClip, Render, render_clip

GRAY = ("-f", "lavfi", "-i", "testsrc2=s=320x180:r=30:d=3")
TONE = ("-f", "lavfi", "-i", "sine=d=3")
FAST = ("-c:v", "libx264", "-preset", "ultrafast", "-g", 30)
INDEX_FIRST = ("-movflags", "+faststart")


def code_of(render: Render, source: Path, edit: EditSpec = ONLY_MAIN) -> str:
    with pytest.raises(BadInput) as caught:
        render(source, edit)
    assert caught.value.message.endswith(".")
    assert str(source) not in caught.value.message
    return caught.value.code


def cut(source: Path, share: float) -> Path:
    """Truncate a file like a broken upload. `share` is the fraction of the bytes to keep, from 0 to 1."""
    data = source.read_bytes()
    source.write_bytes(data[: round(len(data) * share)])
    return source


def overwrite(source: Path, kind: str, share: float, data: bytes) -> Path:
    """Overwrite an MP4 box with repeated `data`, from a place in the box up to its end.

    `share` is the place, from 0 (the start of the box) to 1 (the end of the box).
    """
    content = bytearray(source.read_bytes())
    box = next(box for box in boxes(source) if box.kind == kind)
    start = round(box.start + 8 + (box.end - box.start) * share)
    content[start : box.end] = (data * len(content))[: box.end - start]
    source.write_bytes(content)
    return source


@pytest.mark.parametrize(
    "text",
    [
        "Just some text, whatever its name says.",
        "ffconcat version 1.0\nfile {secret}\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{secret}\n#EXT-X-ENDLIST\n",
        "",
    ],
    ids=["text", "ffconcat", "playlist", "empty"],
)
def test_a_text_file_named_like_a_video_is_no_video(clip: MakeClip, render: Render, tmp_path: Path, text: str) -> None:
    secret = clip("secret.mp4", *GRAY, *FAST)
    source = tmp_path / "clip.mp4"
    source.write_text(text.format(secret=secret))
    assert code_of(render, source) == "not_a_video"


def test_a_file_that_only_begins_like_a_video_is_corrupt(render: Render, tmp_path: Path) -> None:
    source = tmp_path / "clip.mkv"
    source.write_bytes(b"\x1a\x45\xdf\xa3" + bytes(5000))
    assert code_of(render, source) == "corrupt"


def test_a_file_whose_index_was_never_written_is_truncated(clip: MakeClip, render: Render) -> None:
    assert code_of(render, cut(clip("clip.mp4", *GRAY, *FAST), 0.5)) == "truncated"


@pytest.mark.parametrize("place", [b"stts", b"stsz", b"stco", b"smhd", b"udta"])
def test_a_file_that_was_cut_off_within_its_index_is_truncated_however_much_of_that_is_left(
    clip: MakeClip, render: Render, place: bytes
) -> None:
    source = clip("clip.mp4", *GRAY, *TONE, *FAST)
    data = source.read_bytes()
    source.write_bytes(data[: data.rindex(place) + 20])
    assert code_of(render, source) == "truncated"


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("clip.mp4", INDEX_FIRST), ("clip.mkv", ()), ("clip.avi", ())],
)
def test_a_file_that_lost_its_second_half_is_truncated(
    clip: MakeClip, render: Render, name: str, arguments: tuple[str, ...]
) -> None:
    assert code_of(render, cut(clip(name, *GRAY, *FAST, *arguments), 0.5)) == "truncated"


def test_a_file_that_lost_only_what_the_trim_cuts_away_is_rendered(clip: MakeClip, render: Render) -> None:
    source = cut(clip("clip.mp4", *GRAY, *FAST, *INDEX_FIRST), 0.6)
    assert render(source, ONLY_MAIN.model_copy(update={"trim": Trim(length=1)})).rendered.frames == 30


def test_a_file_with_sound_only_is_refused_as_audio_only(clip: MakeClip, render: Render) -> None:
    assert code_of(render, clip("song.m4a", *TONE)) == "audio_only"


def test_a_cover_picture_does_not_make_a_song_a_video(clip: MakeClip, render: Render) -> None:
    cover = clip("cover.png", *GRAY, "-frames:v", 1)
    source = clip("song.mp4", *TONE, "-i", cover, "-map", 0, "-map", 1, "-c:v", "png", "-disposition:v", "attached_pic")
    assert code_of(render, source) == "audio_only"


def test_a_file_of_words_only_has_no_video_stream(clip: MakeClip, render: Render, tmp_path: Path) -> None:
    words = tmp_path / "words.srt"
    words.write_text("1\n00:00:00,000 --> 00:00:02,000\nHello\n\n")
    assert code_of(render, clip("words.mkv", "-i", words)) == "no_video_stream"


def test_a_video_without_a_single_picture_has_zero_duration(clip: MakeClip, render: Render) -> None:
    source = clip("clip.mp4", *GRAY, *FAST, "-movflags", "empty_moov+frag_keyframe", "-frames:v", 30)
    end = next(box.end for box in boxes(source) if box.kind == "moov")
    source.write_bytes(source.read_bytes()[:end])
    assert code_of(render, source) == "zero_duration"


def test_a_claim_of_ten_hours_is_refused_at_once(clip: MakeClip, render: Render) -> None:
    source = clip("clip.mkv", *GRAY, *FAST, "-t", 1)
    # Overwrite the duration in the Matroska file: the element 0x4489, a 64-bit float in milliseconds.
    content = bytearray(source.read_bytes())
    at = content.index(b"\x44\x89\x88")
    content[at + 3 : at + 11] = b"\x41\x81\x2a\x88\x00\x00\x00\x00"  # The new duration is 36,000,000 ms (ten hours).
    source.write_bytes(content)
    assert code_of(render, source) == "too_long"


def test_a_hole_of_ten_hours_in_the_timestamps_is_refused_as_too_long(clip: MakeClip, render: Render) -> None:
    source = clip("hole.mp4", *GRAY, *FAST, "-bsf:v", "setts=ts='if(gte(N,30),TS+36000/TB,TS)'")
    assert code_of(render, source) == "too_long"


def test_during_a_hole_that_is_short_enough_the_last_picture_stays(clip: MakeClip, render: Render) -> None:
    source = clip("hole.mp4", *GRAY, *FAST, "-bsf:v", "setts=ts='if(gte(N,30),TS+3600/TB,TS)'", "-t", 3)
    output = render(source, ONLY_MAIN.model_copy(update={"trim": Trim(length=2)}))
    assert output.rendered.frames == 60


def test_an_image_bomb_is_refused_before_it_is_opened(clip: MakeClip, render: Render) -> None:
    source = clip("bomb.mp4", "-f", "lavfi", "-i", "color=black:s=16000x16000:r=1:d=1", "-c:v", "mjpeg", "-q:v", 31)
    assert code_of(render, source) == "too_many_pixels"


def test_a_bomb_that_hides_its_size_from_the_headers_is_not_rendered_either(
    clip: MakeClip, cards_dir: Path, tmp_path: Path
) -> None:
    # The file's headers state a picture size that is just allowed, but later pictures in the file are larger.
    small = clip("small.ts", *GRAY, *FAST, "-t", 1)
    large = clip("large.ts", "-f", "lavfi", "-i", "testsrc2=s=1280x720:r=30:d=2", *FAST, "-output_ts_offset", 1)
    small.write_bytes(small.read_bytes() + large.read_bytes())
    engine = RenderEngine(cards_dir, input_limits=InputLimits(max_pixels=320 * 180))
    with pytest.raises(BadInput) as caught:
        render_clip(engine, small, ONLY_MAIN, tmp_path / "work")
    assert caught.value.code == "too_many_pixels"


@pytest.mark.parametrize("codec", ["mpeg4", "mjpeg", "libx264"])
def test_a_picture_that_is_as_large_as_is_allowed_is_rendered(
    clip: MakeClip, cards_dir: Path, tmp_path: Path, codec: str
) -> None:
    # The pixel limit must not count the margins that decoders allocate around each picture.
    source = clip("clip.mkv", "-f", "lavfi", "-i", "testsrc2=s=320x180:r=30:d=0.1", "-c:v", codec)
    engine = RenderEngine(cards_dir, input_limits=InputLimits(max_pixels=320 * 180))
    assert render_clip(engine, source, ONLY_MAIN, tmp_path / "work").rendered.frames == 3


def test_a_codec_that_is_not_supported_is_named(clip: MakeClip, render: Render) -> None:
    source = clip("clip.mkv", *GRAY, "-c:v", "ffv1")
    with pytest.raises(BadInput, match="ffv1") as caught:
        render(source)
    assert caught.value.code == "unsupported_codec"
    assert code_of(render, clip("sound.mkv", *GRAY, *TONE, *FAST, "-c:a", "wavpack", "-t", 1)) == "unsupported_codec"


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.ts", "clip.avi"])
def test_a_part_that_begins_after_the_end_is_refused(clip: MakeClip, render: Render, name: str) -> None:
    source = clip(name, *GRAY, *FAST, "-t", 1, *(("-bf", 0) if name.endswith("avi") else ()))
    assert code_of(render, source, ONLY_MAIN.model_copy(update={"trim": Trim(start=5)})) == "trim_beyond_end"


def test_a_video_that_is_all_noise_inside_is_corrupt(clip: MakeClip, render: Render) -> None:
    source = overwrite(clip("clip.mp4", *GRAY, *FAST, *INDEX_FIRST), "mdat", 0, b"\x9e\x37\x79\xb9")
    assert code_of(render, source) == "corrupt"


def test_a_video_that_is_noise_from_its_middle_on_is_corrupt(clip: MakeClip, render: Render) -> None:
    source = overwrite(clip("clip.mp4", *GRAY, *FAST, *INDEX_FIRST), "mdat", 0.4, b"\x9e\x37\x79\xb9")
    assert code_of(render, source) == "corrupt"


def test_a_video_that_takes_more_computing_than_is_allowed_is_at_fault(
    footage: Path, cards_dir: Path, tmp_path: Path
) -> None:
    engine = RenderEngine(cards_dir, child_limits=ChildLimits(cpu_seconds=1))
    with pytest.raises(BadInput) as caught:
        render_clip(engine, footage / "bikes.mp4", ONLY_MAIN, tmp_path / "work")
    assert caught.value.code == "too_demanding"


def test_a_video_that_takes_more_memory_than_is_allowed_is_at_fault(
    clip: MakeClip, cards_dir: Path, tmp_path: Path
) -> None:
    source = clip("clip.mp4", "-f", "lavfi", "-i", "testsrc2=s=3840x2160:r=30:d=0.2", *FAST)
    engine = RenderEngine(cards_dir, child_limits=ChildLimits(memory_bytes=300 * 1024**2), threads=1)
    with pytest.raises(BadInput) as caught:
        render_clip(engine, source, ONLY_MAIN, tmp_path / "work")
    assert caught.value.code == "too_demanding"


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (ChildLimits(wall_seconds=0.3), "timed_out"),
        (ChildLimits(file_bytes=20_000), "killed"),
    ],
    ids=["time", "file"],
)
def test_a_limit_of_ours_is_never_the_uploads_fault(
    clip: MakeClip, cards_dir: Path, tmp_path: Path, limits: ChildLimits, code: str
) -> None:
    source = clip("clip.mp4", *GRAY, *FAST, "-t", 2)
    with pytest.raises(Transient) as caught:
        render_clip(RenderEngine(cards_dir, child_limits=limits), source, ONLY_MAIN, tmp_path / "work")
    assert caught.value.code == code


def test_a_missing_ffmpeg_is_never_the_uploads_fault(footage: Path, tmp_path: Path) -> None:
    engine = RenderEngine(tmp_path / "cards", ffmpeg=tmp_path / "nowhere" / "ffmpeg")
    with pytest.raises(Transient, match="nowhere") as caught:
        render_clip(engine, footage / "bikes.mp4", ONLY_MAIN, tmp_path / "work")
    assert caught.value.code == "ffmpeg_missing"
