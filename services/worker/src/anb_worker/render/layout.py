"""Positions, sizes and durations in the finished picture. Positions and sizes are pixels of a 1280x720 frame."""

CARD_SECONDS, FADE_OUT_SECONDS = 3.0, 0.4
"""The length of the project's intro and outro, and of the fade to black at the end of both, in seconds."""

TITLE_MIDDLE = 512
"""The vertical position of the title's center in the intro. Horizontally the title is centered."""

TITLE_WIDTH, TITLE_LINES, TITLE_SIZE = 1040, 2, 42
"""The largest width of a title, its largest number of lines, and its font size."""

WATERMARK_MARGIN = 32
"""The distance of the watermark from the right and the lower edge of the picture."""

WATERMARK_BOX = (240, 96)
"""The largest width and height of an operator's watermark. A larger watermark is scaled down."""

WATERMARK_HEIGHT = 40
"""The height of the logo in the project's own watermark, without the shadow."""

WATERMARK_OPACITY = 0.62
"""The opacity of the project's own watermark: 0 is invisible, 1 is solid."""
