"""A search that is killed at random goes on to the same trials and the same item scores as one that was let be."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from alloyd_daemon.evaluator import ItemScore
from alloyd_daemon.search.history import History
from alloyd_daemon.search.trial import Trial

DRIVER = Path(__file__).parents[1] / "search_driver.py"

Table = tuple[list[Trial], dict[tuple[int, int], dict[int, dict[str, ItemScore]]]]


def start(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, str(DRIVER), str(folder)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def table(folder: Path) -> Table:
    """All that a record says but for what a clock says."""
    history = History.read(folder / "history.db")
    trials = list(history.trials())
    scores = {
        (trial.number, rung): found
        for trial in trials
        for rung in (0, -1)
        if (found := history.scores(trial.number, rung))
    }
    history.close()
    return [replace(each, seconds=0.0) for each in trials], scores


def finish(folder: Path) -> str:
    process = start(folder)
    said, _ = process.communicate(timeout=840)
    assert process.returncode == 0
    return said


def blamed(folder: Path) -> bool:
    """Whether one more death would make the search give a trial up, which is another test's matter."""
    try:
        history = History.read(folder / "history.db")
    except Exception:
        return False
    try:
        return history.most_deaths() >= 2
    finally:
        history.close()


def kill_at_random(folder: Path, kills: int, seed: int) -> int:
    """Kill the search ``kills`` times, wherever it is; returns how many of them found it at work."""
    dice = random.Random(seed)
    met = 0
    for _ in range(kills):
        process = start(folder)
        time.sleep(dice.uniform(0.5, 6.0))
        while blamed(folder) and process.poll() is None:
            time.sleep(0.05)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            met += 1
        process.communicate()
    return met


def check(tmp_path: Path, kills: int, seed: int) -> None:
    said = finish(tmp_path / "undisturbed")
    assert kill_at_random(tmp_path / "killed", kills, seed) > 0
    assert finish(tmp_path / "killed") == said
    trials, scores = table(tmp_path / "undisturbed")
    killed_trials, killed_scores = table(tmp_path / "killed")
    assert killed_trials == trials
    assert killed_scores == scores
    assert {each.state for each in trials} >= {"scored", "dropped"}


def test_a_killed_search_goes_on_to_the_same_trials(tmp_path: Path) -> None:
    check(tmp_path, kills=3, seed=1)


@pytest.mark.soak
def test_ten_kills_of_a_search(tmp_path: Path) -> None:
    check(tmp_path, kills=10, seed=int(os.environ.get("ALLOYD_SEED", "1")))
