from datetime import UTC, datetime
from typing import Any

import pytest

from anb_cli.__main__ import perform
from anb_cli.dead_letter_answers import dead_letter_page_of, redrive_report_of
from anb_cli.dead_letter_commands import conditions_of
from anb_cli.errors import Exit, NotOurs
from tests.support.dead_letters import a_dead_letter

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
REPORT: dict[str, Any] = {"matched": 1, "ids": [], "skipped": [], "left": 0, "spread_seconds": 0.0, "next_cursor": "x"}


def test_only_the_conditions_that_were_given_are_sent() -> None:
    assert conditions_of(causes=(), codes=(), since=None, until=None, owner=None) == {}
    assert conditions_of(causes=["failures"], codes=["killed"], since="1h", until=None, owner="ana", now=NOW) == {
        "cause": ["failures"],
        "code": ["killed"],
        "owner": "ana",
        "since": "2026-11-29T11:00:00+00:00",
    }


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["redrive"], "Which ones? Give ids, or conditions such as --code, or --all; only one of these."),
        (["redrive", "--all", "--code", "killed"], "Which ones?"),
        (["redrive", "3", "--all"], "Which ones?"),
        (["redrive", "3", "--owner", "ana"], "Which ones?"),
        (["redrive", "3", "--dry-run"], "--dry-run and --cap need conditions or --all."),
        (["redrive", "3", "--cap", "1"], "--dry-run and --cap need conditions or --all."),
        (["redrive", "--all", "--cap", "0"], "it must be 1 or more"),
        (["redrive", "--owner", ""], "--owner is empty: give a value, or leave it out."),
        (["redrive", "--code", " "], "--code is empty"),
        (["redrive", "--version", "\udce9"], "--version is not valid UTF-8"),
        (["redrive", "--since", "yesterday"], "--since is 'yesterday'"),
        (["redrive", "--cause", "bad_luck"], "There is no cause 'bad_luck', only failures, worker_lost, "),
        (["redrive", "0"], "it must be 1 or more"),
        (["list", "--state", "closed"], "There is no state 'closed', only open, resolved, all."),
        (["show", "first"], "it is not a whole number"),
        (["discard", "3"], "Missing option '--reason'"),
        (["discard", "3", "--reason", ""], "--reason is empty"),
    ],
    ids=str,
)
def test_an_unclear_order_is_refused_before_the_api_is_asked(
    capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    assert perform(["dlq", *arguments]) == Exit.WRONG_USE
    out, err = capsys.readouterr()
    assert out == ""
    assert sentence in err


def test_a_server_that_returns_empty_pages_for_ever_is_not_asked_again() -> None:
    assert dead_letter_page_of({"dead_letters": [], "next_cursor": "x"}) == ([], None)
    assert redrive_report_of(dict(REPORT))["next_cursor"] is None
    assert redrive_report_of(REPORT | {"ids": [3]})["next_cursor"] == "x"


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "12"},
        {"id": 10**5000},
        {"cause": None},
        {"created_at": None},
        {"created_at": "0001-01-01"},
        {"failures": -1},
        {"resolved_at": "now"},
        {"owner": 5},
    ],
    ids=lambda changes: ascii(list(changes)),
)
def test_what_is_no_dead_letter_is_not_shown(changes: dict[str, Any]) -> None:
    with pytest.raises(NotOurs, match=r"is not a list of dead letters of ANB Video"):
        dead_letter_page_of({"dead_letters": [a_dead_letter(**changes)], "next_cursor": None})
