import pytest

from anb_worker import __main__
from anb_worker.sandbox_requirement import demand

ALL = {"files": True, "network": True, "escape": True, "survival": True}


def test_with_every_protection_possible_the_demand_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    demand(ALL)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "words"), [("files", "Landlock"), ("network", "seccomp"), ("escape", "group"), ("survival", "Linux")]
)
def test_a_worker_that_demands_a_missing_protection_names_it_and_says_what_to_do(
    capsys: pytest.CaptureFixture[str], name: str, words: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        demand(ALL | {name: False})
    assert caught.value.code == 2
    message = capsys.readouterr().err
    assert words in message
    assert "ANB_SANDBOX" in message
    assert "worker.sandbox" in message
    assert "prefer" in message


@pytest.mark.parametrize(("setting", "goes_on"), [(None, True), ("prefer", True), ("require", False)])
def test_without_landlock_a_worker_starts_unless_it_is_required(
    monkeypatch: pytest.MonkeyPatch, setting: str | None, *, goes_on: bool
) -> None:
    class Continues(Exception):
        pass

    def open_store(*_: object) -> None:
        raise Continues

    monkeypatch.setenv("DATABASE_URL", "sqlite:///none.db")
    monkeypatch.setenv("S3_BUCKET", "none")
    monkeypatch.setenv("SQS_QUEUE_URL", "http://127.0.0.1:9/0/none")
    if setting:
        monkeypatch.setenv("ANB_SANDBOX", setting)
    monkeypatch.setattr(__main__, "protections", lambda: ALL | {"files": False})
    monkeypatch.setattr(__main__, "configure_logging", lambda *_: None)
    monkeypatch.setattr(__main__, "open_store", open_store)
    monkeypatch.setattr(__main__, "stop_on_signals", lambda _: None)
    with pytest.raises(Continues if goes_on else SystemExit):
        __main__.main()
