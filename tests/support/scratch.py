from dataclasses import dataclass
from pathlib import Path

from anb_core.domain.errors import Unavailable


@dataclass
class FakeScratch:
    """A scratch disk without a limit, unless it is `full`. `root` must exist."""

    root: Path
    full: bool = False

    def folder(self, attempt_id: str) -> Path:
        return self.root / attempt_id

    def make(self, attempt_id: str, source_size: int) -> Path:
        if self.full:
            raise Unavailable("scratch", f"there is no room for {source_size} bytes")
        folder = self.root / attempt_id
        folder.mkdir(exist_ok=True)
        return folder

    def clear(self, attempt_id: str) -> None:
        folder = self.root / attempt_id
        if folder.exists():
            for file in folder.iterdir():
                file.unlink()
            folder.rmdir()
