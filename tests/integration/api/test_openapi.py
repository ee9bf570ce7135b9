import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import httpx
from openapi_spec_validator import validate

from anb_core.adapters.system import new_id
from anb_core.domain.dead_letters import DeadLetterFilter
from anb_core.domain.model import DeadLetterCause, Result, Scope
from anb_core.domain.retry import RetryPolicy, plan_failure
from anb_core.ports.store import Claimed
from tests.support.api import VIDEO, Api
from tests.support.given import FFMPEG_FAILED, claim

OWNER = "schemathesis"


def test_the_schema_is_valid_openapi(api: Api) -> None:
    validate(httpx.get(f"{api.url}/openapi.json", trust_env=False).json())


def upload(client: httpx.Client) -> str:
    answer = client.post("/api/videos/upload", data={"title": "T"}, files={"video_file": ("a.mp4", VIDEO)})
    return str(answer.json()["video_id"])


def finished(api: Api, client: httpx.Client) -> str:
    video_id = upload(client)
    claimed = api.context.store.claim(
        video_id, generation=None, attempt_id=new_id(), worker="w", lease=timedelta(minutes=1), policy=RetryPolicy()
    )
    assert isinstance(claimed, Claimed)
    assert api.context.store.publish(claimed.lease, Result(claimed.lease.result_key, 18, "ab", 1280, 720, 1.0, 30))
    return video_id


def dead_letters(api: Api, client: httpx.Client) -> list[str]:
    """Create dead letters with and without a video, and return their ids."""
    store = api.context.store
    for number in range(10):
        lease = claim(store, upload(client))
        assert store.settle(lease, plan_failure(lease.counters, FFMPEG_FAILED, RetryPolicy(max_failures=1), jitter=0))
        store.record_dead_letter(
            cause=DeadLetterCause.UNREADABLE, message_id=f"m{number}", body="?", detail="It is not JSON."
        )
    return [str(letter.id) for letter in store.dead_letters(DeadLetterFilter())]


def cancelled(client: httpx.Client) -> str:
    video_id = upload(client)
    client.post(f"/api/videos/{video_id}/cancel")
    return video_id


def test_the_api_does_what_its_schema_promises_and_refuses_what_it_forbids(api: Api, tmp_path: Path) -> None:
    with api.client(OWNER) as client:
        videos = {
            "ANB_TEST_FINISHED": finished(api, client),
            "ANB_TEST_CANCELLED": " ".join(cancelled(client) for _ in range(10)),
            "ANB_TEST_DEAD_LETTERS": " ".join(dead_letters(api, client)),
        }
    # Do not set the token as a default header, because schemathesis also sends requests without a token.
    (tmp_path / "schemathesis.toml").write_text(
        f'[auth.openapi.HTTPBearer]\nbearer = "{api.token(OWNER, Scope.OPS)}"\n'
    )

    run = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{api.url}/openapi.json"),
            *("--checks", "all", "--phases", "coverage,fuzzing", "--max-examples", "3", "--seed", "1"),
            *("--generation-database", "none", "--request-timeout", "10", "--no-color"),
        ],
        check=False,
        cwd=tmp_path,
        env={
            **os.environ,
            **videos,
            "SCHEMATHESIS_HOOKS": "tests.integration.api.schemathesis_hooks",
            "PYTHONPATH": str(Path(__file__).parents[3]),
        },
        capture_output=True,
        text=True,
    )

    assert run.returncode == 0, run.stdout + run.stderr
