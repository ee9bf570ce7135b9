import json
from collections.abc import Callable
from typing import Any

import pytest

from anb_cli.__main__ import perform
from anb_cli.client import Api
from anb_cli.dead_letter_answers import reconciliation_report_of
from anb_cli.errors import Exit, NotOurs

Serve = Callable[..., list[dict[str, Any]]]


def finding(action: str, number: int = 1, *, changes: bool = True) -> dict[str, Any]:
    return {"action": action, "video_id": "v", "key": f"uploads/{number}", "message": "It is so.", "changes": changes}


def report(*findings: dict[str, Any], after: str | None = None) -> dict[str, Any]:
    return {"examined": 500, "findings": list(findings), "next_after": after}


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Serve:
    """Return a function that prepares the reports of the API, and that returns the list of the requests."""
    monkeypatch.setenv("ANB_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("ANB_TOKEN", "a-token-for-the-test")

    def serve(*reports: dict[str, Any] | BaseException) -> list[dict[str, Any]]:
        left, orders = list(reports), list[dict[str, Any]]()

        def reconcile(_: Api, order: dict[str, Any], **__: object) -> dict[str, Any]:
            orders.append(order)
            answer = left.pop(0)
            if isinstance(answer, BaseException):
                raise answer
            return answer

        monkeypatch.setattr(Api, "reconcile", reconcile)
        return orders

    return serve


MANY = [finding("restore_upload", number) for number in range(5)]
PARTS = (report(*MANY, after="processed/"), report(finding("source_missing", changes=False)))


FOUND = "1000 objects and videos examined, 6 differences, 5"
WOULD = f"A dry run: {FOUND} can be removed. To remove them: anb reconcile --apply"


@pytest.mark.parametrize(
    ("options", "last"),
    [
        ([], WOULD),
        (["--dry-run"], WOULD),
        (["--apply"], f"{FOUND} removed."),
    ],
    ids=str,
)
def test_differences_are_counted_with_examples_and_only_apply_removes_them(
    serve: Serve, capsys: pytest.CaptureFixture[str], options: list[str], last: str
) -> None:
    orders = serve(*PARTS)
    assert perform(["reconcile", *options]) == Exit.OK
    assert capsys.readouterr().out.splitlines() == [
        "5\tfile without a video: becomes the video again\tuploads/0, uploads/1, uploads/2, ...",
        "1\tfile that is gone: can't be restored\tuploads/1",
        last,
    ]
    dry_run = options != ["--apply"]
    assert orders == [{"after": None, "dry_run": dry_run}, {"after": "processed/", "dry_run": dry_run}]


def test_json_has_a_line_for_each_difference_and_the_totals(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    serve(*PARTS)
    assert perform(["reconcile", "--apply", "--json"]) == Exit.OK
    *lines, totals = map(json.loads, capsys.readouterr().out.splitlines())
    assert [(line["action"], line["done"]) for line in lines] == [("restore_upload", True)] * 5 + [
        ("source_missing", False)
    ]
    assert totals == {
        "dry_run": False, "examined": 1000, "found": {"restore_upload": 5, "source_missing": 1}, "removed": 5
    }  # fmt: skip


def test_a_database_that_agrees_with_the_bucket_takes_one_sentence(
    serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    serve(report())
    assert perform(["reconcile"]) == Exit.OK
    assert capsys.readouterr().out == "500 objects and videos examined. The database and the bucket agree.\n"


def test_what_nobody_can_remove_is_not_advertised(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    serve(report(finding("a_new_action", changes=False)))
    assert perform(["reconcile"]) == Exit.OK
    first, last = capsys.readouterr().out.splitlines()
    assert first == "1\ta_new_action\tuploads/1"
    assert last == "A dry run: 500 objects and videos examined, 1 difference, 0 can be removed."


@pytest.mark.parametrize(("options", "said"), [(["--apply"], True), ([], False)], ids=["apply", "dry run"])
def test_an_interrupted_run_says_that_it_can_be_repeated(
    serve: Serve, capsys: pytest.CaptureFixture[str], options: list[str], *, said: bool
) -> None:
    serve(PARTS[0], KeyboardInterrupt())
    assert perform(["reconcile", *options]) == Exit.INTERRUPTED
    sentence = "500 objects and videos examined, 5 differences so far. To go on, give the command again."
    assert (sentence in capsys.readouterr().err) == said


def test_a_server_that_repeats_its_position_is_not_asked_for_ever(serve: Serve) -> None:
    orders = serve(report(after="videos/1"), report(after="videos/1"), AssertionError("asked again"))
    assert perform(["reconcile"]) == Exit.OK
    assert len(orders) == 2


@pytest.mark.parametrize("changes", [{"examined": -1}, {"findings": [{}]}, {"next_after": 3}], ids=str)
def test_what_is_no_report_is_not_believed(changes: dict[str, object]) -> None:
    with pytest.raises(NotOurs, match="is not a report about a reconciliation of ANB Video"):
        reconciliation_report_of(report() | changes)
