"""Tests of the environment of bench.mirror, with a script in place of kubectl and of the operator."""

import json
import re
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import certifi
import psutil
import pytest
import yaml

from bench import mirror_site
from bench.mirror_site import CLAIMED, DONE, NAMESPACE, Change, Site, Watch
from tests.support import eventually
from tests.support.apiserver import ApiServer

KUBECTL = f"""#!{sys.executable} -IS
import pathlib, sys, time
arguments = sys.argv[1:]
with open(pathlib.Path(__file__).with_name("calls"), "a") as calls:
    calls.write(" ".join(arguments) + "\\n")
if "--filename" in arguments:
    manifests = pathlib.Path(arguments[arguments.index("--filename") + 1]).read_text()
    with open(pathlib.Path(__file__).with_name("created"), "a") as created:
        created.write(manifests + "\\n---\\n")
if "token" in arguments:
    print("secret")
if "--watch" in arguments:
    print("video-1  ", "video-1 uploaded 0%", "video-1 processing 42%", sep="\\n", flush=True)
    time.sleep(600)
"""
"""A fake kubectl. It writes down its arguments, and the manifests that it should create. With `--watch`, it prints
three lines."""

OPERATOR = f"""#!{sys.executable} -IS
import http.server, os, sys
print("The operator starts.", flush=True)
if os.environ["S3_BUCKET"] != "bucket":
    sys.exit(3)
answers = iter([503, 200])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(next(answers) if self.path == "/readyz" else 404)
        self.end_headers()
host, _, port = os.environ["ANB_OPERATOR_LISTEN"].partition(":")
http.server.HTTPServer((host, int(port)), Handler).serve_forever()
"""
"""A fake operator. The script fails the first readiness check and passes the second."""


def script(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o700)
    return path


@pytest.fixture
def apiserver(tmp_path: Path) -> ApiServer:
    kubeconfig = tmp_path / "kubeconfig"
    config = {
        "clusters": [{"cluster": {"server": "https://127.0.0.1:6443", "certificate-authority": certifi.where()}}],
        "users": [{"user": {}}],
    }
    kubeconfig.write_text(json.dumps(config), encoding="utf-8")
    return ApiServer(kubeconfig, (str(script(tmp_path / "kubectl", KUBECTL)),), away=nullcontext)


@pytest.fixture
def site(apiserver: ApiServer, tmp_path: Path) -> Iterator[Site]:
    site = Site(apiserver, f"sqlite:///{tmp_path / 'anb.db'}", "http://127.0.0.1:9", tmp_path)
    yield site
    site.store.close()


def test_kubectl_is_read_until_the_block_ends(site: Site) -> None:
    with site.watch() as watch:
        begun = eventually(lambda: watch.lag(Change("video-1", CLAIMED + 42, 0)))
        assert begun is not None
        # The first line of the fake kubectl shows a VideoJob without a status. Such a line is not counted.
        assert watch.lines(since=0) == 2
        assert watch.videos() == ["video-1"]
        (kubectl,) = [child for child in psutil.Process().children() if child.name() == "kubectl"]
    assert not kubectl.is_running()


def test_a_change_that_is_not_printed_before_kubectl_ends_ends_the_wait() -> None:
    watch = Watch()
    watch.read(["video-1 processed 100%\n"])
    watch.wait_for([Change("video-1", DONE, 0)])
    with pytest.raises(AssertionError, match="kubectl get --watch has ended before it showed everything"):
        watch.wait_for([Change("video-1", DONE, 0), Change("video-2", CLAIMED, 0)])


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("video-1 processing 42%", CLAIMED + 42),
        ("video-1 processing 100%", CLAIMED + 100),
        ("video-1 processed 100%", DONE),
        ("video-1 uploaded 0%", 0),
    ],
)
def test_a_line_shows_its_stage_and_all_earlier_ones(line: str, shown: int) -> None:
    watch = Watch()
    watch.read([f"{line}\n"])
    assert watch.lag(Change("video-1", shown, 0)) is not None
    assert watch.lag(Change("video-1", shown - 1, 0)) is not None
    assert watch.lag(Change("video-1", shown + 1, 0)) is None
    assert watch.lag(Change("video-1", shown, time.monotonic())) is None


def test_a_client_calls_the_server_with_the_token_of_the_operator(site: Site) -> None:
    with site.client() as client:
        assert client.base_url == "https://127.0.0.1:6443"
        assert client.headers["Authorization"] == "Bearer secret"


def test_an_operator_runs_from_the_time_when_it_is_ready_until_the_block_ends(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(script(tmp_path / "operator", OPERATOR)))
    with site.operator() as operator:
        assert operator.cmdline()[-2:] == ["-m", "anb_operator"]
        given = operator.environ()
        assert given["KUBECONFIG"] == str(tmp_path / "kubeconfig-anb-operator")
        assert given["ANB_OPERATOR_NAMESPACE"] == NAMESPACE
    assert not operator.is_running()
    log = (tmp_path / "operator.log").read_text(encoding="utf-8")
    assert re.findall(r"GET /readyz .* (\d{3}) ", log) == ["503", "200"]


def test_the_log_of_an_operator_that_fails_is_printed(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "executable", str(script(tmp_path / "operator", OPERATOR.replace('"bucket"', '"other"'))))
    with pytest.raises(AssertionError, match="the operator ended with 3"), site.operator():
        pass
    assert capsys.readouterr().err == "The operator starts.\n"


def test_the_environment_has_videojobs_a_namespace_and_a_pod_for_each_worker(
    apiserver: ApiServer, postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = SimpleNamespace(create_database=lambda: postgres_url)
    monkeypatch.setattr(mirror_site, "running_postgres", lambda: nullcontext(server))
    monkeypatch.setattr(mirror_site, "running_moto", lambda: nullcontext("http://127.0.0.1:9"))
    monkeypatch.setattr(mirror_site, "running_apiserver", lambda: nullcontext(apiserver))

    with mirror_site.opened() as site:
        assert site.store.count_by_status() == {}

    created = list(yaml.safe_load_all((tmp_path / "created").read_text(encoding="utf-8")))
    definition, pods = (manifest for manifest in created if manifest)
    assert definition["metadata"]["name"] == "videojobs.anb.video"
    names = [(pod["metadata"]["name"], pod["metadata"]["labels"]) for pod in pods["items"]]
    assert names == [(f"worker-{n}", {"app": "worker"}) for n in range(100)]
    calls = re.sub(r"\S+/manifests\.yaml", "FILE", (tmp_path / "calls").read_text(encoding="utf-8")).splitlines()
    assert calls == [
        "create --filename FILE",
        "wait --for=condition=Established crd/videojobs.anb.video --timeout=30s",
        "create namespace anb",
        "--namespace anb create --filename FILE",
        "-n anb create serviceaccount operator",
        "create clusterrolebinding anb-operator --clusterrole=cluster-admin --serviceaccount=anb:operator",
        "-n anb create token operator",
    ]
