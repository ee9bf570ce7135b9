import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anb_core.domain.edit import EditSpec, Switch, Trim
from anb_core.domain.fingerprint import fingerprint_of
from anb_core.domain.model import Source

SOURCE = Source(2012, "4b0d8ac7a26e2c4da3bfd26ac3be32ea7d6f4b2d93f8f2a1c2a2f6a8a9c1d0e5")
CUT = EditSpec(trim=Trim(start=1.5, length=10), intro=Switch(enabled=False))

edits = st.builds(
    EditSpec,
    trim=st.builds(Trim, start=st.floats(0, 100).map(abs), length=st.floats(0.1, 30)),
    watermark=st.builds(Switch, enabled=st.booleans()),
    intro=st.builds(Switch, enabled=st.booleans()),
    outro=st.builds(Switch, enabled=st.booleans()),
)


class LaterTrim(Trim):
    a_later_word: bool = False


class LaterEdit(EditSpec):
    """The edit of a future version. It has a new step, and a new option of the trim, which `EditSpec` does not have."""

    trim: LaterTrim = LaterTrim()
    a_later_step: Switch = Switch(enabled=False)


def of_the_first_version(title: str, edit: EditSpec, source: Source) -> str:
    """Return the fingerprint in the first version's format. The database keeps such fingerprints for up to 30 days."""
    options = {
        "trim": {"start": edit.trim.start, "length": edit.trim.length},
        "watermark": {"enabled": edit.watermark.enabled},
        "intro": {"enabled": edit.intro.enabled},
        "outro": {"enabled": edit.outro.enabled},
    }
    return hashlib.sha256(json.dumps([title, options, source.sha256], sort_keys=True).encode()).hexdigest()


@given(st.text(), edits)
def test_programs_of_the_first_version_and_of_this_one_agree(title: str, edit: EditSpec) -> None:
    assert fingerprint_of(title, edit, SOURCE) == of_the_first_version(title, edit, SOURCE)


@given(edits)
def test_a_new_option_that_is_not_used_changes_nothing(edit: EditSpec) -> None:
    later = LaterEdit.model_validate(edit.model_dump())

    assert fingerprint_of("T", later, SOURCE) == fingerprint_of("T", edit, SOURCE)


@pytest.mark.parametrize(
    "used",
    [LaterEdit(a_later_step=Switch(enabled=True)), LaterEdit(trim=LaterTrim(a_later_word=True))],
    ids=["a step", "a word about a step"],
)
def test_a_new_option_that_is_used_counts(used: EditSpec) -> None:
    assert fingerprint_of("T", used, SOURCE) != fingerprint_of("T", LaterEdit(), SOURCE)


@pytest.mark.parametrize(
    "other",
    [("Another", CUT, SOURCE), ("T", EditSpec(), SOURCE), ("T", CUT, Source(2012, "f" * 64)), ("T", CUT, SOURCE, "60")],
    ids=["title", "edit", "file", "process_after"],
)
def test_title_edit_file_and_process_after_count(other: tuple[Any, ...]) -> None:
    assert fingerprint_of(*other) != fingerprint_of("T", CUT, SOURCE)
