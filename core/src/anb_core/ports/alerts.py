"""Alerts: messages to the people who operate a deployment."""

from typing import Protocol


class Alerts(Protocol):
    """Where people get alerts, such as an SNS topic with their email addresses."""

    def publish(self, subject: str, text: str) -> None:
        """Send an alert. The subject is sent as `anb_core.domain.alert.subject_line` returns it.

        After an error the alert may have been sent nevertheless.

        Raises:
            Unavailable: part `alerts`; the alert was refused, or nobody answered.
        """
        ...

    def close(self) -> None: ...
