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

CALLS: Mapping[str, Mapping[str, str]] = {
    "relay": {"store": "hold_outbox mark_sent mark_unsent", "queue": "send"},
    "sweep": {
        "store": "exclusively end_expired_leases end_expired_uploads requeue_unclaimed requeue_overdue hold_deletions"
        " deletion_done purge",
        "bucket": "delete",
        "queue": "delay retention depth",
    },
    "worker": {
        "store": "ping claim renew report_progress publish settle get record_dead_letter submit_existing hold_outbox"
        " mark_sent mark_unsent",
        "bucket": "ping head listing fetch writing",
        "writer": "write commit",
        "queue": "receive delete extend give_back send",
    },
    "api": {
        "store": "ping find_token check_limits begin_upload complete_upload abandon_upload get history surroundings"
        " listing cancel retry delete now events_after last_event_id known_sources submit_existing"
        " dead_letters count_dead_letters dead_letter histories redrive_dead_letter discard_dead_letter"
        " receive_dead_letter record_dead_letter exclusively unannounced_dead_letters mark_announced"
        " open_dead_letters count_by_status count_by_queue known_videos videos_after",
        "bucket": "ensure head peek listing writing download_url",
        "writer": "write commit",
        "queue": "ping depth",
        "dead letters": "receive delete",
        "alerts": "publish",
    },
    "operator": {
        "store": "ping listing history histories events_after last_event_id cursor move_cursor dead_letters cancel"
        " retry submit_existing receive_dead_letter record_dead_letter exclusively unannounced_dead_letters"
        " mark_announced",
        "bucket": "ensure",
        "dead letters": "receive delete",
        "kube": "ping list_videojobs create_videojob set_finalizers set_label patch_status delete_videojob post_event"
        " list_pods annotate_pod post_deployment_event",
    },
}
"""For each component and part the calls at which the component dies. A component is a program or a loop in programs."""

_CLOSING = "The process ends after this call in any case."
_OTHER_QUEUE = "The consumer of the dead-letter queue only receives and deletes."
_RECONCILIATION = "Only a reconciliation after a restore makes this call. A repeated one finds what is left."
_COMMAND_LINE = "Only the command line makes this call, which is no long-running program."

NEVER: Mapping[str, str] = {
    **dict.fromkeys((f"{part}.close" for part in ("alerts", "bucket", "dead letters", "queue", "store")), _CLOSING),
    **dict.fromkeys(
        (f"dead letters.{name}" for name in ("delay", "depth", "ensure", "extend", "ping", "retention", "send")),
        _OTHER_QUEUE,
    ),
    **dict.fromkeys((f"store.{name}" for name in ("add_token", "list_tokens", "revoke_token")), _COMMAND_LINE),
    **dict.fromkeys(
        (f"store.{name}" for name in ("discard_results", "render_again", "restore_result")), _RECONCILIATION
    ),
    "dead letters.give_back": "The consumer gives a message back only if a newer program wrote its job.",
    **dict.fromkeys(
        ("kube.get_scale", "store.longest_wait"), "Only metrics in CloudWatch need this call. It changes nothing."
    ),
    "queue.ensure": "The adapter itself creates a missing queue.",
    "store.renew_upload": "Only a long upload makes this call. It changes an expiry and nothing else.",
}
"""Calls at which no program dies, and the reason."""


def _deaths(component: str) -> list[str]:
    with_end = {call for call in calls() if ".end of " in call}
    named = [f"{part}.{name}" for part, names in CALLS[component].items() for name in names.split()]
    ends = [end for call in named if (end := call.replace(".", ".end of ", 1)) in with_end]
    return [f"{component}: {step}" for call in (*named, *ends) for step in around(call)]


DEATHS: frozenset[str] = frozenset(
    (
        *(death for component in CALLS for death in _deaths(component)),
        *(f"{component}: {step}" for component in ("worker", "child") for step in ENGINE),
    )
)
"""All steps at which a component dies, with the name of the component."""

_OFTEN: Mapping[str, str] = {
    "api": "store.begin_upload bucket.writing writer.commit store.complete_upload",
    "relay": "store.hold_outbox queue.send store.mark_sent",
    "sweep": "store.exclusively store.end_expired_leases",
    "worker": "queue.receive store.claim bucket.fetch writer.commit store.publish queue.delete",
}

OFTEN: frozenset[str] = frozenset(
    (
        *(
            f"{component}: {step}"
            for component, names in _OFTEN.items()
            for call in names.split()
            for step in around(call)
        ),
        *(
            f"{component}: at engine.{name}"
            for component in ("worker", "child")
            for name in ("probe", "main", "verify")
        ),
    )
)
"""The steps that each upload passes, or each sweep. So all of them are reached within seconds."""
