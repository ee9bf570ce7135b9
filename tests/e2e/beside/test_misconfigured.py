"""Tests of the error messages for a missing database, a missing bucket and a wrong password, in two extra releases."""

import json
from base64 import b64decode
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from subprocess import CompletedProcess

import httpx
import pytest

from tests.support.chart import CHART, tool
from tests.support.cluster import Json, Namespace, delete_namespaces, ready
from tests.support.release import LOCAL, Release
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(900)

BESIDE = Namespace("anb-misconfigured")
DATABASE = "beside"
BUCKET = "no-such-bucket"
WRONG_PASSWORD = "not-its-password"

# Values that override the preset `kind-values.yaml`. The workers never read the queue, so it need not exist.
VALUES: Json = {
    "queue": {"url": "http://localstack.anb-local.svc:4566/000000000000/no-such-queue"},
    "bucket": {"name": BUCKET},
    "aws": {"createResources": False, "secret": {"existingSecret": "", "accessKeyId": "k", "secretAccessKey": "s"}},
    "bootstrapToken": {"existingSecret": ""},
    "api": {"replicas": 1, "autoscaling": {"enabled": False}},
    "worker": {"autoscaling": {"enabled": False}},
    "crds": {"install": False},
}


class Misconfigured:
    """Installs the extra releases. `password` is the correct password of the database."""

    def __init__(self, values: str, password: str) -> None:
        self._values = values
        self.password = password

    def url(self, *, password: str | None = None, database: str = DATABASE) -> str:
        return f"postgresql://anb:{password or self.password}@postgres.anb-local.svc:5432/{database}"

    def install(self, name: str, url: str) -> CompletedProcess[str]:
        """Install or upgrade a release. A Secret with the release's name contains the database's URL."""
        secret = {"metadata": {"name": name}, "stringData": {"DATABASE_URL": url}}
        BESIDE.apply({"apiVersion": "v1", "kind": "Secret", **secret})
        options = ("--namespace", BESIDE.name, "--set", f"database.existingSecret={name}", "--values", self._values)
        kind = ("--values", str(CHART / "ci" / "kind-values.yaml"))
        return tool("helm", "upgrade", "--install", name, str(CHART), *kind, *options, check=False)


@pytest.fixture(scope="module")
def misconfigured(
    installed: Release,  # noqa: ARG001 - its install starts the database
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Misconfigured]:
    """A namespace and a database that the release under test does not use."""
    password = b64decode(LOCAL.get("secret", "postgres")["data"]["password"]).decode()
    values = tmp_path_factory.mktemp("values") / "values.json"
    values.write_text(json.dumps(VALUES), encoding="utf-8")
    _remove()
    tool("kubectl", "create", "namespace", BESIDE.name)
    tool("kubectl", "label", "namespace", BESIDE.name, "pod-security.kubernetes.io/enforce=restricted")
    _in_postgres(f"CREATE DATABASE {DATABASE}")
    yield Misconfigured(str(values), password)
    _remove()


@pytest.fixture(scope="module")
def refused(misconfigured: Misconfigured) -> Iterator[Future[CompletedProcess[str]]]:
    """A running `helm install` whose database does not exist. Kubernetes tries the migration three times."""
    with ThreadPoolExecutor(1) as thread:
        yield thread.submit(misconfigured.install, "refused", misconfigured.url(database="no_such_database"))


@pytest.fixture(scope="module")
def unready(misconfigured: Misconfigured, refused: object) -> str:  # noqa: ARG001 - it installs at the same time
    """The name of a release whose bucket does not exist."""
    done = misconfigured.install("unready", misconfigured.url())
    assert done.returncode == 0, done.stderr
    return "unready"


def test_a_bucket_that_does_not_exist_is_named_by_every_component_and_nothing_is_ready(
    misconfigured: Misconfigured, unready: str
) -> None:
    sentence = f"Bucket {BUCKET} at http://localstack.anb-local.svc:4566 does not exist"
    eventually(lambda: _all_say(unready, sentence), within=120, every=0.5)
    assert _missing(unready) == {"bucket"}
    assert not any(ready(pod) for component in ("api", "operator") for pod in BESIDE.pods(component))
    assert misconfigured.password not in _all_that_is_shown()


def test_a_password_that_is_no_longer_right_is_named_by_its_user_and_never_shown(
    misconfigured: Misconfigured, unready: str
) -> None:
    url = misconfigured.url(password=WRONG_PASSWORD)
    BESIDE.kubectl("patch", "secret", unready, "--patch", json.dumps({"stringData": {"DATABASE_URL": url}}))
    # Delete the pods, because the new pod never gets ready, and a rollout keeps the old pod until the new pod is ready.
    BESIDE.kubectl("delete", "pods", f"--selector=app.kubernetes.io/instance={unready}")
    place = f"The database postgresql://postgres.anb-local.svc:5432/{DATABASE} is not available: "
    reason = r"password authentication failed for user \"anb\""
    eventually(lambda: _all_say(unready, place, reason), within=120, every=0.5)
    assert _missing(unready) == {"database", "bucket"}
    assert WRONG_PASSWORD not in _all_that_is_shown()


def test_a_database_that_does_not_exist_is_named_by_helm_and_in_the_migrations_log(
    misconfigured: Misconfigured, refused: Future[CompletedProcess[str]]
) -> None:
    done = refused.result(180)
    assert done.returncode == 1
    assert "job refused-migrate failed: BackoffLimitExceeded" in done.stderr
    sentence = 'FATAL:  database "no_such_database" does not exist'
    assert sentence in done.stderr
    assert sentence in BESIDE.kubectl("logs", "job/refused-migrate")
    assert BESIDE.items("deployments", "--selector=app.kubernetes.io/instance=refused") == []
    assert misconfigured.password not in done.stdout + done.stderr + _all_that_is_shown()


def _all_say(instance: str, *words: str) -> bool:
    """Return whether the logs of API, operator and worker each contain all the given words."""
    logs = [_logs(f"instance={instance}", f"component={component}") for component in ("api", "operator", "worker")]
    return all(word in log for word in words for log in logs)


def _logs(*labels: str) -> str:
    """Return the logs of all started containers in the pods with the given labels."""
    selector = ",".join(f"app.kubernetes.io/{label}" for label in labels)
    wanted = (f"--selector={selector}", "--tail=-1", "--ignore-errors", "--max-log-requests=20")
    return tool("kubectl", "--namespace", BESIDE.name, "logs", *wanted, check=False).stdout


def _missing(instance: str) -> set[str]:
    """Return the names of the required dependencies whose readiness check fails in the API."""
    with BESIDE.forwarded(f"{instance}-api", 80) as url:
        answer = httpx.get(f"{url}/readyz", trust_env=False, timeout=10)
    assert answer.status_code == 503
    checks = answer.json()["checks"].items()
    return {part for part, check in checks if check["required"] and not check["ok"]}


def _all_that_is_shown() -> str:
    return _logs("name=anb-video") + BESIDE.kubectl("describe", "pods,jobs,deployments,events")


def _in_postgres(statement: str) -> None:
    ask = f'PGPASSWORD=$POSTGRES_PASSWORD psql --host 127.0.0.1 --username anb --command "{statement}"'
    LOCAL.kubectl("exec", "deployment/postgres", "--", "sh", "-c", ask)


def _remove() -> None:
    for name in ("refused", "unready"):
        tool("helm", "uninstall", name, "--namespace", BESIDE.name, "--ignore-not-found", "--wait")
    delete_namespaces(BESIDE.name)
    _in_postgres(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
