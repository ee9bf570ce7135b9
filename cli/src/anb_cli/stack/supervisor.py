"""The supervisor of `anb up`: starts emulator, migration, API and workers in order, and restarts crashed processes."""

import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Never

import httpx

from anb_cli.emulator import HOST, Emulator, install
from anb_cli.errors import StackTrouble, WrongUse
from anb_cli.stack.child_process import ChildProcess
from anb_cli.stack.folder import Folder
from anb_cli.stack.restart_delay import Crashes
from anb_cli.text import clean

BUCKET = "anb-video"
QUEUE = "anb-video-processing-queue"
REGION = "us-east-1"

DEFAULT_PORT = 8000
READY_WITHIN = 60.0
"""Maximum time for the start of the API, in seconds. The first import from a slow disk may take most of this time."""

DRAIN_MARGIN = 30.0
"""Time in which a worker can give its job back after ANB_DRAIN_SECONDS have passed, in seconds."""

DEFAULT_DRAIN, LONGEST_DRAIN = 120, 24 * 3600
"""Default and maximum of ANB_DRAIN_SECONDS: the time in which a worker can finish its job after a stop request."""

HURRY = 2
"""Number of Ctrl-C presses after which workers give their jobs back at once. The next Ctrl-C kills all children."""

HURRIED_WITHIN = 10.0
"""Time from the second Ctrl-C until the children are killed, in seconds."""

EXPLAINED_AFTER = 2.0
"""Seconds after which a message names the children that have not stopped yet."""

TICK = 0.1
"""Pause between two checks of the children, in seconds."""

FOREIGN = ("AWS_", "SQS_", "S3_", "CELERY_")
"""Prefixes of environment variables that point to other deployments. The local stack must not use these variables."""
FOREIGN_NAMES = frozenset({"DATABASE_URL", "ANB_S3_PUBLIC_ENDPOINT", "ANB_SNS_TOPIC_ARN", "ANB_URL", "ANB_TOKEN"})


def stack_environment(
    environ: Mapping[str, str], folder: Folder, *, emulator_url: str, emulator_secret: str, api_port: int
) -> dict[str, str]:
    """Return the environment variables for API and workers.

    The user's variables are kept, except variables that point to another deployment.
    Relative folders are removed from PYTHONPATH.
    """
    kept = {
        name: value for name, value in environ.items() if not name.startswith(FOREIGN) and name not in FOREIGN_NAMES
    }
    if "PYTHONPATH" in kept:
        # Remove empty entries too, such as after an extra colon. For Python, an empty entry means the current folder.
        kept["PYTHONPATH"] = os.pathsep.join(filter(os.path.isabs, kept["PYTHONPATH"].split(os.pathsep)))
    # The emulator has no fair queues. So the relays keep the queue short, unless the user has set another limit.
    return {"ANB_QUEUE_LIMIT": "30", **kept} | {
        "DATABASE_URL": f"sqlite:///{folder.database}",
        "S3_BUCKET": BUCKET,
        "SQS_QUEUE_URL": f"{emulator_url}/000000000000/{QUEUE}",
        "AWS_ENDPOINT_URL": emulator_url,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "anb",
        "AWS_SECRET_ACCESS_KEY": emulator_secret,
        # Without this variable, boto3 asks the EC2 metadata service for credentials, which takes seconds.
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        # Use short polls, because an idle worker stops only between two polls. Only AWS charges money for each poll.
        "SQS_WAIT_TIME_SECONDS": "1",
        "ANB_CREATE_RESOURCES": "true",
        "ANB_HANDLE_DEAD_LETTERS": "true",
        "ANB_API_LISTEN": f"{HOST}:{api_port}",
        "ANB_LOG_FORMAT": "json",
        "PYTHONSAFEPATH": "1",
        "PYTHONUNBUFFERED": "1",
        "TMPDIR": str(folder.scratch),
    }


class Supervisor:
    """Runs the stack of one folder.

    `workers` is the number of worker processes. `port` is the API's port, 0 for any free port.
    If `port` is None, the API uses the port of the last start.
    `say(source, text)` is called with each message of the supervisor.
    `on_line(source, line)` is called with each log line of a child, from another thread.
    `on_ready(url)` is called with the API's address as soon as the API responds.

    Raises:
        WrongUse: ANB_DRAIN_SECONDS is not a valid number of seconds.
    """

    def __init__(
        self,
        folder: Folder,
        *,
        workers: int,
        port: int | None,
        say: Callable[[str, str], None],
        on_line: Callable[[str, str], None],
        on_ready: Callable[[str], None],
    ) -> None:
        self._folder = folder
        self._workers = workers
        self._port = port
        self._say = say
        self._on_line = on_line
        self._on_ready = on_ready
        self._drain = drain_seconds(os.environ)
        self._signals = 0
        self._emulator: Emulator | None = None
        self._emulator_crashes = Crashes()
        self._emulator_started = 0.0
        self._children: list[ChildProcess] = []
        self._due: dict[str, float] = {}

    def run(self) -> None:
        """Run the stack until SIGINT, SIGTERM or SIGHUP, then stop the stack.

        Raises:
            StackTrouble: the stack can't start.
        """
        self._folder.create()
        with self._folder.locked():
            previous_handlers = {
                number: signal.signal(number, self._on_signal)
                for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
            }
            try:
                self._begin()
                self._keep_running()
            except KeyboardInterrupt:
                self._say("anb", "stopping")
            finally:
                self._end()
                for number, handler in previous_handlers.items():
                    signal.signal(number, handler)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        """Interrupt the main thread at the first signal. Count the later signals, which make the stop faster."""
        self._signals += 1
        if self._signals == 1:
            raise KeyboardInterrupt

    # --- start of the stack -------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        api_port, emulator_port = self._choose_ports()
        for log in self._folder.logs.glob("*.log"):
            log.unlink()
        # Make a new secret at each start, and pass it only in the environment variables of the children.
        secret = secrets.token_urlsafe(32)
        emulator = self._emulator = Emulator(port=emulator_port, data=self._folder.emulator, secret=secret)
        environment = stack_environment(
            os.environ, self._folder, emulator_url=emulator.url, emulator_secret=secret, api_port=api_port
        )
        token = self._folder.token()
        migration = self._child("migration", "anb_api", "migrate", ANB_BOOTSTRAP_TOKEN=token, **environment)
        migration.start()
        self._children.append(migration)
        install(lambda text: self._say("emulator", text))
        emulator.start()
        self._emulator_started = time.monotonic()
        self._migrated(migration)
        self._children = [
            self._child("api", "anb_api", **environment),
            *(
                self._child(f"worker-{number}", "anb_worker", ANB_WORKER_NAME=f"worker-{number}", **environment)
                for number in range(1, self._workers + 1)
            ),
        ]
        for child in self._children:
            child.start()
        url = f"http://{HOST}:{api_port}"
        self._await_api(url)
        self._folder.announce(url)
        self._on_ready(url)

    def _choose_ports(self) -> tuple[int, int]:
        last_ports = self._folder.ports()
        wanted = last_ports.get("api", DEFAULT_PORT) if self._port is None else self._port
        api = wanted or _free_port()
        if not _is_free(api):
            raise StackTrouble(
                f"Port {api} is taken by another program: choose another with --port, or a free one with --port 0."
            )
        emulator = last_ports.get("emulator", 0)
        while not emulator or emulator == api or not _is_free(emulator):
            emulator = _free_port()
        self._folder.keep_ports({"api": api, "emulator": emulator})
        return api, emulator

    def _child(self, name: str, module: str, *arguments: str, **environment: str) -> ChildProcess:
        return ChildProcess(
            name,
            [sys.executable, "-P", "-m", module, *arguments],
            environment=environment,
            log=self._folder.logs / f"{name}.log",
            on_line=self._on_line,
        )

    def _migrated(self, migration: ChildProcess) -> None:
        if migration.wait() != 0:
            raise StackTrouble(f"The database migration failed. The end of its output:\n{migration.last_lines}")

    def _await_api(self, url: str) -> None:
        api = self._children[0]
        deadline = time.monotonic() + READY_WITHIN
        with httpx.Client(trust_env=False, timeout=2.0) as http:
            while not _answers(http, f"{url}/readyz"):
                if not api.running:
                    exit_text = api.note_exit()
                    api.wait()
                    raise StackTrouble(
                        f"The API {exit_text} during its start. The end of its output:\n{api.last_lines}"
                    )
                if time.monotonic() > deadline:
                    raise StackTrouble(
                        f"The API is not ready after {READY_WITHIN:g} s. The end of its output:\n{api.last_lines}"
                    )
                time.sleep(TICK / 2)

    # --- restarts of ended children -----------------------------------------------------------------------------------

    def _keep_running(self) -> Never:
        while True:
            now = time.monotonic()
            self._restart_emulator_if_ended(now)
            for child in self._children:
                self._restart_if_ended(child, now)
            time.sleep(TICK)

    def _restart_if_ended(self, child: ChildProcess, now: float) -> None:
        if child.running:
            return
        due = self._due.get(child.name)
        if due is None:
            exit_text = child.note_exit()
            self._due[child.name] = now + child.crashes.delay
            self._say(child.name, f"{exit_text}, starts again in {child.crashes.delay:g} s")
        elif now >= due:
            del self._due[child.name]
            child.start()

    def _restart_emulator_if_ended(self, now: float) -> None:
        if self._emulator is None or self._emulator.running:
            return
        due = self._due.get("emulator")
        if due is None:
            self._emulator_crashes = self._emulator_crashes.after(now - self._emulator_started)
            self._due["emulator"] = now + self._emulator_crashes.delay
            self._say("emulator", f"died, starts again in {self._emulator_crashes.delay:g} s")
        elif now >= due:
            del self._due["emulator"]
            self._emulator_started = now
            try:
                self._emulator.start()
            except StackTrouble as error:
                self._say("emulator", str(error))

    # --- stop of the stack --------------------------------------------------------------------------------------------

    def _end(self) -> None:
        """Stop API and workers first, then the emulator, because workers need the emulator to finish their jobs."""
        for child in self._children:
            child.send(signal.SIGTERM)
        self._await_end()
        for child in self._children:
            if child.pid is not None:
                child.wait()
        if self._emulator is not None:
            self._emulator.stop()

    def _await_end(self) -> None:
        begun = time.monotonic()
        deadline = begun + self._drain + DRAIN_MARGIN
        handled, explained = 1, False
        while running := [child for child in self._children if child.running]:
            time.sleep(TICK / 2)
            now = time.monotonic()
            if self._signals > handled:
                handled = self._signals
                deadline = min(deadline, now + HURRIED_WITHIN) if handled == HURRY else now
                _send(running, signal.SIGTERM)
            if now >= deadline:
                _send(running, signal.SIGKILL)
            if not explained and now > begun + EXPLAINED_AFTER:
                explained = True
                names = ", ".join(child.name for child in running)
                self._say(
                    "anb", f"waiting up to {self._drain} s for {names} to finish; press Ctrl-C again to stop faster"
                )


def _send(children: Sequence[ChildProcess], what: signal.Signals) -> None:
    for child in children:
        child.send(what)


def drain_seconds(environ: Mapping[str, str]) -> int:
    """Return ANB_DRAIN_SECONDS, or the default if the variable is not set.

    Raises:
        WrongUse: ANB_DRAIN_SECONDS has a value that a worker refuses.
    """
    given = environ.get("ANB_DRAIN_SECONDS") or str(DEFAULT_DRAIN)
    try:
        seconds = int(given)
    except ValueError:
        seconds = -1
    if not 0 <= seconds <= LONGEST_DRAIN:
        raise WrongUse(f"ANB_DRAIN_SECONDS is {clean(given)}: it must be a whole number from 0 to {LONGEST_DRAIN}.")
    return seconds


def _answers(http: httpx.Client, url: str) -> bool:
    try:
        return http.get(url).is_success
    except httpx.TransportError:
        return False


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
