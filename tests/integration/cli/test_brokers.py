"""Tests of `anb broker status` with a real API process and a real Celery broker. Commands run in the test process."""

import json
from pathlib import Path

import pytest
from redis import Redis

from anb_cli.__main__ import perform
from anb_cli.errors import Exit
from anb_core.adapters.system import new_id
from anb_core.domain.model import Scope
from anb_core.usecases.tokens import create_token
from tests.support import eventually
from tests.support.api import form, running
from tests.support.brokers import running_redis


def test_uploads_go_on_while_the_broker_refuses_the_password_and_an_operator_sees_why(
    tmp_path: Path, ministack_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with running_redis(password="right") as broker:
        wrong = {"SQS_QUEUE_URL": "", "CELERY_BROKER_URL": broker.replace("right", "no-longer")}
        with running(tmp_path, ministack_url, **wrong) as process:
            name = broker.replace(":right@", "")
            reason = f"The broker {name} of CELERY_BROKER_URL does not answer: invalid username-password pair"
            monkeypatch.setenv("ANB_URL", process.url)
            token = create_token(process.parts.store, owner="olga", scope=Scope.OPS, new_id=new_id).secret
            monkeypatch.setenv("ANB_TOKEN", token)
            with process.upload() as upload:
                upload.begin(f"Content-Length: {len(form())}")
                upload.send(form())
                assert upload.answer().status == 202

            eventually(lambda: reason in (tmp_path / "log").read_text())
            assert perform(["broker", "status"]) == Exit.OK
            shown = capsys.readouterr().out
            assert f"The current queue, on Celery: {name}#celery\n  messages             unknown\n" in shown
            assert reason in shown
            assert shown.endswith("\nJobs whose message was not sent to a queue yet: 1\n")

            with Redis.from_url(broker) as redis:
                redis.config_set("requirepass", "no-longer")
            eventually(lambda: process.parts.store.count_by_queue().keys() == {f"{name}#celery"})
            assert perform(["broker", "status", "--json"]) == Exit.OK
            status = json.loads(capsys.readouterr().out)
            assert [(queue["waiting"], queue["jobs_waiting"]) for queue in status["brokers"]] == [(1, 1)]
    assert "no-longer" not in shown + (tmp_path / "log").read_text()
