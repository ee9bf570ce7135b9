"""Reads the packets of the streams that are used, and puts them on one line of time."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf
from pathlib import Path

from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from anb_core.domain.formats import Container
from anb_core.domain.timeline import Stamp, Timeline, Tolerance
from anb_worker.render.probe.joined_recordings import holds_a_recording

_TOLERANCES = {
    Container.MPEG_TS: Tolerance(wrap=2**33 / 90_000, ahead=10.0, back=0.1),
    Container.MP4: Tolerance(back=inf),
}
"""MPEG-TS is cut and joined as bytes, and its clock has 33 bits; other files keep lists of their times. Where MP4 goes
back, it is for what has to be decoded before an edit's first picture.
"""

_SMALLEST_PICTURE = 8
"""Bytes. What is smaller says that nothing changed."""

_APART_SECONDS = 30.0
"""How much later than the others a stream may come in a file."""

_HEAD_SECONDS = 2.0
"""How much of a stream has to be seen to know its beginning: pictures come out of order."""

_WARM_UP_SECONDS = 0.2
"""The most that a sound's decoder throws away at the beginning."""

_MOST_STRANGE = 1000
"""So many packets of other streams in a row mean that those that are used have ended."""

_LONGEST_SOUND_SECONDS = 0.25
"""Of one packet of sound; that of a coder, as bytes in a row may be any number."""


Watch = Callable[["Packet[Stream] | None", float | None], None]


@dataclass(frozen=True, slots=True)
class Seen:
    """A packet."""

    stamp: Stamp
    duration: float
    """Seconds."""
    key: bool
    """Whether it can be decoded without those before it."""
    good: bool
    """Whether something of it is shown or heard."""

    @property
    def at(self) -> float:
        """When it is shown or heard, in seconds on the line of time."""
        return self.stamp.at

    @property
    def end(self) -> float:
        """When that ends."""
        return self.stamp.at + self.duration


class Scan:
    """What is read of the streams that are used. Times are seconds on the line, see Timeline.

    `packets`: of each stream; `ended`: whether the file was read to its end; `left`: how many packets of the picture
    come before another recording, with streams of its own, that was joined to it; None where there is none. `watch`
    gets each packet of the picture, and when that is shown.
    """

    def __init__(
        self, container: Container, path: Path, video: VideoStream, audio: AudioStream | None, watch: Watch
    ) -> None:
        self.timeline = Timeline(_TOLERANCES.get(container, Tolerance()))
        self.packets: dict[int, list[Seen]] = {video.index: []}
        self._longest: dict[int, float] = {}
        if audio is not None:
            self.packets[audio.index] = []
            # Where packets are missing, the one before them is said to last until the next.
            if "pcm" not in audio.codec_context.name:
                self._longest[audio.index] = _LONGEST_SOUND_SECONDS
        self.ended = False
        self.left: int | None = None
        self._container, self._path, self._video, self._watch = container, path, video, watch
        self._now: dict[int, float] = {}
        self._others: dict[int, int] = {}
        self._place: int | None = None

    def read(self, opened: InputContainer, until: float | None) -> None:
        """Read on until all streams have come to `until`, or to the end of the file.

        None as `until`: until the beginning of each is known.
        """
        for packet in self._demux(opened):
            self._follow(packet)
            if packet.stream_index in self.packets:
                self._take(packet)
            if self._is_enough(until):
                break
        if self.ended and self._place is not None:
            self._look_between(self._path.stat().st_size)
        for index in self.packets:
            self.timeline.pieces(index)

    def begins(self, stream: Stream) -> float | None:
        """When a stream's first picture is shown, or its first sound heard; None for never."""
        first = min((packet.at for packet in self.packets[stream.index] if packet.good), default=None)
        if first is None or stream.type != "audio" or stream.start_time is None or stream.time_base is None:
            return first
        # A coder's first samples are thrown away; libavformat leaves them out.
        heard = float(stream.start_time * stream.time_base)
        return heard if first < heard < first + _WARM_UP_SECONDS else first

    def _demux(self, opened: InputContainer) -> Iterator["Packet[Stream]"]:
        strange = 0
        while strange < _MOST_STRANGE:
            try:
                for packet in opened.demux():
                    strange = 0 if packet.size else strange
                    yield packet
                break
            except IndexError:
                strange += 1  # of a stream that began later than the file, which PyAV does not know
            except Exception:  # noqa: BLE001 - whatever a library says of a file's bytes is the file's fault
                break
        self.ended = True

    def _take(self, packet: "Packet[Stream]") -> None:
        index, base = packet.stream_index, float(packet.time_base or 0)
        dts, pts = (None if ticks is None else ticks * base for ticks in (packet.dts, packet.pts))
        if self._container is Container.AVI:
            pts = dts  # the file has no other; what libavformat makes up is later
        duration = min((packet.duration or 0) * base, self._longest.get(index, inf))
        stamp = self.timeline.add(index, dts, pts, duration)
        if index == self._video.index:
            self._watch(packet, stamp.at if stamp is not None else None)
        if stamp is None:
            return
        good = not packet.is_discard and not packet.is_corrupt and packet.size > _SMALLEST_PICTURE
        self.packets[index].append(Seen(stamp, duration, packet.is_keyframe, good))
        self._now[index] = stamp.decoded_at

    def _follow(self, packet: "Packet[Stream]") -> None:
        """See whether there is another recording before a packet. PyAV keeps back the streams that it found late."""
        place, index = packet.pos, packet.stream_index
        if self._container is not Container.MPEG_TS or place is None or place < 0:
            return
        if self._place is None:
            self._place = place if index == self._video.index else None
        # What begins after all others ended goes on with nothing: another program goes on beside the picture.
        elif index in self.packets or self._others.setdefault(index, place) < self._place:
            self._look_between(place)
            self._place = max(self._place, place)

    def _look_between(self, place: int) -> None:
        if self.left is None and self._place is not None and holds_a_recording(self._path, self._place, place):
            self.left = len(self.packets[self._video.index])

    def _is_enough(self, until: float | None) -> bool:
        if until is None:
            ends = [(seen[0].stamp, seen[-1].stamp) for seen in self.packets.values() if seen]
            spans = [last.decoded_at - first.decoded_at for first, last in ends] or [0.0]
            if len(ends) < len(self.packets):
                return max(spans) >= _APART_SECONDS
            return min(spans) >= _HEAD_SECONDS or max(spans) >= _APART_SECONDS
        # Pictures may come out of order, but none comes before its own decoding time.
        come_to = [self._now.get(index, -inf) for index in self.packets]
        return min(come_to) >= until or max(come_to) >= until + _APART_SECONDS
