"""The command `anb reconcile`, which compares the bucket with a database that was restored to an earlier state."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from anb_cli.adopt_commands import Count, lay_out
from anb_cli.client import Api, may_have_arrived
from anb_cli.errors import CliError
from anb_cli.terminal import Bar, Terminal
from anb_cli.video_commands import connect

HEADINGS = ("OBJECTS", "DIFFERENCE", "FOR EXAMPLE")

DIFFERENCES = {
    "restore_upload": ("file without a video", "becomes the video again"),
    "complete_upload": ("file of an upload that had not ended", "is completed"),
    "restore_result": ("result that no row knows", "becomes current"),
    "render_again": ("result that is gone", "is rendered again"),
    "delete_result": ("superfluous result", "is deleted"),
    "unknown_upload": ("file of nobody", "is left alone"),
    "unknown_result": ("result of no video", "is left alone"),
    "source_missing": ("file that is gone", "can't be restored"),
}
"""What the command prints for each action: the difference, and what is done about it."""


def reconcile(*, apply: bool, as_json: bool) -> None:
    """Compare the database with the bucket. Print what was found, and correct it if `apply` is True."""
    terminal, tally = Terminal(as_json=as_json), Tally(apply=apply)
    with connect() as api:
        try:
            with terminal.progress() as bars:
                bar = bars.add("reconcile" if apply else "dry run")
                for report in _reports(api, tally, bar):
                    if as_json:
                        for finding in report["findings"]:
                            terminal.record({**finding, "done": apply and finding["changes"]})
                    bar.tell(tally.progress())
        except (KeyboardInterrupt, CliError) as error:
            if apply and (tally.examined or may_have_arrived(error)):
                terminal.note(f"{tally.progress()} so far. To go on, give the command again.")
            raise
    if not as_json and tally.found:
        terminal.table(tally.rows(), lambda width: lay_out(HEADINGS, tally.rows(), width))
    terminal.result(tally.sentence(), tally.record())


@dataclass(slots=True)
class Tally:
    """Counts what a reconciliation finds, which takes several requests."""

    apply: bool
    examined: int = 0
    removable: int = 0
    """Number of differences that were removed, or that would be removed without a dry run."""
    found: dict[str, Count] = field(default_factory=dict)
    """The differences by their action."""

    def add(self, report: Mapping[str, Any]) -> None:
        """Add the report of one request."""
        self.examined += report["examined"]
        for finding in report["findings"]:
            self.found.setdefault(finding["action"], Count()).add(finding["key"])
            self.removable += finding["changes"]

    def counts(self) -> Counter[str]:
        """Return the number of differences for each action."""
        return Counter({action: count.objects for action, count in self.found.items()})

    def rows(self) -> list[tuple[str, str, str]]:
        """Return the rows of the table, from the most frequent difference on."""
        return [
            (f"{number}", ": ".join(DIFFERENCES.get(action, (action,))), self.found[action].examples_text())
            for action, number in self.counts().most_common()
        ]

    def progress(self) -> str:
        """Return the text beside the progress bar."""
        number = self.counts().total()
        return f"{self.examined} objects and videos examined, {number} difference{'' if number == 1 else 's'}"

    def sentence(self) -> str:
        """Return a sentence about the finished reconciliation or dry run."""
        if not self.found:
            return f"{self.examined} objects and videos examined. The database and the bucket agree."
        if self.apply:
            return f"{self.progress()}, {self.removable} removed."
        advice = " To remove them: anb reconcile --apply" if self.removable else ""
        return f"A dry run: {self.progress()}, {self.removable} can be removed.{advice}"

    def record(self) -> dict[str, Any]:
        """Return the last line of the JSON output."""
        return {
            "dry_run": not self.apply,
            "examined": self.examined,
            "found": dict(self.counts()),
            "removed": self.removable if self.apply else 0,
        }


def _reports(api: Api, tally: Tally, bar: Bar) -> Iterator[Mapping[str, Any]]:
    """Send requests until everything was examined. Yield each report, and add the report to `tally`."""
    after: str | None = None
    while True:
        body = {"after": after, "dry_run": not tally.apply}
        report = api.reconcile(body, on_wait=lambda seconds, why: bar.wait(seconds, str(why)))
        tally.add(report)
        yield report
        # A faulty server that repeats its position could cause an endless loop.
        if report["next_after"] in {None, after}:
            return
        after = report["next_after"]
