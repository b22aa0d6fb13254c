"""A watcher that dies at any of its steps: the next one ends where an undisturbed one does, nothing is done twice."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from alloyd.jobs import MergeSpec, ScoreSpec, Spec
from alloyd_daemon.watch import drops, ledger, rules, soups
from watch.trial_models import rule, soup_rule, write_model
from watch.trial_watch import SETTLE, Desk

NAMES = ("a-good", "b-same", "c-good")


class Killed(BaseException):
    """The watcher is gone."""


@pytest.fixture
def kill(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Have the watcher die at the so-many-th of its steps from now on; 0 never."""
    left = 0

    def reach(point: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Killed(point)

    def arm(steps: int) -> None:
        nonlocal left
        left = steps

    for module in (drops, ledger, rules, soups):
        monkeypatch.setattr(module, "reach", reach)
    return arm


def scored(spec: Spec) -> dict[str, Any]:
    """The result of a comparison, which finds better what is called good."""
    if not isinstance(spec, ScoreSpec):
        return {}
    good = "good" in Path(spec.subjects[1].path).name
    found = {"model": "candidate", "against": "soup", "task": "task", "metric": "accuracy"}
    return {
        "tasks": [{"name": "task", "metrics": [{"name": "accuracy"}]}],
        "models": [{"name": "soup", "error": None}, {"name": "candidate", "error": None}],
        "comparisons": [{**found, "verdict": "better" if good else "no clear difference"}],
    }


def a_soup(root: Path) -> Desk:
    """A folder with a running soup, and another rule for what is good."""
    root.mkdir(exist_ok=True)
    start, tasks = write_model(root / "start", 99), root / "tasks.jsonl"
    tasks.write_text("{}\n")
    desk = Desk(root, soup_rule(start, tasks), rule("plain", "*-good"))
    desk.daemon.result = scored
    return desk


def run(root: Path, deaths: Iterator[int], kill: Callable[[int], None]) -> tuple[dict[str, Any], int]:
    """What a folder and its jobs are in the end, and how often the watcher died on the way."""
    desk = a_soup(root)
    for number, name in enumerate(NAMES):
        write_model(desk.folder / name, number)
    died = 0
    kill(next(deaths, 0))
    for _ in range(100):
        try:
            desk.look(SETTLE)
        except Killed:
            died += 1
            desk.begin()
            kill(next(deaths, 0))
        if desk.status.claims == {"done": 5}:
            break
    kill(0)
    desk.look(2 * SETTLE)
    folder = desk.folder / "soups" / "soup"
    told = {each.name: json.loads(each.read_text()) for each in folder.glob("*.json")}
    found = {
        "claims": desk.status.claims,
        "jobs": sorted(_what(each) for each in desk.daemon.specs),
        "soup": [(each.kept, each.rejected, Path(each.current).name) for each in desk.status.soups],
        "pointer": (folder / "current").readlink().name,
        "folder": sorted(each.name for each in folder.iterdir()),
        "told": {name: (each["kept"], Path(each["soup"]).name) for name, each in told.items()},
        "out": sorted(each.name for each in (desk.folder / "out").iterdir()),
        "records": sorted(each.name for each in (desk.folder / "done").rglob("*.json")),
    }
    desk.ledger.close()
    return found, died


def _what(spec: Spec) -> tuple[str, str]:
    if isinstance(spec, MergeSpec):
        return "merge", Path(spec.out).name
    assert isinstance(spec, ScoreSpec)
    return "score", " ".join(Path(each.path).name for each in spec.subjects)


def test_killed_at_every_step_in_turn(tmp_path: Path, kill: Callable[[int], None]) -> None:
    whole, died = run(tmp_path / "whole", iter(()), kill)
    assert died == 0
    assert whole["claims"] == {"done": 5}
    assert whole["soup"] == [(2, 1, "0003-c-good")]
    assert whole["pointer"] == "0003-c-good"
    assert whole["folder"] == [
        "0001-a-good", "0001-a-good.json", "0002-b-same.json", "0003-c-good", "0003-c-good.json", "current"
    ]  # fmt: skip
    assert whole["told"]["0003-c-good.json"] == (True, "0001-a-good")
    assert len(whole["jobs"]) == 8
    step, died = 0, 1
    while died:
        step += 1
        found, died = run(tmp_path / str(step), iter([step]), kill)
        assert found == whole, f"killed at step {step}"
    assert step > 40


def test_killed_again_and_again(tmp_path: Path, kill: Callable[[int], None]) -> None:
    """Each watcher gets no further than two or three steps."""
    whole, _ = run(tmp_path / "whole", iter(()), kill)
    for every in (2, 3):
        found, died = run(tmp_path / str(every), iter([every] * 90), kill)
        assert found == whole
        assert died > 5


def test_where_there_are_no_links_a_file_names_the_soup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = a_soup(tmp_path)

    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(soups.os, "symlink", refuse)
    write_model(desk.folder / "a-good")
    desk.look(10 * SETTLE)
    told = (desk.folder / "soups" / "soup" / "current.txt").read_text()
    assert told == f"{desk.folder}/soups/soup/0001-a-good\n"
    desk.ledger.close()


def test_nothing_is_removed_through_a_link(tmp_path: Path) -> None:
    desk = a_soup(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "soup" / "0001-a-bad").mkdir(parents=True)

    def exchange(spec: Spec) -> dict[str, Any]:
        if isinstance(spec, ScoreSpec):
            (desk.folder / "soups").rename(tmp_path / "aside")
            (desk.folder / "soups").symlink_to(elsewhere)
        return scored(spec)

    desk.daemon.result = exchange
    write_model(desk.folder / "a-bad")
    desk.look(10 * SETTLE)
    assert (elsewhere / "soup" / "0001-a-bad").is_dir()
    assert "a link leads to it" in desk.waiting["a-bad"]
    (desk.folder / "soups").unlink()
    (tmp_path / "aside").rename(desk.folder / "soups")
    desk.look(60 * SETTLE)
    assert desk.status.claims == {"done": 1}
    assert not (desk.folder / "soups" / "soup" / "0001-a-bad").exists()
    desk.ledger.close()


def test_a_soup_that_is_not_there_waits_and_takes_no_model(tmp_path: Path) -> None:
    desk = a_soup(tmp_path)
    (tmp_path / "start").rename(tmp_path / "gone")
    write_model(desk.folder / "a-bad")
    desk.look(10 * SETTLE)
    assert "cannot go on" in desk.waiting["a-bad"]
    (tmp_path / "gone").rename(tmp_path / "start")
    desk.look(10 * SETTLE)
    assert desk.status.claims == {"done": 1}
    desk.ledger.close()
