"""The kept part of what was read of a file: what it promises, and how ffmpeg comes to it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from av.audio.stream import AudioStream
from av.stream import Stream
from av.video.stream import VideoStream

from anb_core.domain.formats import Container
from anb_core.domain.output_format import FPS
from anb_core.domain.source_facts import Reading, Stretch
from anb_worker.render.probe.scan import Scan, Seen

_KEY_SECONDS = 0.15
"""Libavformat looks for a key frame this much earlier than it is told to."""

_MARGIN_SECONDS = 0.5
"""How far before a key frame of MPEG-TS to begin, whose packets are found by their times."""

_WARM_UP_SECONDS = 2.0
"""How far before the kept part sound is read where there is no index. It is stored a little apart from its picture."""

_HOLE_SECONDS = 0.1
"""Between sounds that are farther apart there is silence."""

_CLOSE_SECONDS = 1 / 60
"""Pictures that are closer together count as one."""


@dataclass(frozen=True, slots=True)
class Part:
    """The kept part of an upload."""

    scan: Scan
    container: Container
    origin: float
    """Where a player counts 0, in seconds on the time line."""
    start: float
    until: float
    """Where the part begins and ends, in seconds from the origin."""
    back: float | None
    """How many seconds before it the scan began. None means at the beginning of the file."""

    @property
    def begin(self) -> float:
        """Where it begins on the line of time."""
        return self.origin + self.start

    def is_all_there(self, video: VideoStream, begins: Mapping[int, float | None]) -> bool:
        """Whether the scan began early enough. `begins`: when each stream does."""
        for index, packets in self.scan.packets.items():
            first = begins[index]
            if not packets or first is None or first >= self.begin:
                continue
            reached = [packet.at for packet in packets if packet.key or index != video.index]
            if not reached or min(reached) > self.begin:
                return False
        return bool(self.scan.packets[video.index])

    def end(self, stream: Stream) -> float | None:
        """When a stream ends, as far as it was read; None where there is nothing of it."""
        good = [packet for packet in self.scan.packets[stream.index] if packet.good]
        if any(packet.at >= self.origin + self.until for packet in good):
            return self.until
        return max((packet.at + (packet.duration or 1 / FPS) - self.origin for packet in good), default=None)

    def elsewhere(self, video: VideoStream) -> float | None:
        """When another recording begins, with other streams; None for never."""
        if self.scan.left is None:
            return None
        before = self.scan.packets[video.index][: self.scan.left]
        return max((packet.end - self.origin for packet in before), default=0.0)

    def pictures(self, video: VideoStream, decoded: float | None) -> list[float]:
        """When each picture appears that can be decoded, in seconds from the origin; the first is on the screen at the
        start. `decoded`: when the first is shown that a decoder gave, in the file's time; None where that is not known.
        """
        packets = self.scan.packets[video.index]
        decodable = _decodable(packets)
        if self.container is Container.MPEG_TS and decoded is not None and packets and not packets[0].key:
            decodable = _renewed(packets, decodable, decoded)
        moments = sorted(packet.at - self.origin for packet in decodable)
        before = [moment for moment in moments if moment <= self.start]
        return before[-1:] + [moment for moment in moments if self.start < moment < self.until]

    def sounds(self, audio: AudioStream) -> list[tuple[float, float]]:
        """From when to when there is sound."""
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
        """How ffmpeg reads a stream. `late`: how much too late it takes its pictures to be."""
        packets, pieces = self.scan.packets[stream.index], self.scan.timeline.pieces(stream.index)
        # What has to be read: from the last key frame before the part on, or what warms a decoder up.
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

    def _seek(self, stream: Stream, needed: Sequence[Seen]) -> float | None:
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
    """Without those that are close to the one before."""
    kept: list[float] = []
    for moment in moments:
        if not kept or moment - kept[-1] >= _CLOSE_SECONDS:
            kept.append(moment)
    return tuple(kept)


def _decodable(packets: Sequence[Seen]) -> list[Seen]:
    """Those from the first key frame on, of each piece: without one, nothing can be promised."""
    since: dict[int, float] = {}
    decodable = []
    for packet in packets:
        piece = packet.stamp.piece.first
        if packet.key:
            since.setdefault(piece, packet.at)
        if packet.good and packet.at >= since.get(piece, packet.at + 1):
            decodable.append(packet)
    return decodable


def _renewed(packets: Sequence[Seen], decodable: Sequence[Seen], decoded: float) -> list[Seen]:
    """Without those before the first that was decoded. Where pictures are renewed a part at a time, none is complete
    until all parts were: the next key frame is the last moment for that.
    """
    first = packets[0].stamp.piece.first
    keys = [packet.stamp.raw_pts for packet in packets if packet.key and packet.stamp.piece.first == first]
    since = min([decoded, *keys[1:2]]) - _CLOSE_SECONDS / 2
    return [packet for packet in decodable if packet.stamp.piece.first != first or packet.stamp.raw_pts >= since]
