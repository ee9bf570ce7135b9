"""Positions, sizes and durations in the finished video. Positions and sizes are pixels of a 1280x720 frame."""

CARD_SECONDS, FADE_OUT_SECONDS = 3.0, 0.4
"""Length of each of the project's own cards, and of the fade to black at its end, in seconds."""

TITLE_MIDDLE = 512
"""Vertical position of the title's center in the intro. Horizontally, the title is in the middle."""

TITLE_WIDTH, TITLE_LINES, TITLE_SIZE = 1040, 2, 42
"""Maximum width and maximum number of lines of a title, and its font size."""

WATERMARK_MARGIN = 32
"""Distance of the watermark from the right edge and from the lower edge of the picture."""

WATERMARK_BOX = (240, 96)
"""Maximum width and height of the deployment's own watermark. A larger watermark is scaled down."""

WATERMARK_HEIGHT = 40
"""Height of the logo in the project's own watermark. The shadow is not counted."""

WATERMARK_OPACITY = 0.62
"""Opacity of the project's own watermark: 0 is invisible, 1 is opaque."""
