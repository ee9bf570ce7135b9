from pathlib import Path

import pytest

from anb_core.bootstrap import build, open_store
from anb_core.settings import Settings, load


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/anb.db")
    monkeypatch.setenv("S3_BUCKET", "anb-videos")
    monkeypatch.setenv("SQS_QUEUE_URL", "http://127.0.0.1:9/000000000000/anb")
    return load(Settings)


def test_building_asks_nobody_anything(settings: Settings) -> None:
    # Sockets are forbidden here, and the database's file would be there if it had been opened.
    with build(settings) as core:
        assert core.objects.bucket == "anb-videos"
        assert core.queue.name == "http://127.0.0.1:9/000000000000/anb"
    assert not Path(str(settings.database_url.get_secret_value()).removeprefix("sqlite+pysqlite:///")).exists()


def test_all_parts_are_closed_even_if_one_of_them_fails(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    core = build(settings)
    closed: list[str] = []

    def failing() -> None:
        closed.append("queue")
        raise RuntimeError("the queue did not close")

    monkeypatch.setattr(core.queue, "close", failing)
    monkeypatch.setattr(core.objects, "close", lambda: closed.append("objects"))
    monkeypatch.setattr(core.store, "close", lambda: closed.append("store"))

    with pytest.raises(RuntimeError, match="the queue did not close"):
        core.close()
    assert closed == ["queue", "objects", "store"]


def test_the_store_alone_can_be_opened(settings: Settings) -> None:
    open_store(settings).close()
