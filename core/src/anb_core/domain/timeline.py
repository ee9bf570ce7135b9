"""One line of time for a file whose clocks jump: recordings that were joined, clocks that began anew or ran over.

All times are seconds. `raw` is what the file says; the line begins with the clock of the first packet.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf

_ASTRAY_SECONDS = 5.0
"""How far apart in time packets of one clock may be stored that follow one another in a file."""

_GOES_ON_SECONDS = 2.0
"""A stream that has more than this after another's clock jumped did not take part in the jump."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far the clock of a stream may move from one packet to the next without a jump. Seconds."""

    wrap: float | None = None
    """After how long the clock begins at 0 again. None where it never does."""
    ahead: float = inf
    """The longest hole between two packets."""
    back: float = 2.0
    """The longest step back."""


@dataclass(slots=True)
class Piece:
    """A stretch of one stream that has one clock. Seconds."""

    first: int
    """The number of its first packet within the stream."""
    since: float
    """The raw time of that packet."""
    begin: float
    end: float
    """Its first and last moment, raw."""
    shift: float = 0.0
    """What has to be added to a raw time to get the time on the line."""

    @property
    def at(self) -> float:
        """Where on the line it begins."""
        return self.begin + self.shift


@dataclass(frozen=True, slots=True)
class Stamp:
    """Where a packet is on the line. Exact once all packets were taken."""

    number: int
    """The number of the packet within its stream."""
    piece: Piece
    raw_dts: float
    raw_pts: float
    """When it is decoded, and when it is shown or heard: raw, in seconds."""

    @property
    def decoded_at(self) -> float:
        """When it is decoded."""
        return self.raw_dts + self.piece.shift

    @property
    def at(self) -> float:
        """When it is shown or heard."""
        return self.raw_pts + self.piece.shift


@dataclass(slots=True)
class _Track:
    """What was seen of one stream. `joint`: the last joint that it took part in, -1 for none."""

    pieces: list[Piece] = field(default_factory=list)
    packets: int = 0
    last: float = 0.0
    expected: float = 0.0
    joint: int = -1

    @property
    def now(self) -> float:
        return self.last + self.pieces[-1].shift


@dataclass(slots=True)
class _Joint:
    """A jump: which piece of each stream that takes part begins with it, and how far the others had come then."""

    members: dict[int, int]
    others: dict[int, float]


class Timeline:
    """Takes packets in the order of the file and puts each on one line of time.

    What it says while packets still come is right to within what is stored out of order; once `pieces` was asked for,
    it is exact.
    """

    def __init__(self, tolerance: Tolerance) -> None:
        self._tolerance = tolerance
        self._tracks: dict[int, _Track] = {}
        self._joints: list[_Joint] = []
        self.wraps = False
        """Whether a clock ran over."""

    def add(self, stream: int, dts: float | None, pts: float | None, duration: float) -> Stamp | None:
        """Take a packet; None for one that has no time."""
        track = self._tracks.setdefault(stream, _Track())
        number, track.packets = track.packets, track.packets + 1
        raw = dts if dts is not None else pts
        if raw is None:
            return None
        raw = self._unwrapped(track, raw)
        shown = raw if pts is None else self._unwrapped(track, pts)
        if not track.pieces:
            track.pieces.append(Piece(number, raw, shown, shown + duration, self._first_shift(track, raw)))
            track.last, track.expected = raw, raw + duration
        elif dts is not None:  # pictures are shown in another order than they are decoded in
            if raw < track.last - self._tolerance.back or raw > track.expected + self._tolerance.ahead:
                self._jump(stream, track, Piece(number, raw, shown, shown + duration))
            track.last, track.expected = raw, raw + duration
        piece = track.pieces[-1]
        piece.begin, piece.end = min(piece.begin, shown), max(piece.end, shown + duration)
        return Stamp(number, piece, raw, shown)

    def pieces(self, stream: int) -> tuple[Piece, ...]:
        """The stream's pieces, in their order."""
        for joint in self._joints:
            self._place(joint)
        return tuple(self._tracks[stream].pieces) if stream in self._tracks else ()

    def is_uneven(self) -> bool:
        """Whether what the file says is not the line."""
        return self.wraps or any(piece.shift for number in self._tracks for piece in self.pieces(number))

    def jumps(self) -> list[float]:
        """Where on the line clocks jump."""
        pieces = (piece for number in self._tracks for piece in self.pieces(number)[1:])
        return sorted({round(piece.at, 3) for piece in pieces})

    def _unwrapped(self, track: _Track, raw: float) -> float:
        wrap = self._tolerance.wrap
        if wrap is None:
            return raw
        near = [track.last] if track.pieces else [other.last for other in self._tracks.values() if other.pieces]
        turns = round((raw - near[0]) / wrap) if near else 0
        self.wraps |= turns != 0
        return raw - turns * wrap

    def _first_shift(self, track: _Track, raw: float) -> float:
        """Streams have one clock, unless their first packets are too far apart for that."""
        others = [other.now for other in self._others(track)]
        if not others or min(abs(raw - now) for now in others) <= self._tolerance.ahead:
            return 0.0
        return max(others) - raw

    def _jump(self, stream: int, track: _Track, piece: Piece) -> None:
        shift = track.pieces[-1].shift
        # A hole, if the other streams came as far meanwhile.
        if piece.since > track.last and any(
            abs(piece.since + shift - other.now) < _ASTRAY_SECONDS for other in self._others(track)
        ):
            return
        track.pieces.append(piece)
        for number in range(track.joint + 1, len(self._joints)):
            if self._belongs(piece, self._joints[number]):
                track.joint = number
                self._joints[number].members[stream] = len(track.pieces) - 1
                piece.shift = next(self._members(self._joints[number]))[1].shift
                return
        others = {number: other.now for number, other in self._tracks.items() if other is not track and other.pieces}
        self._joints.append(_Joint({stream: len(track.pieces) - 1}, others))
        track.joint = len(self._joints) - 1
        self._place(self._joints[-1])

    def _belongs(self, piece: Piece, joint: _Joint) -> bool:
        """Whether a piece has the same clock as those that begin with a joint."""
        return any(
            member.begin - _ASTRAY_SECONDS < piece.since < member.end + _ASTRAY_SECONDS
            for _, member in self._members(joint)
        )

    def _place(self, joint: _Joint) -> None:
        """After the end of all that was before it, so that its streams stay in step."""
        ends = [before.end + before.shift for before, _ in self._members(joint)]
        for number, now in joint.others.items():
            track = self._tracks[number]
            came_to = max(piece.end + piece.shift for piece in track.pieces)
            if number not in joint.members and came_to < now + _GOES_ON_SECONDS:
                ends.append(came_to)
        shift = max(ends) - min(piece.begin for _, piece in self._members(joint))
        for _, piece in self._members(joint):
            piece.shift = shift

    def _members(self, joint: _Joint) -> Iterator[tuple[Piece, Piece]]:
        """The piece before a joint and the one after it, of each stream that takes part."""
        for number, index in joint.members.items():
            before, after = self._tracks[number].pieces[index - 1 : index + 1]
            yield before, after

    def _others(self, track: _Track) -> list[_Track]:
        return [other for other in self._tracks.values() if other is not track and other.pieces]
