import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anb_api import __main__ as program
from anb_core.bootstrap import open_store_for_command
from anb_core.domain.model import Scope
from anb_core.settings.capabilities import DatabaseSettings
from anb_core.usecases.tokens import authenticate
from anb_core.usecases.visibility import Caller

BOOTSTRAP = "a-secret-of-the-operator"

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """A function that runs a command of the API and returns its exit code, stdout and stderr."""
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path / 'anb.db'}")
    # Patch `configure_logging`, because the command would replace the logging configuration of the tests.
    monkeypatch.setattr(program, "configure_logging", lambda *_: None)

    def run(*arguments: str) -> tuple[int, str, str]:
        try:
            code = program.main(arguments)
        except SystemExit as ending:
            code = int(ending.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def caller_of(secret: str) -> Caller | None:
    store = open_store_for_command(DatabaseSettings())
    try:
        return authenticate(store, secret)
    finally:
        store.close()


def listed(run: Run) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run("token", "list", "--json")[1].splitlines()]


def test_a_token_is_made_shown_once_listed_and_revoked(run: Run) -> None:
    run("migrate")

    code, secret, warning = run("token", "create", "--owner", "ana")
    assert code == 0
    assert "only once" in warning
    assert caller_of(secret.strip()) == Caller("ana", Scope.USER)

    (token,) = listed(run)
    assert (token["owner"], token["scope"], token["expires_at"]) == ("ana", "user", None)
    assert secret.strip() not in json.dumps(token)
    assert run("token", "revoke", token["id"])[0] == 0
    assert caller_of(secret.strip()) is None
    assert listed(run)[0]["revoked_at"]


def test_a_token_for_programs_has_the_scope_and_lifetime_that_were_asked_for(run: Run) -> None:
    run("migrate")

    created = json.loads(run("token", "create", "--owner", "olga", "--scope", "ops", "--days", "0.5", "--json")[1])

    assert (created["owner"], created["scope"]) == ("olga", "ops")
    assert created["expires_at"]
    assert caller_of(created["secret"]) == Caller("olga", Scope.OPS)


def test_a_token_that_is_not_there_cannot_be_revoked(run: Run) -> None:
    run("migrate")

    code, _, complaint = run("token", "revoke", "nothing")

    assert (code, complaint) == (1, "token_not_found: There is no token nothing, or it was revoked before.\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("token",),
        ("token", "create"),
        ("token", "create", "--owner", "ana", "--scope", "root"),
        ("token", "create", "--owner", "ana", "--days", "0"),
        ("token", "create", "--owner", "ana", "--days", "soon"),
        ("explode",),
    ],
)
def test_a_wrong_command_is_explained(run: Run, arguments: tuple[str, ...]) -> None:
    code, out, complaint = run(*arguments)

    assert (code, out) == (2, "")
    assert "usage:" in complaint


def test_migrating_records_the_bootstrap_token_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANB_BOOTSTRAP_TOKEN", BOOTSTRAP)

    assert run("migrate")[0] == 0
    assert run("migrate")[0] == 0

    caller = caller_of(BOOTSTRAP)
    assert caller is not None
    assert caller.scope is Scope.OPS
    assert len(listed(run)) == 1


def test_a_database_that_was_not_migrated_says_so(run: Run) -> None:
    code, _, complaint = run("token", "list")

    assert code == 1
    assert "database_unavailable" in complaint


def test_a_wrong_setting_stops_the_start_with_a_sentence(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "mysql://db/anb")

    code, _, complaint = run("migrate")

    assert code == 2
    assert complaint.startswith("configuration: DATABASE_URL")


def test_serving_without_the_settings_it_needs_stops_the_start(run: Run) -> None:
    code, _, complaint = run()

    assert code == 2
    assert "SQS_QUEUE_URL" in complaint
    assert "S3_BUCKET" in complaint
