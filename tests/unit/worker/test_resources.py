from pathlib import Path

import pytest

from anb_core.domain.errors import Unavailable
from anb_core.ports.renderer import Resources
from anb_core.testing.objects import InMemoryObjects
from anb_worker.resources import ResourceCache


@pytest.fixture
def objects() -> InMemoryObjects:
    return InMemoryObjects()


@pytest.fixture
def cache(objects: InMemoryObjects, tmp_path: Path) -> ResourceCache:
    return ResourceCache(objects, tmp_path / "resources")


def test_for_absent_parts_the_projects_own_are_used(cache: ResourceCache) -> None:
    assert cache.load() == Resources()


def test_the_operators_parts_are_fetched_once(
    objects: InMemoryObjects, cache: ResourceCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects.put("resources/intro.mp4", b"intro")
    objects.put("resources/watermark.png", b"mark")
    first = cache.load()
    assert first.intro is not None
    assert first.watermark is not None
    assert (first.intro.read_bytes(), first.outro, first.watermark.read_bytes()) == (b"intro", None, b"mark")
    assert (first.intro.suffix, first.watermark.suffix) == (".mp4", ".png")

    monkeypatch.setattr(objects, "fetch", None)
    assert cache.load() == first


def test_all_parts_are_looked_for_with_one_request(
    objects: InMemoryObjects, cache: ResourceCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects.put("resources/intro.mp4", b"intro")
    cache.load()
    asked: list[str] = []
    monkeypatch.setattr(objects, "ping", lambda: asked.append("bucket"))

    cache.load()

    assert asked == ["bucket"]


def test_parts_are_found_among_many_other_objects(
    objects: InMemoryObjects, cache: ResourceCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anb_worker.resources.PAGE", 2)
    for name in ("a", "b", "intro.mp4", "n", "o", "outro.mp4", "watermark.png"):
        objects.put(f"resources/{name}", name.encode())

    found = cache.load()

    assert [part and part.read_bytes() for part in (found.intro, found.outro, found.watermark)] == [
        b"intro.mp4",
        b"outro.mp4",
        b"watermark.png",
    ]


def test_a_part_that_changed_comes_under_another_name_and_the_old_one_goes(
    objects: InMemoryObjects, cache: ResourceCache
) -> None:
    objects.put("resources/outro.mp4", b"old")
    old = cache.load().outro
    objects.put("resources/outro.mp4", b"new")
    new = cache.load().outro
    assert old is not None
    assert new is not None
    assert new.read_bytes() == b"new"
    assert not old.exists()


def test_a_part_that_was_removed_is_forgotten(objects: InMemoryObjects, cache: ResourceCache) -> None:
    objects.put("resources/intro.mp4", b"intro")
    old = cache.load().intro
    objects.delete(["resources/intro.mp4"])
    assert cache.load().intro is None
    assert old is not None
    assert not old.exists()


def test_a_bucket_that_is_away_is_no_reason_to_use_the_projects_parts(
    objects: InMemoryObjects, cache: ResourceCache
) -> None:
    objects.fault = Unavailable("bucket", "the bucket does not answer")
    with pytest.raises(Unavailable):
        cache.load()
