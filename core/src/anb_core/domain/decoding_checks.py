"""Checks that enough of the upload's kept part could be decoded.

ffmpeg reports no error for packets that it can't decode. Its output has the full length even then.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import pairwise

from anb_core.domain.errors import BadInput
from anb_core.domain.output_format import FPS
from anb_core.domain.render_plan import RenderPlan

_ACCEPTED_LOSS_SECONDS = 0.35
"""Longest gap in the decoded picture or sound that is accepted, in seconds.
Each end of a gap may be measured wrongly by _MATCH_SECONDS. So every gap of at least 0.5 s is refused."""

_MATCH_SECONDS = 0.05
"""Maximum difference between the time of a decoded frame and the time that the probe found for it, in seconds."""


def check_pictures(plan: RenderPlan, decoded: Sequence[float]) -> None:
    """Refuse an upload if too much of its picture can't be decoded.

    `decoded` has the presentation time of each decoded frame, in seconds from the start of the kept part.

    Raises:
        BadInput: `corrupt` if too much of the picture can't be decoded.
    """
    end = plan.main_frames / FPS
    found = sorted(decoded)
    lost = [(0.0, end)] if not found else []
    for time, following in pairwise((*plan.shown, end)):
        nearest = bisect_left(found, time - _MATCH_SECONDS)
        if nearest == len(found) or found[nearest] > time + _MATCH_SECONDS:
            lost.append((max(0.0, time), following))
    _check_lost(lost, "picture", accepted=_ACCEPTED_LOSS_SECONDS if found else 0.0)
    # A frame has at most two packets: an interlaced frame may have one packet for each field.
    if len(decoded) * 2 < plan.picture_packets:
        raise BadInput(
            "corrupt", f"The picture is damaged: of {plan.picture_packets} frames only {len(decoded)} can be decoded."
        )


def check_sound(plan: RenderPlan, decoded: Sequence[tuple[float, float]]) -> None:
    """Refuse an upload if too much of its sound can't be decoded.

    `decoded` has the start and the end of each decoded span, in seconds from the start of the kept part.

    Raises:
        BadInput: `corrupt` if too much of the sound can't be decoded.
    """
    lost = []
    for begin, end in plan.heard:
        covered = begin
        for since, until in sorted(decoded):
            if since > covered:
                lost.append((covered, min(since, end)))
            covered = max(covered, until)
        lost.append((covered, end))
    _check_lost(lost, "sound", accepted=_ACCEPTED_LOSS_SECONDS)


def _check_lost(lost: Iterable[tuple[float, float]], media: str, *, accepted: float) -> None:
    spans: list[tuple[float, float]] = []
    for begin, end in lost:
        # Adjacent gaps are merged into one gap.
        since = spans.pop()[0] if spans and spans[-1][1] == begin else begin
        spans.append((since, end))
    for since, until in spans:
        if until - since > accepted:
            raise BadInput(
                "corrupt",
                f"The {media} is damaged: from {since:.1f} to {until:.1f} s nothing of the kept part can be decoded.",
            )
