"""The route /api/brokers. It needs a token of scope `ops`."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from anb_api.auth import CurrentCaller
from anb_api.context import CurrentContext
from anb_api.problems import documented
from anb_core.usecases import brokers
from anb_core.usecases.brokers import Role

router = APIRouter(
    prefix="/api/brokers",
    tags=["operations"],
    responses=documented(HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.SERVICE_UNAVAILABLE),
)

Count = Annotated[int, Field(ge=0)]


class Broker(BaseModel):
    """One queue. A number is null if the broker does not report it or does not answer."""

    name: Annotated[str, Field(description="Address and name of the queue, without a password.")]
    kind: Literal["sqs", "celery"]
    role: Annotated[
        Role,
        Field(
            description="`current`: new work goes there. `old`: workers empty it. `removed`: unfinished jobs still name"
            " it, but the settings do not."
        ),
    ]
    waiting: Annotated[Count | None, Field(description="Messages that wait for a worker.")]
    in_flight: Annotated[Count | None, Field(description="Messages that were received and not deleted yet.")]
    delayed: Annotated[Count | None, Field(description="Messages that can't be received yet.")]
    consumers: Annotated[Count | None, Field(description="Other programs that receive from the queue.")]
    outage: Annotated[str | None, Field(description="Why the queue can't be read; null if it answers.")]
    jobs_waiting: Annotated[
        Count, Field(description="Unfinished jobs whose message was sent there last, and which no worker processes.")
    ]
    jobs_running: Annotated[
        Count, Field(description="Unfinished jobs whose message was sent there last, and which a worker processes.")
    ]
    oldest_seconds: Annotated[
        float | None, Field(description="Time since the first message of these jobs was sent; null without such jobs.")
    ]
    may_be_switched_off: Annotated[bool, Field(description="Whether nothing is lost without this queue.")]
    reasons: Annotated[list[str], Field(description="Sentences that say why it must not be switched off yet.")]

    @classmethod
    def of(cls, state: brokers.BrokerState) -> "Broker":
        """Return the response model of a queue's state."""
        depth = state.depth
        return Broker(
            name=state.name,
            kind=state.kind,
            role=state.role,
            waiting=depth and depth.visible,
            in_flight=depth.in_flight if depth and depth.in_flight_complete else None,
            delayed=depth and depth.delayed,
            consumers=depth and depth.consumers,
            outage=state.outage,
            jobs_waiting=state.jobs.waiting,
            jobs_running=state.jobs.running,
            oldest_seconds=None if state.jobs.oldest is None else state.jobs.oldest.total_seconds(),
            may_be_switched_off=not state.reasons,
            reasons=list(state.reasons),
        )


class Brokers(BaseModel):
    """The state of all queues."""

    brokers: Annotated[
        Sequence[Broker], Field(description="The current queue, the old queue if there is one, and removed queues.")
    ]
    unsent: Annotated[Count, Field(description="Unfinished jobs whose message was not sent to any queue yet.")]


@router.get("", summary="Show the state of the queues")
def list_brokers(context: CurrentContext, caller: CurrentCaller) -> Brokers:
    """The queues of all brokers, and whether a broker may be switched off after a move to another one."""
    overview = brokers.overview(context.store, context.queues, caller)
    return Brokers(brokers=[Broker.of(state) for state in overview.brokers], unsent=overview.unsent)
