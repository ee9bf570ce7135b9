"""Makes the clips of the benchmark from the project's real footage, as phones and cameras would have recorded them."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

import imageio_ffmpeg

FOOTAGE = Path(__file__).parents[2] / "build" / "footage" / "bigbuckbunny.mp4"
PHONE_SECONDS = 5

_HD = ("-vf", "scale=1920:1080:flags=lanczos,fps=30", "-b:v", "8M", "-maxrate", "8M", "-bufsize", "16M")
_SIDEWAYS = ("-display_rotation", "90")

# Each kind of clip has the options before the input, and the options after the input.
# The phone clip is upright, because MoviePy does not turn pictures with ffmpeg 9.
# A phone films noise in the dark, and needs about twice the bit rate. Phones film 4K with 45 Mbit/s.
KINDS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "1080p": ((), _HD),
    "noise": (
        (),
        ("-vf", f"{_HD[1]},noise=alls=12:allf=t", "-b:v", "17M", "-maxrate", "17M", "-bufsize", "34M"),
    ),
    "4k": ((), ("-vf", "scale=3840:2160:flags=lanczos,fps=30", "-b:v", "45M", "-maxrate", "45M", "-bufsize", "90M")),
    "portrait": (_SIDEWAYS, _HD),
    "phone": ((), _HD),
}
"""The phone clip lasts PHONE_SECONDS, whatever the length of the other clips is."""


def make_clip(kind: str, seconds: float, output: Path, footage: Path = FOOTAGE) -> Path:
    """Write a clip of the given kind to `output`: the footage, repeated or cut to a number of seconds."""
    before, after = KINDS[kind]
    length = PHONE_SECONDS if kind == "phone" else seconds
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", "-stream_loop", "-1", "-i", str(footage)]
    encode = ("-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-c:a", "aac")
    upright = output.with_suffix(".upright.mp4")
    subprocess.run([*command, "-t", str(length), *after, *encode, str(upright)], check=True)
    # The angle is only a mark in the file, so it is set in a second step, which copies the pictures.
    copy = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", *before, "-i", str(upright), "-c", "copy"]
    subprocess.run([*copy, str(output)], check=True)
    upright.unlink()
    return output
