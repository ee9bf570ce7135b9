"""Tests of the health checks."""

from anb_core.domain.errors import Unavailable
from tests.unit.api.conftest import World


def test_readiness_names_what_does_not_answer_and_does_without_the_queue(world: World) -> None:
    def readiness() -> tuple[int, bool, set[str]]:
        answer = world.client.get("/readyz")
        body = answer.json()
        return answer.status_code, body["ready"], {part for part, check in body["checks"].items() if not check["ok"]}

    assert readiness() == (200, True, set())
    world.queue.fault = Unavailable("queue", "secret.host is away.")
    assert readiness() == (200, True, {"queue"})
    world.objects.fault = Unavailable("bucket", "secret.host is away.")
    assert readiness() == (503, False, {"queue", "bucket"})
    world.objects.fault = None
    world.store.fault = Unavailable("database", "secret.host is away.")
    assert readiness() == (503, False, {"queue", "database"})
    assert "secret" not in world.client.get("/readyz").text
    world.store.fault = None


def test_the_process_is_alive_whatever_else_is_not(world: World) -> None:
    world.store.fault = world.objects.fault = Unavailable("database", "The database is away.")

    assert world.client.get("/healthz").json() == {"status": "ok"}
    world.store.fault = None
