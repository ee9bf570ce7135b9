"""Celery's wire format: converts a message of the queue to a Celery task, and a Celery task to a message.

A task of protocol 2 has its name and id in headers, and the body `[args, kwargs, embed]` in JSON.
A task of protocol 1 has no headers, and its body is a JSON object with `task`, `id`, `args` and `kwargs`.
The one argument of our task is the message of `anb_core.domain.message`, as a JSON object.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

TASK = "anb.process_video"
"""Name of the Celery task that processes a video."""

JSON_TYPE = "application/json"


@dataclass(frozen=True, slots=True)
class TaskMessage:
    """A Celery message of protocol 2, to send."""

    id: str
    """Celery's id of the task: the job's `task_id`."""
    headers: dict[str, Any]
    body: str
    """The message's body, which is JSON."""


@dataclass(frozen=True, slots=True)
class ReceivedTask:
    """The content of a Celery message, of protocol 1 or 2."""

    id: str | None
    """Celery's id of the task. None if the message contains no id."""
    body: str
    """The message body from the task's arguments. If the arguments have none, a JSON description of the whole task.
    The description has no `video_id`. So `anb_core.domain.message.decode` rejects it, and people can read it."""


def encode_task(body: str, *, default_id: str, origin: str) -> TaskMessage:
    """Return the Celery task for a message body. `origin` names the sending program.

    The task's argument is the JSON object in `body`. If `body` is not a JSON object, the argument is `body` as a text.
    The task's id is the `task_id` of the body, or `default_id` if the body has no `task_id`.
    """
    argument = _object_in(body) or body
    named = argument.get("task_id") if isinstance(argument, dict) else None
    task_id = named if isinstance(named, str) and named else default_id
    headers = {
        "lang": "py",
        "task": TASK,
        "id": task_id,
        "root_id": task_id,
        "parent_id": None,
        "group": None,
        "shadow": None,
        "eta": None,
        "expires": None,
        "retries": 0,
        "timelimit": [None, None],
        "argsrepr": repr((argument,)),
        "kwargsrepr": "{}",
        "origin": origin,
        "ignore_result": True,
    }
    embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    return TaskMessage(task_id, headers, json.dumps([[argument], {}, embed]))


def decode_task(headers: Mapping[str, Any], body: bytes, *, content_type: str | None) -> ReceivedTask:
    """Read a Celery message. A body that is no Celery task, such as our plain JSON object, is returned unchanged."""
    if content_type != JSON_TYPE:
        # Never unpickle a body: that runs any code that its sender chose.
        return _foreign(_text(headers.get("id")), content_type=content_type, content=base64.b64encode(body).decode())
    text = body.decode(errors="replace")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return ReceivedTask(_text(headers.get("id")), text)
    match content:
        case [list() as args, dict() as kwargs, *_] if isinstance(headers.get("task"), str):
            return _task(headers, args, kwargs)
        case {"task": str(), "args": list() as args, "kwargs": dict() as kwargs}:
            return _task(content, args, kwargs)
        case _:
            return ReceivedTask(_text(headers.get("id")), text)


def _task(described: Mapping[str, Any], args: list[Any], kwargs: dict[str, Any]) -> ReceivedTask:
    """Return the message body in a task's arguments, which have one of three forms.

    The only argument is a JSON object or a JSON text, or the keyword arguments are the fields of the object.
    """
    task_id = _text(described.get("id"))
    argument = args[0] if len(args) == 1 and not kwargs else kwargs if kwargs and not args else None
    if described["task"] == TASK and isinstance(argument, str):
        return ReceivedTask(task_id, argument)
    if described["task"] == TASK and isinstance(argument, dict):
        return ReceivedTask(task_id, _json(argument))
    return _foreign(task_id, task=described["task"], args=args, kwargs=kwargs)


def _foreign(task_id: str | None, **content: object) -> ReceivedTask:
    return ReceivedTask(task_id, _json(content))


def _object_in(body: str) -> dict[str, Any] | None:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
