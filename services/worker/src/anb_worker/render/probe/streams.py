"""Which streams of an upload are used, and what is known of them without reading them."""

import av
from av.audio.stream import AudioStream
from av.codec.context import CodecContext
from av.container import InputContainer
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from anb_core.domain.formats import AUDIO_CODECS
from anb_core.domain.source_facts import AudioFacts, VideoFacts


def video_facts(video: VideoStream) -> VideoFacts:
    """What is known of a stream without reading it."""
    width, height = getattr(video, "width", 0), getattr(video, "height", 0)
    return VideoFacts(index=video.index, codec=codec_name(video), width=width, height=height)


def audio_facts(audio: AudioStream) -> AudioFacts:
    """What is known of a stream without reading it."""
    return AudioFacts(index=audio.index, codec=codec_name(audio), decodable=_can_decode(audio))


def choose_video(opened: InputContainer) -> VideoStream | None:
    """The one that the file prefers, of these the first; never a cover picture."""
    moving = [stream for stream in opened.streams.video if not stream.disposition & Disposition.attached_pic]
    return min(moving, key=lambda stream: not stream.disposition & Disposition.default, default=None)


def choose_audio(opened: InputContainer) -> AudioStream | None:
    """The one that the file prefers, of those that can be decoded if there are any: a phone may add one in a format of
    its own.
    """
    return min(
        opened.streams.audio,
        key=lambda stream: (not _can_decode(stream), not stream.disposition & Disposition.default),
        default=None,
    )


def _can_decode(audio: AudioStream) -> bool:
    """Whether there is a decoder that takes the stream's headers. Nothing is decoded: of some layouts PyAV dies."""
    if codec_name(audio) not in AUDIO_CODECS:
        return False
    try:
        audio.codec_context.open(strict=False)
    except Exception:  # noqa: BLE001 - as in probe
        return False
    return True


def codec_name(stream: Stream) -> str:
    """Ffmpeg's name of the codec, for comparison and for sentences."""
    # PyAV's types do not say that it is None where there is no decoder.
    context: CodecContext | None = getattr(stream, "codec_context", None)
    return "an unknown format" if context is None else context.codec.canonical_name


def seek(opened: InputContainer, at: float) -> bool:
    """Go to the key frame before `at` (seconds of the file's own clock); False where there is nothing so late."""
    try:
        opened.seek(round(at * av.time_base))
    except Exception:  # noqa: BLE001 - as in probe
        return False
    return True
