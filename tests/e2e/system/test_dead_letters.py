"""Tests that people see, understand and redrive dead letters, and that no message of the dead-letter queue is lost."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

from anb_cli.__main__ import perform
from anb_cli.client import Api
from anb_cli.connection import Connection
from anb_operator.videojob import DEAD_LETTER
from tests.support.cluster import Json, Namespace
from tests.support.release import QUICK, Release
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(600)

WATERMARK = "resources/watermark.png"
MARKED = QUICK | {"watermark": {"enabled": True}}
MESSAGES = 200
# The number of transactions that wait until they may write a dead letter.
WAITING = text("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'dead_letters'::regclass")


def labelled(namespace: Namespace) -> dict[str, list[str]]:
    """Return the columns of the rows that kubectl prints for VideoJobs with the label, by name."""
    rows = namespace.kubectl("get", "videojobs", "-l", f"{DEAD_LETTER}=true", "--no-headers").splitlines()
    return {name: columns for name, *columns in map(str.split, rows)}


def events(namespace: Namespace, name: str) -> dict[str, str]:
    """Return the messages of all Kubernetes Events about an object, by reason."""
    found = namespace.items("events", f"--field-selector=involvedObject.name={name}")
    return {event["reason"]: event["message"] for event in found}


def recorded(api: Api, **conditions: object) -> list[Json]:
    """Return all dead letters, open and resolved."""
    return list(api.dead_letters({"state": "all", **conditions}, limit=10 * MESSAGES))


@pytest.fixture
def poison(release: Release, upload: Callable[..., str], blink: Path, tmp_path: Path) -> list[str]:
    """Ids of three videos that became dead letters because of a broken watermark. The watermark was then removed."""
    (tmp_path / "watermark.png").write_text("This is no picture.")
    release.put(WATERMARK, tmp_path / "watermark.png")
    try:
        videos = [upload(blink, title=f"Poison {number}", edit=MARKED) for number in range(3)]
        for video_id in videos:
            release.until(video_id, "dead_lettered")
    finally:
        release.remove(WATERMARK)
    return videos


def test_three_dead_letters_are_shown_and_redriven_by_kubectl_by_the_cli_and_by_the_api(
    release: Release, connection: Connection, api: Api, poison: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    namespace, videos = release.namespace, poison
    eventually(lambda: labelled(namespace).keys() >= set(videos), every=0.5)
    rows = labelled(namespace)
    assert [rows[video_id][0] for video_id in videos] == ["dead_lettered"] * 3
    assert [rows[video_id][2:4] for video_id in videos] == [["3", "bad_resource"]] * 3
    for video_id in videos:
        namespace.kubectl("wait", "--for=condition=DeadLettered", f"videojob/{video_id}", "--timeout=30s")
        eventually(lambda video_id=video_id: "DeadLettered" in events(namespace, video_id), every=0.5)  # type: ignore[misc]
    described = " ".join(namespace.kubectl("describe", "videojob", videos[0]).split())
    assert "3 attempts failed. The last error: The operator's watermark can't be used" in described
    assert api.why(videos[0])["sentences"][0] in described

    letters = {letter["video_id"]: letter["id"] for letter in recorded(api)}
    by_kubectl, by_cli, by_api = videos
    namespace.kubectl("patch", "videojob", by_kubectl, "--type=merge", "--patch", '{"spec": {"retry": "mended"}}')
    monkeypatch.setenv("ANB_URL", connection.url)
    monkeypatch.setenv("ANB_TOKEN", connection.token)
    assert perform(["dlq", "redrive", str(letters[by_cli])]) == 0
    answer = httpx.post(
        f"{connection.url}/api/dead-letters/{letters[by_api]}/redrive",
        headers={"Authorization": f"Bearer {connection.token}"},
        trust_env=False,
    )
    assert (answer.status_code, answer.json()["video_id"]) == (202, by_api)
    for video_id in videos:
        release.until(video_id, "processed")
        eventually(lambda video_id=video_id: "Redriven" in events(namespace, video_id), every=0.5)  # type: ignore[misc]
    assert not labelled(namespace).keys() & set(videos)
    resolved = {letter["video_id"]: letter for letter in recorded(api)}
    assert [resolved[video_id]["resolution"] for video_id in videos] == ["redriven"] * 3
    assert resolved[by_kubectl]["resolved_by"] == f"kubernetes:{namespace.name}/{by_kubectl}"


def test_messages_that_sqs_moved_are_handled_within_a_minute(
    release: Release, api: Api, upload: Callable[..., str], footage: Path, blink: Path
) -> None:
    # The first video keeps the only worker busy, so that no worker receives the two messages.
    ahead = upload(footage / "bikes.mp4", title="Ahead")
    release.until(ahead, "processing")
    [unreadable] = release.send(["nobody can read this"], to=release.queue)
    video_id = upload(blink, title="Moved", edit=QUICK)
    eventually(lambda: release.messages()[0] == 2, within=10, every=0.1)
    release.receive_too_often()

    def letters() -> list[Json] | None:
        found = [letter for letter in recorded(api) if video_id == letter["video_id"]]
        found += [letter for letter in recorded(api) if unreadable == letter["message_id"]]
        return found if len(found) == 2 else None

    moved, opened = eventually(letters, within=60, every=0.5) or []
    assert (moved["resolution"], moved["lost"]) == ("requeued", 1)
    assert (opened["cause"], opened["resolution"]) == ("unreadable", None)
    assert release.until(video_id, "processed")["attempts"] == 1
    warning = eventually(
        lambda: events(release.namespace, "anb-operator").get("UnreadableMessage"), within=90, every=0.5
    )
    assert "the body is not JSON" in (warning or "")


def test_an_operator_that_is_killed_while_it_handles_messages_records_each_message_once(
    release: Release, namespace: Namespace, api: Api, upload: Callable[..., str], blink: Path
) -> None:
    video_id = upload(blink, title="Old messages", edit=QUICK)
    release.until(video_id, "processed")
    attempts = namespace.status(video_id)["attempts"]
    old = json.dumps({"video_id": video_id, "generation": 1})
    sent = release.send([old, "nobody can read this"] * (MESSAGES // 2), to=release.dead_letter_queue)

    def counts() -> Counter[str]:
        """Return the number of dead letters for each message in `sent`."""
        return Counter(letter["message_id"] for letter in recorded(api) if letter["message_id"] in sent)

    eventually(counts, within=60, every=0.1)
    with release.database() as database, database.transaction() as holding:
        # Lock the table, so that the operator is killed while it handles a message.
        holding.execute(text("LOCK TABLE dead_letters IN SHARE MODE"))
        eventually(lambda: holding.scalar(WAITING), within=10)
        [operator] = namespace.pods("operator")
        namespace.kubectl("delete", "pod", operator["metadata"]["name"], "--grace-period=0", "--force", "--wait=false")
        assert counts().keys() < sent
        eventually(lambda: not holding.scalar(WAITING), within=10)
    # The message that the killed operator had received becomes visible again after 30 s.
    eventually(
        lambda: counts().keys() == sent and release.messages(release.dead_letter_queue) == (0, 0), within=120, every=1
    )
    assert set(counts().values()) == {1}
    assert namespace.status(video_id)["attempts"] == attempts
