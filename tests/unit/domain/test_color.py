import pytest

from anb_core.domain.color import ColorPlan, Colors, plan_colors
from anb_core.domain.errors import BadInput

BT709 = Colors(matrix=1, primaries=1, transfer=1)


@pytest.mark.parametrize(
    ("width", "height", "matrix"),
    [
        (720, 480, "bt470bg"),
        (720, 576, "bt470bg"),
        (1024, 576, "bt470bg"),
        (1026, 576, "bt709"),
        (960, 719, "bt470bg"),
        (960, 720, "bt709"),
        (720, 1280, "bt709"),
        (1920, 1080, "bt709"),
    ],
)
@pytest.mark.parametrize("said", [0, 2, 3, 99])
def test_a_picture_that_does_not_say_its_matrix_is_taken_by_its_size(
    width: int, height: int, matrix: str, said: int
) -> None:
    assert plan_colors(Colors(matrix=said), width, height) == ColorPlan(matrix=matrix, assumed=True)


@pytest.mark.parametrize(
    ("said", "matrix"), [(1, "bt709"), (4, "fcc"), (5, "bt470bg"), (6, "smpte170m"), (7, "smpte240m")]
)
@pytest.mark.parametrize("size", [(720, 576), (1920, 1080)])
def test_a_matrix_that_is_said_counts_whatever_the_size(said: int, matrix: str, size: tuple[int, int]) -> None:
    assert plan_colors(Colors(matrix=said), *size) == ColorPlan(matrix=matrix)


@pytest.mark.parametrize("primaries", [1, 2, 4, 5, 6, 7, 8, 22])
@pytest.mark.parametrize("transfer", [1, 2, 4, 5, 6, 7, 11, 12, 13, 14, 15, 17])
def test_ordinary_colors_cost_nothing(primaries: int, transfer: int) -> None:
    assert plan_colors(Colors(matrix=1, primaries=primaries, transfer=transfer), 1280, 720) == ColorPlan()


@pytest.mark.parametrize(
    ("said", "plan"),
    [
        (Colors(matrix=9, primaries=9, transfer=14), ColorPlan(by="zimg", matrix="bt2020nc", primaries="bt2020")),
        (Colors(matrix=9), ColorPlan(by="zimg", matrix="bt2020nc", primaries="bt2020")),
        (
            Colors(primaries=9, transfer=1),
            ColorPlan(by="zimg", matrix="bt2020nc", primaries="bt2020", assumed=True),
        ),
        (Colors(matrix=1, primaries=12, transfer=13), ColorPlan(by="zimg", primaries="smpte432")),
        (Colors(matrix=1, primaries=11), ColorPlan(by="zimg", primaries="smpte431")),
        (Colors(matrix=8, primaries=1), ColorPlan(by="zimg", matrix="ycgco")),
        (Colors(matrix=10), ColorPlan(by="zimg", matrix="bt2020c", primaries="bt2020")),
        (Colors(matrix=10, primaries=1, transfer=1), ColorPlan(by="zimg", matrix="bt2020c")),
        (Colors(matrix=12, primaries=1), ColorPlan(by="zimg", matrix="chroma-derived-nc")),
        (Colors(matrix=1, transfer=8), ColorPlan(by="zimg", transfer="linear")),
        (Colors(matrix=1, primaries=9, full_range=True), ColorPlan(by="zimg", primaries="bt2020", full_range=True)),
    ],
)
def test_wide_or_rare_colors_are_converted(said: Colors, plan: ColorPlan) -> None:
    assert plan_colors(said, 1280, 720) == plan


@pytest.mark.parametrize(
    ("said", "matrix", "primaries", "transfer"),
    [
        (Colors(transfer=16), "bt2020nc", "bt2020", "smpte2084"),
        (Colors(matrix=9, primaries=9, transfer=18), "bt2020nc", "bt2020", "arib-std-b67"),
        (Colors(matrix=14, primaries=1, transfer=16), "ictcp", "bt2020", "smpte2084"),
        (Colors(matrix=1, primaries=12, transfer=16), "bt709", "smpte432", "smpte2084"),
    ],
)
def test_hdr_is_mapped_from_what_it_says_and_is_bt2020_where_it_says_nothing(
    said: Colors, matrix: str, primaries: str, transfer: str
) -> None:
    plan = plan_colors(said, 1920, 1080)
    assert plan.by == "tone_mapping"
    assert (plan.matrix, plan.primaries, plan.transfer) == (matrix, primaries, transfer)


@pytest.mark.parametrize("matrix", [0, 1, 2])
def test_red_green_and_blue_need_no_matrix(matrix: int) -> None:
    assert plan_colors(Colors(matrix=matrix, rgb=True), 320, 180).matrix == "gbr"
    assert plan_colors(Colors(matrix=matrix, rgb=True), 320, 180).by == "scaler"
    assert plan_colors(Colors(matrix=matrix, rgb=True, primaries=9), 320, 180).matrix == "gbr"


def test_what_is_transparent_and_says_nothing_was_made_by_a_program() -> None:
    assert plan_colors(Colors(alpha=True), 1920, 1080) == ColorPlan(matrix="bt470bg", assumed=True, alpha=True)
    assert plan_colors(Colors(alpha=True, matrix=1), 1920, 1080) == ColorPlan(alpha=True)


@pytest.mark.parametrize(
    "said",
    [
        Colors(dolby_vision=True),
        Colors(matrix=11),
        Colors(matrix=15),
        Colors(matrix=16),
        Colors(matrix=17),
        Colors(matrix=14, transfer=1),
        Colors(matrix=10, transfer=16),
        Colors(matrix=10, transfer=8),
    ],
)
def test_colors_that_can_not_be_converted_are_refused_by_name(said: Colors) -> None:
    with pytest.raises(BadInput, match=r"colors .*matrix .*can't be converted: export it with BT\.709") as caught:
        plan_colors(said, 1920, 1080)
    assert caught.value.code == "unsupported_color"
