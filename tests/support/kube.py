"""An in-memory cluster that stores VideoJobs as the Kubernetes API server does. Tests can inject errors."""

import json
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from datetime import datetime
from itertools import count
from typing import Any
from uuid import UUID

from anb_operator.kube import Existing, Json, KubeRefused, Missing, Outdated, Pod, Scale
from anb_operator.mirror import Announcement
from anb_operator.videojob import VideoJob

NAMESPACE = "video"


class InMemoryCluster:
    """A fake cluster that implements the interfaces of `anb_operator.kube`.

    If a test sets `fault` to an error, every method raises the error. `refused` counts these failed calls.
    `writes` records the calls that change objects. `lists` counts the calls that list objects.
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.fault: Exception | None = None
        self.refused = 0
        self.lists = 0
        self.writes: list[str] = []
        self.history: list[VideoJob] = []
        self.events: dict[tuple[str, str], Announcement] = {}
        self.pods: dict[str, dict[str, str]] = {}
        self.scales: dict[str, Scale] = {}
        self._clock = clock
        self.objects: dict[tuple[str, str], Json] = {}
        self._versions = count(1)
        self._uids = count(1)

    # -- methods for tests: actions of users, and assertions

    def apply(self, name: str, spec: Json, *, namespace: str = NAMESPACE, labels: Mapping[str, str] = {}) -> VideoJob:
        kept = self.objects.get((namespace, name))
        if kept is None:
            kept = self.objects[namespace, name] = {
                "metadata": {
                    "name": name,
                    "namespace": namespace,
                    "uid": str(UUID(int=next(self._uids))),
                    "generation": 1,
                    "creationTimestamp": self._now(),
                    "labels": dict(labels),
                },
                "spec": spec,
            }
        elif kept["spec"] != spec:
            kept["spec"] = spec
            kept["metadata"]["generation"] += 1
        return self._changed(kept)

    def delete(self, name: str) -> VideoJob:
        """Delete a VideoJob as `kubectl delete` does. A VideoJob with finalizers exists until they are removed."""
        kept = self._find(self.get(name))
        kept["metadata"].setdefault("deletionTimestamp", self._now())
        return self._changed(kept)

    def get(self, name: str, *, namespace: str = NAMESPACE) -> VideoJob:
        return VideoJob.read(deepcopy(self.objects[namespace, name]))

    def write_status(self, name: str, patch: Json) -> VideoJob:
        """Change a VideoJob's status, as another version of the operator might do."""
        kept = self._find(self.get(name))
        kept["status"] = merged(kept["status"], patch)
        return self._changed(kept)

    def relabel(self, name: str, labels: Mapping[str, str | None]) -> VideoJob:
        """Change labels as `kubectl label` does. The value None removes a label."""
        kept = self._find(self.get(name))
        kept["metadata"] = merged(kept["metadata"], {"labels": labels})
        return self._changed(kept)

    def status(self, name: str) -> Json:
        """Return a VideoJob's stored status, even if this version can't parse the status."""
        return deepcopy(self.objects[NAMESPACE, name]["status"])

    @property
    def keys(self) -> set[tuple[str, str]]:
        """The namespaces and names of all VideoJobs."""
        return set(self.objects)

    @property
    def names(self) -> set[str]:
        return {name for _, name in self.objects}

    @property
    def event_reasons(self) -> list[str]:
        """The reasons of all Kubernetes Events, oldest first."""
        return [announcement.reason for announcement in self.events.values()]

    # -- methods of the interfaces in `anb_operator.kube`

    async def ping(self) -> None:
        self._answer()

    async def list_videojobs(self) -> Sequence[VideoJob]:
        self._answer()
        self.lists += 1
        return [VideoJob.read(deepcopy(kept)) for kept in self.objects.values()]

    async def create_videojob(self, namespace: str, name: str, spec: Json, labels: Mapping[str, str]) -> VideoJob:
        self._answer(f"create {name}")
        if (namespace, name) in self.objects:
            raise Existing("existing", f"{name} is there")
        return self.apply(name, spec, namespace=namespace, labels=labels)

    async def set_finalizers(self, videojob: VideoJob, finalizers: Sequence[str]) -> VideoJob:
        self._answer(f"finalizers {videojob.metadata.name}")
        kept = self._find(videojob)
        if kept["metadata"]["resourceVersion"] != videojob.metadata.resource_version:
            raise Outdated("outdated", f"{videojob.metadata.name} has changed")
        if videojob.deleting and set(finalizers) - set(videojob.metadata.finalizers):
            raise KubeRefused("refused", "no new finalizers can be added if the object is being deleted")
        kept["metadata"]["finalizers"] = list(finalizers)
        return self._changed(kept)

    async def set_label(self, videojob: VideoJob, name: str, value: str | None) -> VideoJob:
        self._answer(f"label {videojob.metadata.name}")
        self._find(videojob)
        return self.relabel(videojob.metadata.name, {name: value})

    async def patch_status(self, videojob: VideoJob, patch: Json) -> VideoJob:
        self._answer(f"status {videojob.metadata.name}")
        kept = self._find(videojob)
        kept["status"] = merged(kept.get("status", {}), json.loads(json.dumps(patch)))
        return self._changed(kept)

    async def delete_videojob(self, videojob: VideoJob) -> None:
        self._answer(f"delete {videojob.metadata.name}")
        self._find(videojob)
        self.delete(videojob.metadata.name)

    async def post_event(self, videojob: VideoJob, announcement: Announcement) -> None:
        self._answer(f"event {announcement.reason}")
        key = videojob.metadata.uid, announcement.key
        if key in self.events:
            raise Existing("existing", "it was posted")
        self.events[key] = announcement

    async def post_deployment_event(self, name: str, announcement: Announcement) -> None:
        self._answer(f"event {announcement.reason}")
        key = name, announcement.key
        if key in self.events:
            raise Existing("existing", "it was posted")
        self.events[key] = announcement

    async def get_scale(self, name: str) -> Scale:
        self._answer()
        if name not in self.scales:
            raise Missing("missing", f"{name} is gone")
        return self.scales[name]

    async def list_pods(self, selector: str) -> Sequence[Pod]:
        self._answer()
        self.lists += 1
        assert selector
        return [Pod(name, dict(annotations)) for name, annotations in self.pods.items()]

    async def annotate_pod(self, name: str, annotations: Mapping[str, str | None]) -> None:
        self._answer(f"pod {name}")
        if name not in self.pods:
            raise Missing("missing", f"{name} is gone")
        self.pods[name] = merged(self.pods[name], annotations)

    def _answer(self, write: str | None = None) -> None:
        if self.fault:
            self.refused += 1
            raise self.fault
        if write:
            self.writes.append(write)

    def _find(self, videojob: VideoJob) -> Json:
        kept = self.objects.get(videojob.key)
        if kept is None:
            raise Missing("missing", f"{videojob.metadata.name} is gone")
        if kept["metadata"]["uid"] != videojob.metadata.uid:
            raise Outdated("outdated", f"{videojob.metadata.name} is another one")
        return kept

    def _changed(self, kept: Json) -> VideoJob:
        metadata = kept["metadata"]
        metadata["resourceVersion"] = str(next(self._versions))
        if "deletionTimestamp" in metadata and not metadata.get("finalizers"):
            del self.objects[metadata["namespace"], metadata["name"]]
        self.history.append(VideoJob.read(deepcopy(kept)))
        return self.history[-1]

    def _now(self) -> str:
        return self._clock().strftime("%Y-%m-%dT%H:%M:%SZ")


def merged(before: Any, patch: Any) -> Any:
    """Return `before`, patched with a JSON merge patch (RFC 7396)."""
    if not isinstance(patch, Mapping):
        return patch
    made = dict(before) if isinstance(before, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            made.pop(name, None)
        else:
            made[name] = merged(made.get(name), value)
    return made
