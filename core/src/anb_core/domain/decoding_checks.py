"""How much of the kept part could be decoded.

ffmpeg ends without an error whatever it had to leave out, and the output has its full length all the same.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import pairwise

from anb_core.domain.errors import BadInput
from anb_core.domain.output_format import FPS
from anb_core.domain.render_plan import RenderPlan

_UNNOTICED_SECONDS = 0.35
"""How much of a stream may be lost at one place. As times are matched to within _MATCH_SECONDS, a loss of half a second
never goes unnoticed.
"""

_MATCH_SECONDS = 0.05
"""How far the time of a decoded frame may be from the time that the probe found for it."""


def check_pictures(plan: RenderPlan, decoded: Sequence[float]) -> None:
    """Refuse an upload too much of whose picture is damaged. `decoded`: when each decoded frame appears, in seconds
    from the beginning of the kept part.

    Raises:
        BadInput: corrupt.
    """
    until = plan.main_frames / FPS
    there = sorted(decoded)
    lost = [(0.0, until)] if not there else []
    for moment, following in pairwise((*plan.shown, until)):
        nearest = bisect_left(there, moment - _MATCH_SECONDS)
        if nearest == len(there) or there[nearest] > moment + _MATCH_SECONDS:
            lost.append((max(0.0, moment), following))
    _check_lost(lost, "picture", least=_UNNOTICED_SECONDS if there else 0.0)
    # A frame may need two packets (its two fields), never more.
    if len(decoded) * 2 < plan.picture_packets:
        raise BadInput(
            "corrupt", f"The picture is damaged: of {plan.picture_packets} frames only {len(decoded)} can be decoded."
        )


def check_sound(plan: RenderPlan, decoded: Sequence[tuple[float, float]]) -> None:
    """Refuse an upload too much of whose sound is damaged. `decoded`: begin and end of each decoded piece, in seconds
    from the beginning of the kept part.

    Raises:
        BadInput: corrupt.
    """
    lost = []
    for begin, end in plan.heard:
        come_to = begin
        for since, until in sorted(decoded):
            if since > come_to:
                lost.append((come_to, min(since, end)))
            come_to = max(come_to, until)
        lost.append((come_to, end))
    _check_lost(lost, "sound", least=_UNNOTICED_SECONDS)


def _check_lost(lost: Iterable[tuple[float, float]], what: str, *, least: float) -> None:
    stretches: list[tuple[float, float]] = []
    for begin, end in lost:
        # What follows at once is a part of the same.
        since = stretches.pop()[0] if stretches and stretches[-1][1] == begin else begin
        stretches.append((since, end))
    for since, until in stretches:
        if until - since > least:
            raise BadInput(
                "corrupt",
                f"The {what} is damaged: from {since:.1f} to {until:.1f} s nothing of the kept part can be decoded.",
            )
