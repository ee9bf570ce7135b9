import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, inspect, text
from sqlalchemy.exc import IntegrityError

from anb_core.adapters.database import SqlStore, migrations, upgrade
from anb_core.adapters.database.engine import make_engine
from anb_core.adapters.database.tables import metadata
from anb_core.adapters.system import SystemRuntime
from anb_core.bootstrap import make_uploads
from anb_core.domain.dead_letters import DeadLetterFilter, Resolution
from anb_core.domain.edit import EditSpec, Switch, Trim
from anb_core.domain.errors import Invalid, Unavailable
from anb_core.domain.model import Record
from anb_core.ports.store import Store
from anb_core.settings.capabilities import UploadSettings
from anb_core.testing.objects import InMemoryObjects
from anb_core.usecases.visibility import Caller
from tests.support import eventually
from tests.support.given import processed, record_of
from tests.support.stores import Sql


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/empty.db"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
def database(empty_url: str) -> Iterator[Engine]:
    engine = make_engine(empty_url)
    yield engine
    engine.dispose()


def upgrade_to(revision: str, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Migrate a new database to `revision`, as an older version of the program did."""
    to = command.upgrade
    with monkeypatch.context() as patch:
        patch.setattr(command, "upgrade", lambda config, _: to(config, revision))
        upgrade(url)


def test_the_migrations_make_what_the_tables_say(empty_url: str, database: Engine) -> None:
    upgrade(empty_url)
    with database.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, metadata) == [], "write a revision in migrations/versions that does this"


def test_the_migrations_make_the_same_database_as_the_tables_would(
    request: pytest.FixtureRequest, empty_url: str, database: Engine, tmp_path: Path
) -> None:
    """Compare the schemas in full, because Alembic ignores check constraints, index conditions and collations."""
    upgrade(empty_url)
    made = shape_of(database)
    if empty_url.startswith("sqlite"):
        ideal = make_engine(f"sqlite:///{tmp_path}/ideal.db")
    else:
        ideal = make_engine(request.getfixturevalue("postgres").create_database())
    metadata.create_all(ideal)
    assert made == shape_of(ideal)
    ideal.dispose()


def shape_of(database: Engine) -> dict[str, object]:
    """Return the database's own description of all tables."""
    inspector = inspect(database)
    return {
        table: {
            "columns": {
                column["name"]: (column["type"].compile(database.dialect), column["nullable"])
                for column in inspector.get_columns(table)
            },
            "primary key": inspector.get_pk_constraint(table),
            "checks": {check["name"]: check["sqltext"] for check in inspector.get_check_constraints(table)},
            "foreign keys": {str(key["name"]): key for key in inspector.get_foreign_keys(table)},
            "unique": {
                str(unique["name"]): unique["column_names"] for unique in inspector.get_unique_constraints(table)
            },
            "indexes": {
                str(index["name"]): (
                    index["column_names"],
                    index["unique"],
                    {option: str(value) for option, value in index.get("dialect_options", {}).items()},
                )
                for index in inspector.get_indexes(table)
            },
        }
        for table in inspector.get_table_names()
        if table != "alembic_version"
    }


@pytest.mark.parametrize(
    "nonsense",
    [
        "UPDATE jobs SET status = 'lost'",
        "UPDATE jobs SET status = 'processing', result = NULL, lease_owner = 'somebody'",
        "UPDATE jobs SET lease_owner = 'somebody', lease_expires_at = 1",
        "UPDATE jobs SET upload_expires_at = 1",
        "UPDATE jobs SET result = NULL",
        "UPDATE jobs SET progress = 1.5",
        "UPDATE attempts SET ending = 'well'",
        "UPDATE attempts SET ended_at = NULL",
        "UPDATE job_events SET kind = 'rumour'",
        "UPDATE job_events SET status = 'lost'",
        "INSERT INTO outbox (job_id, send_after, tries, created_at) VALUES ('none', 1, 0, 1)",
        "INSERT INTO dead_letters (cause, detail, created_at) VALUES ('boredom', '', 1)",
        "INSERT INTO object_deletions (video_id, key, reason, delete_after) VALUES ('v', 'k', 'boredom', 1)",
        "INSERT INTO api_tokens (id, owner, scope, hash, created_at) VALUES ('i', 'o', 'everything', 'h', 1)",
    ],
)
def test_the_database_refuses_nonsense(sql: Sql, nonsense: str) -> None:
    processed(sql.store)
    with sql.database.engine.begin() as connection, pytest.raises(IntegrityError):
        connection.execute(text(nonsense))


def test_upgrading_again_changes_nothing(empty_url: str) -> None:
    upgrade(empty_url)
    store = SqlStore(empty_url)
    video_id = processed(store)
    before = store.get(video_id)
    upgrade(empty_url)
    assert store.get(video_id) == before
    store.close()


def test_several_processes_may_upgrade_at_once(empty_url: str) -> None:
    gate = threading.Barrier(4)

    def run() -> None:
        gate.wait(timeout=30)
        upgrade(empty_url)

    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(run) for _ in range(4)]:
            future.result(timeout=60)
    store = SqlStore(empty_url)
    store.ping()
    store.close()


def test_a_migration_that_fails_leaves_nothing_behind(
    empty_url: str, database: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "migrations"
    (broken / "versions").mkdir(parents=True)
    (broken / "env.py").write_text((Path(migrations.__file__).parent / "env.py").read_text())
    (broken / "versions" / "0001.py").write_text(
        "import sqlalchemy as sa\nfrom alembic import op\n\nrevision, down_revision = '0001', None\n\n"
        "def upgrade():\n    op.create_table('first', sa.Column('id', sa.Integer))\n"
        "    raise RuntimeError('half-way')\n"
    )
    monkeypatch.setattr(migrations, "FOLDER", broken)
    migrations.revisions.cache_clear()
    with pytest.raises(RuntimeError, match="half-way"):
        upgrade(empty_url)
    migrations.revisions.cache_clear()
    assert inspect(database).get_table_names() == []


def test_a_database_that_is_ahead_is_left_as_it_is_and_good_enough(empty_url: str, database: Engine) -> None:
    upgrade(empty_url)
    with database.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    upgrade(empty_url)
    with database.connect() as connection:
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) == "9999"
    store = SqlStore(empty_url)
    store.ping()
    assert record_of(store, processed(store)).job.result is not None
    store.close()


def test_a_database_without_a_schema_is_not_ready_and_says_why(empty_url: str) -> None:
    store = SqlStore(empty_url)
    with pytest.raises(Unavailable, match="no schema yet: run the migrations") as unavailable:
        store.ping()
    assert unavailable.value.part == "database"
    store.close()


def test_a_database_with_an_older_schema_is_not_ready_and_says_why(
    empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    upgrade(empty_url)
    newest = migrations.revisions()[0]
    monkeypatch.setattr(migrations, "revisions", lambda: ("9999", newest))
    store = SqlStore(empty_url)
    with pytest.raises(Unavailable, match=f"schema is {newest}, this program needs 9999: run the migrations"):
        store.ping()
    store.close()


def test_a_server_that_is_away_cannot_be_upgraded() -> None:
    with pytest.raises(Unavailable):
        upgrade("postgresql+psycopg://nobody@127.0.0.1:9/none")


def test_an_upgrade_goes_on_behind_a_statement_that_takes_its_time(postgres_url: str) -> None:
    """A migration waits for an earlier migration as long as necessary: the usual lock timeout does not apply."""
    engine = make_engine(postgres_url)
    with engine.connect() as other:
        other.execute(text("SET LOCAL lock_timeout = 0"))
        other.execute(text(f"SELECT pg_advisory_xact_lock({migrations.MIGRATION_LOCK})"))
        with ThreadPoolExecutor(1) as pool:
            upgrading = pool.submit(upgrade, postgres_url)
            with pytest.raises(TimeoutError):
                upgrading.result(timeout=0.3)
            other.rollback()
            upgrading.result(timeout=30)
    engine.dispose()


def test_an_upgrade_gives_up_behind_a_dump_before_the_running_programs_do(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While ALTER TABLE waits for a lock, the queries of running programs also wait, and fail after 3 s."""
    engine = make_engine(postgres_url)
    upgrade_to("0001", postgres_url, monkeypatch)
    with engine.connect() as dump:
        dump.execute(text("SELECT count(*) FROM jobs"))
        with pytest.raises(Unavailable, match="lock timeout"):
            upgrade(postgres_url)
    upgrade(postgres_url)
    engine.dispose()


LOCK_BOTH = "SELECT 1 FROM videos, jobs FOR UPDATE"


@pytest.mark.parametrize(
    ("before", "during"),
    [
        ([LOCK_BOTH], "UPDATE jobs SET version = 9"),
        ([LOCK_BOTH, "UPDATE jobs SET version = 9"], "UPDATE videos SET title = 'T'"),
        (["UPDATE videos SET title = 'T'"], "UPDATE jobs SET version = 9"),
        (["SELECT 1 FROM outbox FOR UPDATE"], "SELECT 1 FROM jobs, videos"),
    ],
    ids=["claim a job", "complete an upload", "begin an upload", "relay"],
)
def test_an_upgrade_and_a_transaction_of_a_running_program_never_block_each_other(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, before: list[str], during: str
) -> None:
    """In a deadlock, PostgreSQL would abort one of the two transactions."""
    engine = make_engine(postgres_url)
    upgrade_to("0005", postgres_url, monkeypatch)
    waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation IS NOT NULL")
    with engine.connect() as running, engine.connect() as watching, ThreadPoolExecutor(1) as pool:
        for statement in before:
            running.execute(text(statement))
        upgrading = pool.submit(upgrade, postgres_url)
        eventually(lambda: watching.scalar(waiting))
        running.execute(text(during))
        running.commit()
        upgrading.result(timeout=30)
    engine.dispose()


def test_an_upload_that_the_first_version_took_is_known_again_by_its_key(
    empty_url: str, database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test inserts rows of the first version, with fingerprints in the first version's format."""
    upgrade_to("0001", empty_url, monkeypatch)
    with database.begin() as connection:
        for row in TAKEN_BY_THE_FIRST_VERSION:
            connection.execute(text(row))
    upgrade(empty_url)
    store, objects = SqlStore(empty_url), InMemoryObjects()
    edit = EditSpec(trim=Trim(start=1.5, length=10), intro=Switch(enabled=False))

    again = send(store, objects, title="Mi día", edit=edit)
    with pytest.raises(Invalid, match="another title, edit, time or file"):
        send(store, objects, title="Mi día", edit=EditSpec())

    assert (again.video.id, again.job.id) == ("v1", "t1")
    assert not objects.contents
    store.close()


TAKEN_BY_THE_FIRST_VERSION = (
    """INSERT INTO videos (id, owner, title, edit, source_key, owned, file_name, created_at)
    VALUES ('v1', 'ana', 'Mi día', '{"trim": {"start": 1.5, "length": 10.0}, "watermark": {"enabled": true},
    "intro": {"enabled": false}, "outro": {"enabled": true}}', 'uploads/v1.mp4', TRUE, 'a.mp4', 1)""",
    """INSERT INTO jobs (id, video_id, status, generation, fence, version, failures, lost, interruptions, progress,
    attempts, created_at, updated_at) VALUES ('t1', 'v1', 'uploaded', 1, 0, 2, 0, 0, 0, 0, 0, 1, 1)""",
    """INSERT INTO idempotency_keys (owner, key, video_id, fingerprint, expires_at)
    VALUES ('ana', 'k', 'v1', '61718acf25dddf548d4460124b245c4b0d54bf6abf8f5eb4314969c4c222d294', 99999999999999999)""",
)


def send(store: Store, objects: InMemoryObjects, *, title: str, edit: EditSpec) -> Record:
    uploads = make_uploads(UploadSettings(), store, objects, wake_relay=lambda: None, runtime=SystemRuntime())
    with uploads.begin(Caller("ana"), file_name="a.mp4", idempotency_key="k") as session:
        session.append(b"\0\0\0\x18ftypisom" + b"\0" * 2000)
        return session.complete(title, edit)


def test_what_was_retried_or_deleted_before_the_migration_is_no_longer_open(
    empty_url: str, database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    upgrade_to("0004", empty_url, monkeypatch)
    with database.begin() as connection:
        for video_id, generation, deleted_at in (("current", 2, None), ("retried", 3, None), ("deleted", 2, 1)):
            video = {"id": video_id, "generation": generation, "deleted_at": deleted_at}
            for statement in DEAD_LETTERED_BEFORE:
                connection.execute(text(statement), video)
        for name in ("purged", None):
            connection.execute(text(DEAD_LETTERED_BEFORE[-1]), {"id": name})
    upgrade(empty_url)
    store = SqlStore(empty_url)

    letters = store.dead_letters(DeadLetterFilter(state="all"))

    assert {letter.video_id: letter.resolution for letter in letters} == {
        "current": None,
        "retried": Resolution.REDRIVEN,
        "deleted": Resolution.DELETED,
        "purged": Resolution.DELETED,
        None: None,
    }
    assert all(letter.open or letter.resolved_at == letter.created_at for letter in letters)
    store.close()


def test_the_videos_from_before_the_migration_are_counted(
    empty_url: str, database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    upgrade_to("0005", empty_url, monkeypatch)
    with database.begin() as connection:
        for number, (owner, owned, status, result) in enumerate(COUNTED_BEFORE):
            row = {"id": f"v{number}", "owner": owner, "owned": owned, "status": status, "result": result}
            for statement in STORED_BEFORE:
                connection.execute(text(statement), row)
    upgrade(empty_url)

    with database.connect() as connection:
        rows = connection.execute(text("SELECT owner, unfinished, stored_bytes FROM usage ORDER BY owner"))
        assert [tuple(row) for row in rows] == [("ana", 2, 302), ("bob", 0, 107)]


COUNTED_BEFORE = (
    ("ana", True, "uploaded", None),
    ("ana", True, "failed", None),
    ("ana", False, "processing", None),
    ("ana", True, "processed", '{"size": 2}'),
    ("bob", True, "processed", '{"size": 7}'),
    ("bob", False, "processed", '{"length": "of another version"}'),
)
STORED_BEFORE = (
    """INSERT INTO videos (id, owner, title, edit, source_key, owned, file_name, source_size, created_at)
    VALUES (:id, :owner, 'T', '{}', :id, :owned, 'a.mp4', 100, 1)""",
    """INSERT INTO jobs (id, video_id, status, generation, fence, version, failures, lost, interruptions, progress,
    attempts, created_at, updated_at, result) VALUES (:id, :id, :status, 1, 0, 2, 0, 0, 0, 0, 0, 1, 1, :result)""",
)


DEAD_LETTERED_BEFORE = (
    """INSERT INTO videos (id, owner, title, edit, source_key, owned, file_name, created_at, deleted_at)
    VALUES (:id, 'ana', 'T', '{}', :id, TRUE, 'a.mp4', 1, :deleted_at)""",
    """INSERT INTO jobs (id, video_id, status, generation, fence, version, failures, lost, interruptions, progress,
    attempts, created_at, updated_at) VALUES (:id, :id, 'dead_lettered', :generation, 0, 2, 3, 0, 0, 0, 0, 1, 1)""",
    """INSERT INTO dead_letters (cause, detail, video_id, generation, created_at)
    VALUES ('failures', 'No.', :id, 2, 1)""",
)
