"""The program that examines a finished file: its packets, and whether each part can be decoded by itself.

`python -m anb_worker.render.verify OUTPUT FRAMES:PART...` prints OutputFacts as JSON.
`child_programs.examine_output` runs this program in the sandbox.
"""

import json
import sys
from dataclasses import asdict
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
from av.codec import CodecContext
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from anb_core.domain.output_checks import OutputFacts
from anb_core.domain.output_format import AUDIO_PACKET_SAMPLES, FPS, SAMPLE_RATE
from anb_worker.render.mp4_boxes import boxes

_COLORS = {1: "bt709"}
"""Maps numbers of color matrices in ITU-T H.273 to names. Only the matrix of the output format is needed."""


def _examine(output: Path, parts: list[tuple[Path, int]]) -> OutputFacts:
    kinds = [box.kind for box in boxes(output)]
    with av.open(str(output)) as opened:
        video, audio = opened.streams.video[0], opened.streams.audio[0]
        packets: dict[int, list[Packet[Stream]]] = {video.index: [], audio.index: []}
        for packet in opened.demux(video, audio):
            if packet.pts is not None:
                packets[packet.stream_index].append(packet)
        pictures, sounds = packets[video.index], packets[audio.index]
        moments = sorted(_time(packet.pts, packet) for packet in pictures)
        decoding = [packet.dts or 0 for packet in pictures]
        uneven = sum(after - before != Fraction(1, FPS) for before, after in pairwise(moments))
        uneven += sum(after <= before for before, after in pairwise(decoding))
        # Compare timestamps, not durations, because libavformat changes the durations of packets to fill gaps.
        gaps = sum(
            _time(b.pts, b) - _time(a.pts, a) != Fraction(AUDIO_PACKET_SAMPLES, SAMPLE_RATE)
            for a, b in pairwise(sounds)
        )
        return OutputFacts(
            container="mp4" if "mp4" in opened.format.name.split(",") else opened.format.name,
            index_first=kinds.index("moov") < kinds.index("mdat"),
            video_codec=video.codec_context.name,
            pixel_format=video.codec_context.pix_fmt or "",
            color=_COLORS.get(int(video.codec_context.colorspace), "another"),
            width=video.width,
            height=video.height,
            frames=len(pictures),
            uneven_frames=uneven,
            video_begin=float(moments[0]),
            video_end=float(moments[-1] + Fraction(1, FPS)),
            unlike_parts=sum(_headers(part) != video.codec_context.extradata for part, _ in parts),
            undecodable_parts=_count_undecodable(video, pictures, [frames for _, frames in parts]),
            audio_codec=audio.codec_context.name,
            sample_rate=audio.codec_context.sample_rate,
            channels=audio.codec_context.channels,
            audio_gaps=gaps,
            audio_begin=float(_time(sounds[0].pts, sounds[0])),
            audio_end=float(_time(sounds[-1].pts, sounds[-1]) + _time(sounds[-1].duration, sounds[-1])),
        )


def _count_undecodable(video: VideoStream, pictures: list["Packet[Stream]"], frames: list[int]) -> int:
    """Count the parts that can't be decoded by themselves, or whose first frame has a wrong time or is no keyframe."""
    keyframes = {entry.timestamp for entry in video.index_entries if entry.is_keyframe}
    bad, first = 0, 0
    for count in frames:
        # Take the next `count` packets. A seek to the part's time would miss a part that has only one frame.
        part = pictures[first : first + count]
        seekable = bool(part) and part[0].dts in keyframes
        bad += not seekable or _begin(video.codec_context.extradata, part) != Fraction(first, FPS)
        first += count
    return bad


def _begin(headers: bytes | None, part: list["Packet[Stream]"]) -> Fraction | None:
    """Return the time in seconds of the first frame of a part, decoded by a fresh decoder. None if decoding fails."""
    decoder = CodecContext.create("h264", "r")
    decoder.extradata = headers
    try:
        frame = next((frame for packet in [*part, None] for frame in decoder.decode(packet)), None)
    except av.error.FFmpegError:
        return None
    return None if frame is None or frame.is_corrupt else _time(frame.pts, part[0])


def _headers(path: Path) -> bytes | None:
    with av.open(str(path)) as opened:
        return opened.streams.video[0].codec_context.extradata


def _time(ticks: int | None, of: "Packet[Stream]") -> Fraction:
    return Fraction((ticks or 0) * (of.time_base or 0))


if __name__ == "__main__":
    _parts = [argument.split(":", 1) for argument in sys.argv[2:]]
    _facts = _examine(Path(sys.argv[1]), [(Path(path), int(frames)) for frames, path in _parts])
    sys.stdout.write(json.dumps(asdict(_facts), allow_nan=False))
