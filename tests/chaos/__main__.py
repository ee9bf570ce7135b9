"""Runs faults of all kinds against a whole site: `python -m tests.chaos JOBS SEED`. Prints what happened."""

import os
import sys
import tempfile
from pathlib import Path

from tests.chaos.mixed import running_mixed
from tests.chaos.site import Servers
from tests.support.aws import running_ministack
from tests.support.postgres import running_postgres

FOOTAGE = Path(__file__).parents[2] / "build" / "footage"
WORKERS = 6
PAUSE = 4.0
"""Mean time between two faults, in seconds."""


def main(jobs: int, seed: int) -> int:
    """Run `jobs` videos through faults. Return the exit status: 1 if a promise was broken."""
    os.environ |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "NO_PROXY": "127.0.0.1"}
    clip = (FOOTAGE / "carphone_distorted.mp4").read_bytes()
    with tempfile.TemporaryDirectory(prefix="anb-chaos-") as name, running_postgres() as postgres:
        folder = Path(name)
        with running_ministack(folder / "ministack") as aws_url:
            servers = Servers(postgres.create_database(), aws_url)
            with running_mixed(
                folder / "site",
                servers,
                folder / "cards",
                clip,
                workers=WORKERS,
                seed=seed,
                tell=lambda line: print(line, flush=True),
            ) as mixed:
                report = mixed.run(jobs, pause=PAUSE)
    print(report.table())
    print(*report.broken, sep="\n")
    return int(bool(report.broken))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
