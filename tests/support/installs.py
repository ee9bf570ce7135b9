"""Virtual environments that hold only a part of what the tests run in, made without an index."""

import importlib.util
import re
import venv
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement


def install(folder: Path, name: str) -> Path:
    """Make a virtual environment with a distribution and all that it requires without extras. Returns its interpreter.

    What is installed here is linked there.
    """
    venv.create(folder, symlinks=True)
    [site] = folder.glob("lib/python*/site-packages")
    for needed in _closure(name, set()):
        for path in _tops(needed):
            (site / path.name).symlink_to(path)
    return folder / "bin" / "python"


def _closure(name: str, known: set[str], extras: frozenset[str] = frozenset()) -> Iterator[Distribution]:
    found = distribution(name)
    if name not in known:
        known.add(name)
        yield found
    for line in found.requires or ():
        required = Requirement(line)
        if required.marker is None or any(required.marker.evaluate({"extra": extra}) for extra in extras or {""}):
            needed = re.sub(r"[-_.]+", "-", required.name).lower()
            if needed not in known or required.extras:
                yield from _closure(needed, known, frozenset(required.extras))


def _tops(found: Distribution) -> set[Path]:
    """The modules, packages and metadata of a distribution, each once; of an editable one, where its code lies."""
    parts = {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}
    tops = {Path(str(found.locate_file(part))) for part in parts if not part.endswith(".pth")}
    if any(part.endswith(".pth") for part in parts):
        spec = importlib.util.find_spec(found.name.replace("-", "_"))
        assert spec is not None
        assert spec.origin is not None
        tops.add(Path(spec.origin).parent)
    return tops
