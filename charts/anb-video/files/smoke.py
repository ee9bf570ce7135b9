"""The test for `helm test`: upload a generated clip, wait for the finished video, and delete the video."""

import json
import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import imageio_ffmpeg

VIDEOS = f"{os.environ['ANB_URL']}/api/videos"
# Remove the line break with which a Secret often ends. The error for a header with a line break would show the token.
AUTHORIZATION = {"Authorization": f"Bearer {''.join(os.environ['ANB_TOKEN'].split())}"}
PATIENCE_SECONDS = float(os.environ["ANB_TEST_SECONDS"])


def main() -> None:
    """Run the test. On a failure, exit with a message."""
    video = f"{VIDEOS}/{upload(make_clip())}"
    try:
        result = wait_until_processed(video)["result"]
        say(f"The result has {result['size']} bytes and lasts {result['duration']:.1f} s.")
    finally:
        call(video, method="DELETE")


def say(line: str) -> None:
    """Print a line without a buffer, so that `helm test --logs` shows the line."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def make_clip() -> bytes:
    """Generate a clip: two seconds of a test picture with a tone."""
    sources = ["-f", "lavfi", "-i", "testsrc=size=320x240:rate=30", "-f", "lavfi", "-i", "sine=frequency=440"]
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder, "clip.mp4")
        ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error"]
        subprocess.run([*ffmpeg, *sources, "-t", "2", "-pix_fmt", "yuv420p", str(clip)], check=True)
        return clip.read_bytes()


def upload(clip: bytes) -> str:
    """Upload a clip, and return the id of the new video."""
    boundary = uuid.uuid4().hex
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="title"\r\n\r\nhelm test\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="video_file"; filename="clip.mp4"\r\n'
        "Content-Type: video/mp4\r\n\r\n"
    )
    body = head.encode() + clip + f"\r\n--{boundary}--\r\n".encode()
    kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    video_id = str(json.loads(call(f"{VIDEOS}/upload", body=body, headers=kind))["video_id"])
    say(f"Uploaded {len(clip)} bytes as video {video_id}.")
    return video_id


def wait_until_processed(video: str) -> dict[str, Any]:
    """Poll a video until its status is `processed`. Returns the video's JSON. Exits if the processing fails."""
    deadline = monotonic() + PATIENCE_SECONDS
    status = None
    while True:
        state: dict[str, Any] = json.loads(call(video))
        if state["status"] != status:
            status = state["status"]
            say(f"It is {status}.")
        if status == "processed":
            return state
        if status in {"failed", "dead_lettered", "cancelled"}:
            sys.exit(f"It was not processed: {state['error'] or status}")
        if monotonic() > deadline:
            sys.exit(f"It is still {status} after {PATIENCE_SECONDS:.0f} s: {state}")
        sleep(1)


def call(
    url: str, *, method: str | None = None, body: bytes | None = None, headers: dict[str, str] | None = None
) -> bytes:
    """Call the API and return the body of the response. On an error, exit with the API's message."""
    headers = AUTHORIZATION | (headers or {})
    request = urllib.request.Request(url, data=body, method=method, headers=headers)  # noqa: S310 - the release's own API
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return bytes(answer.read())
    except urllib.error.HTTPError as error:
        sys.exit(f"{request.get_method()} {url}: {error.code} {error.read().decode(errors='replace')}")
    except OSError as error:
        sys.exit(f"{request.get_method()} {url}: {getattr(error, 'reason', error)}")


if __name__ == "__main__":
    main()
