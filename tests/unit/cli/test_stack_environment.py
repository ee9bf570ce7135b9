from pathlib import Path

import pytest

from anb_api.settings import ApiSettings
from anb_cli.errors import WrongUse
from anb_cli.stack.folder import Folder
from anb_cli.stack.supervisor import DEFAULT_DRAIN, Supervisor, drain_seconds, stack_environment
from anb_core.settings.loading import Misconfigured, load
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


def test_the_api_of_a_stack_handles_dead_letters_because_a_stack_has_no_operator() -> None:
    assert environment(ANB_HANDLE_DEAD_LETTERS="false")["ANB_HANDLE_DEAD_LETTERS"] == "true"


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


@pytest.mark.parametrize(
    ("given", "seconds"), [({}, 120), ({"ANB_DRAIN_SECONDS": ""}, 120), ({"ANB_DRAIN_SECONDS": "0"}, 0)]
)
def test_the_stack_gives_its_workers_the_drain_time_that_is_set(given: dict[str, str], seconds: int) -> None:
    assert drain_seconds(given) == seconds


def test_without_a_drain_time_the_stack_and_its_workers_wait_equally_long() -> None:
    assert WorkerSettings.model_fields["drain"].default.total_seconds() == DEFAULT_DRAIN


@pytest.mark.parametrize("value", ["nan", "inf", "1.5", "-1", "86401", "two minutes"])
def test_a_drain_time_that_a_worker_refuses_is_refused_before_the_stack_starts_and_in_the_same_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str
) -> None:
    for name, needed in {**environment(), "ANB_DRAIN_SECONDS": value}.items():
        monkeypatch.setenv(name, needed)
    with pytest.raises(Misconfigured) as refused:
        load(WorkerSettings)

    with pytest.raises(WrongUse) as error:
        Supervisor(
            Folder(tmp_path / ".anb"),
            workers=1,
            port=0,
            say=lambda _source, _text: None,
            on_line=lambda _source, _line: None,
            on_ready=lambda _url: None,
        )
    assert [str(error.value)] == refused.value.problems
