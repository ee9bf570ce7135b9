"""The embedded S3 and SQS: MiniStack as a child process.

It pins a botocore of its own, so it lives in a virtual environment of its own.
`anb up` starts, watches and stops it; the contract tests run against it too.
It answers only requests that are signed with the secret that it was started with.
"""

import hashlib
import os
import shutil
import socket
import subprocess
import sys
import time
import venv
from collections.abc import Callable
from pathlib import Path

import httpx
import platformdirs
from filelock import FileLock

from anb_cli.errors import StackTrouble

HOST = "127.0.0.1"

_LOCK = Path(__file__).with_name("ministack-requirements.txt")
CHILD = Path(__file__).with_name("emulator_guard.py")
_POLL_SECONDS = 0.05


def install(announce: Callable[[str], None] = lambda _: None) -> Path:
    """The interpreter of MiniStack's virtual environment, which is made first if this lock was never installed.

    It lives in the user's cache directory, one for each lock and Python version. Any number of processes may ask at
    once: one installs, the others wait for it. Raises StackTrouble when it can't be installed.
    """
    key = hashlib.sha256(_LOCK.read_bytes() + sys.version.encode()).hexdigest()[:16]
    home = platformdirs.user_cache_path("anb-video") / f"ministack-{key}"
    python, complete = home / "bin" / "python", home / ".complete"
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(home.with_suffix(".lock"), fallback_to_soft=False):
            if not (complete.exists() and python.exists()):
                announce("Installing the S3 and SQS emulator (once) ...")
                shutil.rmtree(home, ignore_errors=True)
                venv.create(home, with_pip=True)
                install_lock(python)
                complete.touch()
    except OSError as error:
        raise StackTrouble(f"The emulator can't be installed in {home.parent}: {error}.") from error
    except subprocess.CalledProcessError as error:
        said = (error.stderr or error.stdout or b"").decode(errors="replace").strip()
        raise StackTrouble(f"The emulator could not be installed. This is what pip or venv said:\n{said}") from error
    return python


def install_lock(python: Path) -> None:
    """Install what the lock names for an interpreter.

    Raises:
        CalledProcessError: pip could not.
    """
    subprocess.run(
        # -I: what lies in the current folder is never imported.
        [python, "-I", "-m", "pip", "install", "--quiet", "--no-compile", "--require-hashes", "-r", _LOCK],
        check=True,
        capture_output=True,
    )


def _signed(url: str, secret: str) -> dict[str, str]:
    """The headers of a GET that is signed with the secret."""
    # Imported while the emulator is starting, which takes longer.
    from botocore.auth import S3SigV4Auth  # noqa: PLC0415
    from botocore.awsrequest import AWSRequest  # noqa: PLC0415
    from botocore.credentials import Credentials  # noqa: PLC0415

    request = AWSRequest("GET", url)
    S3SigV4Auth(Credentials("anb", secret), "s3", "us-east-1").add_auth(request)
    return dict(request.headers)


class Emulator:
    """One MiniStack on 127.0.0.1:`port`, keeping its objects and queues in `data` and its log beside them.

    It can be started again after it was stopped or died. It saves its queues when it is stopped, not when it is killed.
    It answers whoever signs with `secret` as AWS's secret access key; the key's id may be any.
    """

    def __init__(self, *, port: int, data: Path, secret: str) -> None:
        self.url = f"http://{HOST}:{port}"
        self.log = data / "emulator.log"
        self._port = port
        self._data = data
        self._secret = secret
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, *, within: float = 60.0) -> None:
        """Start it and wait until it answers, at most `within` seconds.

        Raises StackTrouble when its port is taken or it does not answer, with the end of its log.
        """
        python = install()
        self._refuse_a_port_in_use()
        self._data.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            # A session of its own: Ctrl-C is for the parent, which needs the emulator until its workers have drained.
            self._process = subprocess.Popen(
                [python, "-I", "-u", CHILD],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self._data,
                env=self._environment(),
                start_new_session=True,
            )
        deadline = time.monotonic() + within
        while not self.healthy():
            if not self.running or time.monotonic() > deadline:
                self.stop()
                raise StackTrouble(
                    f"The emulator does not answer on {self.url}. The end of {self.log}:\n{self._end_of_log()}"
                )
            time.sleep(_POLL_SECONDS)

    def healthy(self) -> bool:
        """Whether it runs and answers."""
        if not self.running:
            return False
        try:
            url = f"{self.url}/_ministack/ready"
            return httpx.get(url, headers=_signed(url, self._secret), timeout=2.0, trust_env=False).is_success
        except httpx.TransportError:
            return False

    def stop(self, *, within: float = 20.0) -> None:
        """Ask it to save and end; kill it after `within` seconds. Harmless when it does not run."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(within)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdin:
            self._process.stdin.close()
        self._process = None

    def _environment(self) -> dict[str, str]:
        # Nothing of the user's environment but PATH: their AWS profile or Docker must never be touched.
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "ANB_EMULATOR_SECRET": self._secret,
            "BIND_HOST": HOST,
            "GATEWAY_PORT": str(self._port),
            "MINISTACK_HOST": HOST,
            "SERVICES": "s3,sqs,sns",
            "LOG_LEVEL": "WARNING",
            "PERSIST_STATE": "1",
            "STATE_DIR": str(self._data / "state"),
            "S3_PERSIST": "1",
            "S3_DATA_DIR": str(self._data / "s3"),
            "TMPDIR": str(self._data),
            "DOCKER_HOST": f"unix://{self._data}/no-docker.sock",
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
        }

    def _refuse_a_port_in_use(self) -> None:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, self._port))
            except OSError as error:
                raise StackTrouble(
                    f"Port {self._port} for the S3 and SQS emulator is taken. Is `anb up` running already?"
                ) from error

    def _end_of_log(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
