import ast
import inspect
import re
from pathlib import Path

from anb_core.domain import color, decoding_checks, formats, input_checks
from anb_worker.render import layout, sandbox

DOCS = (Path(__file__).parents[4] / "docs" / "rendering.md").read_text()


def test_every_code_with_which_an_upload_is_refused_is_explained() -> None:
    raised = {
        node.args[0].value
        for module in (color, decoding_checks, input_checks, sandbox)
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "BadInput"
        if isinstance(node.args[0], ast.Constant)
    }
    rows = re.findall(r"^\| (`[^|]*) \|", DOCS.partition("## What is wrong with an upload")[2], re.MULTILINE)
    assert raised == {code for row in rows for code in re.findall(r"`(\w+)`", row)}


def test_what_is_accepted_and_how_large_a_watermark_may_be_is_as_documented() -> None:
    assert formats.ACCEPTED.replace(" or ", ", ") in DOCS
    width, height = layout.WATERMARK_BOX
    assert f"scaled down to {width}x{height} if larger" in DOCS
