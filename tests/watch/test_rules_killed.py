"""A watcher that dies at any of its steps: the next one ends where an undisturbed one does, nothing is done twice."""

from __future__ import annotations

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


def run(root: Path, deaths: Iterator[int], kill: Callable[[int], None]) -> tuple[dict[str, Any], int]:
    """What a folder and its jobs are in the end, and how often the watcher died on the way."""
    root.mkdir()
    start, tasks = write_model(root / "start", 99), root / "tasks.jsonl"
    tasks.write_text("{}\n")
    desk = Desk(root, soup_rule(start, tasks), rule("plain", "*-good"))
    desk.daemon.result = scored
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
