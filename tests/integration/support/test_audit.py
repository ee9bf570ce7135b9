import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from tests.support.tether import free_port

AUDIT = Path(__file__).parents[3] / "requirements" / "audit"


class Database(BaseHTTPRequestHandler):
    """A fake OSV database that reports one vulnerability in the package pillow."""

    def do_POST(self) -> None:
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        found = [{"id": "OSV-1", "aliases": [], "affected": []}] if question["package"]["name"] == "pillow" else []
        body = json.dumps({"vulns": found}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Do not log requests."""


@contextmanager
def database() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Database) as server:
        Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def audit(url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([AUDIT, "--osv-url", url], capture_output=True, text=True, check=False)


def test_a_known_vulnerability_of_a_pinned_version_fails_the_audit_by_name() -> None:
    with database() as url:
        done = audit(url)
    assert done.returncode == 1
    assert "Found 1 known vulnerability in 1 package" in done.stdout
    assert "pillow" in done.stdout
    assert "OSV-1" in done.stdout


def test_an_audit_without_an_answer_says_why_and_passes() -> None:
    done = audit(f"http://127.0.0.1:{free_port()}")
    assert done.returncode == 0
    assert "The locks were not audited, because the OSV database did not answer" in done.stdout
    assert "Connection refused" in done.stdout
