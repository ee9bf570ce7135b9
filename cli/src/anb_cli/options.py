"""The commands of `anb` and their options. Each command imports its code when it runs, so that `anb --help` is fast."""

from pathlib import Path
from typing import Annotated

import typer

from anb_cli import dead_letter_options
from anb_cli.dead_letter_options import AsJson

VideoId = Annotated[str, typer.Argument(metavar="ID", help="The video's id, or the first characters of it.")]
VideoIds = Annotated[list[str], typer.Argument(metavar="ID...", help="Video ids, or the first characters of each.")]

EPILOG = (
    "Exit codes: 0 success, 1 a video failed, 2 wrong use, 3 the API refused, 4 the API does not respond, "
    "5 the stack can't run, 130 interrupted."
)


def up(
    workers: Annotated[int, typer.Option(min=1, max=64, help="How many videos are processed at the same time.")] = 1,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="The API's port; 0 picks a free one. Default: the last one, else 8000."),
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Run the whole stack on this machine until Ctrl-C.

    The stack is the API, the workers and an S3 and SQS emulator. Its data is kept in .anb/.
    """
    from anb_cli.stack.output import run

    run(workers=workers, port=port, as_json=as_json)


def upload(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files to upload; - is stdin.")],
    title: Annotated[str | None, typer.Option(help="The title on the intro. Default: the file's name.")] = None,
    start: Annotated[float | None, typer.Option(min=0, help="Trim: start of the kept part, in seconds.")] = None,
    length: Annotated[float | None, typer.Option(min=0.1, max=30, help="Trim: maximum length, in seconds.")] = None,
    after: Annotated[
        str | None,
        typer.Option(help="Begin the work after this time or delay, at most 7 days ahead: 2026-12-01T08:00, 30m, 3d."),
    ] = None,
    *,
    intro: Annotated[bool, typer.Option("--intro/--no-intro", help="Add the intro.")] = True,
    outro: Annotated[bool, typer.Option("--outro/--no-outro", help="Add the outro.")] = True,
    watermark: Annotated[bool, typer.Option("--watermark/--no-watermark", help="Add the watermark.")] = True,
    watch: Annotated[bool, typer.Option("--watch", help="Wait until the videos are processed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Upload videos."""
    from anb_cli import video_commands

    edit = video_commands.edit_of(start=start, length=length, intro=intro, outro=outro, watermark=watermark)
    video_commands.upload(files, title=title, edit=edit, after=after, stay=watch, as_json=as_json)


def list_videos(
    status: Annotated[list[str] | None, typer.Option(help="Only videos with this status; may be repeated.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of videos.")] = 50,
    *,
    as_json: AsJson = False,
) -> None:
    """List videos, newest first."""
    from anb_cli import video_commands

    video_commands.show_list(status or [], limit=limit, as_json=as_json)


def watch(ids: VideoIds, *, as_json: AsJson = False) -> None:
    """Show the progress of videos until the status of each is final."""
    from anb_cli import video_commands

    video_commands.watch(ids, as_json=as_json)


def why(video_id: VideoId, *, as_json: AsJson = False) -> None:
    """Say where a video is and what it waits for."""
    from anb_cli import video_commands

    video_commands.why(video_id, as_json=as_json)


def broker_status(*, as_json: AsJson = False) -> None:
    """Show all queues, and which of them may be switched off."""
    from anb_cli import broker_commands

    broker_commands.status(as_json=as_json)


def download(
    video_id: VideoId,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A file or folder; - is stdout. Default: the upload's name."),
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Download a finished video. An interrupted download is resumed."""
    from anb_cli import video_commands

    video_commands.download(video_id, output, as_json=as_json)


def cancel(ids: VideoIds, *, as_json: AsJson = False) -> None:
    """Cancel the processing of videos."""
    from anb_cli import video_commands

    video_commands.command("cancel", ids, as_json=as_json)


def retry(ids: VideoIds, *, as_json: AsJson = False) -> None:
    """Process failed, dead-lettered or cancelled videos again."""
    from anb_cli import video_commands

    video_commands.command("retry", ids, as_json=as_json)


def delete(ids: VideoIds, *, as_json: AsJson = False) -> None:
    """Delete videos permanently."""
    from anb_cli import video_commands

    video_commands.command("delete", ids, as_json=as_json)


def adopt(
    prefix: Annotated[
        str, typer.Argument(metavar="PREFIX", help="What the keys of the objects begin with, such as uploads/.")
    ],
    owner: Annotated[
        str | None, typer.Option(help="Owner of the videos. Default: ANB_ADOPT_OWNER of the deployment, else you.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Adopt at most so many, in the order of their keys.")] = None,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be adopted.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make videos of objects that are already in the bucket (for operators).

    The objects are never deleted. Give the command again to go on: objects that are videos already are left out.
    """
    from anb_cli import adopt_commands

    adopt_commands.adopt(prefix, owner=owner, limit=limit, dry_run=dry_run, as_json=as_json)


def reconcile(
    *,
    apply: Annotated[
        bool, typer.Option("--apply/--dry-run", help="Remove the differences, or only say what would be done.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare the bucket with a database that was restored to an earlier state (for operators).

    Without --apply, nothing is changed. Give the command again to go on after an interruption.
    """
    from anb_cli import reconcile_commands

    reconcile_commands.reconcile(apply=apply, as_json=as_json)


def demo(
    video: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The video. Default: the clip that `make demo` fetches.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="The title on the intro. Default: the file's name.")] = None,
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder for the results.")] = Path("build/demo"),
    *,
    as_json: AsJson = False,
) -> None:
    """Process a video in a separate stack, and verify the result."""
    from anb_cli.demo.tour import run

    run(video, title=title, out=out, as_json=as_json)


def _show_version(value: bool) -> None:  # noqa: FBT001 - Typer passes the option's value by position
    if value:
        from importlib.metadata import version

        typer.echo(f"anb {version('anb-cli')}")
        raise typer.Exit


def program(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Upload videos and download them trimmed, in 720p, with watermark, intro and outro."""


def build() -> typer.Typer:
    """Return the Typer application with all commands."""
    app = typer.Typer(
        name="anb",
        epilog=EPILOG,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # Print plain text, because Rich's boxes would make the help three times slower.
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(program)
    local, remote = "On this machine", "Any deployment (ANB_URL, ANB_TOKEN)"
    for function, panel in (
        (up, local),
        (demo, local),
        (upload, remote),
        (list_videos, remote),
        (watch, remote),
        (why, remote),
        (download, remote),
        (cancel, remote),
        (retry, remote),
        (delete, remote),
        (adopt, remote),
        (reconcile, remote),
    ):
        app.command("list" if function is list_videos else function.__name__, rich_help_panel=panel)(function)
    app.add_typer(
        dead_letter_options.build(),
        name="dlq",
        help="See, redrive and discard dead letters (for operators).",
        rich_help_panel=remote,
    )
    brokers = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    brokers.command("status")(broker_status)
    app.add_typer(brokers, name="broker", help="See the queues of all brokers (for operators).", rich_help_panel=remote)
    return app
