from contextlib import ExitStack

import pytest

from anb_api.problems import Busy
from anb_api.slots import Slots, too_many_uploads


def take_all(slots: Slots, owner: str, stack: ExitStack) -> int:
    """Take upload slots for an owner until a slot is refused. Returns the number of granted slots."""
    for taken in range(100):
        try:
            stack.enter_context(slots.taken(owner))
        except Busy:
            return taken
    raise AssertionError


def test_an_owner_who_wants_all_slots_leaves_some_to_the_others() -> None:
    with ExitStack() as stack:
        slots = Slots(16, too_many_uploads)
        assert [take_all(slots, owner, stack) for owner in ("ana", "bob", "eva", "leo")] == [12, 3, 1, 0]


def test_a_refusal_says_how_many_uploads_are_the_owners() -> None:
    with ExitStack() as stack:
        slots = Slots(16, too_many_uploads)
        take_all(slots, "ana", stack)
        stack.enter_context(slots.taken("bob"))
        with pytest.raises(Busy, match="receiving 13 uploads, 12 of them yours"), slots.taken("ana"):
            pass


def test_a_slot_is_given_back_however_its_upload_ends() -> None:
    slots = Slots(1, too_many_uploads)
    for _ in range(3):
        with pytest.raises(ConnectionError), slots.taken("ana"):
            raise ConnectionError
