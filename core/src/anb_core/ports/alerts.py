"""Alerts: messages to the people who operate a deployment."""

from typing import Protocol


class Alerts(Protocol):
    """Sends alerts to people, for example through an SNS topic to which their email addresses subscribe."""

    def publish(self, subject: str, text: str) -> None:
        """Send an alert. Implementations convert `subject` with `anb_core.domain.alert.subject_line`.

        The alert may have been sent even if this method raises an error.

        Raises:
            Unavailable: the service refused the alert or did not answer. The error's `part` is `alerts`.
        """
        ...

    def close(self) -> None: ...
