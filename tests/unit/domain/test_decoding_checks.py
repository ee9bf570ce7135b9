from collections.abc import Sequence
from dataclasses import replace

import pytest

from anb_core.domain.decoding_checks import check_pictures, check_sound
from anb_core.domain.edit import EditSpec, Trim
from anb_core.domain.errors import BadInput
from tests.support.planning import AUDIO, MOMENTS, plan, source


def without(since: float, until: float, moments: Sequence[float] = MOMENTS) -> list[float]:
    return [moment for moment in moments if not since <= moment < until]


@pytest.mark.parametrize(
    "decoded",
    [
        MOMENTS,
        MOMENTS[::2],
        [moment + 0.04 for moment in MOMENTS],
        without(0, 0.3),
        without(5, 5.3),
        without(9.7, 10),
        [-0.5, -0.2, *MOMENTS],
    ],
    ids=["all", "fields", "rounded", "begin", "middle", "end", "before"],
)
def test_a_picture_that_could_nearly_all_be_decoded_is_good(decoded: Sequence[float]) -> None:
    check_pictures(plan(), decoded)


@pytest.mark.parametrize(
    ("decoded", "says"),
    [
        ([], r"from 0\.0 to 10\.0 s"),
        (without(0, 0.5), r"from 0\.0 to 0\.5 s"),
        (without(5, 5.5), r"from 5\.0 to 5\.5 s|from 5\.1 to 5\.5 s"),
        (without(9.5, 10), r"from 9\.5 to 10\.0 s"),
        (MOMENTS[::3], "of 300 frames only 100"),
    ],
    ids=["all", "begin", "middle", "end", "two of three"],
)
def test_half_a_second_without_picture_is_damage(decoded: Sequence[float], says: str) -> None:
    with pytest.raises(BadInput, match=says) as caught:
        check_pictures(plan(), decoded)
    assert caught.value.code == "corrupt"


def test_a_picture_that_stays_for_long_is_missed_as_long() -> None:
    slides = plan(source(shown=(0.0, 4.0, 8.0), packets=3))
    check_pictures(slides, [0.0, 4.0, 8.0])
    with pytest.raises(BadInput, match=r"from 4\.0 to 8\.0 s"):
        check_pictures(slides, [0.0, 8.0])


def test_what_was_on_the_screen_before_the_kept_part_is_a_part_of_it() -> None:
    cut = plan(source(shown=(2.0, 6.0), packets=2), EditSpec(trim=Trim(start=5)))
    assert cut.shown == (-3.0, 1.0)
    check_pictures(cut, [-3.0, 1.0])
    with pytest.raises(BadInput, match=r"from 0\.0 to 1\.0 s"):
        check_pictures(cut, [-2.5, 1.0])


@pytest.mark.parametrize(
    "decoded", [[(0.0, 10.0)], [(0.1, 5.0), (5.3, 9.8)], [(n / 50, n / 50 + 0.0195) for n in range(500)]]
)
def test_sound_that_could_nearly_all_be_decoded_is_good(decoded: list[tuple[float, float]]) -> None:
    check_sound(plan(), decoded)


@pytest.mark.parametrize(
    ("decoded", "says"),
    [
        ([], r"from 0\.0 to 10\.0 s"),
        ([(0.5, 10.0)], r"from 0\.0 to 0\.5 s"),
        ([(5.5, 10.0), (0.0, 5.0)], r"from 5\.0 to 5\.5 s"),
        ([(0.0, 9.5)], r"from 9\.5 to 10\.0 s"),
    ],
    ids=["all", "begin", "middle", "end"],
)
def test_half_a_second_without_sound_is_damage(decoded: list[tuple[float, float]], says: str) -> None:
    with pytest.raises(BadInput, match=says) as caught:
        check_sound(plan(), decoded)
    assert caught.value.code == "corrupt"


def test_a_hole_in_the_sound_is_no_damage() -> None:
    holes = plan(source(audio=replace(AUDIO, heard=((0.0, 3.0), (8.0, 10.0)))))
    check_sound(holes, [(0.0, 3.0), (8.0, 10.0)])
    with pytest.raises(BadInput, match=r"from 8\.0 to 8\.5 s"):
        check_sound(holes, [(0.0, 3.0), (8.5, 10.0)])
