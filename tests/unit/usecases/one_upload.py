"""An upload session that uses fakes, and a fake form whose file arrives in chunks."""

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta

from anb_core.adapters.system import new_id
from anb_core.domain.edit import EditSpec, Switch
from anb_core.domain.model import Record
from anb_core.testing.clock import ManualClock
from anb_core.testing.objects import InMemoryObjects
from anb_core.testing.runtime import ManualRuntime
from anb_core.testing.store import InMemoryStore
from anb_core.usecases.upload_session import UploadSessions
from anb_core.usecases.visibility import Caller

ANA = Caller("ana")
VIDEO = b"\0\0\0\x18ftypisom" + b"\0" * 2000
NO_INTRO = EditSpec(intro=Switch(enabled=False))


class FakeForm:
    """A form whose file arrives in the chunks `pieces`. The form calls `before(number)` before each chunk."""

    def __init__(
        self,
        pieces: Sequence[bytes] = (VIDEO,),
        *,
        title: str | None = "A title",
        edit: EditSpec | None = None,
        process_after: str | None = None,
        late: bool = False,
        before: Callable[[int], None] = lambda _: None,
        name: str = "clip.mp4",
    ) -> None:
        self._pieces = pieces
        self._fields = (title, edit, process_after)
        self._name = name
        self._late = late
        self._before = before
        self.title: str | None = None
        self.edit: EditSpec | None = None
        self.process_after: str | None = None
        self.finished = False

    def open_file(self) -> str:
        if not self._late:
            self.title, self.edit, self.process_after = self._fields
        return self._name

    def read_file(self) -> Iterator[bytes]:
        for number, piece in enumerate(self._pieces):
            self._before(number)
            yield piece
        self.title, self.edit, self.process_after = self._fields
        self.finished = True


class ObservedRuntime(ManualRuntime):
    """A runtime that records each sleep, in seconds."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        super().sleep(seconds)


class World:
    def __init__(self, store: InMemoryStore | None = None) -> None:
        self.clock = ManualClock()
        self.store = store or InMemoryStore(self.clock.now)
        self.objects = InMemoryObjects()
        self.runtime = ObservedRuntime(self.clock)
        self.woken = 0
        self.sessions = UploadSessions(
            store=self.store,
            objects=self.objects,
            max_bytes=10_000,
            idempotency_lifetime=timedelta(days=1),
            wake_relay=self._wake,
            runtime=self.runtime,
            new_id=new_id,
        )

    def upload(self, caller: Caller, form: FakeForm, *, idempotency_key: str | None = None) -> Record:
        """Run an upload session for a form, as the API does."""
        name = form.open_file()
        with self.sessions.begin(
            caller,
            file_name=name,
            title=form.title,
            edit=form.edit,
            process_after=form.process_after,
            idempotency_key=idempotency_key,
        ) as session:
            for piece in form.read_file():
                session.append(piece)
            return session.complete(form.title, form.edit, form.process_after)

    def videos(self) -> Sequence[Record]:
        return self.store.listing(owner=None)

    def _wake(self) -> None:
        self.woken += 1

    def holds_nothing(self) -> bool:
        return not (self.videos() or self.objects.contents or self.objects.unfinished)
