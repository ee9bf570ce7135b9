"""The in-memory alerts, for tests."""

from anb_core.domain.alert import subject_line
from anb_core.domain.errors import AnbError


class InMemoryAlerts:
    """Implements `anb_core.ports.alerts.Alerts`. `published` has the subject and the text of each alert, in order.

    If `fault` is set to an error, `publish` raises it, as if SNS were unavailable.
    """

    def __init__(self) -> None:
        self.published: list[tuple[str, str]] = []
        self.fault: AnbError | None = None

    def publish(self, subject: str, text: str) -> None:
        if self.fault:
            raise self.fault
        self.published.append((subject_line(subject), text))

    def close(self) -> None:
        """Do nothing, because no connection is open."""
