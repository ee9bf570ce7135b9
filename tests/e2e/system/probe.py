"""Uploads a clip every ANB_SECONDS through the Service until SIGTERM. Runs in a pod with the API's image.

Prints one line per upload, with the response, the duration in seconds and the video's id. The last line is the number
of uploads. Deletes each video immediately after its upload, unless ANB_KEEP is set.
"""

import json
import os
import signal
import sys
import threading
import time
from base64 import b64decode
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException

HOST, TOKEN = os.environ["ANB_HOST"], os.environ["ANB_TOKEN"]
EVERY = float(os.environ["ANB_SECONDS"])
KEEP = bool(os.environ["ANB_KEEP"])
ACCEPTED = 202
HEAD = (
    '--probe\r\nContent-Disposition: form-data; name="title"\r\n\r\nprobe\r\n'
    f'--probe\r\nContent-Disposition: form-data; name="edit"\r\n\r\n{os.environ["ANB_EDIT"]}\r\n'
    '--probe\r\nContent-Disposition: form-data; name="video_file"; filename="probe.mp4"\r\n\r\n'
)
BODY = HEAD.encode() + b64decode(os.environ["ANB_CLIP"]) + b"\r\n--probe--\r\n"


def main() -> None:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    begun = 0
    with ThreadPoolExecutor(16) as pool:
        while not stop.wait(EVERY):
            pool.submit(upload)
            begun += 1
    sys.stdout.write(f"{begun} uploads\n")


def upload() -> None:
    begun = time.monotonic()
    try:
        status, body = call("POST", "/api/videos/upload", BODY)
        line = f"{status} {time.monotonic() - begun:.2f}"
        if status == ACCEPTED:
            video_id = json.loads(body)["video_id"]
            line += f" {video_id}"
            if not KEEP:
                call("DELETE", f"/api/videos/{video_id}")
        else:
            line += f" {body[:300]!r}"
    except (OSError, HTTPException) as error:
        line = f"{error!r} {time.monotonic() - begun:.2f}"
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def call(method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    """Send a request on a new connection, as a new client does. Returns the response's status and body."""
    connection = HTTPConnection(HOST, timeout=30)
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "multipart/form-data; boundary=probe"}
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


if __name__ == "__main__":
    main()
