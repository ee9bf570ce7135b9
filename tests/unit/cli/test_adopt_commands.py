import pytest

from anb_cli.__main__ import perform
from anb_cli.adopt_commands import Tally
from anb_cli.client import Api
from anb_cli.dead_letter_answers import adoption_report_of
from anb_cli.errors import Exit, NotOurs

REPORT = {"owner": "ana", "adopted": [], "ignored": [], "refused": [], "next_after": "uploads/a.mp4"}
LEFT = {"key": "uploads/b.mp4", "code": "not_a_video", "message": "It is a picture."}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "Missing argument 'PREFIX'"),
        ([""], "PREFIX is empty"),
        (["\udce9/"], "PREFIX is not valid UTF-8"),
        (["uploads/", "--owner", " "], "--owner is empty"),
        (["uploads/", "--limit", "0"], "it must be 1 or more"),
    ],
    ids=str,
)
def test_an_unclear_order_is_refused_before_the_api_is_asked(
    capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    assert perform(["adopt", *arguments]) == Exit.WRONG_USE
    out, err = capsys.readouterr()
    assert (out, sentence in err) == ("", True)


@pytest.mark.parametrize(("options", "said"), [((), True), (("--dry-run",), False)], ids=["real", "dry run"])
def test_only_a_real_run_that_is_interrupted_says_what_it_may_have_adopted(
    options: tuple[str, ...], *, said: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setenv("ANB_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("ANB_TOKEN", "a-token-for-the-test")
    monkeypatch.setattr(Api, "adopt", interrupted)

    assert perform(["adopt", "uploads/", *options]) == Exit.INTERRUPTED
    assert ("0 objects adopted so far. The interrupted request may have adopted" in capsys.readouterr().err) == said


def test_a_server_that_returns_empty_reports_for_ever_is_not_asked_again() -> None:
    assert adoption_report_of(dict(REPORT))["next_after"] is None
    assert adoption_report_of(REPORT | {"ignored": [LEFT]})["next_after"] == "uploads/a.mp4"


@pytest.mark.parametrize("changes", [{"owner": None}, {"adopted": [{"key": "a"}]}, {"refused": [LEFT | {"code": 3}]}])
def test_what_is_no_report_is_not_believed(changes: dict[str, object]) -> None:
    with pytest.raises(NotOurs, match="is not a report about an adoption of ANB Video"):
        adoption_report_of(REPORT | changes)


def test_the_memory_for_a_million_objects_is_that_for_a_few() -> None:
    tally = Tally("uploads/", None, dry_run=False)
    for number in range(1000):
        tally.add(REPORT | {"ignored": [LEFT | {"key": f"uploads/{number}"}] * 100})
    assert tally.examined == 100_000
    assert tally.ignored["not_a_video"].examples == ["uploads/0"] * 3
