"""What the project draws by code: its mark, the watermark, and titles in whatever script they are written.

The font comes with the package font-manrope and has Latin with every accent, Greek and Cyrillic; a title in another
script is drawn where the system has a font for it.

As a program, started by `child_programs`, it writes a PNG file and prints the picture's width and height as JSON, or
null where there is nothing to draw:

    python -m anb_worker.render.drawing title TEXT PICTURE      the title that the file TEXT holds as JSON
    python -m anb_worker.render.drawing watermark GIVEN PICTURE  an operator's watermark, scaled down where it is large
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
"""The two ends of the one color that the cards have besides navy and white."""

_OVERSAMPLE = 4
"""Shapes are drawn so many times larger and scaled down: Pillow draws hard edges."""

_TITLE_CHARACTERS = 200
"""More than two lines hold of any script."""

_ELLIPSIS = "..."
"""Three dots: a font may have no letter for it."""

_JOINERS = "\u200c\u200d"
"""They have no shape, and some scripts are unreadable without."""

_FROM_THE_RIGHT = ("R", "AL")
"""Unicode's classes of letters that are written so."""

_UNKNOWN = "\U0010fffe"
"""No font has a shape for it."""

FONT_FOLDERS = tuple(
    map(Path, ("/usr/share/fonts", "/usr/local/share/fonts", "/Library/Fonts", "/System/Library/Fonts"))
)
# In the order in which they are tried, wherever below these folders they are.
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
    """The project's mark, `size` pixels square, transparent around: a play sign cut out of a rounded square."""
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
    """A rounded bar in the accent color."""
    shape = Image.new("L", (width * _OVERSAMPLE, height * _OVERSAMPLE), 0)
    box = (0, 0, shape.width - 1, shape.height - 1)
    ImageDraw.Draw(shape).rounded_rectangle(box, radius=shape.height / 2, fill=255)
    bar = _gradient((width, height))
    bar.putalpha(shape.resize((width, height), Image.Resampling.LANCZOS))
    return bar


def draw_words(text: str, size: int, weight: str, *, spacing: float = 0.0) -> Image.Image:
    """One line of our own words in white, cropped to its ink; `weight` is one of Manrope's, `spacing` in pixels."""
    font = own_font(weight, size)
    widths = [font.getlength(letter) + spacing for letter in text]
    canvas = Image.new("L", (round(sum(widths)) + size, 2 * size), 0)
    draw = ImageDraw.Draw(canvas)
    for number, letter in enumerate(text):
        draw.text((size / 4 + sum(widths[:number]), 0), letter, fill=255, font=font)
    words = _white(canvas)
    assert words is not None  # noqa: S101 - our own words have ink
    return words


def draw_watermark() -> Image.Image:
    """Mark and name, half transparent, with a soft shadow so that they can be read on white too."""
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
    """A title in one line or two, centered, cropped to its ink; None where nothing of it can be drawn, so that no boxes
    are.
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
    """In one line, composed, and without what has no shape but the joiners that some scripts need."""
    kept = (
        letter
        for letter in unicodedata.normalize("NFC", title)[:_TITLE_CHARACTERS]
        if letter in _JOINERS or letter.isspace() or unicodedata.category(letter)[0] != "C"
    )
    return " ".join("".join(kept).split())


def _font_for(text: str) -> tuple[FreeTypeFont, str]:
    """The first font that can draw all of a text, else the one that can draw most of it; and what it can draw of it."""
    choice: tuple[FreeTypeFont, str] | None = None
    for font in fonts():
        drawn = drawable(text, font)
        if choice is None or len(drawn) > len(choice[1]):
            choice = font, drawn
        if drawn == text:
            break
    assert choice is not None  # noqa: S101 - our own font is always there
    return choice


def drawable(text: str, font: FreeTypeFont) -> str:
    """What a font can draw of a text, without gaps: with a letter go its marks and joiners, and the spaces around it
    become one.
    """
    known, shapes = known_letters(font, text), font.layout_engine == Layout.RAQM
    kept, whole = "", False
    for letter in text:
        category = unicodedata.category(letter)[0]
        if letter in _JOINERS:
            # Only the other engine joins, and only letters are joined: emoji and what holds them together are left out.
            fits = shapes and whole and unicodedata.category(kept[-1])[0] in "LM"
        elif category == "M":
            fits = whole and letter in known
        elif letter.isspace():
            fits, whole = True, False
        else:
            # Without shaping, what is written from the right would stand in the wrong order.
            fits = whole = letter in known and (shapes or unicodedata.bidirectional(letter) not in _FROM_THE_RIGHT)
        kept += letter if fits else ""
    return " ".join(kept.split())


def fonts() -> Iterator[FreeTypeFont]:
    """Our own font, then those of the system that may know more letters, in the order in which titles try them."""
    yield own_font("Medium", TITLE_SIZE)
    for name in _FONT_FILES:
        for path in (found for folder in FONT_FOLDERS for found in folder.rglob(name)):
            with suppress(OSError):
                yield ImageFont.truetype(path, TITLE_SIZE)


def own_font(weight: str, size: int) -> FreeTypeFont:
    """Manrope in one of its weights, `size` pixels high."""
    return ImageFont.truetype(str(resources.files("font_manrope") / "files" / f"Manrope-{weight}.ttf"), size)


def known_letters(font: FreeTypeFont, text: str) -> set[str]:
    """The letters that a font has a shape for, other than none and than the one it draws for what it does not know."""
    # Without the other engine's shaping, which draws a helper under a lone accent.
    plain = ImageFont.truetype(font.path, font.size, layout_engine=Layout.BASIC)
    unknown = plain.getmask(_UNKNOWN)
    shapes = {letter: plain.getmask(letter) for letter in set(text)}
    return {
        letter
        for letter, shape in shapes.items()
        if shape.getbbox() and (shape.size != unknown.size or bytes(shape) != bytes(unknown))
    }


def wrapped(text: str, font: ImageFont.FreeTypeFont) -> list[str]:
    """At most TITLE_LINES lines, broken between words where that is possible, with an ellipsis if there is more."""
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
    """As much of the beginning as fits into a line; at least one letter."""
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if font.getlength(text[:middle]) <= TITLE_WIDTH:
            low = middle
        else:
            high = middle - 1
    return text[:low]


def _white(ink: Image.Image) -> Image.Image | None:
    """White where there is ink, cropped to it; None without any."""
    box = ink.getbbox()
    if box is None:
        return None
    words = Image.new("RGBA", ink.size, WHITE)
    words.putalpha(ink)
    return words.crop(box)


def _gradient(size: tuple[int, int]) -> Image.Image:
    """The accent color, from its one end (upper left) to the other."""
    across, down = Image.linear_gradient("L").rotate(90).resize(size), Image.linear_gradient("L").resize(size)
    first, second = (Image.new("RGBA", size, color) for color in ACCENT)
    return Image.composite(second, first, Image.blend(across, down, 0.5))


def fit_watermark(given: Path) -> Image.Image | None:
    """An operator's watermark, scaled down to what there is room for; None when it is no PNG picture."""
    try:
        with Image.open(given, formats=["PNG"]) as picture:
            fitted: Image.Image = picture.convert("RGBA")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
    fitted.thumbnail(WATERMARK_BOX, Image.Resampling.LANCZOS)
    return fitted


def _main(what: str, source: Path, output: Path) -> None:
    picture = draw_title(json.loads(source.read_text())) if what == "title" else fit_watermark(source)
    if picture is not None:
        picture.save(output)
    sys.stdout.write(json.dumps(picture and picture.size))


if __name__ == "__main__":
    _main(sys.argv[1], *map(Path, sys.argv[2:]))
