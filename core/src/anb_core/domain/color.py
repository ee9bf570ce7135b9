"""What colors a picture means, and what has to be done for a screen of today (BT.709) to show them.

All numbers are those of ITU-T H.273, which every codec and container uses; 2 is "not said".
"""

from dataclasses import dataclass
from typing import Literal

from anb_core.domain.errors import BadInput

UNSAID = 2

_RGB, _BT709, _BT601, _BT2020, _BT2020_CONSTANT, _ICTCP = 0, 1, 5, 9, 10, 14
_ORDINARY = {_BT709: "bt709", 4: "fcc", _BT601: "bt470bg", 6: "smpte170m", 7: "smpte240m", _BT2020: "bt2020nc"}
"""Matrices that the scaler can undo on its way."""
_RARE = {
    8: "ycgco",
    _BT2020_CONSTANT: "bt2020c",
    12: "chroma-derived-nc",
    13: "chroma-derived-c",
    _ICTCP: "ictcp",
}
"""Matrices that only zimg can undo."""
_REFUSED = {11: "SMPTE 2085", 15: "IPT-C2 (Dolby Vision)", 16: "YCgCo-Re", 17: "YCgCo-Ro"}
_MATRICES = {_RGB: "gbr"} | _ORDINARY | _RARE

_WIDE = {_BT2020: "bt2020", 10: "smpte428", 11: "smpte431", 12: "smpte432"}
"""Primaries that look pale where they are taken for BT.709's; the others' reds and greens are near enough to those."""
_HDR = {16: "smpte2084", 18: "arib-std-b67"}
_UNLIKE_VIDEO = {8: "linear", 9: "log100", 10: "log316"}
"""Transfers that no screen shows as they are. All others look like BT.709's, as players take them."""

_HD_LINES, _SD_COLUMNS = 720, 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Colors:
    """What a picture, or its file, says about its colors."""

    matrix: int = UNSAID
    primaries: int = UNSAID
    transfer: int = UNSAID
    """Numbers of H.273: how colors are coded, which colors the coordinates mean, and how brightness is coded."""
    full_range: bool = False
    """Whether values use the full range (0 to 255 of 8 bits), not the range of video (16 to 235)."""
    rgb: bool = False
    """Whether its planes are red, green and blue."""
    alpha: bool = False
    """Whether a part of it may be transparent."""
    dolby_vision: bool = False
    """Whether its colors are Dolby Vision's own (profile 5)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ColorPlan:
    """How the colors of a picture are converted to BT.709."""

    by: Literal["scaler", "zimg", "tone_mapping"] = "scaler"
    """What converts them. `scaler`: ffmpeg's scaler, while it scales. `zimg`: zimg, after scaling. `tone_mapping`: zimg
    too, and the brightness of HDR is mapped to that of an ordinary screen.
    """
    matrix: str = "bt709"
    primaries: str = "bt709"
    transfer: str = "bt709"
    """What the picture has, by ffmpeg's names."""
    full_range: bool = False
    """As of Colors."""
    assumed: bool = False
    """Whether the picture does not say its matrix, so that the scaler needs `matrix` as an option."""
    alpha: bool = False
    """Whether it is laid over black."""


def plan_colors(said: Colors, width: int, height: int) -> ColorPlan:
    """Decide what is done to the colors of a picture of this size (pixels, as coded).

    Raises:
        BadInput: unsupported_color.
    """
    if said.dolby_vision or said.matrix in _REFUSED:
        name = "IPT-C2 (Dolby Vision profile 5)" if said.dolby_vision else _REFUSED[said.matrix]
        raise _refusal(f"are coded with the matrix {name}")
    matrix, primaries = _matrix(said, width, height), _primaries(said)
    transfer = _HDR.get(said.transfer) or _UNLIKE_VIDEO.get(said.transfer, "bt709")
    if matrix == _ICTCP and said.transfer not in _HDR:
        raise _refusal("are coded with the matrix ICtCp, but are no HDR")
    if matrix == _BT2020_CONSTANT and transfer != "bt709":
        raise _refusal(f"are coded with the matrix BT.2020 constant luminance and the transfer {transfer}")
    by: Literal["scaler", "zimg", "tone_mapping"] = "scaler"
    if said.transfer in _HDR:
        by = "tone_mapping"
    elif matrix in _RARE or primaries in _WIDE or transfer != "bt709":
        by = "zimg"
    return ColorPlan(
        by=by,
        matrix=_MATRICES[matrix],
        primaries=_WIDE.get(primaries, "bt709"),
        transfer=transfer,
        full_range=said.full_range or said.rgb,
        assumed=said.matrix not in _MATRICES or (said.matrix == _RGB and not said.rgb),
        alpha=said.alpha,
    )


def _matrix(said: Colors, width: int, height: int) -> int:
    if said.rgb:
        return _RGB
    if said.matrix in _MATRICES and said.matrix != _RGB:
        return said.matrix
    if said.primaries == _BT2020 or said.transfer in _HDR:
        return _BT2020
    if said.alpha:
        # It was made of RGB by a program, and one that says nothing has taken the old default.
        return _BT601
    # As players guess: what is larger than DVDs are comes from equipment of BT.709's time.
    return _BT709 if height >= _HD_LINES or width > _SD_COLUMNS else _BT601


def _primaries(said: Colors) -> int:
    if said.matrix == _ICTCP:
        return _BT2020  # by its definition
    if said.primaries in {UNSAID, 0, 3} and (said.transfer in _HDR or said.matrix in {_BT2020, _BT2020_CONSTANT}):
        return _BT2020
    return said.primaries


def _refusal(what: str) -> BadInput:
    return BadInput(
        "unsupported_color", f"The picture's colors {what}, which can't be converted: export it with BT.709 colors."
    )
