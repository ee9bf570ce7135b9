"""Draws the project's logo, watermarks, and titles in any script for which a font is installed.

The package font-manrope has a font for Latin with accents, Greek and Cyrillic.
A title in another script can be drawn only if the system has a font for this script.

The module `child_programs` runs this module as a program.
The program writes the PNG file PICTURE, and prints the width and height of the picture as JSON.
If no picture can be drawn, the program writes no file and prints null.

    python -m anb_worker.render.drawing title TEXT PICTURE        draws the title in the file TEXT (JSON)
    python -m anb_worker.render.drawing watermark SOURCE PICTURE  converts SOURCE, the deployment's own watermark
"""

import json
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from importlib import resources
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter, ImageFont
from PIL.ImageFont import FreeTypeFont, Layout

from anb_worker.render.layout import (
    TITLE_LINES,
    TITLE_SIZE,
    TITLE_WIDTH,
    WATERMARK_BOX,
    WATERMARK_HEIGHT,
    WATERMARK_OPACITY,
)

WHITE = (244, 246, 250)
ACCENT = (255, 176, 59), (255, 94, 98)
"""The first and the last color (RGB) of the gradient. The logo and bars have this gradient."""

_OVERSAMPLE = 4
"""Shapes are drawn larger by this factor and then scaled down, because Pillow does not antialias shapes."""

_TITLE_CHARACTERS = 200
"""Maximum number of characters of a title that are drawn. Two lines never have room for more characters."""

_ELLIPSIS = "..."
"""The end of a shortened title. It is three dots, because a font may have no ellipsis character."""

_JOINERS = "\u200c\u200d"
"""The zero-width non-joiner and joiner. They are invisible, but some scripts are unreadable without them."""

_RIGHT_TO_LEFT = ("R", "AL")
"""Unicode's bidirectional classes of the letters that are written from right to left."""

_UNKNOWN = "\U0010fffe"
"""A character for which no font has a glyph."""

FONT_FOLDERS = tuple(
    map(Path, ("/usr/share/fonts", "/usr/local/share/fonts", "/Library/Fonts", "/System/Library/Fonts"))
)
# Files of the system's fonts, in order of preference. Each may be in any subfolder of FONT_FOLDERS.
_FONT_FILES = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "NotoSansArabic-Regular.ttf",
    "NotoSansHebrew-Regular.ttf",
    "NotoSansDevanagari-Regular.ttf",
    "NotoSansThai-Regular.ttf",
    "Arial Unicode.ttf",
)


def draw_mark(size: int) -> Image.Image:
    """Draw the project's logo: a rounded square with a transparent play sign. It is `size` pixels wide and high."""
    large = size * _OVERSAMPLE
    shape = Image.new("L", (large, large), 0)
    draw = ImageDraw.Draw(shape)
    draw.rounded_rectangle((0, 0, large - 1, large - 1), radius=large * 0.26, fill=255)
    left, right, half = large * 0.37, large * 0.73, large * 0.21
    draw.polygon([(left, large / 2 - half), (left, large / 2 + half), (right, large / 2)], fill=0)
    shape = shape.resize((size, size), Image.Resampling.LANCZOS)
    mark = _gradient((size, size))
    mark.putalpha(shape)
    return mark


def draw_bar(width: int, height: int) -> Image.Image:
    """Draw a rounded bar with the gradient. Width and height are in pixels."""
    shape = Image.new("L", (width * _OVERSAMPLE, height * _OVERSAMPLE), 0)
    box = (0, 0, shape.width - 1, shape.height - 1)
    ImageDraw.Draw(shape).rounded_rectangle(box, radius=shape.height / 2, fill=255)
    bar = _gradient((width, height))
    bar.putalpha(shape.resize((width, height), Image.Resampling.LANCZOS))
    return bar


def draw_words(text: str, size: int, weight: str, *, spacing: float = 0.0) -> Image.Image:
    """Draw one line of white text. The picture is cropped to the letters.

    `size` and the additional `spacing` between letters are in pixels. `weight` is a weight of Manrope, such as `Bold`.
    """
    font = own_font(weight, size)
    widths = [font.getlength(letter) + spacing for letter in text]
    canvas = Image.new("L", (round(sum(widths)) + size, 2 * size), 0)
    draw = ImageDraw.Draw(canvas)
    for number, letter in enumerate(text):
        draw.text((size / 4 + sum(widths[:number]), 0), letter, fill=255, font=font)
    words = _white(canvas)
    assert words is not None  # noqa: S101 - the project's own words have visible letters
    return words


def draw_watermark() -> Image.Image:
    """Draw the project's own watermark: the logo and the name, partly transparent, with a soft shadow."""
    mark, name = draw_mark(WATERMARK_HEIGHT), draw_words("ANB", 30, "Bold", spacing=1.0)
    margin, gap = 10, 12
    size = (mark.width + gap + name.width + 2 * margin, mark.height + 2 * margin)
    sign = Image.new("RGBA", size)
    sign.alpha_composite(mark, (margin, margin))
    sign.alpha_composite(name, (margin + mark.width + gap, (size[1] - name.height) // 2))
    shadow = Image.new("RGBA", size, (0, 0, 0, 0))
    shadow.putalpha(sign.getchannel("A").filter(ImageFilter.GaussianBlur(4)))
    shadow.alpha_composite(sign)
    shadow.putalpha(shadow.getchannel("A").point(lambda value: round(value * WATERMARK_OPACITY)))
    return shadow


def draw_title(title: str) -> Image.Image | None:
    """Draw a white title in one or two centered lines. The picture is cropped to the letters.

    Characters that the font can't draw are left out. Returns None if no character can be drawn.
    """
    font, text = _font_for(_printable(title))
    lines = wrapped(text, font)
    step = round(TITLE_SIZE * 1.35)
    canvas = Image.new("L", (TITLE_WIDTH + 2 * TITLE_SIZE, step * (len(lines) + 1)), 0)
    draw = ImageDraw.Draw(canvas)
    for number, line in enumerate(lines):
        width = font.getlength(line)
        draw.text(((canvas.width - width) / 2, step * number + TITLE_SIZE / 2), line, fill=255, font=font)
    return _white(canvas)


def _printable(title: str) -> str:
    """Return a title as one line in composed form (NFC). Remove control characters, but keep _JOINERS."""
    kept = (
        letter
        for letter in unicodedata.normalize("NFC", title)[:_TITLE_CHARACTERS]
        if letter in _JOINERS or letter.isspace() or unicodedata.category(letter)[0] != "C"
    )
    return " ".join("".join(kept).split())


def _font_for(text: str) -> tuple[FreeTypeFont, str]:
    """Return a font for a text, and the text without the letters that this font can't draw.

    The first font that can draw all letters is chosen, or else the font that can draw the most letters.
    """
    choice: tuple[FreeTypeFont, str] | None = None
    for font in fonts():
        drawn = drawable(text, font)
        if choice is None or len(drawn) > len(choice[1]):
            choice = font, drawn
        if drawn == text:
            break
    assert choice is not None  # noqa: S101 - fonts() always yields the project's own font
    return choice


def drawable(text: str, font: FreeTypeFont) -> str:
    """Return a text without the letters that a font can't draw.

    The combining marks and joiners after a removed letter are removed, too. Consecutive spaces become one space.
    """
    supported, shapes = supported_letters(font, text), font.layout_engine == Layout.RAQM
    kept, base_kept = "", False
    for letter in text:
        category = unicodedata.category(letter)[0]
        if letter in _JOINERS:
            # Keep a joiner only after a letter, and only if Pillow uses Raqm, because only Raqm applies joiners.
            fits = shapes and base_kept and unicodedata.category(kept[-1])[0] in "LM"
        elif category == "M":
            fits = base_kept and letter in supported
        elif letter.isspace():
            fits, base_kept = True, False
        else:
            # Without Raqm, Pillow draws right-to-left letters in the wrong order.
            in_order = shapes or unicodedata.bidirectional(letter) not in _RIGHT_TO_LEFT
            fits = base_kept = letter in supported and in_order
        kept += letter if fits else ""
    return " ".join(kept.split())


def fonts() -> Iterator[FreeTypeFont]:
    """Yield the fonts for titles, in order of preference: first the project's font, then the fonts of the system."""
    yield own_font("Medium", TITLE_SIZE)
    for name in _FONT_FILES:
        for path in (found for folder in FONT_FOLDERS for found in folder.rglob(name)):
            with suppress(OSError):
                yield ImageFont.truetype(path, TITLE_SIZE)


def own_font(weight: str, size: int) -> FreeTypeFont:
    """Load the project's font, Manrope. `weight` is a weight such as `Bold`, and `size` is in pixels."""
    return ImageFont.truetype(str(resources.files("font_manrope") / "files" / f"Manrope-{weight}.ttf"), size)


def supported_letters(font: FreeTypeFont, text: str) -> set[str]:
    """Return the letters of a text that the font can draw. The font's glyph for unknown letters does not count."""
    # Use the basic layout, because Raqm adds a dotted circle to an accent without a letter.
    plain = ImageFont.truetype(font.path, font.size, layout_engine=Layout.BASIC)
    unknown = plain.getmask(_UNKNOWN)
    shapes = {letter: plain.getmask(letter) for letter in set(text)}
    return {
        letter
        for letter, shape in shapes.items()
        if shape.getbbox() and (shape.size != unknown.size or bytes(shape) != bytes(unknown))
    }


def wrapped(text: str, font: ImageFont.FreeTypeFont) -> list[str]:
    """Split a text into at most TITLE_LINES lines, between words if possible. A text that is too long is shortened."""
    lines: list[str] = []
    rest = text.strip()
    while rest and len(lines) < TITLE_LINES:
        fits = _fitting(rest, font)
        if len(fits) < len(rest) and len(lines) == TITLE_LINES - 1:
            while fits and font.getlength(fits.rstrip() + _ELLIPSIS) > TITLE_WIDTH:
                fits = fits[:-1]
            lines.append(fits.rstrip() + _ELLIPSIS)
            break
        if len(fits) < len(rest) and not rest[len(fits)].isspace() and " " in fits.strip():
            fits = fits[: fits.rindex(" ")]
        lines.append(fits.strip())
        rest = rest[len(fits) :].strip()
    return lines


def _fitting(text: str, font: ImageFont.FreeTypeFont) -> str:
    """Return the longest beginning of a text that fits into a line. It has at least one letter."""
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if font.getlength(text[:middle]) <= TITLE_WIDTH:
            low = middle
        else:
            high = middle - 1
    return text[:low]


def _white(ink: Image.Image) -> Image.Image | None:
    """Return a white picture with alpha channel `ink`, cropped to the visible pixels. None if no pixel is visible."""
    box = ink.getbbox()
    if box is None:
        return None
    words = Image.new("RGBA", ink.size, WHITE)
    words.putalpha(ink)
    return words.crop(box)


def _gradient(size: tuple[int, int]) -> Image.Image:
    """Draw the gradient from the upper left to the lower right corner. `size` is the width and height in pixels."""
    across, down = Image.linear_gradient("L").rotate(90).resize(size), Image.linear_gradient("L").resize(size)
    first, second = (Image.new("RGBA", size, color) for color in ACCENT)
    return Image.composite(second, first, Image.blend(across, down, 0.5))


def fit_watermark(source: Path) -> Image.Image | None:
    """Return the deployment's own watermark, scaled down to fit into WATERMARK_BOX. None if it is no PNG picture."""
    try:
        with Image.open(source, formats=["PNG"]) as picture:
            fitted: Image.Image = picture.convert("RGBA")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
    fitted.thumbnail(WATERMARK_BOX, Image.Resampling.LANCZOS)
    return fitted


def _main(kind: str, source: Path, output: Path) -> None:
    picture = draw_title(json.loads(source.read_text())) if kind == "title" else fit_watermark(source)
    if picture is not None:
        picture.save(output)
    sys.stdout.write(json.dumps(picture and picture.size))


if __name__ == "__main__":
    _main(sys.argv[1], *map(Path, sys.argv[2:]))
