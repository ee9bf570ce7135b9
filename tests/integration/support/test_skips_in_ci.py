import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_a_skip_without_a_written_reason_fails_the_run_in_ci(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import pytest\n"
        "@pytest.mark.skip(reason='on a whim')\n"
        "def test_skipped(): ...\n"
        "@pytest.mark.xfail(reason='known', strict=True)\n"
        "def test_known_to_fail(): raise AssertionError\n"
    )
    (tmp_path / "test_not_even_collected.py").write_text("import pytest\npytest.importorskip('no_such_module')\n")
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "tests.conftest",
            "--continue-on-collection-errors",
            "-c",
            os.devnull,
            tmp_path,
        ],
        cwd=ROOT,
        env=os.environ | {"CI": "true"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "skipped in CI" in run.stdout
    assert "on a whim" in run.stdout
    assert "no_such_module" in run.stdout
    assert "skipped," not in run.stdout
    assert run.returncode != 0
