import io
import os
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from anb_cli.errors import WrongUse
from anb_cli.sources import check, opened

CONTENT = bytes(range(256)) * 2000


def feed(pipe: Path, content: bytes) -> threading.Thread:
    def write() -> None:
        with suppress(BrokenPipeError):
            pipe.write_bytes(content)

    writer = threading.Thread(target=write)
    writer.start()
    return writer


def test_a_file_is_read_again_from_its_beginning(tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(CONTENT)
    progress: list[int] = []
    with opened(clip, progress.append) as source:
        assert (source.name, source.title, source.size) == ("clip.mp4", "clip", len(CONTENT))
        for _ in range(2):
            reader = source.reader(progress.append)
            assert (reader.seek(0, os.SEEK_END), reader.seek(0), reader.tell()) == (len(CONTENT), 0, 0)
            assert reader.read(1000) + reader.read() == CONTENT
    assert progress == [1000, len(CONTENT)] * 2


@pytest.mark.parametrize(
    ("file_name", "name", "title"),
    [
        ("two\nlines.mp4", "twolines.mp4", "two lines"),
        ("caf\udce9.mp4", "caf\ufffd.mp4", "caf\ufffd"),
        ("\u200b.mp4", "\u200b.mp4", ".mp4"),
        ("a" * 230 + ".mp4", "a" * 230 + ".mp4", "a" * 200),
    ],
)
def test_a_file_gives_a_fit_title_whatever_its_name(tmp_path: Path, file_name: str, name: str, title: str) -> None:
    (tmp_path / file_name).touch()
    with opened(tmp_path / file_name, lambda _: None) as source:
        assert (source.name, source.title) == (name, title)


def test_a_pipe_can_be_read_again_too(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    writer, progress = feed(pipe, CONTENT), list[int]()
    with opened(pipe, progress.append) as source:
        assert (source.name, source.size, progress[-1]) == ("pipe.mp4", len(CONTENT), len(CONTENT))
        assert source.reader(progress.append).read() == source.reader(progress.append).read() == CONTENT
    writer.join()


def test_a_pipe_that_the_shell_has_made_has_no_name_of_its_own() -> None:
    read, write = os.pipe()
    os.write(write, b"x")
    os.close(write)
    with opened(Path(f"/dev/fd/{read}"), lambda _: None) as source:
        assert (source.name, source.title, source.size) == ("video.mp4", "video", 1)
    os.close(read)


def test_a_pipe_that_brings_nothing_is_refused(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = feed(pipe, b"")
    with pytest.raises(WrongUse, match="Nothing came out"), opened(pipe, lambda _: None):
        pass
    writer.join()


def test_a_pipe_for_which_there_is_no_room_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, _: object) -> int:
            raise OSError(28, "No space left on device")

    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = feed(pipe, b"x")
    monkeypatch.setattr(tempfile, "TemporaryFile", Full)
    with pytest.raises(WrongUse, match="No space left on device"), opened(pipe, lambda _: None):
        pass
    writer.join()


def test_where_there_are_no_temporary_files_a_pipe_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> None:
        raise FileNotFoundError(2, "No usable temporary directory found")

    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = feed(pipe, b"x")
    monkeypatch.setattr(tempfile, "TemporaryFile", none)
    with pytest.raises(WrongUse, match="No usable temporary directory"), opened(pipe, lambda _: None):
        pass
    writer.join()


def test_bytes_that_are_added_to_a_file_while_it_is_sent_are_left_out(tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(CONTENT)
    with opened(clip, lambda _: None) as source:
        clip.write_bytes(CONTENT * 2)
        assert source.reader(lambda _: None).read() == CONTENT


def test_a_file_that_becomes_shorter_while_it_is_sent_is_reported(tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(CONTENT)
    with opened(clip, lambda _: None) as source:
        clip.write_bytes(b"x")
        with pytest.raises(WrongUse, match=r"clip\.mp4 became shorter"):
            source.reader(lambda _: None).read()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("/dev/null", "neither a file nor a pipe"),
        ("/dev/zero", "neither a file nor a pipe"),
        ("/dev/fd/9999", "can't be read"),
    ],
)
def test_devices_hold_no_videos(name: str, sentence: str) -> None:
    with pytest.raises(WrongUse, match=sentence), opened(Path(name), lambda _: None):
        pass


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("missing.mp4", "No such file"),
        ("a" * 300, "File name too long"),
        (".", "is a folder"),
        ("caf\udce9/x", "can't be read"),
        ("loop", "can't be read"),
    ],
)
def test_an_unreadable_source_is_refused_before_anything_is_sent(tmp_path: Path, name: str, sentence: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(WrongUse, match=sentence):
        check(tmp_path / name)


def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clip.mp4").touch()
    # Patch `os.access`, because root could read a real file despite its permissions.
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(WrongUse, match="Permission denied"):
        check(tmp_path / "clip.mp4")


def test_stdin_is_looked_at_when_its_turn_comes() -> None:
    check(Path("-"))
