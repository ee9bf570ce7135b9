from pathlib import Path

from anb_core.domain.formats import ACCEPTED
from anb_worker.render.layout import WATERMARK_BOX

DOCS = (Path(__file__).parents[4] / "docs" / "rendering.md").read_text()


def test_what_is_accepted_and_how_large_a_watermark_may_be_is_as_documented() -> None:
    assert ACCEPTED.replace(" or ", ", ") in DOCS
    width, height = WATERMARK_BOX
    assert f"scaled down to {width}x{height} if larger" in DOCS
