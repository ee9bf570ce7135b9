"""Decide how the colors of an upload are converted to BT.709, the standard of HD video.

All numbers are code points of ITU-T H.273, which every codec and container uses. The number 2 means "unspecified".
"""

from dataclasses import dataclass
from typing import Literal

from anb_core.domain.errors import BadInput

UNSPECIFIED = 2

_RGB, _BT709, _BT601, _BT2020, _BT2020_CONSTANT, _ICTCP = 0, 1, 5, 9, 10, 14
_ORDINARY = {_BT709: "bt709", 4: "fcc", _BT601: "bt470bg", 6: "smpte170m", 7: "smpte240m", _BT2020: "bt2020nc"}
"""Color matrices that ffmpeg's scaler can convert while it scales."""
_RARE = {
    8: "ycgco",
    _BT2020_CONSTANT: "bt2020c",
    12: "chroma-derived-nc",
    13: "chroma-derived-c",
    _ICTCP: "ictcp",
}
"""Color matrices that only ffmpeg's filter `zscale` (the library zimg) can convert."""
_REFUSED = {11: "SMPTE 2085", 15: "IPT-C2 (Dolby Vision)", 16: "YCgCo-Re", 17: "YCgCo-Ro"}
_MATRICES = {_RGB: "gbr"} | _ORDINARY | _RARE

_WIDE = {_BT2020: "bt2020", 10: "smpte428", 11: "smpte431", 12: "smpte432"}
"""Color primaries that must be converted. Otherwise the colors would look pale. Other primaries are close to BT.709."""
_HDR = {16: "smpte2084", 18: "arib-std-b67"}
_CONVERTED_TRANSFERS = {8: "linear", 9: "log100", 10: "log316"}
"""Transfer functions that have to be converted. All other functions are treated as BT.709, as in video players."""

_HD_LINES, _SD_COLUMNS = 720, 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Colors:
    """The color metadata of a frame or of its file. The numbers are code points of H.273."""

    matrix: int = UNSPECIFIED
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED
    """Color matrix, color primaries and transfer function of the frame."""
    full_range: bool = False
    """Whether color values use the full range (0 to 255 with 8 bits) instead of the limited range (16 to 235)."""
    rgb: bool = False
    """Whether the pixel format is RGB."""
    alpha: bool = False
    """Whether the video has an alpha channel."""
    dolby_vision: bool = False
    """Whether the colors use the special encoding of Dolby Vision profile 5."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ColorPlan:
    """How the colors of a frame are converted to BT.709."""

    by: Literal["scaler", "zimg", "tone_mapping"] = "scaler"
    """The filter that converts the colors.
    `scaler` means that ffmpeg's scaler converts the colors while it scales the picture.
    `zimg` means that the library zimg converts the colors after the scaling.
    `tone_mapping` means that zimg also maps the brightness from HDR to SDR.
    """
    matrix: str = "bt709"
    primaries: str = "bt709"
    transfer: str = "bt709"
    """Color matrix, color primaries and transfer function of the frame, with ffmpeg's names."""
    full_range: bool = False
    """Whether the frame's color values use the full range (0 to 255 with 8 bits)."""
    assumed: bool = False
    """Whether `matrix` is a guess, because the frame names no usable matrix.
    Only a guess is passed to the scaler. Otherwise, the scaler reads the matrix from the frame."""
    alpha: bool = False
    """Whether the video has an alpha channel. Such a video is drawn over black."""


def plan_colors(colors: Colors, width: int, height: int) -> ColorPlan:
    """Decide how the colors of a frame are converted. `width` and `height` are the frame's coded size in pixels.

    Raises:
        BadInput: `unsupported_color` if the colors can't be converted.
    """
    if colors.dolby_vision or colors.matrix in _REFUSED:
        name = "IPT-C2 (Dolby Vision profile 5)" if colors.dolby_vision else _REFUSED[colors.matrix]
        raise _refusal(f"are coded with the matrix {name}")
    matrix, primaries = _matrix(colors, width, height), _primaries(colors)
    transfer = _HDR.get(colors.transfer) or _CONVERTED_TRANSFERS.get(colors.transfer, "bt709")
    if matrix == _ICTCP and colors.transfer not in _HDR:
        raise _refusal("are coded with the matrix ICtCp, but are not HDR")
    if matrix == _BT2020_CONSTANT and transfer != "bt709":
        raise _refusal(f"are coded with the matrix BT.2020 constant luminance and the transfer {transfer}")
    by: Literal["scaler", "zimg", "tone_mapping"] = "scaler"
    if colors.transfer in _HDR:
        by = "tone_mapping"
    elif matrix in _RARE or primaries in _WIDE or transfer != "bt709":
        by = "zimg"
    return ColorPlan(
        by=by,
        matrix=_MATRICES[matrix],
        primaries=_WIDE.get(primaries, "bt709"),
        transfer=transfer,
        full_range=colors.full_range or colors.rgb,
        assumed=colors.matrix not in _MATRICES or (colors.matrix == _RGB and not colors.rgb),
        alpha=colors.alpha,
    )


def _matrix(colors: Colors, width: int, height: int) -> int:
    if colors.rgb:
        return _RGB
    if colors.matrix in _MATRICES and colors.matrix != _RGB:
        return colors.matrix
    if colors.primaries == _BT2020 or colors.transfer in _HDR:
        return _BT2020
    if colors.alpha:
        # Most videos with an alpha channel were converted from RGB, with BT.601 if the program names no matrix.
        return _BT601
    # As in video players, a frame that is larger than a DVD frame is assumed to use BT.709.
    return _BT709 if height >= _HD_LINES or width > _SD_COLUMNS else _BT601


def _primaries(colors: Colors) -> int:
    if colors.matrix == _ICTCP:
        return _BT2020  # ICtCp always uses the primaries of BT.2020.
    is_bt2020 = colors.transfer in _HDR or colors.matrix in {_BT2020, _BT2020_CONSTANT}
    if is_bt2020 and colors.primaries in {UNSPECIFIED, 0, 3}:
        return _BT2020
    return colors.primaries


def _refusal(fault: str) -> BadInput:
    return BadInput(
        "unsupported_color", f"The picture's colors {fault}, which can't be converted: export it with BT.709 colors."
    )
