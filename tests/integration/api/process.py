"""An API in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from anb_core.domain.model import Scope
from anb_core.domain.status import Status
from anb_core.usecases.tokens import create_token
from tests.integration.api.conftest import Raw, environment, in_environment
from tests.support import eventually
from tests.support.parts import Parts
from tests.support.tether import free_port


@dataclass(frozen=True, slots=True)
class Process:
    url: str
    parts: Parts
    token: str
    database: Path
    child: subprocess.Popen[bytes]

    def upload(self) -> Raw:
        return Raw(self.url, self.token)

    def statuses(self) -> list[Status]:
        return [record.job.status for record in self.parts.store.listing(owner="ana")]


@contextmanager
def running(folder: Path, aws_url: str, **others: str) -> Iterator[Process]:
    port = free_port()
    told = environment(folder, aws_url, ANB_API_LISTEN=f"127.0.0.1:{port}", ANB_LOG_FORMAT="json", **others)
    url = f"http://127.0.0.1:{port}"
    with in_environment(told) as (_, parts):
        token = create_token(parts.store, owner="ana", scope=Scope.USER).secret
        with (folder / "log").open("wb") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", "anb_api"], env={**os.environ, **told}, stdout=log, stderr=log
            )
        try:
            eventually(lambda: answers(url) or child.poll() is not None)
            yield Process(url, parts, token, folder / "anb.db", child)
        finally:
            child.kill()
            child.wait()


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False
