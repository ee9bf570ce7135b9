"""Puts the packets of a file on one continuous timeline. The file's timestamps may jump or wrap around to 0.

Timestamps jump, for example, where a file consists of joined recordings.

All times are seconds. A raw time is a timestamp of the file. The timeline starts at the raw time of the first packet.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf

_INTERLEAVING_SECONDS = 5.0
"""In a file without jumps, neighboring packets of different streams are at most this many seconds apart."""

_CONTINUES_SECONDS = 2.0
"""A stream that continues for at least this many seconds after other streams jump does not take part in the jump."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Limits for the difference between the timestamps of consecutive packets. A larger difference counts as a jump."""

    wrap: float | None = None
    """Seconds after which the timestamps wrap around to 0. None if the timestamps never wrap around."""
    ahead: float = inf
    """Maximum step forward from one packet's timestamp to the next, in seconds."""
    back: float = 2.0
    """Maximum step backward from one packet's timestamp to the next, in seconds."""


@dataclass(slots=True)
class Piece:
    """A series of packets of one stream without a jump. Times are in seconds."""

    first: int
    """Index of the first packet of the piece, counted from the beginning of the stream."""
    since: float
    """Raw decoding time of the first packet of the piece, in seconds."""
    begin: float
    end: float
    """Raw presentation time at which the earliest packet starts, and at which the latest packet ends, in seconds."""
    shift: float = 0.0
    """Seconds to add to a raw time (a timestamp as in the file) to get the time on the timeline."""

    @property
    def at(self) -> float:
        """Presentation time on the timeline at which the piece starts, in seconds."""
        return self.begin + self.shift


@dataclass(frozen=True, slots=True)
class Stamp:
    """The times of a packet on the timeline. The times are approximate until all packets are added (see `Timeline`)."""

    number: int
    """Index of the packet in its stream."""
    piece: Piece
    """The piece to which the packet belongs."""
    raw_dts: float
    raw_pts: float
    """Raw decoding time and raw presentation time, in seconds."""

    @property
    def decoded_at(self) -> float:
        """Decoding time on the timeline, in seconds."""
        return self.raw_dts + self.piece.shift

    @property
    def at(self) -> float:
        """Presentation time on the timeline, in seconds."""
        return self.raw_pts + self.piece.shift


@dataclass(slots=True)
class _Track:
    """The state of one stream on the timeline."""

    pieces: list[Piece] = field(default_factory=list)
    packets: int = 0
    """Number of packets that were added to the stream."""
    last: float = 0.0
    """Raw decoding time of the last packet of the stream, in seconds."""
    expected: float = 0.0
    """Raw decoding time of the stream's next packet if no gap follows, in seconds."""
    jump: int = -1
    """Index of the last jump of this stream in the list of all jumps. -1 if this stream has not jumped."""

    @property
    def now(self) -> float:
        """Decoding time of the last packet on the timeline, in seconds."""
        return self.last + self.pieces[-1].shift


@dataclass(slots=True)
class _Jump:
    """A place in the file where the timestamps of one or more streams jump."""

    members: dict[int, int]
    """Maps the number of each stream that jumps here to the index of the stream's piece after the jump."""
    others: dict[int, float]
    """The state of the other streams when the jump of the first stream was found.
    Maps the number of each of these streams to the decoding time of its last packet on the timeline."""


class Timeline:
    """Computes the times of packets on one timeline. Add the packets in the order in which the file stores them.

    Until all packets are added, the times are approximate, because a file may not store packets in the order of time.
    Call `pieces` after the last packet was added, to make all times exact.
    """

    def __init__(self, tolerance: Tolerance) -> None:
        self._tolerance = tolerance
        self._tracks: dict[int, _Track] = {}
        self._jumps: list[_Jump] = []
        self.wraps = False
        """Whether timestamps wrapped around to 0."""

    def add(self, stream: int, dts: float | None, pts: float | None, duration: float) -> Stamp | None:
        """Add a packet and return its times, or None for a packet without a timestamp. Arguments are in raw seconds."""
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
        elif dts is not None:  # B-frames are stored out of order, so presentation times can go back without a jump.
            if raw < track.last - self._tolerance.back or raw > track.expected + self._tolerance.ahead:
                self._begin_piece(stream, track, Piece(number, raw, shown, shown + duration))
            track.last, track.expected = raw, raw + duration
        piece = track.pieces[-1]
        piece.begin, piece.end = min(piece.begin, shown), max(piece.end, shown + duration)
        return Stamp(number, piece, raw, shown)

    def pieces(self, stream: int) -> tuple[Piece, ...]:
        """Make the times of all packets exact, and return the pieces of a stream in file order."""
        for jump in self._jumps:
            self._place(jump)
        return tuple(self._tracks[stream].pieces) if stream in self._tracks else ()

    def is_uneven(self) -> bool:
        """Return whether any time on the timeline differs from the timestamp in the file."""
        return self.wraps or any(piece.shift for number in self._tracks for piece in self.pieces(number))

    def jumps(self) -> list[float]:
        """Return the time on the timeline of each jump, in seconds."""
        pieces = (piece for number in self._tracks for piece in self.pieces(number)[1:])
        return sorted({round(piece.at, 3) for piece in pieces})

    def _unwrapped(self, track: _Track, raw: float) -> float:
        wrap = self._tolerance.wrap
        if wrap is None:
            return raw
        near = [track.last] if track.pieces else [other.last for other in self._tracks.values() if other.pieces]
        wraps = round((raw - near[0]) / wrap) if near else 0
        self.wraps |= wraps != 0
        return raw - wraps * wrap

    def _first_shift(self, track: _Track, raw: float) -> float:
        """Return the shift of a stream's first piece: 0 if the piece begins near the present time of another stream."""
        others = [other.now for other in self._others(track)]
        if not others or min(abs(raw - now) for now in others) <= self._tolerance.ahead:
            return 0.0
        return max(others) - raw

    def _begin_piece(self, stream: int, track: _Track, piece: Piece) -> None:
        """Add `piece` to a stream, because the stream's timestamps seem to jump.

        If another stream has jumped to similar times, the piece belongs to the same jump. Otherwise the jump is new.
        """
        shift = track.pieces[-1].shift
        # If another stream has reached the same time without a jump, this stream only has a gap, and no jump.
        if piece.since > track.last and any(
            abs(piece.since + shift - other.now) < _INTERLEAVING_SECONDS for other in self._others(track)
        ):
            return
        track.pieces.append(piece)
        for number in range(track.jump + 1, len(self._jumps)):
            if self._belongs(piece, self._jumps[number]):
                track.jump = number
                self._jumps[number].members[stream] = len(track.pieces) - 1
                piece.shift = next(self._members(self._jumps[number]))[1].shift
                return
        others = {number: other.now for number, other in self._tracks.items() if other is not track and other.pieces}
        self._jumps.append(_Jump({stream: len(track.pieces) - 1}, others))
        track.jump = len(self._jumps) - 1
        self._place(self._jumps[-1])

    def _belongs(self, piece: Piece, jump: _Jump) -> bool:
        """Return whether `piece` begins at `jump`. Its raw start must be close to another piece that begins there."""
        return any(
            member.begin - _INTERLEAVING_SECONDS < piece.since < member.end + _INTERLEAVING_SECONDS
            for _, member in self._members(jump)
        )

    def _place(self, jump: _Jump) -> None:
        """Move all pieces that begin at a jump. On the timeline they then begin when all earlier packets have ended.

        All pieces are moved by the same number of seconds (`shift`), which keeps picture and sound in sync.
        """
        ends = [before.end + before.shift for before, _ in self._members(jump)]
        for number, now in jump.others.items():
            track = self._tracks[number]
            end = max(piece.end + piece.shift for piece in track.pieces)
            if number not in jump.members and end < now + _CONTINUES_SECONDS:
                ends.append(end)
        shift = max(ends) - min(piece.begin for _, piece in self._members(jump))
        for _, piece in self._members(jump):
            piece.shift = shift

    def _members(self, jump: _Jump) -> Iterator[tuple[Piece, Piece]]:
        """For each stream that jumps at `jump`, yield the piece before the jump and the piece after the jump."""
        for number, index in jump.members.items():
            before, after = self._tracks[number].pieces[index - 1 : index + 1]
            yield before, after

    def _others(self, track: _Track) -> list[_Track]:
        return [other for other in self._tracks.values() if other is not track and other.pieces]
