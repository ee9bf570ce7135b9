from pathlib import Path

from anb_core.domain.formats import ACCEPTED
from anb_worker.render.layout import WATERMARK_BOX

DOCS = (Path(__file__).parents[4] / "docs" / "rendering.md").read_text()


def test_the_accepted_formats_and_the_largest_watermark_are_as_documented() -> None:
    assert ACCEPTED.replace(" or ", ", ") in DOCS
    width, height = WATERMARK_BOX
    assert f"scaled down to {width}x{height} if larger" in DOCS
