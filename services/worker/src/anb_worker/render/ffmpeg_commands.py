"""Builds the ffmpeg commands of a render. Nothing is run, read or written here: paths are only names.

Parts are encoded apart and joined without encoding them again. That works only while every part comes from `_encode`:
x264 writes the same headers for all of them (stitchable), and clock, size and rate are the same.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePath

from anb_core.domain.color import ColorPlan
from anb_core.domain.formats import DECODERS, DEMUXERS, MOST_STREAMS, Container, ffmpeg_max_pixels
from anb_core.domain.output_format import FPS, HEIGHT, SAMPLE_RATE, SAMPLES_PER_FRAME, WIDTH
from anb_core.domain.render_plan import PlannedLook, RenderPlan
from anb_core.domain.source_facts import Reading
from anb_worker.render.layout import FADE_OUT_SECONDS, WATERMARK_MARGIN

CLOCK = 15360
"""Ticks a second of the picture's timestamps; 512 to a frame."""

_TICKS_A_TURN = 2**33
"""After how many the clock of MPEG-TS begins anew."""

MASTER_QUALITY, CARD_QUALITY, _QUALITY = 10, 17, 23
"""x264's crf, less is better: of what is encoded once more, of cards, whose soft shades show every step, and of videos.
"""

_UNNOTICED_SECONDS = 0.03
"""How far sound may be from its time. Less than 40 ms, which are noticed; more than the jitter of honest timestamps."""

_COLOR = "colorspace=bt709:color_primaries=bt709:color_trc=bt709:range=tv"
# Without it a phone's HDR clip comes out pale. 203 nits is what HDR calls white.
_TONE_MAPPING = (
    "zscale=transfer=linear:npl=203,format=gbrpf32le,zscale=primaries=bt709,tonemap=mobius:desat=0,"
    "zscale=transfer=bt709:matrix=bt709:range=tv"
)
_SOUND_FORMAT = f"aformat=sample_fmts=fltp:sample_rates={SAMPLE_RATE}:channel_layouts=stereo"
_NO_MIX = re.compile(r"Input channel layout '(?P<layout>[^']*)' is not supported|Rematrix is needed between ")
# Neither where a phone's clip was taken nor who made it goes into the output.
_NO_METADATA = ("-map_metadata", "-1", "-map_chapters", "-1")


@dataclass(frozen=True, slots=True)
class Tool:
    """The ffmpeg that is run, and what it may use."""

    path: PurePath
    max_pixels: int
    """The pixels of one picture of an upload."""
    max_alloc: int
    """The bytes of one block of memory."""
    threads: int
    """The threads of one codec."""


@dataclass(frozen=True, slots=True)
class Sound:
    """The sound of one part of the output."""

    frames: int
    """How long it is, in frames of the output's picture."""
    file: PurePath | None = None
    """What extract_command wrote. None means silence."""


def picture_command(
    tool: Tool, plan: RenderPlan, source: PurePath, *, watermark: PurePath | None, output: PurePath, decoded: PurePath
) -> list[str]:
    """The kept part's picture, exactly `main_frames` frames. When each decoded one appears goes to file `decoded`."""
    seconds = plan.main_frames / FPS
    # settb: a frame's time is not rounded to the file's own clock, which may have no more ticks than it has frames.
    # max: a picture that was there before the cut is shown from the cut on; 15 ms round to that, but are not nothing
    # where the picture ends before the cut.
    graph = (
        f"[0:{plan.video_index}]settb=AVTB,setpts={_from_start(plan.video_reading, plan)},trim=end={seconds:.6f},"
        f"split[all][count];[all]setpts='max(15000,PTS)'[picture];{_looks(plan)},"
        f"tpad=stop=-1:stop_mode=clone,trim=end_frame={plan.main_frames}"
    )
    if watermark is not None:
        # format=yuv420: blending in rgb costs three to four times as much.
        graph += f"[main];[main][1:v]overlay=W-w-{WATERMARK_MARGIN}:H-h-{WATERMARK_MARGIN}:format=yuv420"
    graph += f",setparams={_COLOR}[v]"
    return [
        *_ffmpeg(tool),
        # A picture that changes its size in mid-stream goes on through the same graph, which scales each frame by
        # itself.
        *("-reinit_filter", "0"),
        *_source(tool, plan, plan.video_index, plan.video_reading, source),
        *(_own("png_pipe", watermark) if watermark is not None else ()),
        *("-filter_complex", graph),
        *("-map", "[v]", *_encode(tool, _QUALITY), _url(output)),
        *("-map", "[count]", "-c:v", "wrapped_avframe", "-fps_mode", "passthrough", "-enc_time_base", "filter"),
        *("-stats_enc_pre", str(decoded), "-stats_enc_pre_fmt", "{t}", "-f", "null", "-"),
    ]


def extract_command(tool: Tool, plan: RenderPlan, source: PurePath, output: PurePath, decoded: PurePath) -> list[str]:
    """The kept part's sound as it is, but PCM, with its own timestamps; 0 is the part's beginning. When each piece of
    it begins, and how many samples it has, goes to file `decoded`.

    A command of its own: where a stream changes its channels in midway, all filters begin anew, and so do their counts.
    """
    if plan.audio_index is None:
        raise ValueError("there is no sound to extract")
    part = f"asetpts={_from_start(plan.audio_reading, plan)},atrim=start=0:end={plan.main_frames / FPS:.6f}"
    return [
        *(*_ffmpeg(tool), *_source(tool, plan, plan.audio_index, plan.audio_reading, source)),
        *("-map", f"0:{plan.audio_index}", "-af", part),
        *("-ar", str(SAMPLE_RATE), "-ac", "2", "-c:a", "pcm_s16le", *_NO_METADATA),
        *("-stats_enc_pre", str(decoded), "-stats_enc_pre_fmt", "{t} {samp}", "-f", "nut", _url(output)),
    ]


def take_two_channels(extracting: Sequence[str], stderr: str) -> list[str] | None:
    """The same extraction of two channels as they are, where ffmpeg complains that it can't mix them all; else None.

    It mixes loudspeakers in a room: not dual mono, nor discrete channels, nor Ambisonics, whose first channel is what
    is heard from everywhere.
    """
    found = _NO_MIX.search(stderr)
    if found is None or "-af" not in extracting:
        return None
    taken = "0|0" if (found["layout"] or "").startswith(("ambisonic", "1 channel")) else "0|1"
    at = extracting.index("-af") + 1
    return [*extracting[:at], f"channelmap={taken}:stereo,{extracting[at]}", *extracting[at + 1 :]]


def parse_moments(notes: str) -> list[float]:
    """When each decoded frame is shown, in seconds, from the text that picture_command's `decoded` file holds."""
    return [float(line) for line in notes.split()]


def parse_spans(notes: str) -> list[tuple[float, float]]:
    """From when to when there is sound, in seconds, from the text that extract_command's `decoded` file holds."""
    spans = (line.split() for line in notes.splitlines())
    return [(float(begin), float(begin) + int(samples) / SAMPLE_RATE) for begin, samples in spans]


def sound_command(tool: Tool, sounds: Sequence[Sound], output: PurePath) -> list[str]:
    """The sound of a whole video, stretch by stretch, each with exactly as many samples as its picture needs.

    In one go, though the picture is joined from parts: each part's sound would end a little off, and the sum be heard.
    """
    inputs: list[str] = []
    chains: list[str] = []
    files = 0
    for sound in sounds:
        if sound.file is None:
            chain = f"anullsrc=r={SAMPLE_RATE}:cl=stereo"
        else:
            # async: what is missing becomes silence, once it is noticed; first_pts: what is late stays late.
            chain = f"[{files}:a]aresample={SAMPLE_RATE}:async=1:first_pts=0:min_hard_comp={_UNNOTICED_SECONDS}"
            inputs += _own("nut", sound.file)
            files += 1
        exact = f"apad,atrim=end_sample={sound.frames * SAMPLES_PER_FRAME}"
        chains.append(f"{chain},{_SOUND_FORMAT},{exact}[s{len(chains)}]")
    joined = "".join(f"[s{number}]" for number in range(len(chains)))
    graph = ";".join([*chains, f"{joined}concat=n={len(chains)}:v=0:a=1[a]"])
    encode = ("-c:a", "aac", "-b:a", "160k", *_NO_METADATA, "-f", "mp4")
    # copyts: else ffmpeg would move a sound that begins late to the beginning.
    return [*_ffmpeg(tool), "-copyts", *inputs, "-filter_complex", graph, "-map", "[a]", *encode, _url(output)]


def title_command(
    tool: Tool, intro: PurePath, frames: int, *, title: PurePath, top_left: tuple[int, int], output: PurePath
) -> list[str]:
    """Our intro with a title, a transparent picture: it appears softly, and goes with the intro."""
    dark = frames / FPS - FADE_OUT_SECONDS
    graph = (
        f"[1:v]loop=loop={frames}:size=1,setpts=N/({FPS}*TB),format=yuva420p,"
        "fade=in:start_time=0.7:duration=0.5:alpha=1,"
        f"fade=out:start_time={dark}:duration={FADE_OUT_SECONDS}:alpha=1[title];"
        f"[0:v][title]overlay={top_left[0]}:{top_left[1]}:format=yuv420,trim=end_frame={frames},setparams={_COLOR}[v]"
    )
    return [
        *_ffmpeg(tool),
        *(*_own("mov", intro), *_own("png_pipe", title)),
        *("-filter_complex", graph, "-map", "[v]", *_encode(tool, CARD_QUALITY), _url(output)),
    ]


def card_command(tool: Tool, drawn: PurePath, frames: int, quality: int, output: PurePath) -> list[str]:
    """A card that we composed, made joinable."""
    graph = f"[0:v]fps={FPS},{_fit(ColorPlan())},trim=end_frame={frames},setparams={_COLOR}[v]"
    return [
        *(*_ffmpeg(tool), *_own("mov", drawn)),
        *("-filter_complex", graph, "-map", "[v]", *_encode(tool, quality), _url(output)),
    ]


def join_list(parts: Sequence[tuple[str, int]]) -> str:
    """The list that join_command reads: file names beside it, and how many frames each has."""
    return "".join(f"file '{name}'\nduration {frames / FPS:.9f}\n" for name, frames in parts)


def join_command(tool: Tool, parts: PurePath, sound: PurePath, output: PurePath) -> list[str]:
    """The parts one after the other, with the sound, nothing encoded again; the index comes first."""
    return [
        *_ffmpeg(tool),
        *(*_own("concat", parts), *_own("mov", sound)),
        *("-map", "0:v", "-map", "1:a", "-c", "copy", "-video_track_timescale", str(CLOCK), *_NO_METADATA),
        *("-movflags", "+faststart", "-f", "mp4", _url(output)),
    ]


def _from_start(reading: Reading, plan: RenderPlan) -> str:
    """A frame's time from the beginning of the kept part on."""
    return f"PTS-{reading.origin + plan.start:.6f}/TB"


def _looks(plan: RenderPlan) -> str:
    """From [picture] to frames of the output: each look by a chain of its own, one after the other."""
    if len(plan.looks) == 1:
        return f"[picture]{_look(plan, plan.looks[0])}"
    count = len(plan.looks)
    ends = [*(look.first_frame for look in plan.looks[1:]), plan.main_frames]
    chains = [f"[picture]split={count}{''.join(f'[part{n}]' for n in range(count))}"]
    for n, (look, end) in enumerate(zip(plan.looks, ends, strict=True)):
        # A change belongs to the frame that is nearest to it.
        since = [f"start={(look.first_frame - 0.5) / FPS:.6f}"] if n else []
        until = [f"end={(end - 0.5) / FPS:.6f}"] if n < count - 1 else []
        # Pictures of another size than the first one's would be too much for what follows, so each has its look's. What
        # they say of their colors may be left over from the look before.
        matrix = look.color.matrix if look.color.by == "scaler" else "bt709"
        same_size = f"setparams=colorspace={matrix}:range={_range(look.color)},scale={look.width}:{look.height}"
        exact = f"tpad=stop=-1:stop_mode=clone,trim=end_frame={end - look.first_frame},setpts=PTS-STARTPTS"
        chains.append(f"[part{n}]trim={':'.join(since + until)},{same_size},{_look(plan, look)},{exact}[look{n}]")
    joined = "".join(f"[look{n}]" for n in range(count))
    return f"{';'.join(chains)};{joined}concat=n={count},setpts=N/({FPS}*TB)"


def _look(plan: RenderPlan, look: PlannedLook) -> str:
    # end_frame, not only a time: a file with a hole in its timestamps would make `fps` fill the hole. start_time: a
    # picture that was there before the cut is shown from the cut on, one that comes later is shown early instead of
    # black.
    steps = f"fps={FPS}:start_time={look.first_frame / FPS:.6f}:eof_action=pass,{_fit(look.color)}"
    if look.pixel_aspect is not None:
        steps = f"setsar={look.pixel_aspect:.6f},{steps}"
    return f"bwdif=mode=send_frame:deint=interlaced,{steps}" if plan.may_be_interlaced else steps


def _fit(color: ColorPlan) -> str:
    """Into the frame, never stretched, with black bars; square pixels, 8 bits, BT.709."""
    # By its display aspect ratio; of a picture that is no more than a line, at least a line is left.
    fit = f"scale=w='max(2,2*round(min({WIDTH},{HEIGHT}*dar)/2))':h='max(2,2*round(min({HEIGHT},{WIDTH}/dar)/2))'"
    fit += ":flags=bicubic:eval=frame"
    # What is transparent is shown as on black.
    blend = ",premultiply=inplace=1" if color.alpha else ""
    if color.by == "scaler":
        assumed = f":in_color_matrix={color.matrix}" if color.assumed else ""
        steps = f"{fit}{assumed}:out_color_matrix=bt709:out_range=tv{blend}"
    else:
        # Scaled first: there is less to convert then.
        steps = f"{_hide_matrix(color)}{fit}{blend},{_convert(color)}"
    return f"{steps},pad={WIDTH}:{HEIGHT}:-1:-1:eval=frame,setsar=1,format=yuv420p"


def _hide_matrix(color: ColorPlan) -> str:
    """The scaler refuses matrices that it does not know, also where it has nothing to do with them."""
    return "" if color.by == "scaler" or color.matrix == "gbr" else "setparams=colorspace=bt709,"


def _range(color: ColorPlan) -> str:
    return "pc" if color.full_range else "tv"


def _convert(color: ColorPlan) -> str:
    """What zimg does: from what the picture means to BT.709."""
    said = (
        f"setparams=colorspace={color.matrix}:color_primaries={color.primaries}:color_trc={color.transfer}"
        f":range={_range(color)}"
    )
    simple = "zscale=primaries=bt709:transfer=bt709:matrix=bt709:range=tv"
    return f"{said},{_TONE_MAPPING if color.by == 'tone_mapping' else simple}"


def _encode(tool: Tool, quality: int) -> list[str]:
    """The same for every part of a video but for `quality`, which leaves no trace in the headers."""
    return [
        *("-c:v", "libx264", "-preset", "veryfast", "-crf", str(quality), "-profile:v", "high", "-level:v", "3.1"),
        # What a player of that level must bear, even when a video is all noise; it also bounds the file.
        *("-maxrate", "10M", "-bufsize", "15M", "-x264-params", "stitchable=1", "-threads", str(tool.threads)),
        *("-g", str(2 * FPS), "-pix_fmt", "yuv420p", "-video_track_timescale", str(CLOCK), *_NO_METADATA, "-f", "mp4"),
    ]


def _own(demuxer: str, path: PurePath) -> list[str]:
    """A file of ours as an input."""
    return ["-protocol_whitelist", "file", "-f", demuxer, "-i", _url(path)]


def _ffmpeg(tool: Tool) -> list[str]:
    return [
        *(str(tool.path), "-hide_banner", "-nostdin", "-y", "-v", "warning", "-nostats", "-progress", "pipe:1"),
        *("-stats_period", "0.25", "-max_alloc", str(tool.max_alloc), "-filter_complex_threads", str(tool.threads)),
    ]


def _source(tool: Tool, plan: RenderPlan, stream: int, reading: Reading, source: PurePath) -> list[str]:
    """A stranger's file. The demuxer is forced: else a playlist named .mp4 makes ffmpeg read other files."""
    demuxer = DEMUXERS[plan.container]
    # Not accurate: what is before the cut is decoded and handed on, and the graph decides what is shown at the cut.
    seek: tuple[str, ...] = ()
    if reading.seek is not None:
        seek = ("-noaccurate_seek", "-seek_timestamp", "1", "-ss", f"{reading.seek:.6f}")
    decoder = () if plan.video_decoder is None else (f"-c:{plan.video_index}", plan.video_decoder)
    clock = ("-bsf:" + str(stream), _right_clock(plan.container, reading)) if reading.stretches else ()
    return [
        *("-protocol_whitelist", "file", "-f", demuxer, "-format_whitelist", demuxer),
        *("-codec_whitelist", ",".join([*DECODERS, *decoder[1:]]), "-max_streams", str(MOST_STREAMS)),
        *decoder,
        *("-max_pixels", str(ffmpeg_max_pixels(tool.max_pixels)), "-threads", str(tool.threads)),
        # The file's own times for all its streams: ffmpeg would move the beginning of each that it reads to 0.
        *("-copyts", *seek, *clock, "-i", _url(source)),
    ]


def _right_clock(container: Container, reading: Reading) -> str:
    """A filter of packets that puts a jumping clock right, and leaves out what is not needed."""
    first = reading.stretches[0]
    since, moved = str(first.since), str(first.place - first.since)
    for before, stretch in pairwise(reading.stretches):
        since += f"+gte(N,{stretch.packet})*({stretch.since - before.since})"
        moved += f"+gte(N,{stretch.packet})*({stretch.place - stretch.since - before.place + before.since})"
    times = []
    for name in ("PTS", "DTS"):
        turns = f"-{_TICKS_A_TURN}*round(({name}-({since}))/{_TICKS_A_TURN})" if container is Container.MPEG_TS else ""
        times.append(f"{name.lower()}='if(eq({name},NOPTS),NOPTS,{name}{turns}+{moved})'")
    return f"setts={':'.join(times)},noise=drop='lt(n,{reading.skip})'"


def _url(path: PurePath) -> str:
    """A path that can't be taken for anything else."""
    return f"file:{path}"
