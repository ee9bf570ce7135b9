"""Chooses the streams of an upload for a render, and describes them without reading packets."""

import av
from av.audio.stream import AudioStream
from av.codec.context import CodecContext
from av.container import InputContainer
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from anb_core.domain.formats import AUDIO_CODECS
from anb_core.domain.source_facts import AudioFacts, VideoFacts


def video_facts(video: VideoStream) -> VideoFacts:
    """Return the facts about a video stream that are in the headers of the file."""
    width, height = getattr(video, "width", 0), getattr(video, "height", 0)
    return VideoFacts(index=video.index, codec=codec_name(video), width=width, height=height)


def audio_facts(audio: AudioStream) -> AudioFacts:
    """Return the facts about an audio stream that are in the headers of the file."""
    return AudioFacts(index=audio.index, codec=codec_name(audio), decodable=_can_decode(audio))


def choose_video(opened: InputContainer) -> VideoStream | None:
    """Return the first video stream that is marked as default, else the first one. Cover pictures do not count."""
    moving = [stream for stream in opened.streams.video if not stream.disposition & Disposition.attached_pic]
    return min(moving, key=lambda stream: not stream.disposition & Disposition.default, default=None)


def choose_audio(opened: InputContainer) -> AudioStream | None:
    """Return the best audio stream: a decodable one that is marked as default, else a decodable one, else any.

    A phone may add a second audio stream in a proprietary format, which can't be decoded.
    """
    return min(
        opened.streams.audio,
        key=lambda stream: (not _can_decode(stream), not stream.disposition & Disposition.default),
        default=None,
    )


def _can_decode(audio: AudioStream) -> bool:
    """Return whether a decoder accepts the headers of a stream.

    No packet is decoded, because some channel layouts crash PyAV.
    """
    if codec_name(audio) not in AUDIO_CODECS:
        return False
    try:
        audio.codec_context.open(strict=False)
    except Exception:  # noqa: BLE001 - any library error is caused by the file's content, see facts.probe
        return False
    return True


def codec_name(stream: Stream) -> str:
    """Return ffmpeg's name of a stream's codec."""
    # PyAV's types are wrong here: codec_context is None if the codec has no decoder.
    context: CodecContext | None = getattr(stream, "codec_context", None)
    return "an unknown format" if context is None else context.codec.canonical_name


def seek(opened: InputContainer, at: float) -> bool:
    """Seek to the keyframe before the time `at` in seconds. Returns False if the file ends before `at`."""
    try:
        opened.seek(round(at * av.time_base))
    except Exception:  # noqa: BLE001 - any library error is caused by the file's content, see facts.probe
        return False
    return True
