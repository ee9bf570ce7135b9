"""The commands of `anb dlq` and their options. Each command imports its code when it runs (see `anb_cli.options`)."""

from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Write JSON to stdout, one object per line.")]

DeadLetterId = Annotated[
    int, typer.Argument(metavar="ID", min=1, help="The dead letter's id, as `anb dlq list` shows it.")
]
DeadLetterIds = Annotated[list[int], typer.Argument(metavar="ID...", min=1, help="Ids, as `anb dlq list` shows them.")]
Causes = Annotated[
    list[str] | None, typer.Option("--cause", help="failures, worker_lost, unknown_job or unreadable; repeatable.")
]
Owner = Annotated[str | None, typer.Option(help="Owner of the video.")]
Codes = Annotated[list[str] | None, typer.Option("--code", help="Code of the last error; repeatable.")]
Worker = Annotated[str | None, typer.Option(help="Worker of the last attempt.")]
Version = Annotated[str | None, typer.Option(help="Program version of the last attempt.")]
Since = Annotated[str | None, typer.Option(help="From this time on: 2026-11-29T10:00, or an age such as 2h or 7d.")]
Until = Annotated[str | None, typer.Option(help="Before this time, written as for --since.")]


def list_dead_letters(
    *,
    causes: Causes = None,
    codes: Codes = None,
    owner: Owner = None,
    worker: Worker = None,
    version: Version = None,
    since: Since = None,
    until: Until = None,
    state: Annotated[str, typer.Option(help="open, resolved or all.")] = "open",
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of dead letters.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List dead letters, newest first."""
    from anb_cli import dead_letter_commands as commands

    conditions = commands.conditions_of(
        causes=causes or (), codes=codes or (), owner=owner, worker=worker, version=version, since=since, until=until
    )
    commands.show_list(conditions, state=state, limit=limit, as_json=as_json)


def show(dead_letter_id: DeadLetterId, *, as_json: AsJson = False) -> None:
    """Show everything about a dead letter, and what to do next."""
    from anb_cli import dead_letter_commands as commands

    commands.show(dead_letter_id, as_json=as_json)


def redrive(
    ids: Annotated[
        list[int] | None,
        typer.Argument(metavar="[ID...]", min=1, help="Ids, as `anb dlq list` shows them."),
    ] = None,
    *,
    causes: Causes = None,
    codes: Codes = None,
    owner: Owner = None,
    worker: Worker = None,
    version: Version = None,
    since: Since = None,
    until: Until = None,
    cap: Annotated[int | None, typer.Option(min=1, help="Redrive at most so many, the newest first.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All open dead letters.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be redriven.")] = False,
    as_json: AsJson = False,
) -> None:
    """Process dead-lettered videos again, after you removed the cause.

    Give the ids of dead letters, or conditions, or --all. Conditions select the open dead letters that meet them all.
    """
    from anb_cli import dead_letter_commands as commands
    from anb_cli.errors import WrongUse

    conditions = commands.conditions_of(
        causes=causes or (), codes=codes or (), owner=owner, worker=worker, version=version, since=since, until=until
    )
    if [bool(ids), bool(conditions), everything].count(True) != 1:
        raise WrongUse("Which ones? Give ids, or conditions such as --code, or --all; only one of these.")
    if not ids:
        commands.redrive_many(conditions, cap=cap, dry_run=dry_run, as_json=as_json)
    elif dry_run or cap is not None:
        raise WrongUse("--dry-run and --cap need conditions or --all. `anb dlq show ID` shows one dead letter.")
    else:
        commands.redrive(ids, as_json=as_json)


def discard(
    ids: DeadLetterIds,
    reason: Annotated[str, typer.Option(help="Why nobody has to handle them; at most 500 characters.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Resolve dead letters without a retry. Their videos stay dead-lettered."""
    from anb_cli import dead_letter_commands as commands

    commands.discard(ids, reason=reason, as_json=as_json)


def build() -> typer.Typer:
    """Return the Typer application with the commands of `anb dlq`."""
    app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    app.command("list")(list_dead_letters)
    for function in (show, redrive, discard):
        app.command(function.__name__)(function)
    return app
