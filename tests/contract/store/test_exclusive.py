"""Tests of `exclusively`, which lets only one process at a time run a `with` block."""

from tests.contract.store.conftest import end_all_others
from tests.support.given import MINUTE, SECOND
from tests.support.stores import Backend, Sql
from tests.support.waiting import eventually


def test_what_is_exclusive_is_free_when_its_process_hangs(postgresql: Sql) -> None:
    with postgresql.store.exclusively("sweep", lifetime=SECOND / 10) as ours:
        assert ours

        def free() -> bool:
            with postgresql.another().exclusively("sweep", lifetime=MINUTE) as free:
                return free

        assert eventually(free)


def test_what_is_exclusive_stays_so_when_the_connection_it_was_taken_on_is_gone(postgresql: Sql) -> None:
    with postgresql.another().exclusively("sweep", lifetime=MINUTE) as ours:
        assert ours
        end_all_others(postgresql)
        with postgresql.store.exclusively("sweep", lifetime=MINUTE) as theirs:
            assert not theirs
    with postgresql.store.exclusively("sweep", lifetime=MINUTE) as free:
        assert free


def test_a_lock_row_that_expired_is_anothers_and_stays_so(backend: Backend) -> None:
    other = backend.another()
    with backend.store.exclusively("sweep", lifetime=MINUTE) as slow:
        assert slow
        backend.pass_time(2 * MINUTE)
        late = other.exclusively("sweep", lifetime=MINUTE)
        assert late.__enter__()
    with backend.store.exclusively("sweep", lifetime=MINUTE) as again:
        assert not again
    late.__exit__(None, None, None)
