from collections.abc import Iterator
from typing import Any

import pytest

from anb_cli.choosing import ENOUGH_TO_ACT, LOOKED_THROUGH, whole_id
from anb_cli.errors import CliError, Refused, WrongUse
from tests.support.videos import a_video

LONG = "0f9e8d7c-6b5a-4000-8000-000000000000"


class Videos:
    """A fake API client for an API that has videos with the given ids."""

    def __init__(self, *ids: str) -> None:
        self.ids = ids

    def get(self, video_id: str) -> dict[str, Any]:
        if video_id not in self.ids:
            raise Refused("There is none.", code="video_not_found", status=404)
        return a_video(video_id=video_id)

    def videos(self, *, limit: int | None) -> Iterator[dict[str, Any]]:
        assert limit is None or limit > 1
        return (a_video(video_id=video_id, title=f"Title of {video_id}") for video_id in self.ids[:limit])


@pytest.mark.parametrize("given", ["", " ", "\t\n"])
@pytest.mark.parametrize("enough", [1, ENOUGH_TO_ACT])
def test_no_id_at_all_means_no_video_even_where_there_is_only_one(given: str, enough: int) -> None:
    with pytest.raises(WrongUse, match="An id is empty"):
        whole_id(Videos(LONG), given, enough=enough)


@pytest.mark.parametrize("given", ["a/b", "..", "a b", "%2e", "\udce9", "caf\xe9", "x" * 129, "x\n", "\x00"])
def test_an_invalid_id_is_refused_before_it_is_part_of_a_url(given: str) -> None:
    with pytest.raises(WrongUse, match="can't be a video's id"):
        whole_id(Videos(LONG), given)


@pytest.mark.parametrize("length", range(1, ENOUGH_TO_ACT))
def test_a_short_beginning_is_not_enough_to_act_by(length: int) -> None:
    assert whole_id(Videos(LONG), LONG[:length]) == LONG
    with pytest.raises(WrongUse, match="at least 8 characters"):
        whole_id(Videos(LONG), LONG[:length], enough=ENOUGH_TO_ACT)


def test_eight_characters_are_enough_to_act_by() -> None:
    assert whole_id(Videos(LONG, "0f9e8d7d"), LONG[:8], enough=ENOUGH_TO_ACT) == LONG


def test_a_short_id_is_enough_when_it_is_the_whole_of_it() -> None:
    assert whole_id(Videos("abc", "abcd"), "abc", enough=ENOUGH_TO_ACT) == "abc"
    assert whole_id(Videos("abcdefgh", "abcdefghi"), "abcdefgh", enough=ENOUGH_TO_ACT) == "abcdefgh"


def test_several_videos_with_the_same_beginning_are_listed() -> None:
    ids = [f"video-of-{number}" for number in range(12)]
    with pytest.raises(WrongUse) as wrong:
        whole_id(Videos(*ids), "video-of", enough=ENOUGH_TO_ACT)
    first, *lines, last = str(wrong.value).splitlines()
    assert first == "12 videos have an id that begins with 'video-of', give more of it:"
    assert lines[0] == "  video-of-0  processed  Title of video-of-0"
    assert (len(lines), last) == (10, "  and 2 more")


def test_a_command_that_changes_a_video_does_not_take_a_newer_video_for_an_old_one() -> None:
    newer = [f"holiday-{number}" for number in range(LOOKED_THROUGH - 1)]
    client = Videos("holidays-2024", *newer, "holidays")

    assert whole_id(client, "holidays", enough=ENOUGH_TO_ACT) == "holidays"
    assert whole_id(client, "holidays-") == "holidays-2024"
    with pytest.raises(WrongUse, match="501 videos"):
        whole_id(client, "holiday", enough=7)


@pytest.mark.parametrize("given", ["nothing", LONG[:-1] + "x"])
def test_an_id_that_is_not_among_the_newest_videos_is_left_to_the_api(given: str) -> None:
    class Older(Videos):
        def videos(self, **_: int | None) -> Iterator[dict[str, Any]]:
            return iter(())

    assert whole_id(Older(given), given) == given
    with pytest.raises(CliError):
        Older().get(whole_id(Older(), given))
