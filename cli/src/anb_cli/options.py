"""The commands of `anb` and their options. What they do is imported when they run, so that `anb --help` is quick."""

from pathlib import Path
from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Write JSON to stdout, one object a line.")]
VideoId = Annotated[str, typer.Argument(metavar="ID", help="The video's id, or enough of its beginning.")]
VideoIds = Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of videos, or enough of their beginnings.")]

EPILOG = (
    "Exit codes: 0 done, 1 a video failed, 2 wrong use, 3 the API refused, 4 nothing answers, 5 the stack can't run, "
    "130 interrupted."
)


def up(
    workers: Annotated[int, typer.Option(min=1, max=64, help="How many videos are processed at a time.")] = 1,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="The API's port; 0 picks a free one. Default: as last time, else 8000."),
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Run everything on this machine, in the foreground. The data is in .anb/ and stays there."""
    from anb_cli.stack.output import run

    run(workers=workers, port=port, as_json=as_json)


def upload(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="What to upload; - is stdin.")],
    title: Annotated[str | None, typer.Option(help="The title over the intro. Default: the file's name.")] = None,
    start: Annotated[float | None, typer.Option(min=0, help="Where the kept part begins, in seconds.")] = None,
    length: Annotated[float | None, typer.Option(min=0.1, max=30, help="How long it is at most, in seconds.")] = None,
    *,
    intro: Annotated[bool, typer.Option("--intro/--no-intro", help="The card before it.")] = True,
    outro: Annotated[bool, typer.Option("--outro/--no-outro", help="The card after it.")] = True,
    watermark: Annotated[bool, typer.Option("--watermark/--no-watermark", help="The watermark over it.")] = True,
    watch: Annotated[bool, typer.Option("--watch", help="Stay until the videos are processed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Upload videos."""
    from anb_cli import video_commands

    edit = video_commands.edit_of(start=start, length=length, intro=intro, outro=outro, watermark=watermark)
    video_commands.upload(files, title=title, edit=edit, stay=watch, as_json=as_json)


def list_videos(
    status: Annotated[list[str] | None, typer.Option(help="Only videos with this status; may be repeated.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 50,
    *,
    as_json: AsJson = False,
) -> None:
    """List videos, newest first."""
    from anb_cli import video_commands

    video_commands.show_list(status or [], limit=limit, as_json=as_json)


def watch(ids: VideoIds, *, as_json: AsJson = False) -> None:
    """Show the work on videos until nothing more happens to them."""
    from anb_cli import video_commands

    video_commands.watch(ids, as_json=as_json)


def download(
    video_id: VideoId,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A file or folder; - is stdout. Default: by the upload's name."),
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Fetch a finished video; one that broke off is continued."""
    from anb_cli import video_commands

    video_commands.download(video_id, output, as_json=as_json)


def cancel(ids: VideoIds, *, as_json: AsJson = False) -> None:
    """End the work on videos."""
    from anb_cli import video_commands

    video_commands.command("cancel", ids, as_json=as_json)


def retry(ids: VideoIds, *, as_json: AsJson = False) -> None:
    """Begin the work on failed, dead-lettered or cancelled videos anew."""
    from anb_cli import video_commands

    video_commands.command("retry", ids, as_json=as_json)


def delete(ids: VideoIds, *, as_json: AsJson = False) -> None:
    """Delete videos for good."""
    from anb_cli import video_commands

    video_commands.command("delete", ids, as_json=as_json)


def demo(
    video: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Default: the clip that `make demo` fetches.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="The title over the intro. Default: the file's name.")] = None,
    out: Annotated[Path, typer.Option(file_okay=False, help="Where the results go.")] = Path("build/demo"),
    *,
    as_json: AsJson = False,
) -> None:
    """Show the whole way: start a stack, upload a video, fetch the result and verify it, stop the stack."""
    from anb_cli.demo.tour import run

    run(video, title=title, out=out, as_json=as_json)


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - Typer calls it so
    if wanted:
        from importlib.metadata import version

        typer.echo(f"anb {version('anb-cli')}")
        raise typer.Exit


def program(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Tell the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Upload videos and get them back trimmed, in 720p, with watermark, intro and outro."""


def build() -> typer.Typer:
    """The program."""
    app = typer.Typer(
        name="anb",
        epilog=EPILOG,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # help in plain text: drawing boxes around it takes three times as long
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(program)
    here, there = "On this machine", "Any deployment (ANB_URL, ANB_TOKEN)"
    for function, panel in (
        (up, here),
        (demo, here),
        (upload, there),
        (list_videos, there),
        (watch, there),
        (download, there),
        (cancel, there),
        (retry, there),
        (delete, there),
    ):
        app.command("list" if function is list_videos else function.__name__, rich_help_panel=panel)(function)
    return app
