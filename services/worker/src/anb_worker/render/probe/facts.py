"""Collects what is in an upload."""

from dataclasses import dataclass, replace
from math import inf
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from anb_core.domain.formats import (
    DECODERS,
    DEMUXERS,
    MOST_STREAMS,
    SNIFF_BYTES,
    VIDEO_CODECS,
    Container,
    ffmpeg_max_pixels,
    sniff_container,
)
from anb_core.domain.source_facts import SourceFacts
from anb_worker.render.mp4_boxes import boxes
from anb_worker.render.probe.kept_part import Part, thinned
from anb_worker.render.probe.looks import Looks
from anb_worker.render.probe.scan import Scan, Seen
from anb_worker.render.probe.streams import (
    audio_facts,
    choose_audio,
    choose_video,
    codec_name,
    seek,
    video_facts,
)
from anb_worker.render.probe.wholeness import is_whole

_MOST_HELD_BACK = 16
"""How many pictures a decoder may hold back."""

_SEEKS = (1.0, 10.0)
"""How far before the kept part to begin reading, in seconds: sound is warmed up by then, and is often stored a little
apart from its picture. If that is not enough, farther; then from the beginning on.
"""


def probe(path: Path, start: float, length: float, max_pixels: int, max_seconds: float = inf) -> SourceFacts:
    """What is in a file; of the kept part, what is really there. A picture over `max_pixels` is not opened. Whether
    there is more than `max_seconds` is counted where the file does not say it itself.
    """
    with path.open("rb") as file:
        container = sniff_container(file.read(SNIFF_BYTES))
    if container is None:
        return SourceFacts()
    if container is Container.MP4 and _lacks_index(path):
        return SourceFacts(container=container, state="cut_off")
    window = _Window(container, path, start, start + length, max_pixels, max_seconds)
    try:
        # A seek gains little near the beginning. MPEG-TS has no index; what its clock means is known once it is read.
        for back in _SEEKS if start > _SEEKS[0] and container is not Container.MPEG_TS else ():
            facts = window.find_facts(back)
            if facts is not None:
                return facts
        return window.find_facts(None) or SourceFacts(container=container)
    except Exception:  # noqa: BLE001 - the file could be opened, so whatever a library says of its bytes is its fault
        return SourceFacts(container=container, state="unreadable")


def _ignore(_packet: "Packet[Stream] | None", _at: float | None) -> None:
    """Watch nothing."""


def _lacks_index(path: Path) -> bool:
    """Whether an MP4 has sound structure up to its end, only that its end came too early: of half an index libavformat
    makes a shorter video, without its sound.
    """
    size, end = path.stat().st_size, 0
    for box in boxes(path):
        end = box.end
        if box.kind == "moov" and end <= size:
            return False
    return end >= size


@dataclass(frozen=True, slots=True)
class _Window:
    """The part of a file from `start` to `until`, in seconds as a player counts them."""

    container: Container
    path: Path
    start: float
    until: float
    max_pixels: int
    max_seconds: float

    def find_facts(self, back: float | None) -> SourceFacts | None:
        """Open the file and describe it, reading from `back` seconds before the kept part on, None: from the beginning
        on. None as answer: that did not show all of it.
        """
        options = {
            "protocol_whitelist": "file",
            "format_whitelist": DEMUXERS[self.container],
            "codec_whitelist": ",".join(DECODERS),
            "max_streams": str(MOST_STREAMS),
        }
        # Tags may be in any encoding, or in none; nothing is done with their words.
        with av.open(
            f"file:{self.path}", format=DEMUXERS[self.container], options=options, metadata_errors="replace"
        ) as opened:
            return self._describe(opened, back)

    def _describe(self, opened: InputContainer, back: float | None) -> SourceFacts | None:
        video, audio = choose_video(opened), choose_audio(opened)
        claimed = opened.duration / av.time_base if opened.duration else None
        has_cover = any(stream.disposition & Disposition.attached_pic for stream in opened.streams.video)
        facts = SourceFacts(container=self.container, claimed_end=claimed, has_cover=has_cover)
        if audio is not None:
            facts = replace(facts, audio=audio_facts(audio))
        if video is None:
            return facts
        facts = replace(facts, video=video_facts(video))
        # A picture that is going to be refused is not decoded either.
        if codec_name(video) not in VIDEO_CODECS or video.width * video.height > self.max_pixels:
            return facts
        if facts.audio is not None and not facts.audio.decodable:
            return facts
        # One in mid-file may be larger than the headers say.
        video.codec_context.options = {"max_pixels": str(ffmpeg_max_pixels(self.max_pixels))}
        video.codec_context.thread_count = 1  # one picture is wanted; threads cost memory
        return self._read(opened, video, audio, back, facts)

    def _read(
        self,
        opened: InputContainer,
        video: VideoStream,
        audio: AudioStream | None,
        back: float | None,
        facts: SourceFacts,
    ) -> SourceFacts | None:
        looks = Looks(video)
        # Where reading begins anew, nothing is decoded yet: a decoder forgets what the file says.
        decode = back is None or self.container is Container.AVI
        found = head = Scan(self.container, self.path, video, audio, looks.take if decode else _ignore)
        head.read(opened, None)
        begins = {stream.index: head.begins(stream) for stream in (video, audio) if stream is not None}
        origin = min((begin for begin in begins.values() if begin is not None), default=0.0)
        late = self._lateness(looks, head.packets[video.index])
        if back is not None:
            if not seek(opened, origin + self.start - back):
                return None
            looks = Looks(video) if decode else looks
            found = Scan(self.container, self.path, video, audio, looks.take)
        endless = self.container is Container.MPEG_TS and (facts.claimed_end or 0) > self.max_seconds
        found.read(opened, inf if endless else origin + self.until)
        looks.take(None, None)
        part = Part(found, self.container, origin, self.start, self.until, back)
        if back is not None and not part.is_all_there(video, begins):
            return None
        return self._describe_part(part, video, audio, facts, late=late, looks=looks)

    def _lateness(self, looks: Looks, packets: list[Seen]) -> float:
        """How much later ffmpeg takes a picture to be than it is: AVI only tells when it is decoded, and a picture gets
        the time of the packet that let the decoder hand it out.
        """
        first = looks.first
        if self.container is not Container.AVI or first is None or first.dts is None or not packets:
            return 0.0
        late = float(first.dts * (first.time_base or 0)) - packets[0].stamp.raw_dts
        return late if 0 < late <= _MOST_HELD_BACK * packets[0].duration else 0.0

    def _describe_part(
        self,
        part: Part,
        video: VideoStream,
        audio: AudioStream | None,
        facts: SourceFacts,
        *,
        late: float,
        looks: Looks,
    ) -> SourceFacts:
        found = part.scan
        first = looks.first
        decoded = float(first.pts * (first.time_base or 0)) if first is not None and first.pts is not None else None
        pictures = part.pictures(video, decoded)
        of_video = replace(
            video_facts(video),
            claimed_end=self._claimed_end(video, part.origin),
            reading=part.reading(video, late),
            packets=len(pictures),
            shown=thinned(pictures),
            end=part.end(video),
            looks=tuple(replace(look, since=look.since - part.origin) for look in looks.found),
        )
        of_audio = None
        if audio is not None:
            of_audio = replace(
                audio_facts(audio),
                claimed_end=self._claimed_end(audio, part.origin),
                reading=part.reading(audio),
                heard=tuple(part.sounds(audio)),
                end=part.end(audio),
            )
        streams = [video] if audio is None else [video, audio]
        ends = [part.end(stream) or 0.0 for stream in streams]
        claimed_end = facts.claimed_end
        if self.container is Container.MPEG_TS:
            claimed_end = max(ends) if found.ended else None
        return replace(
            facts,
            claimed_end=claimed_end,
            whole=min(ends) < self.until and is_whole(self.container, self.path, streams),
            jumps=tuple(moment - part.origin for moment in found.timeline.jumps()),
            other_recording_at=part.elsewhere(video),
            video=of_video,
            audio=of_audio,
        )

    def _claimed_end(self, stream: VideoStream | AudioStream, origin: float) -> float | None:
        """Where the file says that a stream ends."""
        if self.container is Container.AVI and isinstance(stream, VideoStream) and stream.average_rate:
            # FFmpeg shortens the duration of a file that was cut off; the count of frames stays what the file says.
            return float(stream.frames / stream.average_rate)
        if self.container is not Container.MP4 or stream.duration is None or stream.time_base is None:
            return None
        # In fragments, what is before the first picture is a part of the duration.
        begin = 0 if any(box.kind == "moof" for box in boxes(self.path)) else stream.start_time or 0
        return float((stream.duration + begin) * stream.time_base) - origin
