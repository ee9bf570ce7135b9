"""Creates virtual environments from packages that are already installed, without a package index."""

import importlib.util
import re
import venv
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement


def install(folder: Path, name: str) -> Path:
    """Create a virtual environment with a distribution and its requirements, without extras. Returns the interpreter.

    The environment contains symbolic links to the installed packages of the test's own environment.
    """
    venv.create(folder, symlinks=True)
    [site] = folder.glob("lib/python*/site-packages")
    for needed in _closure(name, set()):
        for path in _tops(needed):
            (site / path.name).symlink_to(path)
    return folder / "bin" / "python"


def _closure(name: str, seen: set[str], extras: frozenset[str] = frozenset()) -> Iterator[Distribution]:
    found = distribution(name)
    if name not in seen:
        seen.add(name)
        yield found
    for line in found.requires or ():
        required = Requirement(line)
        if required.marker is None or any(required.marker.evaluate({"extra": extra}) for extra in extras or {""}):
            needed = re.sub(r"[-_.]+", "-", required.name).lower()
            if needed not in seen or required.extras:
                yield from _closure(needed, seen, frozenset(required.extras))


def _tops(found: Distribution) -> set[Path]:
    """Return the top-level files and folders of a distribution. Includes the source folder of an editable install."""
    parts = {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}
    tops = {Path(str(found.locate_file(part))) for part in parts if not part.endswith(".pth")}
    if any(part.endswith(".pth") for part in parts):
        spec = importlib.util.find_spec(found.name.replace("-", "_"))
        assert spec is not None
        assert spec.origin is not None
        tops.add(Path(spec.origin).parent)
    return tops
