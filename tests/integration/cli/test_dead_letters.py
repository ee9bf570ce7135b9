"""Tests of `anb dlq` with the real API. Its database and bucket are in memory. Commands run in the test process."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from anb_api.server import make_server
from anb_api.settings import ApiSettings
from anb_cli.__main__ import perform
from anb_cli.client import Api
from anb_cli.errors import Exit, Unreachable
from anb_core.adapters.system import new_id
from anb_core.domain.dead_letters import Resolution
from anb_core.domain.model import DeadLetterCause, Record, Scope
from anb_core.domain.status import Status
from anb_core.testing.objects import InMemoryObjects
from anb_core.testing.queue import InMemoryQueue
from anb_core.testing.store import InMemoryStore
from anb_core.usecases.dead_letters import PACE
from anb_core.usecases.tokens import create_token
from tests.support import eventually
from tests.support.given import SECOND, dead_lettered, record_of
from tests.support.tether import free_port


@dataclass
class Operator:
    """An administrator at a terminal, with a token of scope `ops` for a deployment."""

    store: InMemoryStore
    objects: InMemoryObjects
    capsys: pytest.CaptureFixture[str]

    def dead_letter(self, *, source: bool = True, owner: str = "ana", version: str = "1.0") -> int:
        """Create a dead letter. If `source` is false, its uploaded file does not exist."""
        video_id = dead_lettered(self.store, owner=owner, version=version)
        if source:
            self.objects.put(record_of(self.store, video_id).video.source_key, b"video")
        return self.store.letters[-1].id

    def message(self, body: str) -> int:
        """Create a dead letter without a video."""
        self.store.record_dead_letter(
            cause=DeadLetterCause.UNREADABLE, message_id=new_id(), body=body, detail="It is not JSON."
        )
        return self.store.letters[-1].id

    def status(self, letter: int) -> Status:
        found = self.store.dead_letter(letter)
        assert found is not None
        assert found.video_id is not None
        return record_of(self.store, found.video_id).job.status

    def resolution(self, letter: int) -> Resolution | None:
        found = self.store.dead_letter(letter)
        assert found is not None
        return found.resolution

    def anb(self, *arguments: str) -> tuple[int, str, str]:
        """Run a command. Returns its exit code and its output."""
        code = perform(arguments)
        return code, *self.capsys.readouterr()

    def records(self, *arguments: str, code: int = Exit.OK) -> list[dict[str, Any]]:
        """Run a command with `--json` and return the objects that it writes."""
        ended, out, err = self.anb(*arguments, "--json")
        assert ended == code, err
        return [json.loads(line) for line in out.splitlines()]


@pytest.fixture(scope="module")
def deployment() -> Iterator[tuple[str, InMemoryStore, InMemoryObjects]]:
    """The API in a real HTTP server, which runs in a thread."""
    store, objects, queue = InMemoryStore(), InMemoryObjects(), InMemoryQueue()
    settings = ApiSettings(
        DATABASE_URL="sqlite:///unused.db",
        S3_BUCKET=objects.bucket,
        SQS_QUEUE_URL="http://127.0.0.1:9/000000000000/anb",
        SQS_REGION="us-east-1",
        ANB_API_LISTEN="127.0.0.1:0",
    )
    server = make_server(settings, store, objects, queue)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        eventually(lambda: server.started)
        host, port = server.servers[0].sockets[0].getsockname()
        yield f"http://{host}:{port}", store, objects
    finally:
        server.should_exit = True
        thread.join(20)


@pytest.fixture
def operator(
    deployment: tuple[str, InMemoryStore, InMemoryObjects],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Operator:
    url, store, objects = deployment
    store.letters.clear()
    monkeypatch.setenv("ANB_URL", url)
    monkeypatch.setenv("ANB_TOKEN", create_token(store, owner="olga", scope=Scope.OPS, new_id=new_id).secret)
    return Operator(store, objects, capsys)


def test_dead_letters_are_listed_by_conditions_that_must_all_hold(operator: Operator) -> None:
    wanted = operator.dead_letter(owner="ana", version="2.0")
    operator.dead_letter(owner="ana", version="1.0")
    operator.dead_letter(owner="bo", version="2.0")
    operator.message("?")
    conditions = ["--owner", "ana", "--version", "2.0", "--cause", "failures", "--since", "1h", "--worker", "worker-1"]

    [letter] = operator.records("dlq", "list", *conditions, "--code", "verification_failed")
    _, out, _ = operator.anb("dlq", "list", *conditions)

    assert letter["id"] == wanted
    [row] = [line.split("\t") for line in out.splitlines()]
    assert row[0] == str(wanted)
    assert row[2:] == [
        "open", "failures", "verification_failed", letter["video_id"], "ana", "The result is not as planned."
    ]  # fmt: skip
    assert operator.anb("dlq", "list", *conditions, "--until", "1h") == (Exit.OK, "", "No open dead letters.\n")


def test_a_list_says_that_there_are_more(operator: Operator) -> None:
    letters = [operator.dead_letter() for _ in range(3)]
    code, out, err = operator.anb("dlq", "list", "--limit", "2")
    assert code == Exit.OK
    assert [int(line.split("\t")[0]) for line in out.splitlines()] == letters[:0:-1]
    assert err == "Only the newest 2. --limit shows more.\n"
    assert operator.anb("dlq", "list", "--limit", "3")[2] == ""


def test_a_dead_letter_is_shown_with_its_attempts_and_what_to_do_next(operator: Operator) -> None:
    letter = operator.dead_letter()
    code, out, _ = operator.anb("dlq", "show", str(letter))
    assert code == Exit.OK
    assert f"Dead letter {letter}, open\n" in out
    assert "  error   The result is not as planned. (verification_failed)\n" in out
    assert "Details of the error\n  frame=12\n  Conversion failed!\n" in out
    assert "  worker-1  failed  The result is not as planned. (verification_failed)\n" in out
    assert f"anb dlq redrive {letter}\n" in out


def test_the_body_of_a_message_is_shown_short_and_cannot_steer_the_terminal(operator: Operator) -> None:
    letter = operator.message("\x1b[2J" + "x" * 5000)
    _, out, _ = operator.anb("dlq", "show", str(letter))
    assert "\x1b" not in out
    assert "  \\x1b[2Jxxx" in out
    assert f"... and {5004 - 4096} more bytes, which `anb dlq show {letter} --json` shows" in out
    assert len(operator.records("dlq", "show", str(letter))[0]["body"]) == 5004


def test_dead_letters_are_redriven_by_their_ids(operator: Operator) -> None:
    one, two, other = operator.dead_letter(), operator.dead_letter(), operator.dead_letter()
    code, out, err = operator.anb("dlq", "redrive", str(one), str(two), str(one))
    assert (code, err) == (Exit.OK, "")
    assert [line.split("  ")[0] for line in out.splitlines()] == [str(one), str(two)]
    assert [operator.status(letter) for letter in (one, two, other)] == [
        Status.UPLOADED, Status.UPLOADED, Status.DEAD_LETTERED
    ]  # fmt: skip


def test_ids_that_can_not_be_redriven_are_named_and_the_others_are_redriven(operator: Operator) -> None:
    gone, good, message = operator.dead_letter(source=False), operator.dead_letter(), operator.message("?")
    records = operator.records("dlq", "redrive", *map(str, (gone, message, good, 999)), code=Exit.REFUSED)
    assert [(record["dead_letter_id"], record.get("error", {}).get("code")) for record in records] == [
        (gone, "source_missing"), (message, "dead_letter_without_video"), (good, None), (999, "dead_letter_not_found")
    ]  # fmt: skip
    assert operator.status(good) == Status.UPLOADED
    code, _, err = operator.anb("dlq", "redrive", str(good))
    assert code == Exit.REFUSED
    assert f"Dead letter {good} was redriven by olga" in err


def test_what_a_release_broke_is_redriven_by_its_version(operator: Operator) -> None:
    broken = [operator.dead_letter(version="1.0") for _ in range(3)]
    other = operator.dead_letter(version="2.0")
    assert operator.anb("dlq", "redrive", "--version", "1.0") == (
        Exit.OK,
        "3 of 3 dead letters redriven.\n",
        "redrive: 3 of 3\n",
    )
    assert {operator.resolution(letter) for letter in broken} == {Resolution.REDRIVEN}
    assert operator.resolution(other) is None


def test_a_dry_run_changes_nothing_and_says_what_can_not_be_redriven(operator: Operator) -> None:
    good, gone = operator.dead_letter(), operator.dead_letter(source=False)
    code, out, err = operator.anb("dlq", "redrive", "--all", "--dry-run")
    assert code == Exit.REFUSED
    assert out == "A dry run: 1 of 2 dead letters would be redriven, 1 can't be redriven.\n"
    assert f"anb: Dead letter {gone}: The uploaded file of video " in err
    assert operator.records("dlq", "redrive", "--all", "--dry-run", code=Exit.REFUSED)[0] == {
        "dead_letter_id": good,
        "redriven": False,
    }
    assert operator.resolution(good) is operator.resolution(gone) is None


def test_a_reason_that_names_the_dead_letter_is_not_preceded_by_the_name(operator: Operator) -> None:
    letter = operator.message("?")
    code, _, err = operator.anb("dlq", "redrive", "--all")
    assert code == Exit.REFUSED
    assert f"anb: Dead letter {letter} can't be redriven. It belongs to no video." in err


def test_many_are_redriven_in_chunks_of_which_at_most_50_messages_a_second_are_sent(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    letters = [operator.dead_letter(source=number % 50 != 7) for number in range(230)]
    redrive_dead_letter, sent_at = InMemoryStore.redrive_dead_letter, []

    def redrive(store: InMemoryStore, letter: int, *, by: str, delay: timedelta) -> Record:
        sent_at.append(datetime.now(UTC) + delay)
        return redrive_dead_letter(store, letter, by=by, delay=delay)

    monkeypatch.setattr(InMemoryStore, "redrive_dead_letter", redrive)
    *lines, summary = operator.records("dlq", "redrive", "--all", code=Exit.REFUSED)

    assert sorted(line["dead_letter_id"] for line in lines) == letters
    assert [line["error"]["code"] for line in lines if "error" in line] == ["source_missing"] * 5
    spread = 230 * PACE.total_seconds()
    expected = {"dry_run": False, "matched": 230, "redriven": 225, "skipped": 5, "left": 0, "spread_seconds": spread}
    assert summary == pytest.approx(expected)
    assert len(sent_at) == 225
    sent_at.sort()
    # No period of one second has more than 50 messages.
    assert min(later - earlier for earlier, later in zip(sent_at, sent_at[50:], strict=False)) >= SECOND


def test_a_cap_leaves_the_oldest(operator: Operator) -> None:
    oldest, *newest = [operator.dead_letter() for _ in range(4)]
    unsound = operator.dead_letter(source=False)
    code, out, _ = operator.anb("dlq", "redrive", "--all", "--cap", "3")
    assert (code, out) == (
        Exit.REFUSED,
        "3 of 5 dead letters redriven, 1 can't be redriven, 1 left because of --cap.\n",
    )
    assert {operator.resolution(letter) for letter in newest} == {Resolution.REDRIVEN}
    assert operator.resolution(oldest) is operator.resolution(unsound) is None


def test_a_filter_that_matches_nothing_is_no_failure(operator: Operator) -> None:
    operator.dead_letter(owner="ana")
    assert operator.anb("dlq", "redrive", "--owner", "bo")[:2] == (Exit.OK, "No open dead letter matches.\n")


@pytest.mark.parametrize(
    ("interruption", "code"),
    [(KeyboardInterrupt(), Exit.INTERRUPTED), (Unreachable("Gone."), Exit.UNREACHABLE)],
    ids=["Ctrl-C", "an outage"],
)
def test_an_interrupted_redrive_says_what_it_has_done(
    operator: Operator, monkeypatch: pytest.MonkeyPatch, interruption: BaseException, code: Exit
) -> None:
    for _ in range(150):
        operator.dead_letter()
    redrive_many: Callable[..., Any] = Api.redrive_many
    orders = []

    def interrupted(api: Api, order: dict[str, Any]) -> Any:
        orders.append(order)
        if len(orders) == 2:
            raise interruption
        return redrive_many(api, order)

    monkeypatch.setattr(Api, "redrive_many", interrupted)
    ended, out, err = operator.anb("dlq", "redrive", "--all")
    assert (ended, out) == (code, "")
    assert "100 dead letters redriven so far. The interrupted request may have redriven up to 100 more." in err


def test_a_first_request_without_an_answer_may_have_redriven_some(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(_api: Api, _order: dict[str, Any]) -> Any:
        raise Unreachable("Too slow.")

    with monkeypatch.context() as patch:
        patch.setattr(Api, "redrive_many", silent)
        code, _, err = operator.anb("dlq", "redrive", "--all")
        assert code == Exit.UNREACHABLE
        assert "0 dead letters redriven so far. The interrupted request may have redriven up to 100 more." in err
        assert "so far" not in operator.anb("dlq", "redrive", "--all", "--dry-run")[2]
    monkeypatch.setenv("ANB_URL", f"http://127.0.0.1:{free_port()}")
    code, _, err = operator.anb("dlq", "redrive", "--all")
    assert code == Exit.UNREACHABLE
    assert "so far" not in err


def test_a_discarded_dead_letter_keeps_its_reason(operator: Operator) -> None:
    letter, again = operator.message("?"), operator.message("?")
    assert operator.anb("dlq", "discard", str(letter), str(again), "--reason", "A test message.") == (
        Exit.OK,
        f"{letter}  discarded\n{again}  discarded\n",
        "",
    )
    _, out, _ = operator.anb("dlq", "show", str(letter))
    assert f"Dead letter {letter}, discarded by olga at " in out
    assert "  reason  A test message.\n" in out
    assert "anb dlq redrive" not in out
    assert [record["id"] for record in operator.records("dlq", "list", "--state", "resolved")] == [again, letter]
    code, _, err = operator.anb("dlq", "discard", str(letter), "--reason", "Again.")
    assert code == Exit.REFUSED
    assert "was discarded by olga" in err


def test_a_token_without_the_scope_is_told_who_makes_one(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANB_TOKEN", create_token(operator.store, owner="ana", scope=Scope.USER, new_id=new_id).secret)
    code, out, err = operator.anb("dlq", "list")
    assert (code, out) == (Exit.REFUSED, "")
    assert "need a token of scope ops; this one has scope user. (scope_missing)" in err
    assert "`python -m anb_api token create --owner NAME --scope ops`" in err
    assert operator.anb("dlq", "redrive", "--all") == (Exit.REFUSED, "", err)


def test_a_dead_lettered_video_is_explained_by_its_id_or_the_beginning_of_it(operator: Operator) -> None:
    letter = operator.dead_letter()
    [listed] = operator.records("dlq", "list")
    code, out, err = operator.anb("why", listed["video_id"][:13])
    assert (code, err) == (Exit.OK, "")
    assert out.startswith("1 attempt failed. The last error: The result is not as planned. ")
    assert f"anb dlq redrive {letter}\n" in out
    [record] = operator.records("why", listed["video_id"])
    assert record["status"] == "dead_lettered"
    assert record["sentences"] == out.splitlines()


def test_a_watch_that_ends_with_a_dead_letter_says_how_to_learn_more(operator: Operator) -> None:
    operator.dead_letter()
    [listed] = operator.records("dlq", "list")
    code, _, err = operator.anb("watch", listed["video_id"])
    assert code == Exit.VIDEO_FAILED
    assert err.endswith(
        f"`anb why {listed['video_id']}` says what happened. An operator sees more with `anb dlq list`.\n"
    )
