"""Where things stand in the finished picture, and how large and long they are. All positions and sizes are pixels of a
1280x720 frame.
"""

CARD_SECONDS, FADE_OUT_SECONDS = 3.0, 0.4
"""The length of the project's intro and outro, and how much of that they take to turn dark at the end."""

TITLE_MIDDLE = 512
"""The middle of the title in the intro, from above. From side to side it is centered."""

TITLE_WIDTH, TITLE_LINES, TITLE_SIZE = 1040, 2, 42
"""The most that a title takes, and the size of its letters."""

WATERMARK_MARGIN = 32
"""Between the watermark and the right and lower edge of the picture."""

WATERMARK_BOX = (240, 96)
"""The largest width and height of an operator's watermark. A larger one is scaled down, a smaller one stays."""

WATERMARK_HEIGHT = 40
"""The height of the mark in the project's own watermark, without its shadow."""

WATERMARK_OPACITY = 0.62
"""Of the project's own watermark: 0 is invisible, 1 is solid."""
