"""Reads from the API through the Service every 200 ms until SIGTERM. Runs in a pod with the API's image.

Prints one line per request: when it began (Unix time), the status or the error, and the duration in seconds. The last
line is the number of requests.
"""

import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException

EVERY = 0.2
TIMEOUT = 4.0
"""Timeout of a request in seconds. Connections to the pods of a lost node never fail, so the reader gives them up.
It is long enough for a pod that answers slowly, because a node works for two."""


def main() -> None:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    begun = 0
    # More threads than requests that can hang at the same time.
    with ThreadPoolExecutor(32) as pool:
        while not stop.wait(EVERY):
            pool.submit(read)
            begun += 1
    sys.stdout.write(f"{begun} requests\n")


def read() -> None:
    clock, begun = time.time(), time.monotonic()
    # Each request has a new connection, as that of a new client.
    connection = HTTPConnection(os.environ["ANB_HOST"], timeout=TIMEOUT)
    try:
        connection.request("GET", "/api/videos?limit=1", headers={"Authorization": f"Bearer {os.environ['ANB_TOKEN']}"})
        answer = connection.getresponse()
        answer.read()
        said = str(answer.status)
    except (OSError, HTTPException) as error:
        said = type(error).__name__
    finally:
        connection.close()
    sys.stdout.write(f"{clock:.2f} {said} {time.monotonic() - begun:.2f}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
