import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from anb_core.domain.errors import Transient
from anb_core.ports.stop import Stop
from anb_worker.render import child_programs
from anb_worker.render.child_programs import draw_title, fit_watermark
from anb_worker.render.drop_rights import NOT_STARTED
from anb_worker.render.sandbox import Finished


def broken(code: int, *, exhausted: bool = False) -> Finished:
    return Finished(code, exhausted, stdout="", stderr="it broke")


def test_a_title_is_drawn_by_a_child(tmp_path: Path) -> None:
    picture = tmp_path / "title.png"
    size = draw_title("A walk \U0001f469\u200d\U0001f680 \x00 in the park", picture, workdir=tmp_path, stop=Stop())
    with Image.open(picture) as drawn:
        assert drawn.size == size


def test_a_title_that_can_not_be_drawn_gives_no_picture(tmp_path: Path) -> None:
    picture = tmp_path / "title.png"
    assert draw_title("\U0001f469\u200d\U0001f680", picture, workdir=tmp_path, stop=Stop()) is None
    assert not picture.exists()


def test_a_watermark_is_fitted_by_a_child(tmp_path: Path) -> None:
    operators_file, fitted = tmp_path / "given.png", tmp_path / "fitted.png"
    Image.new("RGB", (2400, 600)).save(operators_file)
    assert fit_watermark(operators_file, fitted, workdir=tmp_path, stop=Stop()) == (240, 60)
    operators_file.write_text("no picture")
    assert fit_watermark(operators_file, fitted, workdir=tmp_path, stop=Stop()) is None


@pytest.mark.parametrize("how", [broken(-11), broken(-24, exhausted=True)])
def test_a_title_that_crashes_the_child_gives_no_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: Finished
) -> None:
    monkeypatch.setattr(child_programs, "run_python", lambda *_, **__: how)
    assert draw_title("broken", tmp_path / "title.png", workdir=tmp_path, stop=Stop()) is None


@pytest.mark.parametrize("code", [1, -9, NOT_STARTED])
def test_a_child_that_fails_for_another_reason_is_no_fault_of_the_title(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(child_programs, "run_python", lambda *_, **__: broken(code))
    with pytest.raises(Transient):
        draw_title("fine", tmp_path / "title.png", workdir=tmp_path, stop=Stop())


def test_the_command_line_which_other_users_can_read_does_not_contain_the_title(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[object] = []

    def run(*arguments: object, **_: object) -> Finished:
        commands.append(arguments)
        return Finished(0, exhausted=False, stdout="null", stderr="")

    monkeypatch.setattr(child_programs, "run_python", run)
    draw_title("Nobody's business", tmp_path / "title.png", workdir=tmp_path, stop=Stop())
    assert "business" not in str(commands)


def test_the_worker_itself_loads_no_library_that_reads_media_or_that_only_a_celery_broker_needs() -> None:
    code = "import anb_worker.__main__, json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, check=True)
    assert not {"PIL", "av", "moviepy", "amqp", "kombu", "redis"} & set(json.loads(done.stdout))
