"""Implements the ports of `kube.py` with the API classes of the `kubernetes` package."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256

import structlog
from kubernetes.aio.client import (
    ApiClient,
    ApisApi,
    AppsV1Api,
    AuthorizationV1Api,
    CoreV1Api,
    CoreV1Event,
    CustomObjectsApi,
    V1DeleteOptions,
    V1EventSource,
    V1ObjectMeta,
    V1ObjectReference,
    V1PodList,
    V1Preconditions,
    V1ResourceAttributes,
    V1SelfSubjectAccessReview,
    V1SelfSubjectAccessReviewSpec,
)
from pydantic import ValidationError

from anb_core.domain.errors import Unavailable
from anb_operator.connection import Connection
from anb_operator.kube import Json, KubeRefused, Missing, Pod, Scale
from anb_operator.mirror import Announcement
from anb_operator.videojob import API_VERSION, GROUP, KIND, PLURAL, VERSION, VideoJob

PAGE = 500

KEDA = ("keda.sh", "v1alpha1")
KEDA_DEFAULT_MAXIMUM = 100
"""Maximum number of pods if a ScaledObject does not name one."""

MERGE = "application/merge-patch+json"
REPORTER = "anb-operator"
NOT_ENDED = "status.phase!=Failed,status.phase!=Succeeded"
MAX_EVENT_NAME = 230
MAX_EVENT_MESSAGE = 1024

_log = structlog.get_logger(__name__)


class KubeClient:
    """Client of the Kubernetes API server, for the ports in `anb_operator.kube`.

    `namespace` is the release's namespace. `watched` is the namespace of the watched VideoJobs, or None for all.
    """

    def __init__(self, connection: Connection, *, namespace: str, watched: str | None) -> None:
        self._connection = connection
        self._namespace = namespace
        self._watched = watched

    # -- methods for VideoJobs

    async def ping(self) -> None:
        # Check both the list of API groups, in which kopf finds resources, and the path of the VideoJobs.
        # After a CRD was installed or deleted, the API server changes this list a little later than the path.
        groups = await self._connection.call(lambda api: ApisApi(api).get_api_versions())
        exists = any(version.group_version == API_VERSION for group in groups.groups for version in group.versions)
        try:
            await self._page(limit=1)
        except Missing:
            exists = False
        if not exists:
            raise Missing(
                "no_videojobs",
                "This cluster knows no VideoJobs: install the chart with crds.install=true in one of its releases.",
            )
        # Check the permission to watch VideoJobs. Without the permission, kopf would only log errors and retry forever.
        watch = V1ResourceAttributes(group=GROUP, resource=PLURAL, verb="watch", namespace=self._watched or "")
        asked = V1SelfSubjectAccessReview(spec=V1SelfSubjectAccessReviewSpec(resource_attributes=watch))
        try:
            review = await self._connection.call(
                lambda api: AuthorizationV1Api(api).create_self_subject_access_review(asked)
            )
        except KubeRefused:
            # The operator is not allowed to check its own permissions if the ClusterRole system:basic-user is missing.
            return
        if not (review.status and review.status.allowed):
            where = "in any namespace" if self._watched is None else f"in namespace {self._watched}"
            raise KubeRefused(
                "no_watch",
                f"The operator may not watch {PLURAL}.{GROUP} {where}: give its role that verb, as the chart does.",
            )

    async def list_videojobs(self) -> Sequence[VideoJob]:
        return [videojob async for item in self._items() if (videojob := read_videojob(item)) is not None]

    async def list_held(self, finalizer: str) -> Sequence[VideoJob]:
        """List the VideoJobs that have this finalizer. All specs are empty, because a spec may be unreadable."""
        return [
            _without_spec(item) async for item in self._items() if finalizer in item["metadata"].get("finalizers", ())
        ]

    async def create_videojob(self, namespace: str, name: str, spec: Json, labels: Mapping[str, str]) -> VideoJob:
        body = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"name": name, "labels": dict(labels)},
            "spec": spec,
        }
        return VideoJob.read(
            await self._manifest(
                lambda objects: objects.create_namespaced_custom_object(GROUP, VERSION, namespace, PLURAL, body)
            )
        )

    async def set_finalizers(self, videojob: VideoJob, finalizers: Sequence[str]) -> VideoJob:
        version = videojob.metadata.resource_version
        body = {"metadata": {"resourceVersion": version, "finalizers": list(finalizers)}}
        answer = await self._manifest(
            lambda objects: objects.patch_namespaced_custom_object(*_path(videojob), body, _content_type=MERGE)
        )
        return read_videojob(answer) or _without_spec(answer)

    async def set_label(self, videojob: VideoJob, name: str, value: str | None) -> VideoJob:
        body = {"metadata": {"uid": videojob.metadata.uid, "labels": {name: value}}}
        return VideoJob.read(
            await self._manifest(
                lambda objects: objects.patch_namespaced_custom_object(*_path(videojob), body, _content_type=MERGE)
            )
        )

    async def patch_status(self, videojob: VideoJob, patch: Json) -> VideoJob:
        body = {"metadata": {"uid": videojob.metadata.uid}, "status": patch}
        return VideoJob.read(
            await self._manifest(
                lambda objects: objects.patch_namespaced_custom_object_status(
                    *_path(videojob), body, _content_type=MERGE
                )
            )
        )

    async def delete_videojob(self, videojob: VideoJob) -> None:
        options = V1DeleteOptions(preconditions=V1Preconditions(uid=videojob.metadata.uid))
        await self._connection.call(
            lambda api: CustomObjectsApi(api).delete_namespaced_custom_object(*_path(videojob), body=options)
        )

    async def post_event(self, videojob: VideoJob, announcement: Announcement) -> None:
        about = videojob.metadata
        reference = V1ObjectReference(
            api_version=API_VERSION, kind=KIND, namespace=about.namespace, name=about.name, uid=about.uid
        )
        await self._post(about.namespace, _event(reference, announcement))

    # -- methods for pods, Deployments, ScaledObjects and ConfigMaps in the release's namespace

    async def list_pods(self, selector: str) -> Sequence[Pod]:
        def listed(api: ApiClient) -> Awaitable[V1PodList]:
            return CoreV1Api(api).list_namespaced_pod(
                self._namespace, label_selector=selector, field_selector=NOT_ENDED, limit=PAGE, _continue=after
            )

        pods: list[Pod] = []
        after: str | None = None
        while True:
            page = await self._connection.call(listed)
            pods += [
                Pod(metadata.name, metadata.annotations or {})
                for pod in page.items
                if (metadata := pod.metadata) and metadata.name
            ]
            after = page.metadata._continue if page.metadata else None  # noqa: SLF001 - the library's name of a field
            if not after:
                return pods

    async def annotate_pod(self, name: str, annotations: Mapping[str, str | None]) -> None:
        body = {"metadata": {"annotations": dict(annotations)}}
        await self._connection.call(
            lambda api: CoreV1Api(api).patch_namespaced_pod(name, self._namespace, body, _content_type=MERGE)
        )

    async def scale_deployment(self, name: str, replicas: int) -> None:
        """Set the number of replicas of a Deployment in the release's namespace.

        Raises:
            Missing: the Deployment does not exist.
        """
        body = {"spec": {"replicas": replicas}}
        await self._connection.call(
            lambda api: AppsV1Api(api).patch_namespaced_deployment_scale(
                name, self._namespace, body, _content_type=MERGE
            )
        )

    async def post_deployment_event(self, name: str, announcement: Announcement) -> None:
        deployment = await self._connection.call(
            lambda api: AppsV1Api(api).read_namespaced_deployment(name, self._namespace)
        )
        uid = deployment.metadata and deployment.metadata.uid
        reference = V1ObjectReference(
            api_version="apps/v1", kind="Deployment", namespace=self._namespace, name=name, uid=uid
        )
        await self._post(self._namespace, _event(reference, announcement))

    async def get_scale(self, name: str) -> Scale:
        deployment = await self._connection.call(
            lambda api: AppsV1Api(api).read_namespaced_deployment(name, self._namespace)
        )
        replicas = deployment.spec.replicas
        try:
            scaled = await self._manifest(
                lambda objects: objects.get_namespaced_custom_object(*KEDA, self._namespace, "scaledobjects", name)
            )
        except Missing:
            return Scale(replicas or 0, None)
        return Scale(replicas or 0, scaled["spec"].get("maxReplicaCount", KEDA_DEFAULT_MAXIMUM))

    async def has_config_map(self, name: str) -> bool:
        """Return whether the release's namespace has a ConfigMap of this name."""
        try:
            await self._connection.call(lambda api: CoreV1Api(api).read_namespaced_config_map(name, self._namespace))
        except Missing:
            return False
        return True

    async def _post(self, namespace: str, event: CoreV1Event) -> None:
        await self._connection.call(lambda api: CoreV1Api(api).create_namespaced_event(namespace, event))

    # -- requests that return manifests of custom resources

    async def _items(self) -> AsyncIterator[Json]:
        after: str | None = None
        while True:
            page = await self._page(limit=PAGE, after=after)
            for item in page["items"]:
                yield item
            after = page["metadata"].get("continue")
            if not after:
                return

    async def _page(self, *, limit: int, after: str | None = None) -> Json:
        def listed(objects: CustomObjectsApi) -> Awaitable[object]:
            if self._watched is None:
                return objects.list_custom_object_for_all_namespaces(
                    GROUP, VERSION, PLURAL, limit=limit, _continue=after
                )
            return objects.list_namespaced_custom_object(
                GROUP, VERSION, self._watched, PLURAL, limit=limit, _continue=after
            )

        return await self._manifest(listed)

    async def _manifest(self, method: Callable[[CustomObjectsApi], Awaitable[object]]) -> Json:
        answer = await self._connection.call(lambda api: method(CustomObjectsApi(api)))
        if not isinstance(answer, dict):
            raise Unavailable("kubernetes", f"the answer of the API server is no object: {str(answer)[:100]!r}")
        return answer


def _event(about: V1ObjectReference, announcement: Announcement) -> CoreV1Event:
    # The Event's name depends only on the object and the key, so that Kubernetes refuses a duplicate Event.
    suffix = sha256(f"{about.uid}/{announcement.key}".encode()).hexdigest()[:16]
    now = datetime.now(UTC).replace(microsecond=0)
    return CoreV1Event(
        metadata=V1ObjectMeta(name=f"{str(about.name)[:MAX_EVENT_NAME]}.{suffix}"),
        involved_object=about,
        type="Warning" if announcement.warning else "Normal",
        reason=announcement.reason,
        message=announcement.message[:MAX_EVENT_MESSAGE],
        source=V1EventSource(component=REPORTER),
        reporting_component=REPORTER,
        first_timestamp=now,
        last_timestamp=now,
        count=1,
    )


def read_videojob(manifest: Json) -> VideoJob | None:
    """Parse a VideoJob. Returns None, and logs an error, if the VideoJob does not fit the schema of this version.

    An unreadable VideoJob that is being deleted is returned with an empty spec, so that its finalizer can be removed.
    """
    try:
        return VideoJob.read(manifest)
    except ValidationError as error:
        metadata = manifest["metadata"]
        if "deletionTimestamp" in metadata:
            return _without_spec(manifest)
        name = f"{metadata.get('namespace')}/{metadata.get('name')}"
        _log.error("VideoJob can't be read, and is left alone", videojob=name, reason=str(error))
        return None


def _without_spec(manifest: Json) -> VideoJob:
    return VideoJob.read({"metadata": manifest["metadata"], "spec": {}})


def _path(videojob: VideoJob) -> tuple[str, str, str, str, str]:
    return GROUP, VERSION, videojob.metadata.namespace, PLURAL, videojob.metadata.name
