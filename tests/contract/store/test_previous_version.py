"""Tests that this version and the previous one can use the database at the same time, as during an upgrade."""

from sqlalchemy import JSON, bindparam, text

from anb_core.domain.dead_letters import DeadLetterFilter
from tests.support.given import dead_lettered, processing, record_of
from tests.support.stores import Sql


def test_receipts_are_the_same_to_this_program_and_to_the_one_before_it(sql: Sql) -> None:
    """During an upgrade or after a rollback, the previous version reads receipts only from the column `answered`."""
    store, video_id = sql.store, processing(sql.store).video_id
    kept = text("SELECT answered, receipts FROM jobs WHERE video_id = :id").columns(answered=JSON, receipts=JSON)
    write = text("UPDATE jobs SET answered = :written, version = version + 1 WHERE video_id = :id")
    ours, theirs = {"one": {"retry": "a"}}, {"one": {"retry": "b"}, "two": {"retry": "a"}}

    store.cancel(video_id, receipts=ours)
    with sql.database.transaction() as connection:
        assert connection.execute(kept, {"id": video_id}).one() == (ours, ours)
        connection.execute(write.bindparams(bindparam("written", type_=JSON)), {"id": video_id, "written": theirs})
    assert record_of(store, video_id).job.receipts == theirs
    store.retry(video_id, by="ada")
    with sql.database.transaction() as connection:
        assert connection.execute(kept, {"id": video_id}).one() == (theirs, theirs)


def test_what_the_program_before_this_one_writes_about_dead_letters_reads_well(sql: Sql) -> None:
    """Runs statements of the previous version, which can run during an upgrade or after a rollback."""
    store, video_id = sql.store, dead_lettered(sql.store)
    generation = store.redrive_dead_letter(store.dead_letters(DeadLetterFilter())[0].id, by="ada").job.generation
    written = {"video_id": video_id, "job_id": record_of(store, video_id).job.id, "generation": generation, "at": 1}
    with sql.database.transaction() as connection:
        for statement in WRITTEN_BY_THE_PREVIOUS_VERSION:
            connection.execute(text(statement), written)

    ended, moved = store.dead_letters(DeadLetterFilter())
    assert (moved.cause, moved.detail, moved.message_id, moved.body) == ("unknown_job", "?", "m", "{}")
    assert (ended.cause, ended.video_id, ended.generation) == ("failures", video_id, generation)
    assert (ended.code, ended.owner, ended.version, ended.failures, ended.open) == (None, None, None, None, True)
    history = store.history(video_id)
    assert history.dead_letter == ended
    assert [attempt.version for attempt in history.attempts] == ["1.0", None]
    assert store.open_dead_letters() == {"failures": 1, "unknown_job": 1}
    assert store.redrive_dead_letter(ended.id, by="ada").job.generation == generation + 1
    store.discard_dead_letter(moved.id, by="ada", reason="")
    assert store.open_dead_letters() == {}


WRITTEN_BY_THE_PREVIOUS_VERSION = (
    """INSERT INTO attempts (id, job_id, generation, fence, worker, result_key, started_at)
    VALUES ('a2', :job_id, :generation, 9, 'w', 'k', :at)""",
    "UPDATE jobs SET status = 'dead_lettered', version = version + 1, fence = 9, attempts = 2 WHERE id = :job_id",
    """INSERT INTO dead_letters (cause, detail, message_id, body, created_at)
    VALUES ('unknown_job', '?', 'm', '{}', :at)""",
    """INSERT INTO dead_letters (cause, detail, video_id, generation, created_at)
    VALUES ('failures', 'The result is not as planned.', :video_id, :generation, :at)""",
)
