"""The command `anb adopt`, which makes videos of objects that are already in the bucket."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.text import Text

from anb_cli.client import Api, may_have_arrived
from anb_cli.errors import CliError, Refused, WrongUse
from anb_cli.listing import draw, widest
from anb_cli.terminal import Bar, Terminal
from anb_cli.text import clean
from anb_cli.video_commands import Failures, connect, given_text

CHUNK = 100
"""Maximum number of objects that one request adopts."""

EXAMPLES = 3
"""Number of keys that the command shows for each result. `--json` shows all keys."""

HEADINGS = ("OBJECTS", "RESULT", "FOR EXAMPLE")

RESULTS = {
    "file_empty": "empty or a folder",
    "file_too_large": "too large",
    "key_not_allowed": "not allowed",
    "not_a_video": "not a video",
    "object_withheld": "withheld by the bucket",
    "source_missing": "gone meanwhile",
    "source_taken": "a video already",
    "video_exists": "another owner's video",
    "video_not_found": "its video was deleted",
}
"""What the command prints for the codes of objects that are not adopted."""


def adopt(prefix: str, *, owner: str | None, limit: int | None, dry_run: bool, as_json: bool) -> None:
    """Adopt the objects under `prefix`, but at most `limit`. Print how many objects had which result."""
    order = {"prefix": _text("PREFIX", prefix), "owner": None if owner is None else _text("--owner", owner)}
    terminal = Terminal(as_json=as_json)
    failures = Failures(terminal)
    tally = Tally(order["prefix"] or "", limit, dry_run=dry_run)
    with connect() as api:
        try:
            with terminal.progress() as bars:
                bar = bars.add("dry run" if dry_run else "adopt")
                for report in _reports(api, order, tally, bar):
                    _show_report(terminal, failures, report, tally)
                    bar.tell(tally.progress())
        except (KeyboardInterrupt, CliError) as error:
            if not dry_run and (tally.examined or may_have_arrived(error)):
                terminal.note(tally.interrupted())
            raise
    if not as_json and tally.examined:
        terminal.table(tally.rows(), lambda width: lay_out(HEADINGS, tally.rows(), width))
    terminal.result(tally.sentence(), tally.record())
    failures.raise_exit()


@dataclass(slots=True)
class Count:
    """The objects with one result."""

    objects: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, key: str) -> None:
        self.objects += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(key)

    def examples_text(self) -> str:
        """Return the examples as one text, which ends with ... if there are more objects."""
        return ", ".join(self.examples) + (", ..." if self.objects > len(self.examples) else "")


@dataclass(slots=True)
class Tally:
    """Counts the results of an adoption, which takes several requests."""

    prefix: str
    limit: int | None
    """Maximum number of objects that are adopted, or None for no maximum."""
    dry_run: bool
    owner: str = ""
    adopted: Count = field(default_factory=Count)
    ignored: dict[str, Count] = field(default_factory=dict)
    """The objects that need no adoption, by the code of the reason."""
    refused: dict[str, Count] = field(default_factory=dict)
    """The objects that can't be adopted, by the code of the reason."""
    left: bool = False
    """Whether objects were not examined because of the limit."""

    @property
    def wanted(self) -> int:
        """Number of objects that the next request may adopt."""
        return CHUNK if self.limit is None else min(CHUNK, self.limit - self.adopted.objects)

    @property
    def examined(self) -> int:
        """Number of objects that were examined."""
        return self.adopted.objects + _objects(self.ignored) + _objects(self.refused)

    def add(self, report: Mapping[str, Any]) -> None:
        """Add the report of one request."""
        self.owner = report["owner"]
        for one in report["adopted"]:
            self.adopted.add(one["key"])
        for counts, objects in ((self.ignored, report["ignored"]), (self.refused, report["refused"])):
            for one in objects:
                counts.setdefault(one["code"], Count()).add(one["key"])
        self.left = report["next_after"] is not None

    def rows(self) -> list[tuple[str, str, str]]:
        """Return the rows of the table: the adopted objects, then the others from the most frequent result on."""
        others = sorted((self.ignored | self.refused).items(), key=lambda item: -item[1].objects)
        adopted = [("would be adopted" if self.dry_run else "adopted", self.adopted)] if self.adopted.objects else []
        named = [(RESULTS.get(code, code), count) for code, count in others]
        return [(f"{count.objects}", result, count.examples_text()) for result, count in adopted + named]

    def progress(self) -> str:
        """Return the text beside the progress bar."""
        return f"{self.examined} objects examined, {self.adopted.objects} {self._adopted()}"

    def sentence(self) -> str:
        """Return a sentence about the finished adoption or dry run."""
        if not self.examined:
            return f"No objects under {self.prefix}."
        what = f"{self.adopted.objects} of {self.examined} objects under {self.prefix} {self._adopted()}"
        parts = [f"A dry run: {what} for {self.owner}" if self.dry_run else f"{what} for {self.owner}"]
        if self.refused:
            parts.append(f", {_objects(self.refused)} can't be adopted")
        if self.left:
            parts.append(", more were not examined because of --limit")
        return "".join((*parts, "."))

    def interrupted(self) -> str:
        """Return a message that says how many objects were adopted before the command was interrupted."""
        return (
            f"{self.adopted.objects} objects adopted so far. The interrupted request may have adopted "
            f"up to {self.wanted} more. To go on, give the command again."
        )

    def record(self) -> dict[str, Any]:
        """Return the last line of the JSON output."""
        return {
            "dry_run": self.dry_run,
            "prefix": self.prefix,
            "owner": self.owner,
            "examined": self.examined,
            "adopted": self.adopted.objects,
            "ignored": {code: count.objects for code, count in self.ignored.items()},
            "refused": {code: count.objects for code, count in self.refused.items()},
            "left": self.left,
        }

    def _adopted(self) -> str:
        return "would be adopted" if self.dry_run else "adopted"


def _reports(api: Api, order: Mapping[str, Any], tally: Tally, bar: Bar) -> Iterator[Mapping[str, Any]]:
    """Send requests until the limit of `tally` is reached, or until all objects were examined.

    Yield each report, and add the report to `tally`.
    """
    after: str | None = None
    while tally.wanted > 0:
        body = {**order, "after": after, "cap": tally.wanted, "dry_run": tally.dry_run}
        report = api.adopt(body, on_wait=lambda seconds, why: bar.wait(seconds, str(why)))
        tally.add(report)
        yield report
        after = report["next_after"]
        if after is None:
            return


def _show_report(terminal: Terminal, failures: Failures, report: Mapping[str, Any], tally: Tally) -> None:
    """Print the objects that can't be adopted, and with `--json` all objects."""
    if terminal.as_json:
        for one in report["adopted"]:
            terminal.record({**one, "adopted": not tally.dry_run})
        for one in report["ignored"]:
            terminal.record({**one, "adopted": False})
    for one in report["refused"]:
        if terminal.as_json or one["key"] in tally.refused[one["code"]].examples:
            failures.add(Refused(f"{one['key']}: {one['message']} ({one['code']})", code=one["code"]), key=one["key"])


def _objects(counts: Mapping[str, Count]) -> int:
    return sum(count.objects for count in counts.values())


def lay_out(headings: tuple[str, str, str], rows: Sequence[tuple[str, str, str]], width: int) -> Iterator[Text]:
    """Return the lines of a table with three columns. The last column gets the width that is left."""
    cleaned = [tuple(map(clean, row)) for row in rows]
    first, second = (widest((headings, *cleaned), column) for column in (0, 1))
    return draw(headings, cleaned, {0: first, 1: second, 2: max(len(headings[2]), width - first - second - 4)})


def _text(option: str, given: str) -> str:
    text = given_text(option, given)
    if text is None or not text.strip():
        raise WrongUse(f"{option} is empty: give a value.")
    return text
