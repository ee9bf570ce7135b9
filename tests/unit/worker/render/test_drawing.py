from importlib import resources

import pytest
from PIL import Image, ImageFont

from anb_worker.render import drawing
from anb_worker.render.drawing import draw_mark, draw_title, draw_watermark

PERSIAN = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"
HEBREW = "\u05e9\u05dc\u05d5\u05dd"
ROOM = (1040 + 8, 130)
"""Width and height of the intro's title area, in pixels."""


@pytest.fixture(autouse=True)
def _no_fonts_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "FONT_FOLDERS", ())


def ink(picture: Image.Image) -> int:
    """Return the number of pixels that are clearly visible."""
    return sum(picture.getchannel("A").histogram()[200:])


@pytest.mark.parametrize(
    "title",
    [
        "A walk in the park",
        "Ñandú, açaí & Überraschung “größer”",
        "Привет, мир",
        "Καλημέρα",
        "Word " * 60,
        "x" * 5000,
        "%{pts} [v];drawtext 'quoted' : \\ file:/etc/passwd",
    ],
)
def test_a_title_is_drawn_within_its_room(title: str) -> None:
    picture = draw_title(title)
    assert picture is not None
    assert picture.width <= ROOM[0]
    assert picture.height <= ROOM[1]
    assert ink(picture) > 500


@pytest.mark.parametrize(
    "title",
    [
        "",
        "   ",
        "🎉🎊",
        "日本語のタイトル",
        "हिन्दी",
        "مرحبا",
        "\u200b\u202e",
        "\x00\x01",
        "\ud800",
        "👩\u200d🚀",
        "\u200d",
        "❤\ufe0f",
        "🇨🇴 👍🏽",
        "\u0301",
        "\u2800",
    ],
)
def test_a_title_that_no_font_can_draw_gives_no_picture(title: str) -> None:
    assert draw_title(title) is None


@pytest.mark.parametrize(
    ("title", "same"),
    [
        ("Party 🎉🎊 time", "Party time"),
        ("a\u202eevil\x00\tb\n", "aevil b"),
        ("  much \u3000 space  ", "much space"),
        ("e\u0301te\u0301", "été"),
        ("HH 👩\u200d🚀 HH", "HH HH"),
        ("HH👩\u200d🚀HH", "HHHH"),
        ("with 👨\u200d👩\u200d👧\u200d👦 family", "with family"),
        ("thumbs 👍🏽 up", "thumbs up"),
        ("flag 🇨🇴 and 🏴\U000e0067\U000e0062\U000e007f", "flag and"),
        ("heart ❤\ufe0f\u200d🔥 burns", "heart burns"),
        ("No. 1\ufe0f\u20e3 and #\ufe0f\u20e3", "No. 1 and #"),
        ("日\u0301 or x\u20dd", "or x"),
        ("a \u0301b", "a b"),
        (f"{PERSIAN} OK", "OK"),
        ("a\u200db\u200c c", "ab c"),
        ("3\u200d4", "34"),
        ("blank \u2800\u3164 letters", "blank letters"),
        ("👩\u200d🚀 first", "first"),
        ("last \u200d👩", "last"),
    ],
)
def test_what_has_no_shape_leaves_no_gap(title: str, same: str) -> None:
    drawn, expected = draw_title(title), draw_title(same)
    assert drawn is not None
    assert expected is not None
    assert drawn.tobytes() == expected.tobytes()


@pytest.mark.parametrize("title", ["HH 👩\u200d🚀 HH", f"{PERSIAN} OK", "a\u200db", f"{HEBREW} OK", "1\ufe0f\u20e3"])
def test_without_an_engine_that_shapes_neither_boxes_nor_gaps_are_drawn(
    monkeypatch: pytest.MonkeyPatch, title: str
) -> None:
    monkeypatch.setattr(ImageFont.core, "HAVE_RAQM", False)
    plain = "".join(letter for letter in title if letter.isascii())
    drawn, expected = draw_title(title), draw_title(" ".join(plain.split()))
    assert drawn is not None
    assert expected is not None
    assert drawn.tobytes() == expected.tobytes()


def test_joiners_and_marks_stay_with_the_letters_that_they_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    font = drawing.own_font("Medium", 42)
    word = f"{PERSIAN}\u064b क्\u200dष"
    monkeypatch.setattr(drawing, "supported_letters", lambda *_: set(word) - set("\u200c\u200d "))
    assert drawing.drawable(word, font) == word
    assert drawing.drawable(f"👩\u200d{word}\u200d👩", font) == f"{word}\u200d"


def test_what_is_written_from_the_right_is_left_out_where_nothing_can_turn_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "supported_letters", lambda *_: {*HEBREW, *"OK"})
    font = ImageFont.truetype(drawing.own_font("Medium", 42).path, 42, layout_engine=ImageFont.Layout.BASIC)
    assert drawing.drawable(f"{HEBREW} OK", font) == "OK"


def test_accents_are_drawn() -> None:
    plain, accented = draw_title("Nandu"), draw_title("Ñandú")
    assert plain is not None
    assert accented is not None
    assert accented.height > plain.height
    assert abs(accented.width - plain.width) < 10


def test_a_long_title_is_broken_between_words_and_ends_with_an_ellipsis() -> None:
    font = drawing.own_font("Medium", 42)
    lines = drawing.wrapped("one two three four five six seven eight nine ten " * 5, font)
    assert len(lines) == 2
    assert lines[0].endswith(("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"))
    assert lines[1].endswith("...")
    assert all(font.getlength(line) <= 1040 for line in lines)


def test_a_title_that_fits_is_left_as_it_is() -> None:
    assert drawing.wrapped("Short", drawing.own_font("Medium", 42)) == ["Short"]


def test_a_font_of_the_system_is_used_for_what_ours_can_not_draw(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    ours = request.getfixturevalue("tmp_path") / "deep" / "NotoSans-Regular.ttf"
    ours.parent.mkdir()
    source = resources.files("font_manrope") / "files" / "Manrope-Bold.ttf"
    ours.write_bytes(source.read_bytes())
    monkeypatch.setattr(drawing, "FONT_FOLDERS", (ours.parents[1],))
    assert [font.getname()[1] for font in drawing.fonts()] == ["Medium", "Bold"]


def test_a_font_file_that_is_broken_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue("tmp_path")
    (folder / "DejaVuSans.ttf").write_text("no font")
    monkeypatch.setattr(drawing, "FONT_FOLDERS", (folder,))
    assert draw_title("日本") is None


def test_the_watermark_is_small_and_half_transparent() -> None:
    watermark = draw_watermark()
    assert watermark.width < 200
    assert watermark.height < 80
    assert max(level for level, count in enumerate(watermark.getchannel("A").histogram()) if count) == 158


def test_the_mark_is_round_at_its_corners_and_open_in_its_middle() -> None:
    mark = draw_mark(100)
    assert mark.size == (100, 100)
    assert [mark.getpixel(at)[3] for at in ((0, 0), (50, 50), (15, 50), (99, 99))] == [0, 0, 255, 0]  # type: ignore[index]
