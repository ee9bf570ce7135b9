"""Builds the ffmpeg commands of a render. These functions run no command and open no file.

The intro, the main part and the outro are encoded separately, and then joined without another encoding.
Parts can be joined because they all have the same codec headers, time base, size and frame rate.
`_encode` makes the codec headers equal: it passes the same options for all parts, such as stitchable=1.
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
"""The time base of the output's video stream, in ticks per second. One frame has 512 ticks."""

_TICKS_A_TURN = 2**33
"""The timestamps of MPEG-TS wrap around to 0 after this many ticks."""

MASTER_QUALITY, CARD_QUALITY, QUALITY = 10, 16, 24
"""The option crf of x264 for three kinds of files. A lower value means better quality.
MASTER_QUALITY is for a card that will be encoded again with a title. QUALITY is for main parts.
CARD_QUALITY is for cards that are not encoded again. Their soft gradients need a better quality than main parts.
"""

X264 = (
    *("-c:v", "libx264", "-preset", "superfast", "-x264-params", "stitchable=1:mbtree=1"),
    *("-rc-lookahead", "20", "-aq-strength", "0.8", "-g", "250"),
)
"""Options of the video encoder. With stitchable, parts can be joined. The preset superfast has no mbtree, which saves a
third of the bytes, and costs little CPU time. docs/decisions/0018-superfast-with-mbtree.md has the measurements that
this choice is based on.
"""
_CARD = ("-aq-strength", "1")
"""The option that cards have after those of X264. With it, x264's default, soft gradients stay smooth."""
_BESIDE = ("-rc-lookahead", "3")
"""The option that a title has after those of X264. It saves 50 MB, which counts because another child runs beside."""

_UNNOTICED_SECONDS = 0.03
"""Errors of sound timestamps up to this many seconds are not corrected. People notice only errors above 40 ms."""

_COLOR = "colorspace=bt709:color_primaries=bt709:color_trc=bt709:range=tv"
# Tone mapping prevents pale colors of HDR videos. 203 nits is the brightness of white in HDR (ITU-R BT.2408).
_TONE_MAPPING = (
    "zscale=transfer=linear:npl=203,format=gbrpf32le,zscale=primaries=bt709,tonemap=mobius:desat=0,"
    "zscale=transfer=bt709:matrix=bt709:range=tv"
)
_SOUND_FORMAT = f"aformat=sample_fmts=fltp:sample_rates={SAMPLE_RATE}:channel_layouts=stereo"
_CAN_NOT_MIX = re.compile(r"Input channel layout '(?P<layout>[^']*)' is not supported|Rematrix is needed between ")
# Remove metadata, because they may contain the place of a recording or the name of a person.
_NO_METADATA = ("-map_metadata", "-1", "-map_chapters", "-1")


@dataclass(frozen=True, slots=True)
class Tool:
    """The ffmpeg binary and its limits."""

    path: PurePath
    max_pixels: int
    """Maximum number of pixels in one picture of an upload."""
    max_alloc: int
    """The largest block of memory that ffmpeg may allocate, in bytes."""
    threads: int
    """Number of threads that ffmpeg uses for each decoder, encoder and filter graph."""


@dataclass(frozen=True, slots=True)
class Sound:
    """The sound of one part of the output."""

    frames: int
    """The length of the part, as a number of video frames of the output."""
    file: PurePath | None = None
    """A NUT file with the sound, made by `extract_command`. None means silence."""


def picture_command(
    tool: Tool, plan: RenderPlan, source: PurePath, *, watermark: PurePath | None, output: PurePath, decoded: PurePath
) -> list[str]:
    """Build the command that renders the picture of the main part, with exactly `plan.main_frames` frames.

    The command also writes the time of each decoded frame to the file `decoded`, which `parse_moments` reads.
    """
    seconds = plan.main_frames / FPS
    # settb sets a fine time base. A file's own time base may have only one tick per frame, which would round times.
    # The part may begin between two frames. Then the frame before the cut must be shown as the first output frame.
    # max() sets this frame's time to 15 ms. This is less than half a frame's duration, so it becomes output frame 0.
    # If this frame had the time 0 and ended before the cut, ffmpeg would drop it.
    graph = (
        f"[0:{plan.video_index}]settb=AVTB,setpts={_from_start(plan.video_reading, plan)},trim=end={seconds:.6f},"
        f"split[all][count];[all]setpts='max(15000,PTS)'[picture];{_looks(plan)},"
        f"tpad=stop=-1:stop_mode=clone,trim=end_frame={plan.main_frames}"
    )
    if watermark is not None:
        # Use format=yuv420, because an overlay in RGB takes three to four times as much CPU time.
        graph += f"[main];[main][1:v]overlay=W-w-{WATERMARK_MARGIN}:H-h-{WATERMARK_MARGIN}:format=yuv420"
    graph += f",setparams={_COLOR}[v]"
    return [
        *_ffmpeg(tool),
        # The filter graph needs no rebuild when the size of the frames changes: it scales each frame separately.
        *("-reinit_filter", "0"),
        *_upload_input(tool, plan, plan.video_index, plan.video_reading, source),
        *(_trusted_input(tool, "png_pipe", watermark) if watermark is not None else ()),
        *("-filter_complex", graph),
        *("-map", "[v]", *_encode(tool, QUALITY), _url(output)),
        *("-map", "[count]", "-c:v", "wrapped_avframe", "-fps_mode", "passthrough", "-enc_time_base", "filter"),
        *("-stats_enc_pre", str(decoded), "-stats_enc_pre_fmt", "{t}", "-f", "null", "-"),
    ]


def extract_command(tool: Tool, plan: RenderPlan, source: PurePath, output: PurePath, decoded: PurePath) -> list[str]:
    """Build the command that decodes the sound of the main part to PCM in a NUT file.

    The timestamps in the NUT file begin with 0 at the start of the main part.
    The command also writes the time and the number of samples of each decoded frame to the file `decoded`.
    `parse_spans` reads this file.
    Sound is decoded by a separate command, because ffmpeg rebuilds the filter graph when the channels change.
    A rebuilt filter graph counts time from 0 again.
    """
    if plan.audio_index is None:
        raise ValueError("there is no sound to extract")
    part = f"asetpts={_from_start(plan.audio_reading, plan)},atrim=start=0:end={plan.main_frames / FPS:.6f}"
    return [
        *(*_ffmpeg(tool), *_upload_input(tool, plan, plan.audio_index, plan.audio_reading, source)),
        *("-map", f"0:{plan.audio_index}", "-af", part),
        *("-ar", str(SAMPLE_RATE), "-ac", "2", "-c:a", "pcm_s16le", *_NO_METADATA),
        *("-stats_enc_pre", str(decoded), "-stats_enc_pre_fmt", "{t} {samp}", "-f", "nut", _url(output)),
    ]


def take_two_channels(command: Sequence[str], stderr: str) -> list[str] | None:
    """Change an `extract_command` that failed because ffmpeg can't mix the channels of the sound to stereo.

    ffmpeg can't mix dual mono, discrete channels or Ambisonics. The new command copies channels instead of mixing.
    Ambisonics has the sound from all directions in its first channel, which becomes both output channels.
    Returns None if `stderr` shows no such error.
    """
    message = _CAN_NOT_MIX.search(stderr)
    if message is None or "-af" not in command:
        return None
    channels = "0|0" if (message["layout"] or "").startswith(("ambisonic", "1 channel")) else "0|1"
    at = command.index("-af") + 1
    return [*command[:at], f"channelmap={channels}:stereo,{command[at]}", *command[at + 1 :]]


def parse_moments(notes: str) -> list[float]:
    """Parse the file `decoded` of `picture_command`. Returns the presentation time of each frame, in seconds."""
    return [float(line) for line in notes.split()]


def parse_spans(notes: str) -> list[tuple[float, float]]:
    """Parse the file `decoded` of `extract_command`. Returns start and end of each sound frame, in seconds."""
    spans = (line.split() for line in notes.splitlines())
    return [(float(begin), float(begin) + int(samples) / SAMPLE_RATE) for begin, samples in spans]


def sound_command(tool: Tool, sounds: Sequence[Sound], output: PurePath) -> list[str]:
    """Build the command that encodes the sound of the finished video. Each part's sound gets the length of its picture.

    The sounds of the parts are joined first, and then encoded together.
    If each part were encoded alone, it would have a whole number of AAC packets, and would be too long or too short.
    """
    inputs: list[str] = []
    chains: list[str] = []
    files = 0
    for sound in sounds:
        if sound.file is None:
            chain = f"anullsrc=r={SAMPLE_RATE}:cl=stereo"
        else:
            # async fills gaps above _UNNOTICED_SECONDS with silence. first_pts=0 adds silence before a late start.
            chain = f"[{files}:a]aresample={SAMPLE_RATE}:async=1:first_pts=0:min_hard_comp={_UNNOTICED_SECONDS}"
            inputs += _trusted_input(tool, "nut", sound.file)
            files += 1
        exact = f"apad,atrim=end_sample={sound.frames * SAMPLES_PER_FRAME}"
        chains.append(f"{chain},{_SOUND_FORMAT},{exact}[s{len(chains)}]")
    joined = "".join(f"[s{number}]" for number in range(len(chains)))
    graph = ";".join([*chains, f"{joined}concat=n={len(chains)}:v=0:a=1[a]"])
    encode = ("-c:a", "aac", "-b:a", "160k", *_NO_METADATA, "-f", "mp4")
    # Without -copyts, ffmpeg would move sound that begins late to the beginning.
    return [*_ffmpeg(tool), "-copyts", *inputs, "-filter_complex", graph, "-map", "[a]", *encode, _url(output)]


def title_command(
    tool: Tool, intro: PurePath, frames: int, *, title: PurePath, top_left: tuple[int, int], output: PurePath
) -> list[str]:
    """Build the command that draws the picture `title`, a transparent PNG, over the project's own intro.

    The title fades in. At the end it fades out together with the intro. `top_left` is its position in pixels.
    """
    dark = frames / FPS - FADE_OUT_SECONDS
    graph = (
        f"[1:v]loop=loop={frames}:size=1,setpts=N/({FPS}*TB),format=yuva420p,"
        "fade=in:start_time=0.7:duration=0.5:alpha=1,"
        f"fade=out:start_time={dark}:duration={FADE_OUT_SECONDS}:alpha=1[title];"
        f"[0:v][title]overlay={top_left[0]}:{top_left[1]}:format=yuv420,trim=end_frame={frames},setparams={_COLOR}[v]"
    )
    return [
        *_ffmpeg(tool),
        *(*_trusted_input(tool, "mov", intro), *_trusted_input(tool, "png_pipe", title)),
        *("-filter_complex", graph, "-map", "[v]", *_encode(tool, CARD_QUALITY), *_CARD, *_BESIDE, _url(output)),
    ]


def card_command(tool: Tool, drawn: PurePath, frames: int, quality: int, output: PurePath) -> list[str]:
    """Build the command that encodes a composed card so that it can be joined. `quality` is x264's crf."""
    graph = f"[0:v]fps={FPS},{_fit(ColorPlan())},trim=end_frame={frames},setparams={_COLOR}[v]"
    return [
        *(*_ffmpeg(tool), *_trusted_input(tool, "mov", drawn)),
        *("-filter_complex", graph, "-map", "[v]", *_encode(tool, quality), *_CARD, _url(output)),
    ]


def join_list(parts: Sequence[tuple[str, int]]) -> str:
    """Return the content of the file `parts` for `join_command`: the name and the duration of each part.

    The argument `parts` has the file name of each part, without a folder, and the part's number of frames.
    """
    return "".join(f"file '{name}'\nduration {frames / FPS:.9f}\n" for name, frames in parts)


def join_command(tool: Tool, parts: PurePath, sound: PurePath, output: PurePath) -> list[str]:
    """Build the command that joins the parts and the sound without another encoding.

    `parts` is a file with the text that `join_list` returns.
    The option +faststart puts the index before the media data.
    """
    return [
        *_ffmpeg(tool),
        *(*_trusted_input(tool, "concat", parts), *_trusted_input(tool, "mov", sound)),
        *("-map", "0:v", "-map", "1:a", "-c", "copy", "-video_track_timescale", str(CLOCK), *_NO_METADATA),
        *("-movflags", "+faststart", "-f", "mp4", _url(output)),
    ]


def _from_start(reading: Reading, plan: RenderPlan) -> str:
    """Return an ffmpeg expression for a timestamp, counted from the start of the kept part."""
    return f"PTS-{reading.origin + plan.start:.6f}/TB"


def _looks(plan: RenderPlan) -> str:
    """Return the filters that turn the stream [picture] into output frames. Each look has a filter chain of its own."""
    if len(plan.looks) == 1:
        return f"[picture]{_look(plan, plan.looks[0])}"
    count = len(plan.looks)
    ends = [*(look.first_frame for look in plan.looks[1:]), plan.main_frames]
    chains = [f"[picture]split={count}{''.join(f'[part{n}]' for n in range(count))}"]
    for n, (look, end) in enumerate(zip(plan.looks, ends, strict=True)):
        # The chain of the next look begins at the output frame that is nearest to the change.
        since = [f"start={(look.first_frame - 0.5) / FPS:.6f}"] if n else []
        until = [f"end={(end - 0.5) / FPS:.6f}"] if n < count - 1 else []
        # Scale each frame to the size of its look, because the later filters of a chain need frames of one size.
        # Set the color tags, too, because a decoder may keep the tags of the previous look.
        matrix = look.color.matrix if look.color.by == "scaler" else "bt709"
        same_size = f"setparams=colorspace={matrix}:range={_range(look.color)},scale={look.width}:{look.height}"
        exact = f"tpad=stop=-1:stop_mode=clone,trim=end_frame={end - look.first_frame},setpts=PTS-STARTPTS"
        chains.append(f"[part{n}]trim={':'.join(since + until)},{same_size},{_look(plan, look)},{exact}[look{n}]")
    joined = "".join(f"[look{n}]" for n in range(count))
    return f"{';'.join(chains)};{joined}concat=n={count},setpts=N/({FPS}*TB)"


def _look(plan: RenderPlan, look: PlannedLook) -> str:
    """Return the filters for one look: deinterlace, set the frame rate, and fit the picture into the output frame."""
    # With start_time, the output begins at the cut. Its first frame is the last frame before the cut.
    # If no frame comes before the cut, the first frame after the cut is shown early, instead of black.
    # `fps` also adds frames where timestamps have gaps. Callers limit the number of frames by `end_frame`.
    steps = f"fps={FPS}:start_time={look.first_frame / FPS:.6f}:eof_action=pass,{_fit(look.color)}"
    if look.pixel_aspect is not None:
        steps = f"setsar={look.pixel_aspect:.6f},{steps}"
    return f"bwdif=mode=send_frame:deint=interlaced,{steps}" if plan.may_be_interlaced else steps


def _fit(color: ColorPlan) -> str:
    """Return the filters that fit a picture into the output frame with black bars, in 8 bits and BT.709."""
    # `dar` is the display aspect ratio. With max(2, ...), even a very wide or tall picture is at least 2 pixels high.
    fit = f"scale=w='max(2,2*round(min({WIDTH},{HEIGHT}*dar)/2))':h='max(2,2*round(min({HEIGHT},{WIDTH}/dar)/2))'"
    fit += ":flags=bicubic:eval=frame"
    # premultiply draws transparent pixels over black.
    blend = ",premultiply=inplace=1" if color.alpha else ""
    if color.by == "scaler":
        assumed = f":in_color_matrix={color.matrix}" if color.assumed else ""
        steps = f"{fit}{assumed}:out_color_matrix=bt709:out_range=tv{blend}"
    else:
        # Scale the picture first, because the color conversion then has fewer pixels to convert.
        steps = f"{_hide_matrix(color)}{fit}{blend},{_convert(color)}"
    return f"{steps},pad={WIDTH}:{HEIGHT}:-1:-1:eval=frame,setsar=1,format=yuv420p"


def _hide_matrix(color: ColorPlan) -> str:
    """Return a filter that hides the color matrix from the scaler, because the scaler rejects unknown matrices.

    The filter changes the tag of the matrix to BT.709. After the scaler, `_convert` sets the right tag again.
    """
    return "" if color.by == "scaler" or color.matrix == "gbr" else "setparams=colorspace=bt709,"


def _range(color: ColorPlan) -> str:
    return "pc" if color.full_range else "tv"


def _convert(color: ColorPlan) -> str:
    """Return the filters that convert a picture's colors to BT.709 with the library zimg (zscale)."""
    tags = (
        f"setparams=colorspace={color.matrix}:color_primaries={color.primaries}:color_trc={color.transfer}"
        f":range={_range(color)}"
    )
    simple = "zscale=primaries=bt709:transfer=bt709:matrix=bt709:range=tv"
    return f"{tags},{_TONE_MAPPING if color.by == 'tone_mapping' else simple}"


def _encode(tool: Tool, quality: int) -> list[str]:
    """Return the options of the video encoder. `quality` is x264's crf, which does not change the codec headers."""
    return [
        *(*X264, "-crf", str(quality), "-profile:v", "high", "-level:v", "3.1"),
        # Limit the bit rate, and so the size of the file. Every player for H.264 level 3.1 supports this bit rate.
        *("-maxrate", "10M", "-bufsize", "15M", "-threads", str(tool.threads)),
        *("-pix_fmt", "yuv420p", "-video_track_timescale", str(CLOCK), *_NO_METADATA, "-f", "mp4"),
    ]


def _trusted_input(tool: Tool, demuxer: str, path: PurePath) -> list[str]:
    """Return the options to read a file that this project made."""
    # By default, a decoder would use one thread for each processor of the node, whatever the container's limit is.
    return ["-protocol_whitelist", "file", "-threads", str(tool.threads), "-f", demuxer, "-i", _url(path)]


def _ffmpeg(tool: Tool) -> list[str]:
    return [
        *(str(tool.path), "-hide_banner", "-nostdin", "-y", "-v", "warning", "-nostats", "-progress", "pipe:1"),
        *("-stats_period", "0.25", "-max_alloc", str(tool.max_alloc), "-filter_complex_threads", str(tool.threads)),
    ]


def _upload_input(tool: Tool, plan: RenderPlan, stream: int, reading: Reading, source: PurePath) -> list[str]:
    """Return the options to read a stream of an uploaded file.

    The options set the demuxer. Otherwise a playlist with the name .mp4 could make ffmpeg read other files.
    """
    demuxer = DEMUXERS[plan.container]
    # The filter graph needs the frames before the cut. -noaccurate_seek stops ffmpeg from dropping these frames.
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
        # -copyts keeps the timestamps of the file. Otherwise each command would change its first timestamp to 0.
        # Without -copyts, picture and sound would get out of sync, because separate commands read them.
        *("-copyts", *seek, *clock, "-i", _url(source)),
    ]


def _right_clock(container: Container, reading: Reading) -> str:
    """Return bitstream filters that correct timestamps after jumps, and drop packets that are not needed."""
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
    """Return a path as a URL. ffmpeg could mistake a plain path for an option or for a URL of another protocol."""
    return f"file:{path}"
