from datetime import timedelta

import pytest

from anb_core.testing.clock import ManualClock
from anb_operator.cache import VideoJobCache
from anb_operator.naming import video_id_of
from anb_operator.videojob import VideoJob
from tests.support.kube import InMemoryCluster


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def cache(clock: ManualClock) -> VideoJobCache:
    return VideoJobCache(clock.monotonic)


@pytest.fixture
def cluster(clock: ManualClock) -> InMemoryCluster:
    return InMemoryCluster(clock.now)


def mirror(cluster: InMemoryCluster, name: str = "v", **more: object) -> VideoJob:
    return cluster.apply(name, {"videoId": name, **more})


def test_objects_are_found_by_their_video(cache: VideoJobCache, cluster: InMemoryCluster) -> None:
    videojob = mirror(cluster)
    assert cache.seen(videojob) == "v"
    assert cache.of("v") == [videojob]
    assert cache.of("other") == []
    assert cache.deleted(videojob) == "v"
    assert cache.of("v") == []


def test_an_old_version_that_the_watch_shows_late_does_not_replace_a_newer_one(
    cache: VideoJobCache, cluster: InMemoryCluster
) -> None:
    cache.seen(mirror(cluster))
    old, new = mirror(cluster, cancel=True), mirror(cluster, cancel=False)
    cache.written(new)
    cache.seen(old)
    assert cache.of("v") == [new]


def test_only_a_change_that_was_not_known_yet_is_news_of_the_watch(
    cache: VideoJobCache, cluster: InMemoryCluster
) -> None:
    made, written = mirror(cluster), mirror(cluster, cancel=True)
    assert cache.seen(made) == "v"
    assert cache.seen(made) is None, "a new list shows it again"
    cache.written(written)
    assert cache.seen(written) is None, "our own write comes back"
    assert cache.seen(mirror(cluster, cancel=False)) == "v"


def test_a_change_before_our_write_is_news_although_it_is_shown_late(
    cache: VideoJobCache, cluster: InMemoryCluster
) -> None:
    cache.seen(mirror(cluster))
    theirs, ours = mirror(cluster, cancel=True), mirror(cluster, cancel=True, retry="a")
    cache.written(ours)
    assert cache.seen(theirs) == "v"
    assert cache.of("v") == [ours]


def test_a_new_object_of_the_same_name_replaces_the_old_one(cache: VideoJobCache, cluster: InMemoryCluster) -> None:
    old = mirror(cluster)
    cache.seen(old)
    cluster.delete("v")
    new = mirror(cluster)
    cache.seen(new)
    cache.deleted(old)
    assert cache.of("v") == [new]


def test_a_videojob_without_its_video_id_can_be_removed_too(cache: VideoJobCache, cluster: InMemoryCluster) -> None:
    cache.seen(mirror(cluster))
    blank = cluster.apply("v", {})
    cache.seen(blank)
    assert cache.of("v") == []
    cache.deleted(blank)
    assert (len(cache), cache.of("v")) == (0, [])


def test_a_list_shows_changes_that_the_watch_missed(cache: VideoJobCache, cluster: InMemoryCluster) -> None:
    same, changed, gone = (mirror(cluster, name) for name in ("same", "changed", "gone"))
    for videojob in (same, changed, gone):
        cache.seen(videojob)
    changed, new = mirror(cluster, "changed", cancel=True), mirror(cluster, "new")
    assert cache.replace([same, changed, new]) == {"changed", "gone", "new"}
    assert len(cache) == 3
    assert cache.of("changed") == [changed]


def test_a_watch_that_does_not_show_what_we_wrote_is_noticed(
    cache: VideoJobCache, cluster: InMemoryCluster, clock: ManualClock
) -> None:
    videojob = mirror(cluster)
    cache.seen(videojob)
    assert cache.silence() == 0
    cache.written(videojob)
    clock.advance(timedelta(seconds=5))
    assert cache.silence() == 0, "nothing was changed"
    written = mirror(cluster, cancel=True)
    cache.written(written)
    clock.advance(timedelta(seconds=7))
    assert cache.silence() == 7
    cache.seen(written)
    assert cache.silence() == 0


def test_a_write_that_the_watch_showed_before_the_answer_came_is_not_waited_for(
    cache: VideoJobCache, cluster: InMemoryCluster, clock: ManualClock
) -> None:
    cache.seen(mirror(cluster))
    ours, theirs = mirror(cluster, cancel=True), mirror(cluster, cancel=False)
    cache.seen(ours)
    cache.seen(theirs)
    cache.written(ours)
    clock.advance(timedelta(seconds=7))
    assert cache.silence() == 0
    assert cache.of("v") == [theirs]


def test_any_newer_version_shows_that_the_watch_goes_on(
    cache: VideoJobCache, cluster: InMemoryCluster, clock: ManualClock
) -> None:
    cache.seen(mirror(cluster))
    cache.written(mirror(cluster, cancel=True))
    clock.advance(timedelta(seconds=7))
    cache.seen(mirror(cluster, "other"))
    assert cache.silence() == 0


def test_a_late_answer_does_not_bring_a_deleted_videojob_back(
    cache: VideoJobCache, cluster: InMemoryCluster, clock: ManualClock
) -> None:
    cache.seen(mirror(cluster))
    written = mirror(cluster, cancel=True)
    cache.deleted(cluster.delete("v"))
    cache.written(written)
    clock.advance(timedelta(seconds=7))
    assert (len(cache), cache.silence()) == (0, 0)
    another = mirror(cluster)
    cache.seen(another)
    cache.written(written)
    assert cache.of("v") == [another]


def test_a_late_watch_does_not_bring_a_deleted_videojob_back(cache: VideoJobCache, cluster: InMemoryCluster) -> None:
    old, new = mirror(cluster), mirror(cluster, cancel=True)
    cache.created(new)
    cache.drop(new)
    assert cache.seen(old) is None
    assert cache.seen(new) is None
    assert cache.of("v") == []
    later = mirror(cluster, cancel=False)
    assert cache.seen(later) == "v"
    assert cache.of("v") == [later]


def test_a_videojob_without_a_phase_is_not_finished(cache: VideoJobCache, cluster: InMemoryCluster) -> None:
    cache.seen(mirror(cluster))
    assert cache.unfinished() == ["v"]


def test_a_videojob_that_we_made_is_known_before_the_watch_shows_it(
    cache: VideoJobCache, cluster: InMemoryCluster, clock: ManualClock
) -> None:
    cache.seen(mirror(cluster))
    late = cluster.delete("v")
    made = mirror(cluster)
    cache.created(made)
    clock.advance(timedelta(seconds=7))
    assert cache.silence() == 7
    cache.seen(late)
    cache.deleted(late)
    assert cache.of("v") == [made]
    cache.seen(made)
    assert cache.silence() == 0


def test_only_the_deleted_videojob_is_dropped_and_not_a_new_one_of_its_name(
    cache: VideoJobCache, cluster: InMemoryCluster
) -> None:
    old = cluster.apply("clip", {"source": {"key": "uploads/clip.mp4"}})
    cluster.delete("clip")
    new = cluster.apply("clip", {"source": {"key": "uploads/clip.mp4"}})
    cache.seen(new)
    cache.drop(old)
    assert cache.of(video_id_of(new.spec, new.metadata.uid)) == [new]


def test_a_list_does_not_replace_changes_that_arrived_while_it_was_read(
    cache: VideoJobCache, cluster: InMemoryCluster
) -> None:
    gone, changed = mirror(cluster, "gone"), mirror(cluster, "changed")
    for videojob in (gone, changed):
        cache.seen(videojob)
    cache.begin_list()
    listed = [gone, changed]
    made, shown, changed = mirror(cluster, "made"), mirror(cluster, "shown"), mirror(cluster, "changed", cancel=True)
    cache.created(made)
    cache.seen(shown)
    cache.written(changed)
    cache.deleted(cluster.delete("gone"))
    assert cache.replace(listed) == set()
    assert [cache.of(name) for name in ("made", "shown", "changed", "gone")] == [[made], [shown], [changed], []]
    assert cache.replace([changed, made]) == {"shown"}
