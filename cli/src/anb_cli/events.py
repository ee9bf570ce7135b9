"""Server-sent events: a reader of lines, without I/O. Only what the API uses: `id`, `event`, `data`."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event. `id` is the last one seen, which a reconnecting reader sends as Last-Event-ID."""

    id: str | None
    name: str
    data: str


@dataclass(slots=True)
class EventReader:
    """Takes lines without their ends; gives an event at each empty line that ends one."""

    _id: str | None = None
    _name: str = ""
    _data: list[str] = field(default_factory=list)

    def take(self, line: str) -> ServerEvent | None:
        """Take the next line."""
        if not line:
            return self._end()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "id" if "\0" not in value:
                self._id = value
            case "event":
                self._name = value
            case "data":
                self._data.append(value)
        return None

    def _end(self) -> ServerEvent | None:
        data, name = self._data, self._name
        self._data, self._name = [], ""
        return ServerEvent(self._id, name or "message", "\n".join(data)) if data else None
