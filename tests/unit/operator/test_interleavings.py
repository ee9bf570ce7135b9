"""Tests that each request is carried out exactly once, for any order of the actions of users, workers and operator."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from anb_core.adapters.system import new_id
from anb_core.ports.store import Claimed
from anb_operator.kube import KubeRefused
from anb_operator.naming import video_id_of
from anb_operator.videojob import FINALIZER, VideoJob
from tests.support.given import HOUR, POLICY, reject, result
from tests.unit.operator.conftest import World

NAME = "clip"
KEY = "uploads/clip.mp4"
SOURCE = {"source": {"key": KEY}}
CHANGES = st.sampled_from(["cancel", "retry", "delete"])
REFUSED = st.sampled_from(["set_finalizers", "patch_status"])


async def refuse(*_: object) -> VideoJob:
    raise KubeRefused("refused", "it is forbidden")


class Interleavings(RuleBasedStateMachine):
    """Random sequences of actions. Users submit the same object several times, with VideoJobs of the same name."""

    def __init__(self) -> None:
        super().__init__()
        self.threads = ThreadPoolExecutor(1)
        self.world = World(self.threads)
        self.world.objects.put(KEY, b"a video")
        self.token = count(1)
        # The number of retry tokens that users wrote to the VideoJob of each video, by video id.
        self.tokens: dict[str, int] = {}
        self.shown = 0

    # -- actions of users and workers

    @rule(change=CHANGES)
    def someone(self, *, change: str) -> None:
        self.change(change)

    def change(self, change: str) -> VideoJob:
        cluster = self.world.cluster
        if NAME not in cluster.names:
            videojob = cluster.apply(NAME, SOURCE)
            self.tokens[video_of(videojob)] = 0
            return videojob
        match change:
            case "cancel":
                return cluster.apply(NAME, {**SOURCE, "cancel": True})
            case "retry":
                self.tokens[video_of(cluster.get(NAME))] += 1
                return cluster.apply(NAME, {**SOURCE, "retry": f"token-{next(self.token)}"})
        return cluster.delete(NAME)

    @precondition(lambda self: self.tokens)
    @rule(succeeds=st.booleans(), data=st.data())
    def work(self, *, succeeds: bool, data: st.DataObject) -> None:
        video_id = data.draw(st.sampled_from(list(self.tokens)))
        store = self.world.store
        claimed = store.claim(
            video_id, generation=None, attempt_id=new_id(), worker="worker-1", lease=HOUR, policy=POLICY
        )
        if isinstance(claimed, Claimed) and succeeds:
            store.publish(claimed.lease, result(claimed.lease))
        elif isinstance(claimed, Claimed):
            reject(store, claimed.lease)

    # -- the operator: its watch sees changes, it lists all VideoJobs again, and it reconciles a video

    @rule(changes=st.integers(1, 5))
    def watch(self, changes: int) -> None:
        for videojob in self.world.cluster.history[self.shown :][:changes]:
            self.shown += 1
            if videojob.deleting and not videojob.metadata.finalizers:
                self.world.cache.deleted(videojob)
            else:
                self.world.cache.seen(videojob)

    @rule()
    def relist(self) -> None:
        self.world.cache.begin_list()
        self.world.cache.replace(asyncio.run(self.world.cluster.list_videojobs()))

    @precondition(lambda self: self.tokens)
    @rule(news=st.booleans(), meanwhile=st.none() | CHANGES, refused=st.none() | REFUSED, data=st.data())
    def turn(self, *, news: bool, meanwhile: str | None, refused: str | None, data: st.DataObject) -> None:
        video_id = data.draw(st.sampled_from(list(self.tokens)))
        with pytest.MonkeyPatch.context() as patch:
            if meanwhile:
                self.world.while_the_store_is_asked(patch, lambda: self.change(meanwhile))
            if refused:
                patch.setattr(self.world.cluster, refused, refuse)
            with suppress(KubeRefused):
                asyncio.run(self.world.reconciler.reconcile(video_id, news=news))

    def teardown(self) -> None:
        world = self.world
        for video_id in (*self.tokens, *self.tokens):
            world.reconcile(video_id, news=True)
        self.threads.shutdown()
        assert len(world.store.listing(owner=None)) <= len(self.tokens)
        videojobs = {video_of(world.cluster.get(name)): world.cluster.get(name) for name in world.cluster.names}
        assert not any(videojob.deleting for videojob in videojobs.values())
        for video_id, tokens in self.tokens.items():
            record, videojob = world.store.get(video_id), videojobs.get(video_id)
            assert record is None or record.job.generation <= 1 + tokens, "each token retries once at most"
            if videojob is None or videojob.spec.cancel:
                assert record is None or record.job.status.terminal, "it was cancelled"
            else:
                assert record is not None, "it was submitted"
                assert videojob.status.phase is record.job.status
                assert videojob.status.observed_generation == videojob.metadata.generation
                assert (FINALIZER in videojob.metadata.finalizers) != record.job.status.terminal


def video_of(videojob: VideoJob) -> str:
    return video_id_of(videojob.spec, videojob.metadata.uid)


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(max_examples=100, stateful_step_count=25, deadline=None)
