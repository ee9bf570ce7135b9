"""Add the table `usage`, and triggers that count the unfinished videos and the stored bytes of each owner.

The triggers also count changes by programs from before this migration.
While the migration counts the existing videos, other transactions can read videos and jobs, but not write them.
"""

# ruff: noqa: S608 - all statements are built from constants

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

UNFINISHED = "CASE WHEN {job}.status IN ('uploading', 'uploaded', 'processing') THEN 1 ELSE 0 END"
SOURCE = "CASE WHEN {video}.owned THEN coalesce({video}.source_size, 0) ELSE 0 END"
RESULT = {
    "postgresql": """CASE WHEN jsonb_typeof({job}.result -> 'size') = 'number'
        THEN ({job}.result ->> 'size')::numeric::bigint ELSE 0 END""",
    # json_type fails for damaged JSON, so it is evaluated only for valid JSON.
    "sqlite": """CASE WHEN json_valid({job}.result) THEN CASE json_type({job}.result, '$.size') WHEN 'integer'
        THEN json_extract({job}.result, '$.size') ELSE 0 END ELSE 0 END""",
}
ADD = "INSERT INTO usage (owner, unfinished, stored_bytes)"


def upgrade() -> None:
    """Create the table and the triggers, and count what exists."""
    dialect = op.get_bind().dialect.name
    if dialect == "postgresql":
        # Wait until all transactions that changed a video or a job have ended. Otherwise this migration could wait for
        # a transaction that waits for this migration.
        op.execute("LOCK TABLE videos IN EXCLUSIVE MODE")
    op.create_table(
        "usage",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("unfinished", sa.Integer(), nullable=False),
        sa.Column("stored_bytes", sa.BigInteger(), nullable=False),
        sa.Column("video_id", sa.Text().with_variant(sa.Text(collation="C"), "postgresql")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_usage")),
        sa.ForeignKeyConstraint(["video_id"], ["videos.id"], name=op.f("fk_usage_video_id"), ondelete="CASCADE"),
        sa.UniqueConstraint("video_id", name=op.f("uq_usage_video_id")),
    )
    op.create_index("ix_usage_owner", "usage", ["owner", "unfinished", "stored_bytes"])

    trigger = _postgresql_trigger if dialect == "postgresql" else _sqlite_trigger
    result = RESULT[dialect]

    def job(name: str) -> tuple[str, str]:
        return UNFINISHED.format(job=name), result.format(job=name)

    (new_unfinished, new_result), (old_unfinished, old_result) = job("NEW"), job("OLD")
    new_source, old_source = SOURCE.format(video="NEW"), SOURCE.format(video="OLD")
    trigger(
        "job_added",
        "AFTER INSERT ON jobs",
        f"{ADD} SELECT owner, {new_unfinished}, {new_result} FROM videos WHERE id = NEW.video_id",
    )
    trigger(
        "job_changed",
        "AFTER UPDATE ON jobs",
        f"{ADD} SELECT owner, {new_unfinished} - {old_unfinished}, {new_result} - {old_result}"
        " FROM videos WHERE id = NEW.video_id",
        when=f"{new_unfinished} <> {old_unfinished} OR {new_result} <> {old_result}",
    )
    trigger(
        "upload_ended",
        "AFTER UPDATE ON jobs",
        "DELETE FROM usage WHERE video_id = NEW.video_id",
        when="OLD.status = 'uploading' AND NEW.status <> 'uploading'",
    )
    trigger(
        "video_added", "AFTER INSERT ON videos", f"{ADD} VALUES (NEW.owner, 0, {new_source})", when=f"{new_source} > 0"
    )
    trigger(
        "video_changed",
        "AFTER UPDATE ON videos",
        f"{ADD} VALUES (NEW.owner, 0, {new_source} - {old_source})",
        when=f"{new_source} <> {old_source}",
    )
    # A deletion of a video also deletes its job. This trigger runs before both deletions, because it needs both rows.
    unfinished, result_size = job("jobs")
    trigger(
        "video_deleted",
        "BEFORE DELETE ON videos",
        f"{ADD} SELECT OLD.owner, -{unfinished}, -({result_size}) - ({old_source}) FROM jobs WHERE video_id = OLD.id",
    )
    op.execute(
        f"{ADD} SELECT owner, sum({unfinished}), sum({result_size} + {SOURCE.format(video='videos')})"
        " FROM videos JOIN jobs ON jobs.video_id = videos.id GROUP BY owner"
    )


def _postgresql_trigger(name: str, moment: str, statement: str, *, when: str = "true") -> None:
    op.execute(
        f"CREATE FUNCTION count_usage_{name}() RETURNS trigger LANGUAGE plpgsql"
        f" AS $$ BEGIN {statement}; RETURN OLD; END $$"
    )
    op.execute(
        f"CREATE TRIGGER count_usage_{name} {moment} FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION count_usage_{name}()"
    )


def _sqlite_trigger(name: str, moment: str, statement: str, *, when: str = "true") -> None:
    op.execute(f"CREATE TRIGGER count_usage_{name} {moment} FOR EACH ROW WHEN {when} BEGIN {statement}; END")
