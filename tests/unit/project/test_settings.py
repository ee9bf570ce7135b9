"""Tests that docs/configuration.md and the chart's files/settings.yaml list the settings of all programs."""

import runpy
from pathlib import Path

import pytest

from anb_core.settings.documenting import table
from tools import settings
from tools.settings import CHART, DOCUMENT, PROGRAMS, for_the_chart, with_table


def test_the_document_has_the_table_of_all_programs_settings() -> None:
    document = DOCUMENT.read_text(encoding="utf-8")
    assert document == with_table(document), "run: python -m tools.settings"


def test_the_chart_knows_the_readers_and_forms_of_all_settings() -> None:
    assert CHART.read_text(encoding="utf-8") == for_the_chart(), "run: python -m tools.settings"


def test_what_stands_between_the_markers_is_written_anew() -> None:
    document = DOCUMENT.read_text(encoding="utf-8")
    stale = document.replace("`ANB_LEASE_SECONDS` | `60`", "`ANB_LEASE_SECONDS` | `61`")
    assert stale != document == with_table(stale)


def test_the_script_writes_both_files(monkeypatch: pytest.MonkeyPatch) -> None:
    written: dict[Path, str] = {}
    monkeypatch.setattr(Path, "write_text", lambda path, text, encoding: written.update({path: text + encoding}))

    with pytest.raises(SystemExit) as ended:
        runpy.run_path(settings.__file__, run_name="__main__")

    assert ended.value.code == 0
    assert written == {path: path.read_text(encoding="utf-8") + "utf-8" for path in (DOCUMENT, CHART)}


def test_a_document_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="the document has no lines"):
        with_table("# Configuration")


def test_every_setting_is_explained() -> None:
    for row in table(PROGRAMS).splitlines()[2:]:
        assert row.rstrip("| ").endswith((".", "`error`"))
        assert row.count(" | ") == 3
