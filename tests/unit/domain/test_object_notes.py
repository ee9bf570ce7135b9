from dataclasses import replace
from datetime import UTC, datetime

import pytest

from anb_core.domain.edit import EditSpec, Switch, Trim
from anb_core.domain.model import NewVideo, Result
from anb_core.domain.object_notes import MAX_NOTE, note_of_result, note_of_upload, read_result, read_upload
from tests.support.given import new_video

AT = datetime(2026, 12, 1, 8, tzinfo=UTC)
RESULT = Result(key="processed/v/1-a.mp4", size=9, sha256="cd" * 32, width=1280, height=720, duration=0.1, frames=3)


@pytest.fixture
def new() -> NewVideo:
    edit = EditSpec(trim=Trim(start=0.1, length=7), intro=Switch(enabled=False))
    return replace(
        new_video(),
        owner="Zoë",
        title='“Fjord” \\ "\N{GRINNING FACE}"',
        edit=edit,
        file_name="år.mov",
        process_after=AT,
    )


def test_the_note_of_an_upload_has_all_that_a_person_said(new: NewVideo) -> None:
    note = note_of_upload(new)
    assert note.isascii()
    assert note.isprintable()
    assert read_upload(note, new.id, new.task_id) == new


def test_a_note_without_room_keeps_the_owner_and_the_edit(new: NewVideo) -> None:
    long = replace(new, title="\N{GRINNING FACE}" * 200, file_name="\N{GRINNING FACE}" * 60)
    note = note_of_upload(long)
    assert len(note) <= MAX_NOTE
    assert read_upload(note, new.id, new.task_id) == replace(new, title="video", file_name="video.mp4")

    endless = note_of_upload(replace(long, owner="\N{GRINNING FACE}" * 200))
    assert len(endless) <= MAX_NOTE
    assert read_upload(endless, new.id, new.task_id) is None


def test_the_note_of_a_result_is_believed_only_for_an_object_of_its_size() -> None:
    note = note_of_result(RESULT, "worker-1")
    assert len(note) <= MAX_NOTE
    assert read_result(note, RESULT.key, RESULT.size) == (RESULT, "worker-1")
    assert read_result(note, RESULT.key, RESULT.size - 1) is None


@pytest.mark.parametrize("note", ["", "{}", "[]", '{"owner": 3}', note_of_result(RESULT, "w"), "\udce9"])
def test_any_other_note_is_no_note_of_an_upload(note: str) -> None:
    assert read_upload(note, "v", "t") is None


@pytest.mark.parametrize("note", ["", "null", '{"size": 9}', note_of_upload(new_video())])
def test_any_other_note_is_no_note_of_a_result(note: str) -> None:
    assert read_result(note, RESULT.key, RESULT.size) is None
