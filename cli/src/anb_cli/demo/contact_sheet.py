"""Draws the demo's contact sheet: sample frames of intro, main part and outro with their times, above a timeline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

COLUMNS = 4
FRAME = (464, 261)
GAP = 20
MARGIN = 48
LABEL = 40
HEAD = 140
FOOT = 120
WIDTH = 2 * MARGIN + COLUMNS * FRAME[0] + (COLUMNS - 1) * GAP

PAPER, INK, FAINT, LINE = "#0f1218", "#f4f6fa", "#8b94a7", "#232936"


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the video: intro, main part or outro."""

    name: str
    color: str
    """Color of the part's label, as a hex code."""
    first: int
    """Index of the part's first frame in the video. The video's first frame has index 0."""
    frames: int
    """Number of frames in the part."""
    rows: int
    """Number of rows of the sheet that show frames of the part."""

    @property
    def picks(self) -> list[int]:
        """Indexes of the frames to show, evenly spread over the part."""
        shown = min(self.frames, self.rows * COLUMNS)
        return [self.first + int((place + 0.5) * self.frames / shown) for place in range(shown)]


def parts_of(intro: int, main: int, outro: int) -> list[Part]:
    """Return the parts of a video, given the number of frames of each part. A part without frames is left out."""
    parts = [
        Part("Intro", "#5ea0ff", 0, intro, 1),
        Part("Main part, with watermark", "#45d19f", intro, main, 2),
        Part("Outro", "#ffb454", intro + main, outro, 1),
    ]
    return [part for part in parts if part.frames]


def draw(title: str, facts: str, parts: Sequence[Part], pictures: Mapping[int, Image.Image], fps: int) -> Image.Image:
    """Draw the contact sheet. `pictures` maps frame indexes to pictures. `fps` is the number of frames per second."""
    rows = sum(-(-len(part.picks) // COLUMNS) for part in parts)
    height = HEAD + rows * (FRAME[1] + LABEL + GAP) + FOOT
    sheet = Image.new("RGB", (WIDTH, height), PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((MARGIN, 40), _shortened(pen, title, 40, WIDTH - 2 * MARGIN), INK, _font(40))
    pen.text((MARGIN, 92), facts, FAINT, _font(20))
    top = HEAD
    for part in parts:
        for row in range(0, len(part.picks), COLUMNS):
            for column, number in enumerate(part.picks[row : row + COLUMNS]):
                left = MARGIN + column * (FRAME[0] + GAP)
                _frame(sheet, pictures[number], (left, top), part, f"{number / fps:.2f} s")
            top += FRAME[1] + LABEL + GAP
    _time_line(pen, parts, top + 16, fps)
    return sheet


def _frame(sheet: Image.Image, picture: Image.Image, place: tuple[int, int], part: Part, time: str) -> None:
    left, top = place
    pen = ImageDraw.Draw(sheet)
    mask = Image.new("L", FRAME, 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, FRAME[0] - 1, FRAME[1] - 1), 10, fill=255)
    sheet.paste(picture.resize(FRAME, Image.Resampling.LANCZOS), place, mask)
    pen.rounded_rectangle((left, top, left + FRAME[0] - 1, top + FRAME[1] - 1), 10, outline=LINE, width=2)
    under = top + FRAME[1] + 10
    pen.ellipse((left + 2, under + 5, left + 14, under + 17), fill=part.color)
    pen.text((left + 24, under), part.name, FAINT, _font(18))
    pen.text((left + FRAME[0] - 2, under), time, INK, _font(18), anchor="ra")


def _time_line(pen: ImageDraw.ImageDraw, parts: Sequence[Part], top: int, fps: int) -> None:
    total = sum(part.frames for part in parts)
    scale = (WIDTH - 2 * MARGIN) / total
    for part in parts:
        left, right = MARGIN + part.first * scale, MARGIN + (part.first + part.frames) * scale
        pen.rounded_rectangle((left + 1, top, right - 2, top + 14), 7, fill=part.color)
        for number in part.picks:
            pen.line((MARGIN + number * scale, top + 20, MARGIN + number * scale, top + 28), FAINT, 2)
        pen.text((left + 1, top + 36), f"{part.first / fps:.2f} s", FAINT, _font(18))
    pen.text((WIDTH - MARGIN, top + 36), f"{total / fps:.2f} s", INK, _font(18), anchor="ra")


def _shortened(pen: ImageDraw.ImageDraw, text: str, size: int, width: int) -> str:
    if pen.textlength(text, _font(size)) <= width:
        return text
    while text and pen.textlength(f"{text}…", _font(size)) > width:
        text = text[:-1]
    return f"{text}…"


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
