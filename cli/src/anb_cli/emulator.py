"""Runs MiniStack, the S3 and SQS emulator, as a child process.

MiniStack pins its own version of botocore, so MiniStack is installed in a separate virtual environment.
`anb up` and the contract tests use this module.
The emulator accepts only requests that are signed with the caller's secret.
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
    """Return the Python interpreter of MiniStack's virtual environment. Create the environment if it is missing.

    The environment is in the user's cache directory. Each lock file and Python version has its own environment.
    Several processes may call `install` at the same time: one process installs, the other processes wait.
    Before an installation, `announce` is called with a message.

    Raises:
        StackTrouble: MiniStack can't be installed.
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
        output = (error.stderr or error.stdout or b"").decode(errors="replace").strip()
        raise StackTrouble(f"The emulator could not be installed. The output of pip or venv:\n{output}") from error
    return python


def install_lock(python: Path) -> None:
    """Install the packages of MiniStack's lock file into the virtual environment of the interpreter `python`.

    Raises:
        CalledProcessError: pip failed.
    """
    subprocess.run(
        # Use -I, so that Python imports no modules of the current folder.
        [python, "-I", "-m", "pip", "install", "--quiet", "--no-compile", "--require-hashes", "-r", _LOCK],
        check=True,
        capture_output=True,
    )


def _signed(url: str, secret: str) -> dict[str, str]:
    """Return the headers of a GET request that is signed with the secret."""
    # Import botocore inside the function, so that the slow import runs while the emulator starts.
    from botocore.auth import S3SigV4Auth  # noqa: PLC0415
    from botocore.awsrequest import AWSRequest  # noqa: PLC0415
    from botocore.credentials import Credentials  # noqa: PLC0415

    request = AWSRequest("GET", url)
    S3SigV4Auth(Credentials("anb", secret), "s3", "us-east-1").add_auth(request)
    return dict(request.headers)


class Emulator:
    """A MiniStack process on 127.0.0.1:`port`. The folder `data` contains the objects, the queues and the log.

    The emulator can be started again after a stop or a crash. Queues survive a normal stop, but not SIGKILL.
    Requests must be signed with the AWS secret access key `secret`. The emulator does not check the access key id.
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
        """Start the emulator and wait until it responds, at most `within` seconds.

        Raises:
            StackTrouble: another program uses the port, or the emulator does not respond. The message quotes the log.
        """
        python = install()
        self._refuse_a_port_in_use()
        self._data.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            # Start a new session, so that Ctrl-C does not end the emulator while workers finish their jobs.
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
        """Whether the emulator runs and responds."""
        if not self.running:
            return False
        try:
            url = f"{self.url}/_ministack/ready"
            return httpx.get(url, headers=_signed(url, self._secret), timeout=2.0, trust_env=False).is_success
        except httpx.TransportError:
            return False

    def stop(self, *, within: float = 20.0) -> None:
        """Stop the emulator with SIGTERM, so that it saves its state. After `within` seconds, send SIGKILL."""
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
        # Copy only PATH from the user's environment. The emulator must not use the user's AWS profile or Docker.
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
