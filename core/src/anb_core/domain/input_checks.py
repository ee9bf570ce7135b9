"""Checks of an upload before it is rendered. The checks use the facts that the probe found."""

from dataclasses import dataclass

from anb_core.domain.edit import Trim
from anb_core.domain.errors import BadInput
from anb_core.domain.formats import ACCEPTED, AUDIO_CODECS, VIDEO_CODECS, Container
from anb_core.domain.source_facts import SourceFacts, VideoFacts

_SLACK_SECONDS, _SLACK_SHARE = 0.5, 0.05
"""A file may be shorter than its headers claim, by 0.5 s or by 5 % of the duration, whichever is more.
Even in an intact file, the headers give rounded durations, and the streams may end at different times.
"""

MOST_JUMPS = 50
"""Maximum number of timestamp jumps in a file. Files of joined recordings usually have fewer jumps."""


@dataclass(frozen=True, slots=True)
class InputLimits:
    """Limits for an upload."""

    max_seconds: float = 4 * 3600.0
    """Maximum duration that the headers of a file may claim, in seconds."""
    max_pixels: int = 4096 * 4096
    """Maximum number of pixels in a frame."""


def check_source(source: SourceFacts, trim: Trim, limits: InputLimits) -> tuple[Container, VideoFacts, float]:
    """Check that an upload can be rendered. Return its container, its video stream, and its end in seconds.

    If the file continues after the kept part, the returned end is the end of the kept part.

    Raises:
        BadInput: any code of `anb_core.domain.codes.VIDEOS`, except `unsupported_color` and `too_demanding`.
    """
    container, video = _check_file(source), _check_video(source, limits)
    _check_sound(source)
    end = _check_window(source, video, trim)
    _check_jumps(source, trim)
    return container, video, end


def _check_file(source: SourceFacts) -> Container:
    if source.container is None:
        raise BadInput("not_a_video", f"The file is not a video of an accepted kind: {ACCEPTED}.")
    if source.state == "cut_off":
        raise BadInput(
            "truncated", "The file is cut off: its end, where the index is, is missing. Record or export it again."
        )
    if source.state == "unreadable":
        raise BadInput(
            "corrupt", f"The file begins like {source.container.value.upper()} but can't be read any further."
        )
    return source.container


def _check_video(source: SourceFacts, limits: InputLimits) -> VideoFacts:
    video = source.video
    if video is None:
        if source.audio is not None or source.has_cover:
            raise BadInput("audio_only", "The file has sound but no moving picture.")
        raise BadInput("no_video_stream", "The file has no video stream.")
    if video.codec not in VIDEO_CODECS:
        raise BadInput(
            "unsupported_codec", f"The picture is coded in {video.codec}, which is not supported: export it as H.264."
        )
    claimed = max(source.claimed_end or 0, video.claimed_end or 0)
    if claimed > limits.max_seconds:
        longest = _clock(limits.max_seconds)
        raise BadInput("too_long", f"The video says it is {_clock(claimed)} long; at most {longest} are accepted.")
    for width, height in [(video.width, video.height), *((look.width, look.height) for look in video.looks)]:
        if width * height > limits.max_pixels:
            most = f"{limits.max_pixels / 1e6:.1f} million pixels"
            raise BadInput("too_many_pixels", f"The picture is {width} x {height}; at most {most} are accepted.")
    return video


def _check_sound(source: SourceFacts) -> None:
    if source.audio is not None and source.audio.codec not in AUDIO_CODECS:
        codec = source.audio.codec
        raise BadInput("unsupported_codec", f"The sound is coded in {codec}, which is not supported: export it as AAC.")
    if source.audio is not None and not source.audio.decodable:
        codec = source.audio.codec
        raise BadInput("unsupported_codec", f"The sound is a kind of {codec} that can't be decoded: export it as AAC.")


def _check_window(source: SourceFacts, video: VideoFacts, trim: Trim) -> float:
    """Check that the kept part is in the file, and return the end of the last stream in seconds.

    A file may be cut off after the kept part, because the output does not need the rest.
    """
    sound_end = (source.audio.end if source.audio is not None else None) or 0.0
    end = max(video.end or 0.0, sound_end)
    if video.end is None or end <= trim.start:
        # The claimed duration of the file may be that of the sound. So use this duration only if no frame was found.
        claimed = video.claimed_end or (source.claimed_end if video.end is None else None) or 0.0
        if not source.whole:
            _check_claim(claimed, video.end or 0.0, trim)
        if trim.start == 0:
            raise BadInput("zero_duration", "The video has no length, because it has no frames.")
        end = max(claimed, end)
        where = f"the video ends at {end:.1f} s" if end else "the video ends before that"
        raise BadInput(
            "trim_beyond_end", f"The kept part begins at {trim.start:.1f} s, but {where}: choose an earlier beginning."
        )
    if not video.looks:
        raise BadInput("corrupt", "The picture is damaged: nothing of the kept part can be decoded.")
    if not source.whole:
        _check_claims(source, video, end, trim)
    return end


def _check_claims(source: SourceFacts, video: VideoFacts, end: float, trim: Trim) -> None:
    """Check that the video stream and the audio stream are as long as the headers of the file claim.

    If the headers give only the duration of the whole file, only the longer stream is checked.
    """
    claims = [(video.claimed_end, video.end)]
    if source.audio is not None:
        claims.append((source.audio.claimed_end, source.audio.end))
    if video.claimed_end is None:
        claims = [(source.claimed_end, end)]
    for claimed, actual in claims:
        if claimed is not None:
            _check_claim(claimed, actual or 0.0, trim)


def _check_jumps(source: SourceFacts, trim: Trim) -> None:
    """Check a file of several joined recordings: same streams in all of them, and few jumps of the timestamps."""
    kept_until = trim.start + trim.length
    if source.other_recording_at is not None and source.other_recording_at < kept_until:
        raise BadInput(
            "unsupported_join",
            f"At {source.other_recording_at:.1f} s another recording begins, with other streams: send each by itself.",
        )
    jumps = [time for time in source.jumps if time < kept_until]
    if len(jumps) > MOST_JUMPS:
        raise BadInput(
            "unsupported_join",
            f"The clock of the file jumps {len(jumps)} times, first at {jumps[0]:.1f} s: export it again.",
        )


def _check_claim(claimed: float, actual: float, trim: Trim) -> None:
    """Check that a stream does not end early. `claimed` is its end in the headers, `actual` the end of its last packet.

    `claimed` and `actual` are in seconds.
    """
    if _is_short(min(claimed, trim.start + trim.length), actual, since=trim.start):
        raise BadInput(
            "truncated",
            f"The file is cut off: it says that the video is {claimed:.1f} s long, but it ends after {actual:.1f} s.",
        )


def _is_short(expected: float, actual: float, *, since: float) -> bool:
    return expected - max(actual, since) > max(_SLACK_SECONDS, _SLACK_SHARE * (expected - since))


def _clock(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}"
