"""Tests that two releases in two namespaces work side by side, and that neither touches the other's videos."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from sqlalchemy import select

from anb_cli.client import Api
from anb_cli.connection import Connection
from anb_core.adapters.database.tables import jobs
from tests.support.chart import tool
from tests.support.release import LOCAL, QUICK, Release, installing
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(900)

VIDEOS = 3
UNREADABLE = "nobody can read this"
CLUSTER_SCOPED = {"CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding", "Namespace"}
SMALL = ("api.autoscaling.enabled=false", "api.replicas=1", "worker.autoscaling.maxReplicas=1")


@contextmanager
def asked(release: Release) -> Iterator[Api]:
    """A client of a release's API. Its storage can be reached, too."""
    with (
        LOCAL.forwarded("localstack", 4566, to=urlsplit(release.storage).port),
        release.namespace.forwarded("anb-api", 80) as url,
        Api(Connection(url, release.token())) as api,
    ):
        yield api


def test_two_releases_never_touch_each_others_videos(
    release: Release, api: Api, upload: Callable[..., str], blink: Path
) -> None:
    # The dead letters of earlier tests.
    before = _unreadable(api)
    with installing("anb-e2e-other", *SMALL) as other:
        with asked(other) as other_api:
            # Both releases work at the same time.
            ours, theirs = set[str](), set[str]()
            for number in range(VIDEOS):
                ours.add(upload(blink, title=f"Number {number}", edit=QUICK))
                theirs.add(other.upload(other_api, blink, title=f"Number {number}", edit=QUICK))
            other.send([UNREADABLE], to=other.dead_letter_queue)
            _attack(release, min(theirs))
            for each, videos in ((release, ours), (other, theirs)):
                for video_id in videos:
                    status = each.until(video_id, "processed")
                    assert status["attempts"] == 1
                    assert each.results(video_id) == [status["resultKey"]]
                workers = {pod["metadata"]["name"] for pod in each.namespace.pods("worker")}
                evidence = each.evidence()
                job_ids = {record.job.id for record in evidence.records if record.video.id in videos}
                assert {attempt.worker for attempt in evidence.attempts if attempt.job_id in job_ids} <= workers
            assert not _videos(release) & _videos(other)
            assert _videos(release) >= ours
            assert _videos(other) == theirs
            assert not _mirrors(release) & _mirrors(other)
            # The dead letter belongs to the release from whose queue it comes.
            eventually(lambda: _unreadable(other_api) == 1, within=60, every=1)
            assert _unreadable(api) == before
        assert not {manifest["kind"] for manifest in _manifests(other)} & CLUSTER_SCOPED
    # The other release is uninstalled now.
    assert _mirrors(release) >= ours
    release.until(upload(blink, title="Afterwards", edit=QUICK), "processed")


def _attack(release: Release, video_id: str) -> None:
    """Ask a release's operator to cancel a video of another release. It must not find the video."""
    spec = {"videoId": video_id, "cancel": True}
    release.namespace.apply(
        {"apiVersion": "anb.video/v1alpha1", "kind": "VideoJob", "metadata": {"name": video_id}, "spec": spec}
    )
    accepted = eventually(
        lambda: [
            condition["message"]
            for condition in release.namespace.status(video_id).get("conditions", [])
            if (condition["type"], condition["status"]) == ("Accepted", "False")
        ],
        every=0.5,
    )
    assert accepted == [f"There is no video {video_id}."]
    release.namespace.kubectl("delete", "videojob", video_id, "--timeout=30s")


def _videos(release: Release) -> set[str]:
    """Return the ids of all videos in a release's database."""
    with release.database() as database, database.reading() as connection:
        return set(connection.scalars(select(jobs.c.video_id)))


def _mirrors(release: Release) -> set[str]:
    """Return the names of the VideoJobs in a release's namespace."""
    return {item["metadata"]["name"] for item in release.namespace.items("videojobs")}


def _unreadable(api: Api) -> int:
    """Return the number of a release's dead letters whose message was unreadable."""
    return sum(letter["cause"] == "unreadable" for letter in api.dead_letters({"state": "all"}, limit=100))


def _manifests(release: Release) -> list[dict[str, object]]:
    """Return the objects of a release."""
    said = tool("helm", "get", "manifest", "anb", "--namespace", release.namespace.name).stdout
    return [manifest for manifest in yaml.safe_load_all(said) if manifest]
