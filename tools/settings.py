"""`python -m tools.settings` writes the table in docs/configuration.md and the chart's settings file."""

import math
import sys
from dataclasses import asdict
from pathlib import Path

import yaml

from anb_api.settings import ApiSettings, CommandSettings, MigrationSettings
from anb_core.settings import parsing
from anb_core.settings.documenting import Programs, readers, table
from anb_operator.settings import OperatorSettings, UninstallSettings
from anb_worker.settings import WorkerSettings

PROGRAMS: Programs = {
    "api": ApiSettings,
    "worker": WorkerSettings,
    "operator": OperatorSettings,
    "migrate": MigrationSettings,
    "token": CommandSettings,
    "uninstall": UninstallSettings,
}

IN_THE_CHART = ("api", "worker", "operator", "migrate")
FORMS = {
    "queueUrl": parsing.QUEUE_URL,
    "brokerUrl": parsing.BROKER_URL,
    "celeryQueueName": parsing.CELERY_QUEUE_NAME,
    "bucketName": parsing.BUCKET_NAME,
    "httpUrl": parsing.HTTP_URL,
    "region": parsing.REGION,
    "topicArn": parsing.TOPIC_ARN,
    "cloudwatchNamespace": parsing.CLOUDWATCH_NAMESPACE,
}

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "configuration.md"
CHART = ROOT / "charts" / "anb-video" / "files" / "settings.yaml"
HEADER = """# Written by `python -m tools.settings`.
# readers: the programs that read each variable. A pod gets only its own, so that a change restarts only these pods.
# forms: the pattern that a whole value must match in chart and programs, and the sentence for a value that does not.
"""
BEGIN = "<!-- settings: begin (written by `python -m tools.settings`) -->"
END = "<!-- settings: end -->"


def with_table(document: str) -> str:
    """Return the document with a new table between the two markers.

    Raises:
        ValueError: a marker is missing.
    """
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the document has no lines {BEGIN} and {END}")
    return f"{before}{begin}\n\n{table(PROGRAMS)}\n\n{end}{after}"


def for_the_chart() -> str:
    """Return YAML for the chart's templates: the programs that read each setting, and the format of each setting."""
    reading = readers({name: PROGRAMS[name] for name in IN_THE_CHART})
    forms = {name: asdict(form) for name, form in FORMS.items()}
    return (
        HEADER
        + yaml.safe_dump({"readers": reading}, default_flow_style=None)
        + yaml.safe_dump({"forms": forms}, sort_keys=False, width=math.inf)
    )


def main() -> int:
    """Write both files and return the exit code."""
    DOCUMENT.write_text(with_table(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
    CHART.write_text(for_the_chart(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
