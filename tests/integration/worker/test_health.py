from datetime import timedelta

import httpx
import pytest
from prometheus_client import CollectorRegistry

from anb_core.adapters.system import SystemRuntime
from anb_worker.health import Pulse, serving


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/nothing"])
def test_a_worker_answers_head_as_it_answers_get_but_without_a_body(path: str) -> None:
    pulse = Pulse(timedelta(minutes=1), SystemRuntime())
    with serving("127.0.0.1", 0, pulse, CollectorRegistry(), lambda: None) as port:
        address = f"http://127.0.0.1:{port}{path}"
        of_get, of_head = httpx.get(address, trust_env=False), httpx.head(address, trust_env=False)

    assert (of_get.status_code == 404) is (path == "/nothing")
    assert of_head.status_code == of_get.status_code
    assert of_head.headers["Content-Type"] == of_get.headers["Content-Type"]
    assert (int(of_head.headers["Content-Length"]), of_head.content) == (len(of_get.content), b"")
