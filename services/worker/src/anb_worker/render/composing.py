"""A program that makes the project's own intro and outro with MoviePy, and draws the project's own watermark.

`python -m anb_worker.render.composing FOLDER` takes about 10 seconds of CPU time.
The module `cards` runs this program in a child process, and stores the files in the cache of cards.
"""

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
from moviepy import CompositeVideoClip, ImageClip, VideoClip, vfx
from PIL import Image

from anb_core.domain.output_format import FPS, HEIGHT, WIDTH
from anb_worker.render.drawing import draw_bar, draw_mark, draw_watermark, draw_words
from anb_worker.render.layout import CARD_SECONDS, FADE_OUT_SECONDS

_Pixels = npt.NDArray[np.uint8]

_NAVY, _GLOW = np.array([11, 16, 32]), np.array([37, 51, 98])
_DRIFT = 240
"""The light in the background moves this many pixels to the right during a card."""


def compose(folder: Path) -> None:
    """Write `intro.mov`, `outro.mov` and `watermark.png` into a folder. The videos are lossless and have no sound."""
    draw_watermark().save(folder / "watermark.png")
    _write(_intro(), folder / "intro.mov")
    _write(_outro(), folder / "outro.mov")


def _intro() -> VideoClip:
    mark, name, bar = draw_mark(112), draw_words("ANB Video", 84, "ExtraBold"), draw_bar(300, 5)
    gap, middle = 34, 300
    left = (WIDTH - mark.width - gap - name.width) // 2
    return _card(
        _rising(mark, (left, middle - mark.height // 2), begin=0.0),
        _rising(name, (left + mark.width + gap, middle - name.height // 2), begin=0.15),
        _unfolding(bar, middle + 100, begin=0.45),
    )


def _outro() -> VideoClip:
    mark, name, bar = draw_mark(96), draw_words("ANB Video", 60, "ExtraBold"), draw_bar(170, 4)
    return _card(
        _rising(mark, ((WIDTH - mark.width) // 2, 238), begin=0.0),
        _rising(name, ((WIDTH - name.width) // 2, 368), begin=0.15),
        _unfolding(bar, 462, begin=0.4),
    )


def _card(*layers: VideoClip) -> VideoClip:
    light = _light()

    def background(time: float) -> _Pixels:
        shift = round(_DRIFT * (1 - time / CARD_SECONDS))
        frame: _Pixels = light[:, shift : shift + WIDTH]
        return frame

    # With a background color the clip is opaque. This saves a third of the CPU time.
    parts = [VideoClip(background, duration=CARD_SECONDS), *layers]
    card = CompositeVideoClip(parts, size=(WIDTH, HEIGHT), bg_color=(0, 0, 0))
    # The card does not fade in, because a player shows the first frame until a person starts the video.
    return card.with_effects([vfx.FadeOut(FADE_OUT_SECONDS)])


def _light() -> _Pixels:
    """Draw the background: navy with a faint light. It is _DRIFT pixels wider than a frame."""
    x, y = np.meshgrid(np.linspace(0, 1, WIDTH + _DRIFT), np.linspace(0, 1, HEIGHT))
    distance = ((x - 0.5) / 0.55) ** 2 + ((y - 0.35) / 0.8) ** 2
    light = _NAVY + (_GLOW - _NAVY) * np.exp(-2.2 * distance)[..., None]
    # Without dithering, the rounded colors would be visible as rings.
    # With a fixed seed, every run draws the same background.
    dithered: _Pixels = (light + np.random.default_rng(seed=1).random(light.shape)).astype(np.uint8)
    return dithered


def _rising(picture: Image.Image, at: tuple[int, int], *, begin: float) -> VideoClip:
    """Return a clip of a picture that fades in while the picture moves up to the position `at` (left, top)."""
    clip = ImageClip(np.asarray(picture), duration=CARD_SECONDS - begin).with_start(begin)
    clip = clip.with_position(lambda time: (at[0], at[1] + round(26 * (1 - _eased(time / 0.7)))))
    return clip.with_effects([vfx.CrossFadeIn(0.5)])


def _unfolding(bar: Image.Image, top: int, *, begin: float) -> VideoClip:
    """Return a clip of a centered bar that grows from the middle to both sides."""
    pixels = np.asarray(bar)

    def mask(time: float) -> npt.NDArray[np.float64]:
        shown = max(1, round(bar.width / 2 * _eased(time / 0.7)))
        alpha = np.zeros(pixels.shape[:2])
        middle = bar.width // 2
        alpha[:, middle - shown : middle + shown] = pixels[:, middle - shown : middle + shown, 3] / 255
        return alpha

    clip = ImageClip(pixels[..., :3], duration=CARD_SECONDS - begin)
    clip = clip.with_mask(VideoClip(mask, is_mask=True, duration=CARD_SECONDS - begin))
    return clip.with_start(begin).with_position(((WIDTH - bar.width) // 2, top))


def _eased(share: float) -> float:
    """Map a time (0 to 1) to the progress of a movement (0 to 1). The movement slows down at its end (ease out)."""
    return 1 - (1 - min(1.0, max(0.0, share))) ** 3


def _write(clip: VideoClip, path: Path) -> None:
    clip.write_videofile(
        str(path), fps=FPS, codec="libx264rgb", preset="ultrafast", ffmpeg_params=["-qp", "0"], audio=False, logger=None
    )


if __name__ == "__main__":
    compose(Path(sys.argv[1]))
