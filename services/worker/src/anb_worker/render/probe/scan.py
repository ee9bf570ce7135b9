"""Reads the packets of the chosen video and audio streams, and puts them on one timeline."""

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
"""For each container: the differences between consecutive timestamps that do not count as jumps.

MPEG-TS has timestamps of 33 bits (90 kHz), which wrap around. They also jump where two files were joined.
In MP4, a step backward is never a jump. If an edit begins between two keyframes, libavformat first returns the
earlier frames that the decoder needs, and their timestamps go back.
"""

_EMPTY_PACKET_BYTES = 8
"""A packet of at most this many bytes has no picture or sound. The previous picture or sound continues."""

_APART_SECONDS = 30.0
"""A stream that is this many seconds behind another stream is assumed to have no more packets."""

_HEAD_SECONDS = 2.0
"""To find the start of each stream, this many seconds are read. The first frame in a file may not be shown first."""

_WARM_UP_SECONDS = 0.2
"""An audio decoder discards at most this many seconds of sound at the beginning."""

_MOST_UNKNOWN_PACKETS = 1000
"""After this many consecutive packets of unknown streams, the known streams are assumed to have ended."""

_LONGEST_SOUND_SECONDS = 0.25
"""Maximum duration of a packet of compressed sound, in seconds. A PCM packet may be longer."""


Watch = Callable[["Packet[Stream] | None", float | None], None]
"""A callback that is called with each packet of the video stream, and with its presentation time in seconds."""


@dataclass(frozen=True, slots=True)
class ScannedPacket:
    """A packet that was read."""

    stamp: Stamp
    duration: float
    """Duration of the packet in seconds."""
    key: bool
    """Whether the packet is a keyframe, which can be decoded without earlier packets."""
    good: bool
    """Whether the packet is undamaged and contains a picture or sound that a player presents."""

    @property
    def at(self) -> float:
        """Presentation time on the timeline, in seconds."""
        return self.stamp.at

    @property
    def end(self) -> float:
        """Time on the timeline at which the picture or sound of the packet ends, in seconds."""
        return self.stamp.at + self.duration


class Scan:
    """The packets that were read from the chosen streams. All times are seconds on the timeline (see `Timeline`).

    `packets` maps the index of each stream to its packets. `ended` is True if the file was read to its end.
    The chosen streams are those of the first recording in the file. A second recording with other streams may follow.
    `packets_before_other_recording` is the number of the chosen video stream's packets before the second recording.
    It is None if no second recording was found.
    """

    def __init__(
        self, container: Container, path: Path, video: VideoStream, audio: AudioStream | None, watch: Watch
    ) -> None:
        self.timeline = Timeline(_TOLERANCES.get(container, Tolerance()))
        self.packets: dict[int, list[ScannedPacket]] = {video.index: []}
        self._longest: dict[int, float] = {}
        if audio is not None:
            self.packets[audio.index] = []
            # If a gap follows a packet, libavformat adds the gap to the packet's duration. So limit the durations.
            if "pcm" not in audio.codec_context.name:
                self._longest[audio.index] = _LONGEST_SOUND_SECONDS
        self.ended = False
        self.packets_before_other_recording: int | None = None
        self._container, self._path, self._video, self._watch = container, path, video, watch
        self._now: dict[int, float] = {}
        """Maps the index of each chosen stream to the decoding time of its last packet, in seconds."""
        self._first_offsets: dict[int, int] = {}
        """Where each stream that was not chosen begins in the file. Maps the stream's index to an offset in bytes."""
        self._offset: int | None = None
        """Up to this offset in bytes, the file contains the chosen recording. None before the first video packet."""

    def read(self, opened: InputContainer, until: float | None) -> None:
        """Read packets until all streams have reached the time `until`, or until the end of the file.

        If `until` is None, read packets until the start of each stream is known.
        """
        for packet in self._demux(opened):
            self._search_before(packet)
            if packet.stream_index in self.packets:
                self._take(packet)
            if self._is_enough(until):
                break
        if self.ended and self._offset is not None:
            self._search_up_to(self._path.stat().st_size)
        for index in self.packets:
            self.timeline.pieces(index)

    def begins(self, stream: Stream) -> float | None:
        """Return the presentation time of the first frame or sound of a stream. None if the stream is empty."""
        first = min((packet.at for packet in self.packets[stream.index] if packet.good), default=None)
        if first is None or stream.type != "audio" or stream.start_time is None or stream.time_base is None:
            return first
        # Decoders discard the first samples of compressed sound. start_time is the time of the first kept sample.
        heard = float(stream.start_time * stream.time_base)
        return heard if first < heard < first + _WARM_UP_SECONDS else first

    def _demux(self, opened: InputContainer) -> Iterator["Packet[Stream]"]:
        unknown = 0
        while unknown < _MOST_UNKNOWN_PACKETS:
            try:
                for packet in opened.demux():
                    unknown = 0 if packet.size else unknown
                    yield packet
                break
            except IndexError:
                unknown += 1  # the packet belongs to a stream that begins late, which PyAV does not know
            except Exception:  # noqa: BLE001 - any library error is caused by the file's content, see facts.probe
                break
        self.ended = True

    def _take(self, packet: "Packet[Stream]") -> None:
        index, base = packet.stream_index, float(packet.time_base or 0)
        dts, pts = (None if ticks is None else ticks * base for ticks in (packet.dts, packet.pts))
        if self._container is Container.AVI:
            pts = dts  # AVI has only decoding times. libavformat's guesses of presentation times are too late.
        duration = min((packet.duration or 0) * base, self._longest.get(index, inf))
        stamp = self.timeline.add(index, dts, pts, duration)
        if index == self._video.index:
            self._watch(packet, stamp.at if stamp is not None else None)
        if stamp is None:
            return
        good = not packet.is_discard and not packet.is_corrupt and packet.size > _EMPTY_PACKET_BYTES
        self.packets[index].append(ScannedPacket(stamp, duration, packet.is_keyframe, good))
        self._now[index] = stamp.decoded_at

    def _search_before(self, packet: "Packet[Stream]") -> None:
        """Search the bytes before `packet` for a second recording, because PyAV reports no streams that begin late."""
        offset, index = packet.pos, packet.stream_index
        if self._container is not Container.MPEG_TS or offset is None or offset < 0:
            return
        if self._offset is None:
            self._offset = offset if index == self._video.index else None
        # A packet is part of the chosen recording if its stream was chosen, or has its first packet in this recording.
        elif index in self.packets or self._first_offsets.setdefault(index, offset) < self._offset:
            self._search_up_to(offset)
            self._offset = max(self._offset, offset)

    def _search_up_to(self, end: int) -> None:
        if self.packets_before_other_recording is not None or self._offset is None:
            return
        if holds_a_recording(self._path, self._offset, end):
            self.packets_before_other_recording = len(self.packets[self._video.index])

    def _is_enough(self, until: float | None) -> bool:
        if until is None:
            ends = [(seen[0].stamp, seen[-1].stamp) for seen in self.packets.values() if seen]
            spans = [last.decoded_at - first.decoded_at for first, last in ends] or [0.0]
            if len(ends) < len(self.packets):
                return max(spans) >= _APART_SECONDS
            return min(spans) >= _HEAD_SECONDS or max(spans) >= _APART_SECONDS
        # Compare decoding times, because a file stores packets in the order of decoding times.
        # No later packet can have a frame for the kept part, because no frame is shown before its decoding time.
        reached = [self._now.get(index, -inf) for index in self.packets]
        return min(reached) >= until or max(reached) >= until + _APART_SECONDS
