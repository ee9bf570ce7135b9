"""The names of the steps at which a program can die, enumerated from the ports and from the render engine."""

import inspect
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import get_origin, get_type_hints

from anb_core.ports.alerts import Alerts
from anb_core.ports.objects import Objects, ObjectWriter
from anb_core.ports.queue import Queue
from anb_core.ports.store import Store
from anb_operator.kube import Deployments, Pods, VideoJobs
from anb_worker.render import engine

PORTS: Mapping[str, tuple[type, ...]] = {
    "store": (Store,),
    "bucket": (Objects,),
    "writer": (ObjectWriter,),
    "queue": (Queue,),
    "dead letters": (Queue,),
    "alerts": (Alerts,),
    "kube": (VideoJobs, Pods, Deployments),
}
"""The ports of each part whose calls are wrapped (see `wrapping.py`)."""


def calls() -> list[str]:
    """Return `part.method` for each method of each port. A context manager has a second step at its end."""
    found = []
    for part, ports in PORTS.items():
        for port in ports:
            for name, method in inspect.getmembers(port, inspect.isfunction):
                if name.startswith("_"):
                    continue
                found.append(f"{part}.{name}")
                if get_origin(get_type_hints(method).get("return")) is AbstractContextManager:
                    found.append(f"{part}.end of {name}")
    return found


def around(call: str) -> tuple[str, str]:
    """Return the steps before and after a call."""
    return f"before {call}", f"after {call}"


ENGINE = tuple(f"at engine.{name}" for name in engine.STEPS)
"""The steps of the render engine, at which the worker or the engine's child dies."""
