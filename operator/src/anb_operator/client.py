"""The API server over aiohttp, with the credentials of the pod's ServiceAccount or of KUBECONFIG.

No client library: of the ways that were measured this one takes the least time of a processor for a patch.
"""

import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from hashlib import sha256
from http import HTTPStatus
from urllib.parse import quote

import aiohttp
import kopf
import structlog
from pydantic import ValidationError

from anb_core.domain.errors import Unavailable
from anb_operator.kube import Existing, Json, KubeRefused, Missing, Outdated, Pod
from anb_operator.mirror import Announcement
from anb_operator.videojob import API_VERSION, GROUP, KIND, PLURAL, VERSION, VideoJob

TIMEOUT_SECONDS = 15.0
"""For one call. Writes are small and lists are paged."""

PAGE = 500

REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
"""Where everybody who has logged in may ask what he may."""

MERGE = "application/merge-patch+json"
REPORTER = "anb-operator"
NOT_ENDED = "status.phase!=Failed,status.phase!=Succeeded"
MAX_EVENT_NAME = 230
MAX_EVENT_MESSAGE = 1024

_log = structlog.get_logger(__name__)


def find_credentials() -> kopf.ConnectionInfo:
    """The ServiceAccount of the pod that we run in, else what KUBECONFIG names.

    Raises:
        kopf.LoginError: neither is there.
    """
    settings = kopf.OperatorSettings()
    info = kopf.login_with_service_account(settings=settings) or kopf.login_with_kubeconfig(settings=settings)
    if info is None:
        raise kopf.LoginError("There is no Kubernetes to work with: run in a pod, or set KUBECONFIG.")
    return info


class KubeClient:
    """Implements the ports in `anb_operator.kube`. `watched` None means all namespaces."""

    def __init__(
        self,
        *,
        namespace: str,
        watched: str | None,
        credentials: Callable[[], kopf.ConnectionInfo] = find_credentials,
        on_answer: Callable[[str, str], None] = lambda *_: None,
    ) -> None:
        """`on_answer` is told of each call: its verb, and its status or `none`."""
        self._namespace = namespace
        self._watched = watched
        self._credentials = credentials
        self._on_answer = on_answer
        self._login: _Login | None = None
        self._session: aiohttp.ClientSession | None = None
        self._failed = float("-inf")

    def answering(self) -> float:
        """For how many seconds no call was left without an answer."""
        return time.monotonic() - self._failed

    async def close(self) -> None:
        """Let go of every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    # -- VideoJobs

    async def ping(self) -> None:
        # Here, where kopf looks too, a definition that was made or deleted is told of a little later than by its path.
        groups = (await self._call("GET", "/apis"))["groups"]
        known = any(version["groupVersion"] == API_VERSION for group in groups for version in group["versions"])
        try:
            await self._call("GET", _videojobs(self._watched), params={"limit": "1"})
        except Missing:
            known = False
        if not known:
            raise Missing(
                "no_videojobs",
                "This cluster knows no VideoJobs: install the chart with crds.install=true in one of its releases.",
            )
        # A watch that is refused is asked for again and again by kopf, which tells its log alone.
        watch = {"group": GROUP, "resource": PLURAL, "verb": "watch", "namespace": self._watched or ""}
        try:
            review = await self._call("POST", REVIEWS, body={"spec": {"resourceAttributes": watch}})
        except KubeRefused:
            # A cluster without the usual role for that (system:basic-user) tells nobody what they may.
            return
        if not review["status"]["allowed"]:
            where = "in any namespace" if self._watched is None else f"in namespace {self._watched}"
            raise KubeRefused(
                "no_watch",
                f"The operator may not watch {PLURAL}.{GROUP} {where}: give its role that verb, as the chart does.",
            )

    async def list_videojobs(self) -> Sequence[VideoJob]:
        path = _videojobs(self._watched)
        return [videojob async for item in self._items(path) if (videojob := read_videojob(item)) is not None]

    async def list_held(self, finalizer: str) -> Sequence[VideoJob]:
        """Those that bear this finalizer, without what they ask for, which need not be readable."""
        path = _videojobs(self._watched)
        return [
            _without_spec(item)
            async for item in self._items(path)
            if finalizer in item["metadata"].get("finalizers", ())
        ]

    async def create_videojob(self, namespace: str, name: str, spec: Json, labels: Mapping[str, str]) -> VideoJob:
        body = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"name": name, "labels": dict(labels)},
            "spec": spec,
        }
        return VideoJob.read(await self._call("POST", _videojobs(namespace), body=body))

    async def set_finalizers(self, videojob: VideoJob, finalizers: Sequence[str]) -> VideoJob:
        metadata = videojob.metadata
        patch = {"metadata": {"resourceVersion": metadata.resource_version, "finalizers": list(finalizers)}}
        answer = await self._call("PATCH", _path(videojob), body=patch)
        return read_videojob(answer) or _without_spec(answer)

    async def patch_status(self, videojob: VideoJob, patch: Json) -> VideoJob:
        body = {"metadata": {"uid": videojob.metadata.uid}, "status": patch}
        return VideoJob.read(await self._call("PATCH", f"{_path(videojob)}/status", body=body))

    async def delete_videojob(self, videojob: VideoJob) -> None:
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": videojob.metadata.uid},
        }
        await self._call("DELETE", _path(videojob), body=options)

    async def post_event(self, videojob: VideoJob, announcement: Announcement) -> None:
        metadata = videojob.metadata
        # The same news about the same object has the same name, so it is told once, whoever tells it again.
        suffix = sha256(f"{metadata.uid}/{announcement.key}".encode()).hexdigest()[:16]
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        body = {
            "metadata": {"name": f"{metadata.name[:MAX_EVENT_NAME]}.{suffix}"},
            "involvedObject": {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "namespace": metadata.namespace,
                "name": metadata.name,
                "uid": metadata.uid,
            },
            "type": "Warning" if announcement.warning else "Normal",
            "reason": announcement.reason,
            "message": announcement.message[:MAX_EVENT_MESSAGE],
            "source": {"component": REPORTER},
            "reportingComponent": REPORTER,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        await self._call("POST", f"/api/v1/namespaces/{metadata.namespace}/events", body=body)

    # -- pods

    async def list_pods(self, selector: str) -> Sequence[Pod]:
        path = f"/api/v1/namespaces/{self._namespace}/pods"
        return [
            Pod(item["metadata"]["name"], item["metadata"].get("annotations", {}))
            async for item in self._items(path, {"labelSelector": selector, "fieldSelector": NOT_ENDED})
        ]

    async def annotate_pod(self, name: str, annotations: Mapping[str, str | None]) -> None:
        path = f"/api/v1/namespaces/{self._namespace}/pods/{quote(name)}"
        await self._call("PATCH", path, body={"metadata": {"annotations": dict(annotations)}})

    async def scale_deployment(self, name: str, replicas: int) -> None:
        """How many pods a Deployment of the namespace has.

        Raises:
            Missing: there is no such Deployment.
        """
        path = f"/apis/apps/v1/namespaces/{self._namespace}/deployments/{quote(name)}/scale"
        await self._call("PATCH", path, body={"spec": {"replicas": replicas}})

    async def has_config_map(self, name: str) -> bool:
        """Whether the namespace has a ConfigMap of this name."""
        try:
            await self._call("GET", f"/api/v1/namespaces/{self._namespace}/configmaps/{quote(name)}")
        except Missing:
            return False
        return True

    # -- HTTP

    async def _items(self, path: str, params: Mapping[str, str] | None = None) -> AsyncIterator[Json]:
        page: dict[str, str] = {"limit": str(PAGE), **(params or {})}
        while True:
            answer = await self._call("GET", path, params=page)
            for item in answer["items"]:
                yield item
            token = answer["metadata"].get("continue")
            if not token:
                return
            page["continue"] = token

    async def _call(
        self, method: str, path: str, *, params: Mapping[str, str] | None = None, body: Json | None = None
    ) -> Json:
        headers = {"Content-Type": MERGE if method == "PATCH" else "application/json"}
        data = None if body is None else json.dumps(body)
        for last in (False, True):
            if (login := self._login) is None:
                login = self._login = _Login(self._credentials())
            try:
                async with self._connected().request(
                    method,
                    f"{login.server}{path}",
                    params=params,
                    data=data,
                    headers={**login.headers, **headers},
                    ssl=login.ssl,
                ) as response:
                    status, answer = response.status, _read(response.status, await response.text())
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                self._failed = time.monotonic()
                self._on_answer(method, "none")
                reason = str(error) or f"no answer within {TIMEOUT_SECONDS:.0f} s"
                raise Unavailable("kubernetes", f"{method} {path}: {reason}") from error
            self._on_answer(method, str(status))
            if status != HTTPStatus.UNAUTHORIZED or last:
                if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                    self._failed = time.monotonic()
                _check(status, answer, f"{method} {path}")
                return answer
            # The token of a ServiceAccount is renewed on disk before it expires. Another call may have read it by now.
            if self._login is login:
                self._login = None
        raise AssertionError  # the loop above always returns or raises

    @asynccontextmanager
    async def open(self) -> AsyncIterator["KubeClient"]:
        """Closed at the end of the block."""
        try:
            yield self
        finally:
            await self.close()

    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
            )
        return self._session


class _Login:
    """What each call says of us. Connections are no part of it: a new login disturbs no call that is under way."""

    def __init__(self, info: kopf.ConnectionInfo) -> None:
        self.server = info.server.rstrip("/")
        self.headers = info.as_http_headers()
        self.ssl = info.as_ssl_context()


def read_videojob(manifest: Json) -> VideoJob | None:
    """A VideoJob; None, and a line in the log, for one that another version of the schema let through.

    One that is being deleted is read all the same, as one that asks for nothing: its end is owed to it.
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


def _read(status: int, text: str) -> Json:
    """Errors may be told in plain words: that no such path is known, as while there is no CRD, always is."""
    try:
        answer = json.loads(text)
    except ValueError:
        answer = None
    if isinstance(answer, dict):
        return answer
    if status < HTTPStatus.BAD_REQUEST:
        raise ValueError(f"the answer is no object: {text[:100]!r}")
    return {"message": text.strip()}


def _check(status: int, answer: Json, what: str) -> None:
    if status < HTTPStatus.BAD_REQUEST:
        return
    reason = answer.get("reason") or str(status)
    message = f"{what}: {answer.get('message') or reason}"
    match status:
        case HTTPStatus.NOT_FOUND:
            raise Missing("missing", message)
        case HTTPStatus.CONFLICT if reason == "AlreadyExists":
            raise Existing("existing", message)
        case HTTPStatus.CONFLICT:
            raise Outdated("outdated", message)
        case HTTPStatus.TOO_MANY_REQUESTS:
            raise Unavailable("kubernetes", message)
        case _ if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise Unavailable("kubernetes", message)
    raise KubeRefused("refused", message)


def _videojobs(namespace: str | None) -> str:
    within = "" if namespace is None else f"/namespaces/{namespace}"
    return f"/apis/{GROUP}/{VERSION}{within}/{PLURAL}"


def _path(videojob: VideoJob) -> str:
    return f"{_videojobs(videojob.metadata.namespace)}/{quote(videojob.metadata.name)}"
