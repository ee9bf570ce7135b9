from pathlib import Path

import pytest

from anb_api.settings import ApiSettings
from anb_cli.stack.folder import Folder
from anb_cli.stack.supervisor import stack_environment
from anb_core.settings.loading import load
from anb_worker.settings import WorkerSettings

FOLDER = Folder(Path("/data/.anb"))


def environment(**given: str) -> dict[str, str]:
    return stack_environment(
        given, FOLDER, emulator_url="http://127.0.0.1:4567", emulator_secret="of this start", api_port=8000
    )


@pytest.mark.parametrize(
    "name",
    [
        "AWS_PROFILE",
        "AWS_ENDPOINT_URL_S3",
        "AWS_SESSION_TOKEN",
        "SQS_DLQ_URL",
        "CELERY_BROKER_URL",
        "ANB_S3_PUBLIC_ENDPOINT",
        "ANB_SNS_TOPIC_ARN",
        "ANB_TOKEN",
    ],
)
def test_nothing_leads_to_another_deployment(name: str) -> None:
    assert name not in environment(**{name: "elsewhere"})


@pytest.mark.parametrize(
    "name", ["DATABASE_URL", "S3_BUCKET", "SQS_QUEUE_URL", "AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID"]
)
def test_a_variable_that_points_to_another_deployment_is_replaced(name: str) -> None:
    assert environment(**{name: "elsewhere"})[name] == environment()[name] != "elsewhere"


def test_a_persons_own_limits_are_kept() -> None:
    assert (
        environment(ANB_MAX_UPLOAD_BYTES="5", PATH="/bin").items()
        >= {
            "ANB_MAX_UPLOAD_BYTES": "5",
            "PATH": "/bin",
        }.items()
    )


@pytest.mark.parametrize(("given", "kept"), [(":/own", "/own"), (".:/own::sub", "/own"), ("/a:/b", "/a:/b"), (":", "")])
def test_modules_of_the_current_folder_are_out_of_reach(given: str, kept: str) -> None:
    replaced = environment(PYTHONPATH=given, PYTHONSAFEPATH="")
    assert (replaced["PYTHONPATH"], replaced["PYTHONSAFEPATH"]) == (kept, "1")


def test_the_emulator_knows_api_and_workers_by_the_secret_of_this_start() -> None:
    assert environment()["AWS_SECRET_ACCESS_KEY"] == "of this start"


def test_api_and_workers_understand_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    load(WorkerSettings)
    settings = load(ApiSettings)
    assert settings.create_resources
    assert settings.listen == "127.0.0.1:8000"
    assert settings.database_url.get_secret_value() == "sqlite+pysqlite:////data/.anb/anb.db"
