"""Collects the facts about an upload (SourceFacts)."""

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
from anb_worker.render.probe.scan import Scan, ScannedPacket
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
"""Maximum number of packets that a decoder is assumed to read before it returns the first frame."""

_SEEKS = (1.0, 10.0)
"""How many seconds before the kept part reading begins. If the first value is too small, the second value is tried.

If both values are too small, the file is read from its beginning.
Audio decoders need some earlier packets, and a file may store sound far from the frames of the same time.
"""


def probe(path: Path, start: float, length: float, max_pixels: int, max_seconds: float = inf) -> SourceFacts:
    """Return the facts about a file: its streams, and the frames and sound that the file really has in the kept part.

    `start` and `length` of the kept part are in seconds.
    If the frames of the video stream have more than `max_pixels` pixels, they are not decoded.
    libavformat only estimates the duration of an MPEG-TS file.
    If this estimate is more than `max_seconds`, the whole file is read to find its real duration.
    """
    with path.open("rb") as file:
        container = sniff_container(file.read(SNIFF_BYTES))
    if container is None:
        return SourceFacts()
    if container is Container.MP4 and _lacks_index(path):
        return SourceFacts(container=container, state="cut_off")
    window = _Window(container, path, start, start + length, max_pixels, max_seconds)
    try:
        # Do not seek if the kept part is near the beginning of the file: this would save little time.
        # Do not seek in MPEG-TS: it has no index, and jumps can be found only if all timestamps are read.
        for back in _SEEKS if start > _SEEKS[0] and container is not Container.MPEG_TS else ():
            facts = window.find_facts(back)
            if facts is not None:
                return facts
        return window.find_facts(None) or SourceFacts(container=container)
    except Exception:  # noqa: BLE001 - the file could be opened, so any error of a library is caused by its content
        return SourceFacts(container=container, state="unreadable")


def _ignore(_packet: "Packet[Stream] | None", _at: float | None) -> None:
    """Do nothing with a packet. A scan that must not decode frames calls this function instead of `Looks.take`."""


def _lacks_index(path: Path) -> bool:
    """Return whether an MP4 file has valid boxes up to its end, but no complete index (`moov`).

    For an incomplete index, libavformat reports no error. It reports a shorter video without sound.
    """
    size, end = path.stat().st_size, 0
    for box in boxes(path):
        end = box.end
        if box.kind == "moov" and end <= size:
            return False
    return end >= size


@dataclass(frozen=True, slots=True)
class _Window:
    """The kept part of a file, from `start` to `until`. Both are seconds from the beginning, as a player shows them."""

    container: Container
    path: Path
    start: float
    until: float
    max_pixels: int
    max_seconds: float

    def find_facts(self, back: float | None) -> SourceFacts | None:
        """Open the file and return facts about it. None if reading began too late to find the start of the kept part.

        Reading starts `back` seconds before the kept part, or at the beginning of the file if `back` is None.
        """
        options = {
            "protocol_whitelist": "file",
            "format_whitelist": DEMUXERS[self.container],
            "codec_whitelist": ",".join(DECODERS),
            "max_streams": str(MOST_STREAMS),
        }
        # Ignore invalid text in metadata, which the probe does not use. It may have any encoding.
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
        # Read no packets of an upload that will be rejected anyway.
        if codec_name(video) not in VIDEO_CODECS or video.width * video.height > self.max_pixels:
            return facts
        if facts.audio is not None and not facts.audio.decodable:
            return facts
        # Limit the size of decoded frames, too, because a frame may be larger than the headers say.
        video.codec_context.options = {"max_pixels": str(ffmpeg_max_pixels(self.max_pixels))}
        video.codec_context.thread_count = 1  # one thread is enough for the few decoded frames
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
        # If a seek follows, the first scan must decode nothing: after a seek, the decoder would have lost the headers.
        # For an AVI file, the first scan must always decode, because `_lateness` needs the first frame.
        decode = back is None or self.container is Container.AVI
        scan = head = Scan(self.container, self.path, video, audio, looks.take if decode else _ignore)
        head.read(opened, None)
        begins = {stream.index: head.begins(stream) for stream in (video, audio) if stream is not None}
        origin = min((begin for begin in begins.values() if begin is not None), default=0.0)
        late = self._lateness(looks, head.packets[video.index])
        if back is not None:
            if not seek(opened, origin + self.start - back):
                return None
            looks = Looks(video) if decode else looks
            scan = Scan(self.container, self.path, video, audio, looks.take)
        endless = self.container is Container.MPEG_TS and (facts.claimed_end or 0) > self.max_seconds
        scan.read(opened, inf if endless else origin + self.until)
        looks.take(None, None)
        part = Part(scan, self.container, origin, self.start, self.until, back)
        if back is not None and not part.is_all_there(video, begins):
            return None
        return self._describe_part(part, video, audio, facts, late=late, looks=looks)

    def _lateness(self, looks: Looks, packets: list[ScannedPacket]) -> float:
        """Return the delay of ffmpeg's timestamps of decoded frames, in seconds. Only an AVI file has such a delay.

        AVI has no presentation times. ffmpeg therefore gives a frame the time of the packet that the decoder got last.
        Some decoders read ahead. Then this packet is later than the packet of the frame.
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
            claimed_end = max(ends) if part.scan.ended else None
        return replace(
            facts,
            claimed_end=claimed_end,
            whole=min(ends) < self.until and is_whole(self.container, self.path, streams),
            jumps=tuple(moment - part.origin for moment in part.scan.timeline.jumps()),
            other_recording_at=part.other_recording_at(video),
            video=of_video,
            audio=of_audio,
        )

    def _claimed_end(self, stream: VideoStream | AudioStream, origin: float) -> float | None:
        """Return the end of a stream according to the file's headers, in seconds. None if the headers give no end."""
        if self.container is Container.AVI and isinstance(stream, VideoStream) and stream.average_rate:
            # Use the number of frames in the header, because libavformat shortens the duration of a cut-off file.
            return float(stream.frames / stream.average_rate)
        if self.container is not Container.MP4 or stream.duration is None or stream.time_base is None:
            return None
        # In a fragmented MP4 file, the duration also includes the time before the first frame.
        begin = 0 if any(box.kind == "moof" for box in boxes(self.path)) else stream.start_time or 0
        return float((stream.duration + begin) * stream.time_base) - origin
