from datetime import timedelta

import httpx
import pytest

from anb_core.adapters.system import new_id
from anb_core.domain.model import Result
from anb_core.domain.retry import RetryPolicy
from anb_core.ports.store import Claimed
from tests.support.api import VIDEO, Api


def test_a_finished_video_is_downloaded_from_the_bucket_under_its_own_name(
    api: Api, request: pytest.FixtureRequest
) -> None:
    store, objects = api.context.store, api.context.objects
    with api.client(request.node.name) as client:
        receipt = client.post(
            "/api/videos/upload", data={"title": "T"}, files={"video_file": ("Mi día.mov", VIDEO)}
        ).json()
        claimed = store.claim(
            receipt["video_id"],
            generation=None,
            attempt_id=new_id(),
            worker="w",
            lease=timedelta(minutes=1),
            policy=RetryPolicy(),
        )
        assert isinstance(claimed, Claimed)
        with objects.writing(claimed.lease.result_key, content_type="video/mp4") as writer:
            writer.write(b"the finished video")
            writer.commit()
        assert store.publish(claimed.lease, Result(claimed.lease.result_key, 18, "ab", 1280, 720, 1.0, 30))
        redirect = client.get(f"/api/videos/{receipt['video_id']}/download")

    assert redirect.status_code == 307
    # Send no token, because the presigned URL must work without a token until the URL expires.
    download = httpx.get(redirect.headers["location"], trust_env=False)
    assert download.content == b"the finished video"
    assert "filename*=UTF-8''Mi%20d%C3%ADa-processed.mp4" in download.headers["content-disposition"]
