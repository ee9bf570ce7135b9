import re

import pytest
from rich.cells import cell_len

from anb_cli.listing import lay_out
from tests.support.videos import a_video

TITLES = {
    "long": "A rather long title that goes on and on, " * 5,
    "wide": "\u65e5\u672c\u8a9e\u306e\u30bf\u30a4\u30c8\u30eb" * 20,
    "families": "\U0001f469\u200d\U0001f469\u200d\U0001f467" * 60,
    "flags": "\U0001f1eb\U0001f1f7\U0001f1e9\U0001f1ea" * 50,
    "marks": "e" + "\u0301" * 199,
    "right to left": "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 " * 20,
    "turned around": "\u202e" * 200,
    "steering": "\x1b[2J\r\n\t\x08" * 40,
    "invisible": "\u200b" * 200,
    "no blanks": "x" * 200,
    "short": "x",
    "none": "",
}


def lines(width: int, *videos: dict[str, object]) -> list[str]:
    return [line.plain for line in lay_out(videos, width)]


@pytest.mark.parametrize("width", [23, 40, 60, 70, 80, 120, 9999])
@pytest.mark.parametrize("status", ["processed", "dead_lettered"])
@pytest.mark.parametrize("title", TITLES.values(), ids=TITLES)
def test_each_line_fits_and_has_the_status_whatever_the_title(title: str, status: str, width: int) -> None:
    video = a_video(title=title, status=status)
    heading, line = lines(width, video)
    assert line.startswith(video["video_id"][:8])
    assert re.search(rf" {status}( |$)", line)
    assert max(cell_len(heading), cell_len(line)) <= width
    assert "\n" not in line


def test_a_wide_terminal_shows_everything() -> None:
    heading, line = lines(120, a_video(title="My clip", progress=0.5))
    assert heading.split() == ["ID", "STATUS", "DONE", "UPLOADED", "TITLE"]
    assert re.fullmatch(
        r"0f9e8d7c-6b5a-4000-8000-000000000000  processed  50%   \d{4}-\d\d-\d\d \d\d:\d\d  My clip", line
    )


def test_seventy_columns_have_room_for_the_beginning_of_a_title() -> None:
    _, line = lines(70, a_video(title="A rather long title that goes on"))
    assert re.fullmatch(r"0f9e8d7c  processed  100%  \d{4}-\d\d-\d\d \d\d:\d\d  A rather long title that…", line)


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (45, "0f9e8d7c  processed  100%  A rather long tit…"),
        (40, "0f9e8d7c  processed  100%  A rather lon…"),
        (35, "0f9e8d7c  processed  A rather long…"),
        (30, "0f9e8d7c  processed"),
        (18, "0f9e8d…  processed"),
    ],
)
def test_less_important_columns_are_left_out_first(width: int, shown: str) -> None:
    assert lines(width, a_video(title="A rather long title"))[1] == shown


def test_the_shortened_ids_of_a_list_are_all_different() -> None:
    ids = ["campaign-summer-1", "campaign-summer-2", "campaign-autumn"]
    shown = lines(60, *(a_video(video_id=video_id, title="x" * 60) for video_id in ids))
    assert [line.split()[0] for line in shown[1:]] == ["campaign-summer-1", "campaign-summer-2", "campaign-autumn"]
    assert lines(60, a_video(video_id=ids[0], title="x" * 60))[1].split()[0] == "campaign"


def test_an_emoji_of_several_characters_is_not_cut_apart() -> None:
    family = "\U0001f469\u200d\U0001f469\u200d\U0001f467"
    assert lines(40, a_video(title=family * 20))[1].endswith(f"  {family * 6}…")


def test_an_empty_list_still_has_its_headings() -> None:
    assert lines(70)[0].split() == ["ID", "STATUS", "DONE", "UPLOADED", "TITLE"]
