import os

import pytest


@pytest.fixture
def without_coverage_of_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start programs faster. The benchmarks kill their programs, so their coverage would be lost anyway."""
    for name in [*os.environ]:
        if name.startswith("COVERAGE_"):
            monkeypatch.delenv(name)
