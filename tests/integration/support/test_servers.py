import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import boto3
import psycopg
import pytest

from tests.support import eventually
from tests.support.postgres import Postgres


def test_a_postgres_database_is_empty_and_can_be_the_template_of_another(postgres: Postgres) -> None:
    template = postgres.create_database()
    with psycopg.connect(template.replace("+psycopg", "")) as connection:
        connection.execute("CREATE TABLE here (id int)")
    copy = postgres.create_database(template=template)
    with psycopg.connect(copy.replace("+psycopg", "")) as connection:
        assert connection.execute("SELECT count(*) FROM here").fetchone() == (0,)
    for url in (template, copy):
        postgres.drop_database(url)
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(copy.replace("+psycopg", ""))


@pytest.mark.parametrize("url_fixture", ["moto_url", "ministack_url"])
def test_each_stand_in_for_aws_takes_a_queue_and_a_bucket(url_fixture: str, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue(url_fixture)
    queue = boto3.client("sqs", endpoint_url=url).create_queue(QueueName="a-queue")["QueueUrl"]
    assert queue.startswith("http")
    s3 = boto3.client("s3", endpoint_url=url)
    s3.create_bucket(Bucket="a-bucket")
    assert "a-bucket" in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]


@pytest.fixture
def folder_for_all() -> Iterator[Path]:
    """A temporary folder in which every user may create and remove files."""
    with TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


def test_a_server_and_its_folder_are_gone_after_the_tests_were_killed(folder_for_all: Path) -> None:
    script = (
        "import os; from tests.support.postgres import running_postgres\n"
        "with running_postgres() as server:\n"
        "    print(server.port, flush=True)\n"
        "    os.read(0, 1)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"TMPDIR": str(folder_for_all)},
        text=True,
    ) as tests:
        assert tests.stdout is not None
        server = Postgres(int(tests.stdout.readline()))
        assert server.answers()
        assert list(folder_for_all.iterdir()) != []
        tests.kill()
        eventually(lambda: not server.answers())
        eventually(lambda: list(folder_for_all.iterdir()) == [])
