"""The kept part of a scanned file: its frames and sound, and the options with which ffmpeg has to read them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from av.audio.stream import AudioStream
from av.stream import Stream
from av.video.stream import VideoStream

from anb_core.domain.formats import Container
from anb_core.domain.output_format import FPS
from anb_core.domain.source_facts import Reading, Stretch
from anb_worker.render.probe.scan import Scan, ScannedPacket

_KEY_SECONDS = 0.15
"""ffmpeg subtracts up to this many seconds from the target of a seek. So this time is added to a keyframe's time."""

_MARGIN_SECONDS = 0.5
"""MPEG-TS has no index of keyframes. So the target of a seek is this many seconds before the needed keyframe."""

_WARM_UP_SECONDS = 2.0
"""If the file was scanned from its beginning, the reading of sound starts this many seconds before the kept part."""

_HOLE_SECONDS = 0.1
"""A gap of more than this many seconds between packets of sound counts as silence."""

_CLOSE_SECONDS = 1 / 60
"""If two frames are less than this many seconds apart, they count as one frame."""


@dataclass(frozen=True, slots=True)
class Part:
    """The kept part of an upload. All methods return times in seconds, counted from `origin`."""

    scan: Scan
    container: Container
    origin: float
    """Time on the timeline, in seconds, at which a player's clock shows 0."""
    start: float
    until: float
    """Start and end of the kept part, in seconds, counted from `origin`."""
    back: float | None
    """The scan started this many seconds before the kept part. None if it started at the beginning of the file."""

    @property
    def begin(self) -> float:
        """Start of the kept part on the timeline, in seconds."""
        return self.origin + self.start

    def is_all_there(self, video: VideoStream, begins: Mapping[int, float | None]) -> bool:
        """Return whether the scan began early enough to find all frames and sound of the kept part.

        `begins` maps the index of each stream to its start on the timeline, or to None for an empty stream.
        """
        for index, packets in self.scan.packets.items():
            first = begins[index]
            if not packets or first is None or first >= self.begin:
                continue
            reached = [packet.at for packet in packets if packet.key or index != video.index]
            if not reached or min(reached) > self.begin:
                return False
        return bool(self.scan.packets[video.index])

    def end(self, stream: Stream) -> float | None:
        """Return the end of a stream, but at most the end of the kept part. None if no packet is usable."""
        good = [packet for packet in self.scan.packets[stream.index] if packet.good]
        if any(packet.at >= self.origin + self.until for packet in good):
            return self.until
        return max((packet.at + (packet.duration or 1 / FPS) - self.origin for packet in good), default=None)

    def other_recording_at(self, video: VideoStream) -> float | None:
        """Return the time at which a second recording with other streams begins, or None if the file has only one."""
        count = self.scan.packets_before_other_recording
        if count is None:
            return None
        before = self.scan.packets[video.index][:count]
        return max((packet.end - self.origin for packet in before), default=0.0)

    def pictures(self, video: VideoStream, decoded: float | None) -> list[float]:
        """Return the presentation time of each decodable frame of the kept part.

        The first returned frame is the frame that a player shows at `start`. This frame may have begun before `start`.
        `decoded` is the raw presentation time of the first decoded frame, in seconds. None if unknown.
        """
        packets = self.scan.packets[video.index]
        decodable = _decodable(packets)
        if self.container is Container.MPEG_TS and decoded is not None and packets and not packets[0].key:
            decodable = _after_refresh(packets, decodable, decoded)
        moments = sorted(packet.at - self.origin for packet in decodable)
        before = [moment for moment in moments if moment <= self.start]
        return before[-1:] + [moment for moment in moments if self.start < moment < self.until]

    def sounds(self, audio: AudioStream) -> list[tuple[float, float]]:
        """Return start and end of each time span of the kept part that has sound."""
        spans: list[tuple[float, float]] = []
        good = [packet for packet in self.scan.packets[audio.index] if packet.good]
        for packet in sorted(good, key=lambda packet: packet.at):
            begin, end = max(self.start, packet.at - self.origin), min(self.until, packet.end - self.origin)
            if spans and begin <= spans[-1][1] + _HOLE_SECONDS:
                spans[-1] = spans[-1][0], max(spans[-1][1], end)
            elif begin < end:
                spans.append((begin, end))
        return spans

    def reading(self, stream: Stream, late: float = 0.0) -> Reading:
        """Return how ffmpeg has to read a stream. `late` says how many seconds too late ffmpeg's timestamps are."""
        packets, pieces = self.scan.packets[stream.index], self.scan.timeline.pieces(stream.index)
        # The first needed video packet is the last keyframe before the kept part.
        # The first needed sound packet is earlier, because an audio decoder needs some packets before the kept part.
        needed = [packet for packet in packets if packet.key and packet.at <= self.begin][-1:] or packets[:1]
        if isinstance(stream, AudioStream):
            needed = [packet for packet in packets if packet.end >= self.begin - (self.back or _WARM_UP_SECONDS)][:1]
        if self.scan.timeline.is_uneven() and stream.time_base is not None:
            base = float(stream.time_base)
            stretches = tuple(
                Stretch(piece.first, round(piece.since / base), round((piece.since + piece.shift) / base))
                for piece in pieces
            )
            skip = needed[0].stamp.number if needed else 0
            return Reading(origin=self.origin + late, stretches=stretches, skip=skip)
        return Reading(origin=self.origin + late, seek=self._seek(stream, needed))

    def _seek(self, stream: Stream, needed: Sequence[ScannedPacket]) -> float | None:
        sound = isinstance(stream, AudioStream)
        if self.container is Container.MPEG_TS:
            decoded = needed[0].stamp.decoded_at if needed else self.begin - _WARM_UP_SECONDS
            seek = decoded - _MARGIN_SECONDS
            return seek if seek > self.origin + _WARM_UP_SECONDS else None
        if self.back is None:
            return None
        if sound or not needed:
            return self.begin - self.back
        return min(self.begin, needed[0].at + _KEY_SECONDS)


def thinned(moments: Sequence[float]) -> tuple[float, ...]:
    """Leave out each time that is less than _CLOSE_SECONDS after the last kept time. Return the kept times."""
    kept: list[float] = []
    for moment in moments:
        if not kept or moment - kept[-1] >= _CLOSE_SECONDS:
            kept.append(moment)
    return tuple(kept)


def _decodable(packets: Sequence[ScannedPacket]) -> list[ScannedPacket]:
    """Return the packets that can be decoded. After the start and after each jump, decoding begins with a keyframe."""
    since: dict[int, float] = {}
    decodable = []
    for packet in packets:
        piece = packet.stamp.piece.first
        if packet.key:
            since.setdefault(piece, packet.at)
        if packet.good and packet.at >= since.get(piece, packet.at + 1):
            decodable.append(packet)
    return decodable


def _after_refresh(
    packets: Sequence[ScannedPacket], decodable: Sequence[ScannedPacket], decoded: float
) -> list[ScannedPacket]:
    """Return the packets from the first decoded frame or the second keyframe on, whichever is earlier.

    In a stream with intra refresh, a frame renews only some areas of the picture.
    The picture becomes complete once frames have renewed all areas. A keyframe completes the picture at once.
    """
    first = packets[0].stamp.piece.first
    keys = [packet.stamp.raw_pts for packet in packets if packet.key and packet.stamp.piece.first == first]
    since = min([decoded, *keys[1:2]]) - _CLOSE_SECONDS / 2
    return [packet for packet in decodable if packet.stamp.piece.first != first or packet.stamp.raw_pts >= since]
