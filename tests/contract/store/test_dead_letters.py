from collections.abc import Callable
from functools import partial
from traceback import format_exception
from typing import Any

import pytest
from sqlalchemy import text

from anb_core.adapters.system import new_id
from anb_core.domain.claim import Reason
from anb_core.domain.dead_letters import SHORT_BODY, DeadLetter, DeadLetterFilter, DeadLetterPage, Resolution
from anb_core.domain.errors import Conflict, NotFound
from anb_core.domain.message import MAX_BODY_BYTES
from anb_core.domain.model import Counters, DeadLetterCause, Ending, Problem
from anb_core.domain.retry import WORKER_LOST, RetryPolicy, Settlement, plan_rejection
from anb_core.domain.status import Change, Status
from anb_core.ports.store import Claimed, Dropped, Store, Unknown
from tests.support.given import (
    DAY,
    FFMPEG_FAILED,
    LEASE,
    MINUTE,
    POLICY,
    SECOND,
    claim,
    dead_lettered,
    due,
    processing,
    record_of,
    result,
    uploaded,
)
from tests.support.stores import Backend, Sql

ALL = DeadLetterFilter(state="all")


def only(store: Store) -> DeadLetter:
    [letter] = store.dead_letters(ALL)
    return letter


def test_a_message_that_belongs_to_no_job_is_recorded_once(backend: Backend) -> None:
    store = backend.store
    recorded = [
        store.record_dead_letter(
            cause=DeadLetterCause.UNKNOWN_JOB, message_id=message_id, body="{}", detail="There is no video 7."
        )
        for message_id in ("m1", "m1", "m2")
    ]
    assert recorded == [True, False, True]
    assert backend.dead_letters() == [
        (DeadLetterCause.UNKNOWN_JOB, "There is no video 7.", None, None, message_id, "{}")
        for message_id in ("m1", "m2")
    ]


def test_a_body_is_kept_whole_up_to_the_largest_message_and_cut_at_a_character(store: Store) -> None:
    whole, longer = "é" * (MAX_BODY_BYTES // 2), "x" + "é" * 200_000
    for body in (whole, longer):
        assert store.record_dead_letter(
            cause=DeadLetterCause.UNREADABLE, message_id=body[:2], body=body, detail="not JSON"
        )
    listed = store.dead_letters(ALL)
    shown = {letter.message_id: store.dead_letter(letter.id) for letter in listed}
    assert [letter and letter.body for letter in shown.values()] == [longer[: MAX_BODY_BYTES // 2], whole]
    assert [len(letter.body or "") for letter in listed] == [SHORT_BODY, SHORT_BODY]


@pytest.mark.parametrize("odd", ["a\0b", "a\ud800b"], ids=["NUL", "half a pair"])
def test_text_that_no_database_keeps_is_recorded_as_well_as_can_be(backend: Backend, odd: str) -> None:
    store = backend.store
    assert store.record_dead_letter(cause=DeadLetterCause.UNREADABLE, message_id="m", body=odd, detail=odd)
    [letter] = backend.dead_letters()
    assert letter.body is not None
    assert (letter.body[0], letter.body[-1]) == ("a", "b")
    lease = processing(store)
    assert store.settle(lease, plan_rejection(lease.counters, Problem("corrupt", odd)))
    # Ids in messages and URLs are not validated, so a look-up must accept any character.
    assert store.get(odd) is None
    assert store.claim(odd, generation=1, attempt_id=new_id(), worker="w", lease=LEASE, policy=POLICY) == Unknown()
    assert store.find_token(odd) is None


def test_a_body_is_not_in_the_error_of_a_database_that_refuses_it(sql: Sql) -> None:
    body = "a secret"
    with sql.database.engine.begin() as connection:
        connection.execute(text("ALTER TABLE dead_letters RENAME TO elsewhere"))
    try:
        with pytest.raises(Exception, match="dead_letters") as error:
            sql.store.record_dead_letter(cause=DeadLetterCause.UNREADABLE, message_id="m", body=body, detail="not JSON")
    finally:
        with sql.database.engine.begin() as connection:
            connection.execute(text("ALTER TABLE elsewhere RENAME TO dead_letters"))
    assert body not in "".join(format_exception(error.value))


def test_a_job_that_fails_for_good_leaves_everything_that_people_need_to_know(store: Store) -> None:
    video_id = dead_lettered(store, owner="eve", worker="w7", version="2.3")
    letter = only(store)
    assert (letter.cause, letter.detail, letter.code, letter.error_detail) == (
        DeadLetterCause.FAILURES,
        FFMPEG_FAILED.message,
        FFMPEG_FAILED.code,
        FFMPEG_FAILED.detail,
    )
    assert (letter.video_id, letter.generation, letter.owner) == (video_id, 1, "eve")
    assert (letter.worker, letter.version, letter.failures, letter.lost) == ("w7", "2.3", 1, 0)
    assert letter.open
    assert store.history(video_id).dead_letter == letter
    assert store.history(video_id).attempts[0].version == "2.3"
    assert store.open_dead_letters() == {DeadLetterCause.FAILURES: 1}


@pytest.mark.parametrize("by", ["sweep", "claim"])
def test_a_job_whose_workers_are_lost_for_good_leaves_as_much(backend: Backend, by: str) -> None:
    store, video_id = backend.store, uploaded(backend.store, owner="eve")
    policy = RetryPolicy(max_lost=1)

    def take(worker: str, version: str | None) -> object:
        return store.claim(
            video_id, generation=1, attempt_id=new_id(), worker=worker, version=version, lease=LEASE, policy=policy
        )

    assert isinstance(take("w7", "2.3"), Claimed)
    backend.pass_time(2 * LEASE)
    if by == "sweep":
        assert store.end_expired_leases(limit=10, policy=policy) == 1
    else:
        assert take("w8", "2.4") == Dropped(Reason.LOST)
    letter = only(store)
    assert (letter.cause, letter.detail, letter.code) == (
        DeadLetterCause.WORKER_LOST,
        WORKER_LOST.message,
        WORKER_LOST.code,
    )
    assert (letter.owner, letter.worker, letter.version) == ("eve", "w7", "2.3")
    assert (letter.failures, letter.lost, letter.open) == (0, 1, True)
    assert store.history(video_id).dead_letter == letter


def test_a_redrive_is_a_retry_and_resolves_the_dead_letter(store: Store) -> None:
    video_id = dead_lettered(store)
    letter = only(store)
    job = store.redrive_dead_letter(letter.id, by="eve").job
    assert (job.status, job.generation) == (Status.UPLOADED, 2)
    resolved = only(store)
    assert (resolved.resolution, resolved.resolved_by) == (Resolution.REDRIVEN, "eve")
    assert resolved.resolved_at is not None
    assert store.history(video_id).dead_letter is None
    with pytest.raises(Conflict, match=r"was redriven by eve at .* UTC") as refused:
        store.redrive_dead_letter(letter.id, by="ada")
    assert refused.value.code == "dead_letter_resolved"


def test_a_discard_keeps_the_reason_and_tells_the_readers_of_the_feed(store: Store) -> None:
    video_id = dead_lettered(store)
    before, job = store.last_event_id(), record_of(store, video_id).job
    discarded = store.discard_dead_letter(only(store).id, by="eve", reason="A test upload.")
    assert (discarded.resolution, discarded.resolved_by, discarded.reason) == (
        Resolution.DISCARDED,
        "eve",
        "A test upload.",
    )
    assert only(store) == discarded
    [event] = store.events_after(before)
    assert (event.video_id, event.version, event.status) == (video_id, job.version + 1, Status.DEAD_LETTERED)
    assert store.open_dead_letters() == {}


def test_a_discard_of_a_message_without_a_video_changes_only_the_record(store: Store) -> None:
    assert store.record_dead_letter(cause=DeadLetterCause.UNREADABLE, message_id="m", body="?", detail="not JSON")
    discarded = store.discard_dead_letter(only(store).id, by="eve", reason="Nonsense.")
    assert discarded == only(store)
    assert store.last_event_id() == 0
    with pytest.raises(Conflict, match=r"was discarded by eve at") as refused:
        store.discard_dead_letter(discarded.id, by="ada", reason="")
    assert refused.value.code == "dead_letter_resolved"


def test_a_discarded_dead_letter_still_says_why_its_job_ended(store: Store) -> None:
    video_id = dead_lettered(store)
    discarded = store.discard_dead_letter(only(store).id, by="eve", reason="A test upload.")
    assert store.history(video_id).dead_letter == discarded


def test_a_redrive_waits_as_long_as_it_is_told(backend: Backend) -> None:
    store = backend.store
    dead_lettered(store)
    record = store.redrive_dead_letter(only(store).id, by="eve", delay=MINUTE)
    assert due(store) == []
    backend.pass_time(MINUTE)
    assert due(store) == [record.video.id]


def test_a_redrive_says_why_it_cannot_be(backend: Backend) -> None:
    store = backend.store
    assert store.record_dead_letter(cause=DeadLetterCause.UNREADABLE, message_id="m", body="?", detail="not JSON")
    with pytest.raises(Conflict, match=r"belongs to no video\. Discard it") as refused:
        store.redrive_dead_letter(only(store).id, by="ada")
    assert refused.value.code == "dead_letter_without_video"
    for ask in (
        lambda: store.redrive_dead_letter(7777, by="ada"),
        lambda: store.discard_dead_letter(7777, by="ada", reason=""),
    ):
        with pytest.raises(NotFound) as missing:
            ask()
        assert missing.value.code == "dead_letter_not_found"
    assert store.dead_letter(7777) is None
    assert store.dead_letter(2**70) is None


@pytest.mark.parametrize(
    ("resolve", "resolution"),
    [
        (lambda store, video_id: store.retry(video_id, by="eve"), Resolution.REDRIVEN),
        (lambda store, video_id: store.delete(video_id, by="eve", grace=DAY), Resolution.DELETED),
    ],
    ids=["retry", "delete"],
)
def test_a_retry_or_a_deletion_resolves_the_dead_letters_of_its_video_alone(
    store: Store, resolve: Callable[[Store, str], object], resolution: Resolution
) -> None:
    video_id, other = dead_lettered(store), dead_lettered(store)
    resolve(store, video_id)
    [resolved] = store.dead_letters(DeadLetterFilter(state="resolved"))
    assert (resolved.video_id, resolved.resolution, resolved.resolved_by) == (video_id, resolution, "eve")
    [left] = store.dead_letters(DeadLetterFilter())
    assert left.video_id == other
    with pytest.raises(Conflict, match=f"was {resolution} by eve"):
        store.redrive_dead_letter(resolved.id, by="ada")


def test_a_dead_letter_that_an_older_program_left_open_cannot_be_redriven_while_its_job_lives(sql: Sql) -> None:
    store = sql.store
    alive, over, gone = dead_lettered(store), dead_lettered(store), dead_lettered(store)
    store.retry(alive, by="ada")
    store.retry(over, by="ada")
    lease = claim(store, over)
    assert store.publish(lease, result(lease))
    store.delete(gone, by="ada", grace=DAY)
    with sql.database.transaction() as connection:
        connection.execute(text("UPDATE dead_letters SET resolution = NULL, resolved_at = NULL, resolved_by = NULL"))
    letters = {letter.video_id: letter for letter in store.dead_letters(DeadLetterFilter())}
    codes = {}
    for video_id, letter in letters.items():
        with pytest.raises(Conflict) as refused:
            store.redrive_dead_letter(letter.id, by="ada")
        codes[video_id] = refused.value.code
        waiting = due(store)
        store.discard_dead_letter(letter.id, by="ada", reason="Left over.")
        assert due(store) == waiting, "the discard must leave the job's message alone"
    assert codes == {alive: "wrong_status", over: "wrong_status", gone: "dead_letter_without_video"}


def test_each_condition_of_a_filter_selects_and_all_together_do(backend: Backend) -> None:
    store = backend.store
    first = dead_lettered(store, owner="ada", worker="w1", version="1.0")
    backend.pass_time(MINUTE)
    second = dead_lettered(store, owner="eve", worker="w2", version="2.0")
    begin = store.dead_letters(ALL)[0].created_at
    lease = processing(store)
    lost = Settlement(Ending.LOST, Counters(lost=5), None, Change.EXHAUST, WORKER_LOST, DeadLetterCause.WORKER_LOST)
    assert store.settle(lease, lost)
    store.discard_dead_letter(store.dead_letters(ALL)[-1].id, by="ada", reason="")

    def found(**conditions: Any) -> list[str | None]:
        wanted = DeadLetterFilter(**{"state": "all"} | conditions)
        videos = [letter.video_id for letter in store.dead_letters(wanted)]
        assert store.count_dead_letters(wanted) == len(videos)
        return videos

    third = lease.video_id
    assert found() == [third, second, first]
    assert found(state="open") == [third, second]
    assert found(state="resolved") == [first]
    assert found(causes={DeadLetterCause.FAILURES}) == [second, first]
    assert found(causes=[DeadLetterCause.FAILURES, DeadLetterCause.WORKER_LOST]) == [third, second, first]
    assert found(owner="eve") == [second]
    assert found(codes=["worker_lost"]) == [third]
    assert found(worker="w1") == [first]
    assert found(version="2.0") == [second]
    assert found(since=begin) == [third, second]
    assert found(until=begin) == [first]
    assert found(causes=[DeadLetterCause.FAILURES], owner="ada", version="1.0", until=begin) == [first]
    assert found(causes=[DeadLetterCause.FAILURES], owner="ada", version="2.0") == []
    assert found(causes=[DeadLetterCause.UNREADABLE]) == []


def test_pages_do_not_shift_while_dead_letters_are_added_and_resolved(store: Store) -> None:
    old = [dead_lettered(store) for _ in range(5)]
    seen: list[DeadLetter] = []
    after = None
    while page := store.dead_letters(DeadLetterFilter(), after=after, limit=2):
        assert store.count_dead_letters(DeadLetterFilter(), after=after) == 5 - len(seen)
        seen += page
        after = DeadLetterPage(seen[-1].created_at, seen[-1].id)
        dead_lettered(store)
        store.redrive_dead_letter(page[0].id, by="ada")
    assert [letter.video_id for letter in seen] == old[::-1]


def test_open_dead_letters_are_counted_by_cause(store: Store) -> None:
    assert store.open_dead_letters() == {}
    dead_lettered(store)
    resolved = dead_lettered(store)
    for message_id in ("m1", "m2"):
        store.record_dead_letter(cause=DeadLetterCause.UNKNOWN_JOB, message_id=message_id, body="", detail="")
    store.retry(resolved, by="ada")
    assert store.open_dead_letters() == {DeadLetterCause.FAILURES: 1, DeadLetterCause.UNKNOWN_JOB: 2}


def test_what_was_announced_or_resolved_is_not_announced_again(store: Store) -> None:
    videos = [dead_lettered(store) for _ in range(4)]
    first, second, third, _ = store.unannounced_dead_letters(limit=10)
    assert (first.video_id, third.video_id) == (videos[0], videos[2])
    assert store.unannounced_dead_letters(limit=2) == [first, second]
    store.mark_announced([first.id, second.id])
    store.mark_announced([])
    store.retry(videos[2], by="ada")
    assert [letter.video_id for letter in store.unannounced_dead_letters(limit=10)] == [videos[3]]
    assert store.open_dead_letters() == {DeadLetterCause.FAILURES: 3}


def test_old_dead_letters_are_purged_once_resolved_and_open_ones_only_lose_their_long_bodies(backend: Backend) -> None:
    store = backend.store
    long = "é" * (SHORT_BODY + 1)
    for message_id in ("open", "short", "resolved", "resolved later"):
        body = "é" * SHORT_BODY if message_id == "short" else long
        store.record_dead_letter(cause=DeadLetterCause.UNREADABLE, message_id=message_id, body=body, detail="")
    ids = {letter.message_id: letter.id for letter in store.dead_letters(ALL)}
    store.discard_dead_letter(ids["resolved"], by="ada", reason="")
    backend.pass_time(2 * DAY)
    store.discard_dead_letter(ids["resolved later"], by="ada", reason="")
    purge = partial(store.purge, events_before=30 * DAY, dead_letters_before=3 * DAY)
    assert purge(limit=10) == 0
    backend.pass_time(2 * DAY)
    assert [purge(limit=1), purge(limit=1)] == [2, 0]
    assert {letter.message_id for letter in store.dead_letters(ALL)} == {"open", "short", "resolved later"}
    kept = {name: store.dead_letter(ids[name]) for name in ("open", "short", "resolved later")}
    assert {name: len((letter and letter.body) or "") for name, letter in kept.items()} == {
        "open": SHORT_BODY,
        "short": SHORT_BODY,
        "resolved later": SHORT_BODY + 1,
    }


def test_a_cause_is_quiet_for_a_while_after_each_announcement(backend: Backend) -> None:
    store = backend.store

    def record(cause: DeadLetterCause, message_id: str) -> None:
        assert store.record_dead_letter(cause=cause, message_id=message_id, body="", detail="")

    def unannounced() -> list[str | None]:
        return [letter.message_id for letter in store.unannounced_dead_letters(limit=10, quiet=60 * SECOND)]

    record(DeadLetterCause.UNREADABLE, "m1")
    assert unannounced() == ["m1"]
    store.mark_announced([letter.id for letter in store.unannounced_dead_letters(limit=10)])
    record(DeadLetterCause.UNREADABLE, "m2")
    record(DeadLetterCause.UNKNOWN_JOB, "m3")
    assert unannounced() == ["m3"]
    backend.pass_time(30 * SECOND)
    assert unannounced() == ["m3"]
    backend.pass_time(31 * SECOND)
    assert unannounced() == ["m2", "m3"]


def test_a_clock_that_was_set_back_by_a_day_does_not_keep_a_cause_quiet_for_a_day(backend: Backend) -> None:
    store = backend.store
    for message_id in ("m1", "m2"):
        assert store.record_dead_letter(cause=DeadLetterCause.UNREADABLE, message_id=message_id, body="", detail="")
    store.mark_announced([letter.id for letter in store.unannounced_dead_letters(limit=1)])
    backend.pass_time(-30 * SECOND)
    assert not store.unannounced_dead_letters(limit=10, quiet=60 * SECOND)
    backend.pass_time(-DAY)
    assert [letter.message_id for letter in store.unannounced_dead_letters(limit=10, quiet=60 * SECOND)] == ["m2"]
