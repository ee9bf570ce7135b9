"""The commands under `anb dlq`, with which an administrator lists, shows and resolves dead letters."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from anb_cli.client import Api, may_have_arrived
from anb_cli.dead_letter_texts import cells, describe, lay_out
from anb_cli.errors import CliError, Refused, WrongUse
from anb_cli.terminal import Bar, Terminal
from anb_cli.times import moment
from anb_cli.video_commands import Failures, connect, given_text
from anb_core.domain.model import DeadLetterCause

CHUNK = 100
"""Maximum number of dead letters that one request redrives. The progress bar is updated after each request."""

STATES = ("open", "resolved", "all")

Conditions = dict[str, Any]


def conditions_of(
    *,
    causes: Sequence[str],
    codes: Sequence[str],
    since: str | None,
    until: str | None,
    now: datetime | None = None,
    **texts: str | None,
) -> Conditions:
    """Convert options to the API's conditions. Options that were not given are left out.

    `texts` are the options `--owner`, `--worker` and `--version`.

    Raises:
        WrongUse: a condition is unknown, empty or not UTF-8, or a time can't be understood.
    """
    _check_words("cause", causes, tuple(DeadLetterCause))
    now = now or datetime.now(UTC)
    times = {"since": since, "until": until}
    conditions = {
        "cause": list(causes),
        "code": [_condition("code", code) for code in codes],
        **{name: None if text is None else _condition(name, text) for name, text in texts.items()},
        **{name: None if text is None else moment(name, text, now).isoformat() for name, text in times.items()},
    }
    return {name: condition for name, condition in conditions.items() if condition}


def show_list(conditions: Conditions, *, state: str, limit: int, as_json: bool) -> None:
    """Print the newest `limit` dead letters that meet all conditions."""
    _check_words("state", [state], STATES)
    terminal = Terminal(as_json=as_json)
    with connect() as api:
        # Request one dead letter more than `limit`. If the API returns it, the list is not complete.
        found = list(api.dead_letters(conditions | {"state": state}, limit=limit + 1))
    letters = found[:limit]
    if as_json:
        for letter in letters:
            terminal.record(letter)
        return
    if letters:
        terminal.table([cells(letter) for letter in letters], partial(lay_out, letters))
    else:
        terminal.note(f"No {'' if state == 'all' else state + ' '}dead letters.")
    if len(found) > limit:
        terminal.note(f"Only the newest {limit}. --limit shows more.")


def show(dead_letter_id: int, *, as_json: bool) -> None:
    """Print all fields of a dead letter, including its message and its attempts."""
    terminal = Terminal(as_json=as_json)
    with connect() as api:
        letter = api.dead_letter(dead_letter_id)
    if as_json:
        terminal.record(letter)
    else:
        terminal.lines(describe(letter))


def discard(ids: Sequence[int], *, reason: str, as_json: bool) -> None:
    """Resolve dead letters without a retry."""
    checked = _condition("reason", reason)
    terminal = Terminal(as_json=as_json)
    failures = Failures(terminal)
    with connect() as api:
        for dead_letter_id in dict.fromkeys(ids):
            try:
                letter = api.discard(dead_letter_id, checked)
            except CliError as error:
                failures.add(error, dead_letter_id=dead_letter_id)
            else:
                terminal.result(f"{dead_letter_id}  {letter['resolution']}", letter)
    failures.raise_exit()


def redrive(ids: Sequence[int], *, as_json: bool) -> None:
    """Retry the jobs of the dead letters with the given ids."""
    terminal = Terminal(as_json=as_json)
    failures = Failures(terminal)
    with connect() as api:
        for dead_letter_id in dict.fromkeys(ids):
            try:
                video = api.redrive(dead_letter_id)
            except CliError as error:
                failures.add(error, dead_letter_id=dead_letter_id)
            else:
                record = {"dead_letter_id": dead_letter_id, "redriven": True, "video_id": video["video_id"]}
                terminal.result(f"{dead_letter_id}  redriven, video {video['video_id']}", record)
    failures.raise_exit()


def redrive_many(conditions: Conditions, *, cap: int | None, dry_run: bool, as_json: bool) -> None:
    """Redrive the open dead letters that meet all conditions, but at most `cap`. Print each failed redrive."""
    terminal = Terminal(as_json=as_json)
    failures = Failures(terminal)
    tally = Tally(cap)
    with connect() as api:
        try:
            with terminal.progress() as bars:
                bar = bars.add("dry run" if dry_run else "redrive")
                for report in chunks(api, conditions, tally, dry_run=dry_run):
                    _show_chunk(terminal, failures, report, dry_run=dry_run)
                    tally.show(bar)
        except (KeyboardInterrupt, CliError) as error:
            if not dry_run and (tally.redriven or may_have_arrived(error)):
                terminal.note(tally.interrupted())
            raise
    terminal.result(tally.sentence(dry_run=dry_run), tally.record(dry_run=dry_run))
    failures.raise_exit()


@dataclass(slots=True)
class Tally:
    """Counts the results of a redrive of many dead letters, which takes several requests."""

    cap: int | None
    """Maximum number of dead letters that are redriven, or None for no maximum."""
    matched: int = 0
    redriven: int = 0
    skipped: int = 0
    left: int = 0
    spread_seconds: float = 0.0

    @property
    def wanted(self) -> int:
        """Number of dead letters that the next request may redrive."""
        return CHUNK if self.cap is None else min(CHUNK, self.cap - self.redriven)

    def add(self, report: Mapping[str, Any]) -> None:
        """Add the report of one request."""
        # Keep the number from the first report. Later reports do not count dead letters that were already redriven.
        self.matched = self.matched or report["matched"]
        self.redriven += len(report["ids"])
        self.skipped += len(report["skipped"])
        self.left = report["left"]
        self.spread_seconds += report["spread_seconds"]

    def show(self, bar: Bar) -> None:
        """Update the progress bar."""
        done = self.redriven + self.skipped
        bar.count(done, max(done, self.matched if self.cap is None else min(self.matched, self.cap + self.skipped)))

    def record(self, *, dry_run: bool) -> dict[str, Any]:
        """Return the last line of the JSON output."""
        return {
            "dry_run": dry_run,
            "matched": self.matched,
            "redriven": self.redriven,
            "skipped": self.skipped,
            "left": self.left,
            "spread_seconds": self.spread_seconds,
        }

    def sentence(self, *, dry_run: bool) -> str:
        """Return a sentence about the finished redrive or dry run."""
        if not self.matched:
            return "No open dead letter matches."
        what = f"{self.redriven} of {self.matched} dead letters"
        parts = [f"A dry run: {what} would be redriven" if dry_run else f"{what} redriven"]
        if self.spread_seconds >= 1:
            parts.append(f", over {self.spread_seconds:.0f} s")
        if self.skipped:
            parts.append(f", {self.skipped} can't be redriven")
        if self.left:
            parts.append(f", {self.left} left because of --cap")
        return "".join((*parts, "."))

    def interrupted(self) -> str:
        """Return a message that says how many dead letters were redriven before the command was interrupted."""
        return (
            f"{self.redriven} dead letters redriven so far. The interrupted request may have redriven "
            f"up to {self.wanted} more. To go on, give the command again."
        )


def chunks(api: Api, conditions: Conditions, tally: Tally, *, dry_run: bool) -> Iterator[Mapping[str, Any]]:
    """Send requests until the cap of `tally` is reached, or until all dead letters that match were examined.

    Yield each report, and add the report to `tally`.

    The messages of one request are sent after those of the previous request (`delay`). Otherwise, the messages of
    several requests would together exceed the API's limit per second.
    """
    cursor: str | None = None
    while tally.wanted > 0:
        order = {**conditions, "cap": tally.wanted, "dry_run": dry_run, "delay": tally.spread_seconds}
        report = api.redrive_many(order | ({"cursor": cursor} if cursor else {}))
        tally.add(report)
        yield report
        cursor = report["next_cursor"]
        if cursor is None:
            return


def _show_chunk(terminal: Terminal, failures: Failures, report: Mapping[str, Any], *, dry_run: bool) -> None:
    if terminal.as_json:
        for dead_letter_id in report["ids"]:
            terminal.record({"dead_letter_id": dead_letter_id, "redriven": not dry_run})
    for skipped in report["skipped"]:
        name = f"Dead letter {skipped['id']}"
        # Some messages name the dead letter themselves.
        message = skipped["message"] if name.lower() in skipped["message"].lower() else f"{name}: {skipped['message']}"
        sentence = f"{message} ({skipped['code']})"
        failures.add(Refused(sentence, code=skipped["code"]), dead_letter_id=skipped["id"])


def _condition(option: str, given: str) -> str:
    """Return the text of an option.

    Raises:
        WrongUse: the text is not UTF-8, or is empty.
            An empty text, such as an empty shell variable, would otherwise select all dead letters.
    """
    text = given_text(f"--{option}", given)
    if text is None or not text.strip():
        raise WrongUse(f"--{option} is empty: give a value, or leave it out.")
    return text


def _check_words(what: str, given: Sequence[str], known: Sequence[str]) -> None:
    for word in given:
        if word not in known:
            raise WrongUse(f"There is no {what} {word!r}, only {', '.join(known)}.")
