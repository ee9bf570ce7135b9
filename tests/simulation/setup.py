"""How the programs of a run are installed."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Setup:
    """How the programs of a run are installed."""

    uploads: int = 1
    """Number of clients that upload a video."""
    fifo: bool = False
    """Whether the queue is a FIFO queue."""
    queue_limit: int | None = None
    """The most messages that wait in the queue. None for no limit."""
    no_sweep_before: float = 0.0
    """Until this time, no process sweeps."""
    render_seconds: int = 3
    delay_seconds: int = 0
    """Time for which the queue hides each new message."""
    process_after: int | None = None
    """The seconds that a client gives as `process_after`. None if it gives no time."""
    keyed: bool = True
    """Whether the clients give an Idempotency-Key. Otherwise, an upload that is sent again makes another video."""
    mirrored: bool = False
    """Whether the operator keeps VideoJobs."""
    moves: int = 0
    """Number of moves between brokers. The programs begin with a Celery broker alone, then they get SQS, too.
    Then they lose SQS, and at last they get it again. With 0 moves, they have SQS alone for ever."""
