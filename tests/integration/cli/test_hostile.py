"""Tests that in hostile environments each command ends with an exit code and a message, and never with a traceback."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.models import CommandInfo

from anb_cli.errors import Exit
from anb_cli.options import build
from anb_cli.stack.folder import NAME, Folder
from tests.support import eventually
from tests.support.dead_letters import VIDEO_ID
from tests.support.deployments import Deployment, Handler, deployments, problem
from tests.support.forks import Circumstances, Ended, Forks, forks
from tests.support.operator_requests import OPERATOR_PATHS, serve_operator
from tests.support.videos import a_video

TOKEN = "anb_a-token-that-nobody-may-see"
CONTENT = b"video"
TITLE = "A\u00f1os \u65e5\u672c \U0001f469\u200d\U0001f467 \x1b[2J\u202e\ud800"

APP = build()
COMMANDS = {info.name or "": info for info in APP.registered_commands} | {
    f"{group.name} {info.name}": info
    for group in APP.registered_groups
    if group.typer_instance
    for info in group.typer_instance.registered_commands
}

# Arguments for each command. test_every_command_is_tried fails if ARGUMENTS lacks a command.
ARGUMENTS: dict[str, list[str]] = {
    "up": ["--port", "0"],
    "demo": ["--video", "clip.mp4", "--out", "."],
    "upload": ["clip.mp4", "--watch"],
    "list": [],
    "watch": [VIDEO_ID],
    "why": [VIDEO_ID],
    "download": [VIDEO_ID, "-o", "out.mp4"],
    "cancel": [VIDEO_ID],
    "retry": [VIDEO_ID],
    "delete": [VIDEO_ID],
    "dlq list": [],
    "dlq show": ["12"],
    "dlq redrive": ["--all"],
    "dlq discard": ["12", "--reason", "A test."],
    "broker status": [],
    "adopt": ["uploads/"],
    "reconcile": [],
}

VARIED = {name: ARGUMENTS[name] for name in ARGUMENTS.keys() - {"why", "dlq show", "dlq discard", "broker status"}}
"""The commands without those that start and end exactly as `dlq list` does."""


def serve(request: Handler) -> None:
    """Respond to a request as an API with one processed video does."""
    video = a_video(
        video_id=VIDEO_ID,
        title=TITLE,
        file_name="caf\u00e9.mp4",
        result={"size": len(CONTENT), "sha256": hashlib.sha256(CONTENT).hexdigest()},
    )
    if request.path.startswith(OPERATOR_PATHS):
        serve_operator(request, TITLE)
    elif request.path.endswith("/why"):
        request.reply_json(200, {"video_id": VIDEO_ID, "status": "processed", "sentences": [TITLE]})
    elif request.command == "POST" and request.path.endswith("/upload"):
        request.body()
        request.reply_json(202, {"video_id": VIDEO_ID, "task_id": "t", "status": "uploaded", "links": {}})
    elif request.command == "DELETE":
        request.reply(204)
    elif request.path.endswith("/events"):
        data = json.dumps(video | {"at": video["updated_at"]}).encode()
        request.reply(200, b"id: 1\nevent: status\ndata: " + data + b"\n\n", Content_Type="text/event-stream")
    elif request.path.endswith("/download"):
        request.reply(307, Location="/object")
    elif request.path == "/object":
        request.reply(200, CONTENT)
    elif "?" in request.path:
        request.reply_json(200, {"videos": [video], "next_cursor": None})
    else:
        request.reply_json(200, video)


@dataclass
class Place:
    """A folder with a clip. In this folder, the commands `up` and `demo` fail.

    They fail because another process holds the folder's stack lock, and because the emulator can't be installed.
    """

    forks: Forks
    circumstances: Circumstances
    deploy: Callable[..., Deployment]

    @property
    def path(self) -> Path:
        return Path(self.circumstances.folder)

    def run(self, *arguments: str, environment: dict[str, str | None] | None = None, **changes: Any) -> Ended:
        changed = {**self.circumstances.environment, **(environment or {})}
        wanted = {name: value for name, value in changed.items() if value is not None}
        return self.forks.run(arguments, replace(self.circumstances, environment=wanted, **changes))


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[Forks, Callable[..., Deployment]]]:
    with forks() as running, deployments() as deploy:
        yield running, deploy


@pytest.fixture
def place(tmp_path: Path, shared: tuple[Forks, Callable[..., Deployment]]) -> Iterator[Place]:
    running, deploy = shared
    (tmp_path / "clip.mp4").write_bytes(CONTENT)
    environment = {
        "ANB_URL": deploy(serve).url,
        "ANB_TOKEN": TOKEN,
        "HOME": str(tmp_path),
        "PATH": os.environ["PATH"],
        "XDG_CACHE_HOME": "/dev/null",
    }
    folder = Folder(tmp_path / NAME)
    folder.create()
    with folder.locked():
        yield Place(running, Circumstances(str(tmp_path), environment), deploy)


@pytest.fixture(params=ARGUMENTS)
def command(request: pytest.FixtureRequest) -> list[str]:
    return [*request.param.split(), *ARGUMENTS[request.param]]


def expect_civil(ended: Ended, *, explained: bool = True, exits: tuple[int, ...] = (0, 1, 2, 3, 4, 5)) -> None:
    assert ended.code in exits, ended
    assert "Traceback" not in ended.out + ended.err
    assert "fault of anb" not in ended.err
    assert TOKEN not in ended.out + ended.err
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", ended.out + ended.err)
    if explained and ended.code:
        assert re.search(r"^(anb: .+[.:?)]|Usage: .*|Invalid completion instruction\.)$", ended.err, re.MULTILINE), (
            ended
        )


def test_every_command_is_tried() -> None:
    assert ARGUMENTS.keys() == COMMANDS.keys()


def test_in_good_circumstances_commands_do_what_they_should(place: Place, command: list[str]) -> None:
    ended = place.run(*command)
    expect_civil(ended, exits=(5,) if command[0] in {"up", "demo"} else (0,))


@pytest.mark.parametrize(
    "streams",
    [
        {"stdout": "closed"},
        {"stdout": "full"},
        {"stdout": "broken"},
        {"stderr": "closed"},
        {"stderr": "full"},
        {"stderr": "broken"},
        {"stdin": "closed", "stdout": "closed", "stderr": "closed"},
        {"encoding": "ascii"},
    ],
    ids=str,
)
@pytest.mark.parametrize("options", [[], ["--json"]], ids=str)
def test_streams(place: Place, streams: dict[str, Any], options: list[str]) -> None:
    for command, arguments in VARIED.items():
        ended = place.run(*command.split(), *arguments, *options, **streams)
        expect_civil(ended, explained=streams.get("stderr") is None and streams.get("stdout") != "broken")
        if streams.get("stdout") == "full" and command not in {"up", "demo"} and (options or command != "watch"):
            assert (command, ended.code) == (command, 2)
            assert ended.err.endswith("anb: The output can't be written: No space left on device.\n")


@pytest.mark.parametrize(
    "environment",
    [
        {"ALL_PROXY": "socks5://me:secret@127.0.0.1:9", "ANB_URL": "http://192.0.2.1"},
        {"HTTP_PROXY": "ftp://me:secret@127.0.0.1:9", "ANB_URL": "http://192.0.2.1"},
        {"HTTP_PROXY": "http://[::1", "ANB_URL": "http://192.0.2.1"},
        {"NO_PROXY": "[::1,http://[", "HTTP_PROXY": "http://127.0.0.1:9", "ANB_URL": "http://192.0.2.1"},
        {"SSL_CERT_FILE": "/nowhere", "ANB_URL": "https://192.0.2.1"},
        {"SSL_CERT_FILE": "/dev/null", "HTTPS_PROXY": "http://127.0.0.1:9", "ANB_URL": "https://192.0.2.1"},
        {"ANB_URL": None, "ANB_TOKEN": None},
        {"ANB_URL": "http://"},
        {"ANB_URL": "http://[::1"},
        {"ANB_URL": "http://127.0.0.1:99999"},
        {"ANB_URL": "http://127.0.0.1:9\n"},
        {"ANB_URL": "http://a b\x1b[2J"},
        {"ANB_URL": "http://\udce9/"},
        {"ANB_URL": f"http://x:{TOKEN}@127.0.0.1:9"},
        {"ANB_URL": TOKEN},
        {"ANB_URL": "https://127.0.0.1:9"},
        {"ANB_TOKEN": f"{TOKEN}\n{TOKEN}"},
        {"ANB_TOKEN": f"{TOKEN}\u00e9"},
        {"ANB_TOKEN": f"{TOKEN}\udce9"},
        {"ANB_TOKEN": ""},
        {"ANB_TOKEN": TOKEN * 40},
        {"COLUMNS": "\u00b2", "LINES": "x"},
        {"COLUMNS": "0"},
        {"COLUMNS": "1"},
        {"TERM": "dumb", "NO_COLOR": "1"},
        {"TERM": "\udce9", "FORCE_COLOR": "1", "TTY_COMPATIBLE": "1"},
        {"HOME": None, "PATH": None},
        {"HOME": "/nowhere/\udce9", "TMPDIR": "/nowhere"},
        {"_ANB_COMPLETE": "nonsense"},
        {"TZ": "Nowhere/Land", "LC_ALL": "xx_YY.UTF-99"},
    ],
    ids=ascii,
)
def test_environments(place: Place, environment: dict[str, str | None]) -> None:
    for command, arguments in VARIED.items():
        ended = place.run(*command.split(), *arguments, environment=environment)
        expect_civil(ended)
        assert "secret" not in ended.err


def test_a_current_folder_that_is_gone(place: Place, command: list[str]) -> None:
    environments: tuple[dict[str, str | None], ...] = ({}, {"ANB_URL": None})
    for environment in environments:
        gone = place.path / "gone"
        gone.mkdir()
        expect_civil(place.run(*command, folder=str(gone), removed=True, environment=environment))


@pytest.mark.parametrize("mode", [0o000, 0o100, 0o500])
@pytest.mark.parametrize("environment", [{}, {"ANB_URL": None}], ids=str)
def test_folders_that_cannot_be_read_entered_or_written(
    place: Place, mode: int, environment: dict[str, str | None]
) -> None:
    closed = place.path / "closed"
    closed.mkdir()
    (closed / NAME).mkdir()
    (closed / "clip.mp4").write_bytes(CONTENT)
    (closed / NAME / "token").write_text(TOKEN)
    (closed / NAME).chmod(mode)
    closed.chmod(mode)
    try:
        for command, arguments in ARGUMENTS.items():
            expect_civil(
                place.run(*command.split(), *arguments, folder=str(closed), powerless=True, environment=environment)
            )
            moved = [str(closed / word) if word in {"clip.mp4", "out.mp4", "."} else word for word in arguments]
            expect_civil(place.run(*command.split(), *moved, powerless=True))
    finally:
        closed.chmod(0o700)


# No value may name a folder that can be created outside the test's folder, because `demo --out` would create it.
VALUES = [
    "",
    "\n",
    "-",
    "/proc",
    "caf\udce9.mp4",
    "a" * 100_000,
    "/a" * 3000,
    "\x1b[2J\x07",
    "\u202e\U0001f469\u200d\U0001f467",
    "[/]",
    "%s{}%00\\",
    "nan",
    "1e999",
    "9" * 5000,
    "/dev/full",
    "/dev/fd/99",
    "/proc/self/mem",
    "loop",
    "clip.mp4/x",
]


def parameters(info: CommandInfo) -> list[str | None]:
    """Return the option names of all parameters that take a value, with None for positional arguments."""
    command: Any = typer.main.get_command_from_info(info, pretty_exceptions_short=False, rich_markup_mode=None)
    taking = [parameter for parameter in command.params if not getattr(parameter, "is_flag", False)]
    return [parameter.opts[0] if parameter.param_type_name == "option" else None for parameter in taking]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: ascii(value[:20]))
def test_values_of_every_parameter(place: Place, value: str) -> None:
    (place.path / "loop").symlink_to("loop")
    tried = set()
    for name, info in COMMANDS.items():
        for option in parameters(info):
            # All commands of `dlq` understand an option in the same way.
            if (name.split()[0], option) in tried:
                continue
            tried.add((name.split()[0], option))
            if option is None:
                words = [value] if len(ARGUMENTS[name]) < 3 else [value, *ARGUMENTS[name][1:]]
            else:
                words = [*ARGUMENTS[name], f"{option}={value}" if option.startswith("--") else f"{option}{value}"]
            expect_civil(place.run(*name.split(), *words))


def cut_short(request: Handler) -> None:
    request.reply(200, b'{"videos": [', claimed=1000)


def hang_up(request: Handler) -> None:
    request.connection.close()


def speak_nonsense(request: Handler) -> None:
    request.wfile.write(b"\x00\xff nonsense \x1b[2J\r\n\r\n")


def say(status: int, body: object, **headers: str) -> Callable[[Handler], None]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return lambda request: request.reply(status, raw, claimed=None, **headers)


SERVERS: dict[str, Callable[[Handler], None]] = {
    "html": say(200, b"<html>", Content_Type="text/html"),
    "html error": say(502, b"<html>\x1b[2J"),
    "no bytes": say(200, b""),
    "no content": say(204, b""),
    "bytes": say(200, bytes(range(256))),
    "a list": say(200, []),
    "an empty object": say(200, {}),
    "a list that is none": say(200, {"videos": 5, "next_cursor": None}),
    "a list of nothing": say(200, {"videos": [None], "next_cursor": []}),
    "a page without end": say(200, {"videos": [], "next_cursor": "again"}),
    "a deep answer": say(200, b"[" * 100_000),
    "a video of nothing": say(200, dict.fromkeys(a_video())),
    "a strange video": say(200, a_video(video_id="../\ud800", status="archived", progress=7, created_at="0001-01-01")),
    "a new status": say(200, a_video(status="archived", result=None)),
    "a huge size": say(200, a_video(result={"size": 10**400, "sha256": "0" * 64})),
    "not compressed": say(200, b"plain", Content_Encoding="gzip"),
    "a redirect": say(301, b"", Location="https://elsewhere.example/"),
    "a redirect to nowhere": say(302, b"", Location="http://[::1\x1b"),
    "a redirect to itself": say(307, b"", Location="/"),
    "a refusal that steers": say(403, {"code": "\x1b[2J", "detail": "two\nlines\x1b[2J\u202e\ud800"}),
    "a refusal of nothing": say(400, {"code": None, "detail": []}),
    "a quota": say(429, {"code": "too_many", "detail": "Later."}, Retry_After="1e999"),
    "a busy server": say(503, {"code": "busy", "detail": "Later."}, Retry_After="Thu, 99 Foo"),
    "a long header": say(200, b"{}", X_Long="x" * 200_000),
    "an end": cut_short,
    "a closed connection": hang_up,
    "nonsense": speak_nonsense,
    "a teapot": problem(418, "teapot"),
}


@pytest.mark.parametrize("server", SERVERS.values(), ids=SERVERS)
def test_servers(place: Place, server: Callable[[Handler], None]) -> None:
    url = place.deploy(server).url
    for command in ARGUMENTS.keys() - {"up", "demo"}:
        arguments = ARGUMENTS[command]
        expect_civil(place.run(*command.split(), *arguments, environment={"ANB_URL": url}))


@pytest.mark.parametrize("module", ["anb_cli.text", "anb_cli.streams", "typer", "httpx", "anb_cli.client"])
def test_ctrl_c_while_a_command_starts_ends_it_at_once(place: Place, module: str) -> None:
    with started(place, "http://127.0.0.1:9", "-X", "importtime") as process:
        assert process.stderr is not None
        while not process.stderr.readline().endswith(f" {module}\n"):
            assert process.poll() is None
        expect_interrupted(process)


def test_ctrl_c_while_a_server_says_nothing_ends_a_command_at_once(place: Place) -> None:
    deployment = place.deploy(lambda request: request.rfile.read())
    with started(place, deployment.url) as process:
        eventually(lambda: deployment.seen)
        expect_interrupted(process)


def started(place: Place, url: str, *options: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, *options, Path(sys.executable).with_name("anb"), "list"],
        env={**place.circumstances.environment, "ANB_URL": url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def expect_interrupted(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == Exit.INTERRUPTED
    assert out == ""
    assert [line for line in err.splitlines() if not line.startswith("import time:")] == []
