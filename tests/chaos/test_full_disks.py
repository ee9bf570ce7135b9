"""Disks that are full, while videos are uploaded and processed. The disks are small file systems in memory."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.chaos.load import at_work, endured
from tests.chaos.site import Servers, Site
from tests.support import eventually
from tests.support.postgres import nobody

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a file system"),
]


@contextmanager
def disk(folder: Path, size: str) -> Iterator[None]:
    """Mount a file system in memory of the given size during the block."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "anb-chaos", folder], check=True)  # noqa: S607
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)  # noqa: S607


def resize(folder: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", folder], check=True)  # noqa: S607


def logs(site: Site) -> str:
    return "".join(program.log for program in site.programs.all.values())


def test_a_scratch_disk_that_is_full_costs_only_time(
    tmp_path: Path, servers: Servers, cards_dir: Path, clip: bytes
) -> None:
    scratch = tmp_path / "tmp"
    with (
        disk(scratch, "1g"),
        at_work(tmp_path, servers, cards_dir) as site,
        endured(site, clip),
    ):
        resize(scratch, "1m")
        eventually(lambda: "give it more room" in logs(site))
        resize(scratch, "1g")


@pytest.fixture
def tablespace() -> Iterator[Path]:
    """A folder that the server may use, on a small disk."""
    with tempfile.TemporaryDirectory(prefix="anb-chaos-") as name, disk(Path(name), "8m"):
        os.chown(name, *nobody())
        yield Path(name)


def test_a_database_whose_disk_is_full_costs_only_time(
    tmp_path: Path, servers: Servers, tablespace: Path, cards_dir: Path, clip: bytes
) -> None:
    address = servers.database_url.replace("+psycopg", "")
    with at_work(tmp_path, servers, cards_dir) as site:
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute(f"CREATE TABLESPACE small LOCATION '{tablespace}'".encode())
            # Each page is full after a few events, so that the disk is needed soon.
            connection.execute("ALTER TABLE job_events SET (fillfactor = 10)")
            connection.execute("ALTER TABLE job_events SET TABLESPACE small")
        with endured(site, clip):
            resize(tablespace, f"{used(tablespace)}")
            eventually(lambda: "is full" in logs(site))
            resize(tablespace, "8m")
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute("ALTER TABLE job_events SET TABLESPACE pg_default")
            connection.execute("DROP TABLESPACE small")


def used(folder: Path) -> int:
    """Return how many bytes of a file system are used."""
    state = os.statvfs(folder)
    return (state.f_blocks - state.f_bfree) * state.f_frsize
