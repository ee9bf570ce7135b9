"""Tests of `anb adopt` with the real API and the embedded emulator. Commands run in the test process."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from anb_cli.__main__ import perform
from anb_cli.client import Api
from anb_cli.errors import Exit
from anb_core.adapters.system import new_id
from anb_core.domain.errors import LimitReached, TooLarge
from anb_core.domain.model import Scope
from anb_core.usecases import adopt_many
from anb_core.usecases.adopt_many import AdoptMany
from anb_core.usecases.tokens import create_token
from tests.support.api import VIDEO, environment, in_environment, serving
from tests.support.parts import Parts

STRANGE_KEYS = ["//double.mp4", " blank+plus&100%.mp4", "a/b/clip", "año/vídeo.mp4", "\x1b[2J.mp4", "\U0001f600.mov"]


@dataclass
class Operator:
    """An administrator at a terminal, and a bucket with objects of other programs under a prefix of its own."""

    parts: Parts
    prefix: str
    capsys: pytest.CaptureFixture[str]

    def put(self, key: str, data: bytes = VIDEO) -> None:
        with self.parts.objects.writing(self.prefix + key, content_type="application/octet-stream") as writer:
            writer.write(data)
            writer.commit()

    def adopt(self, *options: str) -> tuple[int, str, str]:
        """Run `anb adopt` for the prefix. Returns its exit code and its output."""
        code = perform(["adopt", self.prefix, *options])
        return code, *self.capsys.readouterr()

    def records(self, *options: str, code: int = Exit.OK) -> list[dict[str, Any]]:
        ended, out, err = self.adopt(*options, "--json")
        assert ended == code, err
        return [json.loads(line) for line in out.splitlines()]

    def sources(self) -> list[str]:
        """Return the keys of all adopted objects under the prefix, once for each video."""
        videos = (record.video for record in self.parts.store.listing(owner="cameras", limit=1000))
        keys = [video.source_key for video in videos if video.source_key.startswith(self.prefix)]
        return sorted(key.removeprefix(self.prefix) for key in keys)


@pytest.fixture(scope="module")
def deployment(ministack_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Parts]]:
    variables = environment(
        tmp_path_factory.mktemp("api"), ministack_url, ANB_SOURCE_PREFIXES="camera/", ANB_ADOPT_OWNER="cameras"
    )
    with in_environment(variables) as (settings, parts), serving(settings, parts) as (url, _):
        yield url, parts


@pytest.fixture
def operator(
    deployment: tuple[str, Parts], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Operator:
    url, parts = deployment
    monkeypatch.setenv("ANB_URL", url)
    monkeypatch.setenv("ANB_TOKEN", create_token(parts.store, owner="olga", scope=Scope.OPS, new_id=new_id).secret)
    # Let few objects be many, because writing thousands takes long.
    monkeypatch.setattr(adopt_many, "PAGE", 5)
    monkeypatch.setattr(adopt_many, "MAX_ADOPTIONS", 3)
    return Operator(parts, f"camera/{new_id()}/", capsys)


def test_a_dry_run_shows_what_the_real_run_then_does_and_a_repeated_run_finds_nothing_more(operator: Operator) -> None:
    for key in STRANGE_KEYS:
        operator.put(key)
    for key, data in (("folder/", b""), ("readme.txt", b"text"), ("thumb.jpg", b"\xff\xd8"), ("with/", VIDEO)):
        operator.put(key, data)
    p = operator.prefix

    code, out, err = operator.adopt("--dry-run")
    assert code == Exit.OK
    assert out.splitlines() == [
        f"6\twould be adopted\t{p}\N{REPLACEMENT CHARACTER}[2J.mp4, {p} blank+plus&100%.mp4, {p}//double.mp4, ...",
        f"2\tempty or a folder\t{p}folder/, {p}with/",
        f"2\tnot a video\t{p}readme.txt, {p}thumb.jpg",
        f"A dry run: 6 of 10 objects under {p} would be adopted for cameras.",
    ]
    assert err.endswith("dry run: 10 objects examined, 6 would be adopted\n")
    assert operator.sources() == []

    code, real, _ = operator.adopt()
    assert real == out.replace("A dry run: ", "").replace("would be adopted", "adopted")
    assert operator.sources() == sorted(STRANGE_KEYS)

    code, again, _ = operator.adopt()
    assert (code, again.splitlines()[-1]) == (Exit.OK, f"0 of 10 objects under {p} adopted for cameras.")
    assert again.startswith("6\ta video already\t")
    assert operator.sources() == sorted(STRANGE_KEYS)


def test_every_object_is_a_line_of_json_and_the_totals_are_the_last_one(operator: Operator) -> None:
    operator.put("a.mp4")
    operator.put("b.txt", b"text")

    adopted, ignored, totals = operator.records("--owner", "ana")

    assert adopted == {"key": f"{operator.prefix}a.mp4", "video_id": adopted["video_id"], "adopted": True}
    assert (ignored["key"], ignored["code"], ignored["adopted"]) == (f"{operator.prefix}b.txt", "not_a_video", False)
    assert totals == {
        "dry_run": False,
        "prefix": operator.prefix,
        "owner": "ana",
        "examined": 2,
        "adopted": 1,
        "ignored": {"not_a_video": 1},
        "refused": {},
        "left": False,
    }
    assert [record.video.id for record in operator.parts.store.listing(owner="ana")] == [adopted["video_id"]]


def test_a_limit_leaves_the_rest_for_the_next_run(operator: Operator) -> None:
    for number in range(7):
        operator.put(f"{number}.mp4")
    _, out, _ = operator.adopt("--limit", "4")
    assert out.endswith("adopted for cameras, more were not examined because of --limit.\n")
    assert operator.sources() == [f"{number}.mp4" for number in range(4)]
    assert operator.records("--limit", "3")[-1]["adopted"] == 3
    assert operator.sources() == [f"{number}.mp4" for number in range(7)]


def test_an_interrupted_run_says_what_it_has_done_and_the_repeated_run_adopts_the_rest(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(7):
        operator.put(f"{number}.mp4")
    adopt, calls = Api.adopt, 0

    def interrupted(api: Api, order: dict[str, Any], **options: Any) -> dict[str, Any]:
        nonlocal calls
        calls += 1
        report = adopt(api, order, **options)
        if calls == 2:
            # The API has adopted more, but the command does not learn of it.
            raise KeyboardInterrupt
        return report

    with monkeypatch.context() as patch:
        patch.setattr(Api, "adopt", interrupted)
        code, out, err = operator.adopt()
    assert (code, out) == (Exit.INTERRUPTED, "")
    assert "3 objects adopted so far. The interrupted request may have adopted up to 100 more. To go on," in err
    assert len(operator.sources()) == 6

    *_, totals = operator.records()
    assert (totals["adopted"], totals["ignored"]) == (1, {"source_taken": 6})
    assert operator.sources() == [f"{number}.mp4" for number in range(7)]


def test_an_adoption_waits_while_too_many_videos_are_unfinished(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator.put("a.mp4")
    adopt = AdoptMany.__call__
    refusals = [LimitReached("backlog_full", "The backlog is full.", timedelta(seconds=1))]

    def busy_at_first(use_case: AdoptMany, *given: Any, **options: Any) -> Any:
        if refusals:
            raise refusals.pop()
        return adopt(use_case, *given, **options)

    monkeypatch.setattr(AdoptMany, "__call__", busy_at_first)
    code, _, err = operator.adopt()
    assert code == Exit.OK
    assert "adopt: waiting 1 s to send it again: The backlog is full. (backlog_full)\n" in err
    assert operator.sources() == ["a.mp4"]


def test_objects_that_a_person_has_to_look_at_are_named_and_change_the_exit_code(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anb_core.usecases.submit.check_size", _refuse_large)
    for number in range(5):
        operator.put(f"{number}.mp4", VIDEO + b"large")
    operator.put("5.mp4")

    code, out, err = operator.adopt()

    assert code == Exit.REFUSED
    assert f"5\ttoo large\t{operator.prefix}0.mp4, " in out
    assert out.endswith(f"1 of 6 objects under {operator.prefix} adopted for cameras, 5 can't be adopted.\n")
    lines = [line for line in err.splitlines() if line.startswith("anb: ")]
    assert lines == [
        f"anb: {operator.prefix}{number}.mp4: The file is large. To allow more, raise ANB_MAX_UPLOAD_BYTES. "
        "(file_too_large)"
        for number in range(3)
    ]
    *objects, _ = operator.records(code=Exit.REFUSED)
    assert [one.get("error", {}).get("code") for one in objects].count("file_too_large") == 5


def _refuse_large(size: int, _: int) -> None:
    if size > len(VIDEO):
        raise TooLarge("file_too_large", "The file is large.")


def test_a_prefix_that_is_not_allowed_is_refused_with_the_setting_that_allows_it(operator: Operator) -> None:
    operator.prefix = "drone/"
    assert operator.adopt() == (
        Exit.REFUSED,
        "",
        (
            "anb: 'drone/' can't be submitted: only objects under uploads/, camera/ can. ANB_SOURCE_PREFIXES adds "
            "others. (key_not_allowed)\n"
        ),
    )
    operator.prefix = "camera/none/"
    assert operator.adopt()[:2] == (Exit.OK, "No objects under camera/none/.\n")
