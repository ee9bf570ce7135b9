from datetime import timedelta

import pytest

from anb_core.testing.clock import ManualClock
from anb_operator.naming import video_id_of
from anb_operator.shelf import Shelf
from anb_operator.videojob import VideoJob
from tests.support.kube import InMemoryCluster


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def shelf(clock: ManualClock) -> Shelf:
    return Shelf(clock.monotonic)


@pytest.fixture
def cluster(clock: ManualClock) -> InMemoryCluster:
    return InMemoryCluster(clock.now)


def mirror(cluster: InMemoryCluster, name: str = "v", **more: object) -> VideoJob:
    return cluster.apply(name, {"videoId": name, **more})


def test_objects_are_found_by_their_video(shelf: Shelf, cluster: InMemoryCluster) -> None:
    videojob = mirror(cluster)
    assert shelf.seen(videojob) == "v"
    assert shelf.of("v") == [videojob]
    assert shelf.of("other") == []
    assert shelf.gone(videojob) == "v"
    assert shelf.of("v") == []


def test_what_the_watch_shows_late_does_not_replace_what_is_newer(shelf: Shelf, cluster: InMemoryCluster) -> None:
    shelf.seen(mirror(cluster))
    old, new = mirror(cluster, cancel=True), mirror(cluster, cancel=False)
    shelf.written(new)
    shelf.seen(old)
    assert shelf.of("v") == [new]


def test_only_what_nobody_knew_yet_is_news_of_the_watch(shelf: Shelf, cluster: InMemoryCluster) -> None:
    made, written = mirror(cluster), mirror(cluster, cancel=True)
    assert shelf.seen(made) == "v"
    assert shelf.seen(made) is None, "a new list shows it again"
    shelf.written(written)
    assert shelf.seen(written) is None, "our own write comes back"
    assert shelf.seen(mirror(cluster, cancel=False)) == "v"


def test_a_change_before_our_write_is_news_although_it_is_shown_late(shelf: Shelf, cluster: InMemoryCluster) -> None:
    shelf.seen(mirror(cluster))
    theirs, ours = mirror(cluster, cancel=True), mirror(cluster, cancel=True, retry="a")
    shelf.written(ours)
    assert shelf.seen(theirs) == "v"
    assert shelf.of("v") == [ours]


def test_a_new_object_of_the_same_name_replaces_the_old_one(shelf: Shelf, cluster: InMemoryCluster) -> None:
    old = mirror(cluster)
    shelf.seen(old)
    cluster.delete("v")
    new = mirror(cluster)
    shelf.seen(new)
    shelf.gone(old)
    assert shelf.of("v") == [new]


def test_one_that_does_not_tell_its_video_any_more_can_go_too(shelf: Shelf, cluster: InMemoryCluster) -> None:
    shelf.seen(mirror(cluster))
    blank = cluster.apply("v", {})
    shelf.seen(blank)
    assert shelf.of("v") == []
    shelf.gone(blank)
    assert (len(shelf), shelf.of("v")) == (0, [])


def test_a_list_tells_what_was_missed(shelf: Shelf, cluster: InMemoryCluster) -> None:
    same, changed, gone = (mirror(cluster, name) for name in ("same", "changed", "gone"))
    for videojob in (same, changed, gone):
        shelf.seen(videojob)
    changed, new = mirror(cluster, "changed", cancel=True), mirror(cluster, "new")
    assert shelf.replace([same, changed, new]) == {"changed", "gone", "new"}
    assert len(shelf) == 3
    assert shelf.of("changed") == [changed]


def test_a_watch_that_does_not_show_what_we_wrote_is_noticed(
    shelf: Shelf, cluster: InMemoryCluster, clock: ManualClock
) -> None:
    videojob = mirror(cluster)
    shelf.seen(videojob)
    assert shelf.silence() == 0
    shelf.written(videojob)
    clock.advance(timedelta(seconds=5))
    assert shelf.silence() == 0, "nothing was changed"
    written = mirror(cluster, cancel=True)
    shelf.written(written)
    clock.advance(timedelta(seconds=7))
    assert shelf.silence() == 7
    shelf.seen(written)
    assert shelf.silence() == 0


def test_what_the_watch_showed_before_the_answer_came_is_not_waited_for(
    shelf: Shelf, cluster: InMemoryCluster, clock: ManualClock
) -> None:
    shelf.seen(mirror(cluster))
    ours, theirs = mirror(cluster, cancel=True), mirror(cluster, cancel=False)
    shelf.seen(ours)
    shelf.seen(theirs)
    shelf.written(ours)
    clock.advance(timedelta(seconds=7))
    assert shelf.silence() == 0
    assert shelf.of("v") == [theirs]


def test_anything_newer_shows_that_the_watch_goes_on(
    shelf: Shelf, cluster: InMemoryCluster, clock: ManualClock
) -> None:
    shelf.seen(mirror(cluster))
    shelf.written(mirror(cluster, cancel=True))
    clock.advance(timedelta(seconds=7))
    shelf.seen(mirror(cluster, "other"))
    assert shelf.silence() == 0


def test_an_answer_for_what_is_gone_brings_nothing_back(
    shelf: Shelf, cluster: InMemoryCluster, clock: ManualClock
) -> None:
    shelf.seen(mirror(cluster))
    written = mirror(cluster, cancel=True)
    shelf.gone(cluster.delete("v"))
    shelf.written(written)
    clock.advance(timedelta(seconds=7))
    assert (len(shelf), shelf.silence()) == (0, 0)
    another = mirror(cluster)
    shelf.seen(another)
    shelf.written(written)
    assert shelf.of("v") == [another]


def test_one_that_is_gone_is_not_brought_back_by_a_watch_that_is_behind(shelf: Shelf, cluster: InMemoryCluster) -> None:
    old, new = mirror(cluster), mirror(cluster, cancel=True)
    shelf.created(new)
    shelf.drop(new)
    assert shelf.seen(old) is None
    assert shelf.seen(new) is None
    assert shelf.of("v") == []
    later = mirror(cluster, cancel=False)
    assert shelf.seen(later) == "v"
    assert shelf.of("v") == [later]


def test_one_that_has_no_phase_yet_is_not_over(shelf: Shelf, cluster: InMemoryCluster) -> None:
    shelf.seen(mirror(cluster))
    assert shelf.unfinished() == ["v"]


def test_what_we_made_is_known_before_the_watch_shows_it(
    shelf: Shelf, cluster: InMemoryCluster, clock: ManualClock
) -> None:
    shelf.seen(mirror(cluster))
    late = cluster.delete("v")
    made = mirror(cluster)
    shelf.created(made)
    clock.advance(timedelta(seconds=7))
    assert shelf.silence() == 7
    shelf.seen(late)
    shelf.gone(late)
    assert shelf.of("v") == [made]
    shelf.seen(made)
    assert shelf.silence() == 0


def test_only_the_object_itself_is_dropped_and_not_one_that_has_its_name(
    shelf: Shelf, cluster: InMemoryCluster
) -> None:
    old = cluster.apply("clip", {"source": {"key": "uploads/clip.mp4"}})
    cluster.delete("clip")
    new = cluster.apply("clip", {"source": {"key": "uploads/clip.mp4"}})
    shelf.seen(new)
    shelf.drop(old)
    assert shelf.of(video_id_of(new.spec, new.metadata.uid)) == [new]


def test_a_list_says_nothing_of_what_changed_while_it_was_read(shelf: Shelf, cluster: InMemoryCluster) -> None:
    gone, changed = mirror(cluster, "gone"), mirror(cluster, "changed")
    for videojob in (gone, changed):
        shelf.seen(videojob)
    shelf.begin_list()
    listed = [gone, changed]
    made, shown, changed = mirror(cluster, "made"), mirror(cluster, "shown"), mirror(cluster, "changed", cancel=True)
    shelf.created(made)
    shelf.seen(shown)
    shelf.written(changed)
    shelf.gone(cluster.delete("gone"))
    assert shelf.replace(listed) == set()
    assert [shelf.of(name) for name in ("made", "shown", "changed", "gone")] == [[made], [shown], [changed], []]
    assert shelf.replace([changed, made]) == {"shown"}
