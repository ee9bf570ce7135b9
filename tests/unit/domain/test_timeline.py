"""Tests of the timeline with recordings whose timestamps jump. Picture and sound each have a packet every 0.1 s."""

from collections.abc import Iterable

import pytest

from anb_core.domain.timeline import Stamp, Timeline, Tolerance

TS = Tolerance(wrap=100.0, ahead=10.0, back=0.1)
PICTURE, SOUND = 0, 1
STEP = 0.1


def recording(begin: float, seconds: float, *, late: float = 0.0) -> list[tuple[int, float]]:
    """Return alternating packets of picture and sound. The sound begins `late` seconds after the picture."""
    return [(stream, begin + n * STEP + stream * late) for n in range(round(seconds / STEP)) for stream in (0, 1)]


def take(line: Timeline, packets: Iterable[tuple[int, float]]) -> list[tuple[int, float]]:
    """Add packets to the timeline. Returns each packet's stream, and its time on the timeline in seconds."""
    stamps: list[tuple[int, Stamp]] = []
    for stream, raw in packets:
        stamp = line.add(stream, raw, raw, STEP)
        assert stamp is not None
        stamps.append((stream, stamp))
    line.pieces(PICTURE)
    return [(stream, round(stamp.at, 6)) for stream, stamp in stamps]


def moments(placed: Iterable[tuple[int, float]], stream: int) -> list[float]:
    return [at for number, at in placed if number == stream]


def steady(seconds: float, begin: float = 0.0) -> list[float]:
    return [round(begin + n * STEP, 6) for n in range(round(seconds / STEP))]


def test_what_a_right_clock_says_is_the_line() -> None:
    line = Timeline(TS)
    placed = take(line, recording(3, 2, late=0.5))
    assert moments(placed, PICTURE) == steady(2, 3)
    assert moments(placed, SOUND) == steady(2, 3.5)
    assert not line.is_uneven()
    assert line.jumps() == []


@pytest.mark.parametrize("second", [0.0, 1.0, 2.5, 15.0, 60.0], ids=["anew", "back", "little", "ahead", "far"])
def test_a_second_recording_follows_the_first_whatever_its_clock_says(second: float) -> None:
    line = Timeline(TS)
    placed = take(line, [*recording(1, 2), *recording(second, 2)])
    assert moments(placed, PICTURE) == moments(placed, SOUND) == steady(4, 1)
    assert line.is_uneven()
    assert line.jumps() == [3.0]


def test_three_recordings_follow_one_another() -> None:
    placed = take(Timeline(TS), [*recording(0, 2), *recording(50, 2), *recording(1, 2)])
    assert moments(placed, PICTURE) == moments(placed, SOUND) == steady(6)


def test_both_streams_are_moved_by_the_same_amount_and_none_overlaps() -> None:
    # The sound begins later than the picture, by 0.4 s in the first recording and by 0.2 s in the second recording.
    placed = take(Timeline(TS), [*recording(0, 2, late=0.4), *recording(40, 2, late=0.2)])
    assert moments(placed, PICTURE)[20:] == steady(2, 2.4)
    assert moments(placed, SOUND)[20:] == steady(2, 2.6)


def test_the_end_of_the_first_sound_may_come_after_the_beginning_of_the_second_picture() -> None:
    first, second = recording(0, 2), recording(50, 2)
    stored = [*first[:-4], first[-4], first[-2], *[second[0], second[2]], first[-3], first[-1]]
    placed = take(Timeline(TS), [*stored, *(one for n, one in enumerate(second) if n not in {0, 2})])
    assert moments(placed, PICTURE) == moments(placed, SOUND) == steady(4)


def test_a_clock_that_runs_over_goes_on() -> None:
    line = Timeline(TS)
    placed = take(line, [(stream, raw % 100) for stream, raw in recording(98.95, 3)])
    assert moments(placed, PICTURE) == moments(placed, SOUND) == steady(3, 98.95)
    assert line.is_uneven()
    assert line.jumps() == []


def test_a_hole_that_only_one_stream_has_stays_however_long() -> None:
    packets = [(stream, raw) for stream, raw in recording(0, 20) if stream == SOUND or not 2 <= raw < 17]
    line = Timeline(TS)
    assert moments(take(line, packets), PICTURE) == [*steady(2), *steady(3, 17)]
    assert not line.is_uneven()


def test_a_short_hole_that_all_streams_have_stays() -> None:
    placed = take(Timeline(TS), [*recording(0, 2), *recording(8, 2)])
    assert moments(placed, PICTURE) == moments(placed, SOUND) == [*steady(2), *steady(2, 8)]


def test_one_stream_whose_clock_steps_back_goes_on_where_it_was() -> None:
    packets = [(stream, raw - 3 if stream == SOUND and raw >= 5 else raw) for stream, raw in recording(0, 10)]
    placed = take(Timeline(TS), packets)
    assert moments(placed, PICTURE) == moments(placed, SOUND) == steady(10)


def test_streams_whose_clocks_have_nothing_in_common_begin_together() -> None:
    packets = [(stream, raw + 40 * stream) for stream, raw in recording(0, 2)]
    placed = take(Timeline(TS), packets)
    assert moments(placed, PICTURE) == moments(placed, SOUND) == steady(2)


def test_a_file_that_lists_its_times_may_have_any_hole_but_does_not_go_back() -> None:
    listed = Tolerance()
    hours = take(Timeline(listed), [*recording(0, 1), *recording(36_000, 1)])
    assert moments(hours, PICTURE) == [*steady(1), *steady(1, 36_000)]
    joined = take(Timeline(listed), [*recording(0, 3), *recording(0, 1)])
    assert moments(joined, PICTURE) == moments(joined, SOUND) == steady(4)


def test_pictures_that_are_shown_in_another_order_are_no_jump() -> None:
    line = Timeline(Tolerance(back=0.1))
    for dts, pts in [(None, 0.0), (None, 4.0), (0.0, 1.0), (1.0, 2.0), (2.0, 3.0)]:
        line.add(PICTURE, dts, pts, 1.0)
    assert len(line.pieces(PICTURE)) == 1


def test_a_packet_without_a_time_is_counted_and_nothing_more() -> None:
    line = Timeline(TS)
    assert line.add(PICTURE, None, None, STEP) is None
    stamp = line.add(PICTURE, 0.0, 0.0, STEP)
    assert stamp is not None
    assert stamp.number == 1
    assert [piece.first for piece in line.pieces(PICTURE)] == [1]
    assert line.pieces(SOUND) == ()
