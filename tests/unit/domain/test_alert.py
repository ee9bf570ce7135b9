import pytest
from hypothesis import given
from hypothesis import strategies as st

from anb_core.domain.alert import MAX_SUBJECT, subject_line


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        ("1 new dead letter", "1 new dead letter"),
        ("  two\r\n lines\u2028here ", "two lines here"),
        ("naïve \x1b[0m", "na?ve ?[0m"),
        ("", ""),
    ],
)
def test_a_subject_is_one_line_of_printable_ascii(raw: str, line: str) -> None:
    assert subject_line(raw) == line


@given(st.text(max_size=300))
def test_whatever_a_subject_is_made_of_sns_takes_it(raw: str) -> None:
    line = subject_line(raw)
    assert line.isascii()
    assert line.isprintable()
    assert len(line) <= MAX_SUBJECT
    assert not line.startswith(" ")
