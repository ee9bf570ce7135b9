"""The connection to the API server through the `kubernetes` package: login, timeouts, and the mapping of errors.

In a pod the operator logs in with its ServiceAccount, elsewhere with KUBECONFIG.
"""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Self, TypeVar

import aiohttp
import kopf
import yaml
from kubernetes.aio.client import ApiClient, ApiException, Configuration
from kubernetes.aio.client.rest import RESTClientObject, RESTResponse
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from anb_core.domain.errors import AnbError, Unavailable
from anb_operator.kube import Existing, KubeRefused, Missing, Outdated

TIMEOUT_SECONDS = 15.0
"""Timeout of one request, in seconds. No request is large: writes are small, and lists of VideoJobs are paged."""

Answer = TypeVar("Answer")


async def log_in() -> Configuration:
    """Return the API server's address, its CA and the credentials. In a pod, the token file is read again every minute.

    Raises:
        Unavailable: the operator runs in a pod, and the token of its ServiceAccount can't be read at this moment.
        kopf.LoginError: the operator runs outside a pod, and KUBECONFIG can't be used.
    """
    configuration = Configuration()
    try:
        load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    except (ConfigException, OSError) as error:
        if os.environ.get("KUBERNETES_SERVICE_HOST") and not os.environ.get("KUBECONFIG"):
            raise Unavailable("kubernetes", f"The ServiceAccount of this pod can't be read: {error}") from error
        path = os.environ.get("KUBECONFIG") or "~/.kube/config"
        try:
            await load_kube_config(config_file=path, client_configuration=configuration)  # type: ignore[no-untyped-call]
        # The `kubernetes` package raises a TypeError if the KUBECONFIG file contains no YAML mapping.
        except (ConfigException, OSError, TypeError, yaml.YAMLError) as error:
            sentence = f"There is no Kubernetes to work with: run in a pod, or set KUBECONFIG. {path}: {error}"
            raise kopf.LoginError(sentence) from error
    if configuration.tls_server_name:
        # kopf can't use this setting for the watch: it compares a certificate only with the host name in the address.
        raise kopf.LoginError(
            f"KUBECONFIG sets tls-server-name {configuration.tls_server_name}, which the operator can't use: "
            "write this name into the server's address."
        )
    return configuration


@dataclass(eq=False, slots=True)
class _Login:
    api: ApiClient
    calls: int = 0
    """Number of calls in progress that use this login."""


class Connection:
    """Calls the API server with the credentials from `login`.

    `on_answer` is called after each request with two arguments: the HTTP method and the status.
    The status is `none` if the API server did not respond.
    """

    def __init__(
        self,
        login: Callable[[], Awaitable[Configuration]] = log_in,
        on_answer: Callable[[str, str], None] = lambda *_: None,
    ) -> None:
        self._login = login
        self._on_answer = on_answer
        self._current: _Login | None = None
        self._logging_in = asyncio.Lock()
        self._failed_at = float("-inf")

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Self]:
        """Keep the connection usable until the `with` block ends. Then close the HTTP session."""
        try:
            yield self
        finally:
            if self._current is not None:
                await self._current.api.close()  # type: ignore[no-untyped-call]

    def answering(self) -> float:
        """Return the seconds since the last request that failed because of an outage, or infinity if none failed."""
        return time.monotonic() - self._failed_at

    async def call(self, method: Callable[[ApiClient], Awaitable[Answer]]) -> Answer:
        """Call a method of an API class. If the credentials have expired, log in again and repeat the call once.

        Raises:
            Unavailable: the API server sent no response, an unreadable response, or the status 429 or 5xx.
            KubeRefused: the API server refused the request.
        """
        for last in (False, True):
            login = await self._logged_in()
            login.calls += 1
            try:
                return await method(login.api)
            except KubeRefused as error:
                if error.code != "unauthorized" or last:
                    raise
                # Keep a newer login that a concurrent call made.
                if self._current is login:
                    self._current = None
            except (ApiException, ValueError) as error:
                self._failed_at = time.monotonic()
                raise Unavailable("kubernetes", f"The answer of the API server can't be read: {error}") from error
            except (ConfigException, OSError) as error:
                # Before a request, the library may read the token file again, and this read can fail.
                raise Unavailable("kubernetes", f"The ServiceAccount of this pod can't be read: {error}") from error
            finally:
                login.calls -= 1
                # Close the HTTP session of an old login after the login's last call.
                if login is not self._current and not login.calls:
                    await login.api.close()  # type: ignore[no-untyped-call]
        raise AssertionError  # the loop always returns or raises

    async def _logged_in(self) -> _Login:
        async with self._logging_in:
            if self._current is None:
                configuration = await self._login()
                # Ignore HTTP_PROXY, as kopf does. The variable is meant for calls to AWS, not to the API server.
                configuration.client_session_kwargs = {"trust_env": False}
                api = ApiClient(configuration)
                api.rest_client = _Requests(configuration, self._count)
                self._current = _Login(api)
            return self._current

    def _count(self, method: str, status: int | None) -> None:
        self._on_answer(method, "none" if status is None else str(status))
        if status is None or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            self._failed_at = time.monotonic()


class _Requests(RESTClientObject):
    """Sends requests with a timeout, reports each status, and raises `Unavailable` or a `KubeRefused` for an error."""

    def __init__(self, configuration: Configuration, on_answer: Callable[[str, int | None], None]) -> None:
        super().__init__(configuration)
        self._on_answer = on_answer

    async def request(
        self,
        method: str,
        url: str,
        headers: dict[str, str] | None = None,
        body: object = None,
        post_params: object = None,
        _request_timeout: object = None,
    ) -> RESTResponse:
        called = f"{method} {url.removeprefix(self.configuration.host)}"
        try:
            response: RESTResponse = await super().request(  # type: ignore[no-untyped-call]
                method, url, headers, body, post_params, TIMEOUT_SECONDS
            )
            data: bytes = await response.read()  # type: ignore[no-untyped-call]
        except (aiohttp.ClientError, TimeoutError) as error:
            self._on_answer(method, None)
            reason = str(error) or f"no answer within {TIMEOUT_SECONDS:.0f} s"
            raise Unavailable("kubernetes", f"{called}: {reason}") from error
        self._on_answer(method, response.status)
        if response.status >= HTTPStatus.BAD_REQUEST:
            raise _error(response.status, data.decode(errors="replace"), called)
        return response


def _error(status: int, text: str, called: str) -> AnbError:
    try:
        answer = json.loads(text)
    except ValueError:
        answer = None
    if not isinstance(answer, Mapping):
        # Some errors are plain text and not JSON, such as the 404 for an unknown path if the CRD is missing.
        answer = {"message": text.strip()}
    reason = answer.get("reason") or str(status)
    message = f"{called}: {answer.get('message') or reason}"
    match status:
        case HTTPStatus.UNAUTHORIZED:
            return KubeRefused("unauthorized", message)
        case HTTPStatus.NOT_FOUND:
            return Missing("missing", message)
        case HTTPStatus.CONFLICT if reason == "AlreadyExists":
            return Existing("existing", message)
        case HTTPStatus.CONFLICT:
            return Outdated("outdated", message)
    if status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Unavailable("kubernetes", message)
    return KubeRefused("refused", message)
