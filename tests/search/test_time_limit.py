"""The time limit of a candidate: over all rungs, by a clock that the test puts forward, and as the record has it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import search_driver
from alloyd.errors import ChildDied, JobError
from alloyd.search_schema import Rung
from alloyd_daemon.runner import RUNNERS
from alloyd_daemon.search import time_limit
from alloyd_daemon.search.history import History
from alloyd_daemon.search.run import search
from alloyd_daemon.search.trial import Trial
from search.toy import Toy

Stand = Callable[..., Toy]


@pytest.fixture
def stand(monkeypatch: pytest.MonkeyPatch) -> Stand:
    """Makes a toy the runner, and its clock the one of time limits."""

    def made(**how: Any) -> Toy:
        one = Toy(**how)
        RUNNERS.open()
        monkeypatch.setitem(RUNNERS._found, "toy", one.runner())
        monkeypatch.setattr(time_limit, "time", SimpleNamespace(monotonic=lambda: one.now))
        return one

    return made


def go(folder: Path, until: Callable[[History], bool] = lambda _: False, **changes: Any) -> list[Trial]:
    with History(folder / "history.db") as history:
        running = search(search_driver.task(folder, runner="toy", **changes), history)
        for _ in running:
            if until(history):
                break
        running.close()
        return list(history.trials())


def slow(name: str) -> float:
    return 1.0 if name == "trial 14" else 0.01


@pytest.mark.parametrize("at_once", [False, True])
def test_what_takes_too_long_fails_and_the_search_goes_on(
    tmp_path: Path, stand: Stand, at_once: bool
) -> None:
    toy = stand(at_once=at_once, takes=slow)
    trials = go(tmp_path, timeout=5.0)
    (failed,) = [each for each in trials if each.state == "failed"]
    assert failed.name == "trial 14"
    assert isinstance(failed.error, JobError)
    assert failed.error.message == "trial 14 took longer than 5 s"
    assert failed.error.facts["seconds"] == 5.0
    assert failed.losses is None
    assert len(trials) == 21
    if not at_once:
        assert toy.asked.count("trial 14") == 6


def test_without_a_limit_nothing_is_too_long(tmp_path: Path, stand: Stand) -> None:
    stand(takes=lambda _: 1e6)
    assert not any(each.state == "failed" for each in go(tmp_path))


def test_time_counts_over_all_rungs_and_not_on_validation(tmp_path: Path, stand: Stand) -> None:
    rungs = (Rung(items=20, quantise="coarse"), Rung())
    toy = stand(takes=lambda name: 0.125 if name == "trial 12" else 0.001)
    (failed,) = [each for each in go(tmp_path, rungs=rungs, timeout=3.0) if each.state == "failed"]
    assert failed.name == "trial 12", "which climbs all rungs, as the first twelve do"
    assert toy.asked.count("trial 12") == 25, "2.5 seconds below, and more than 0.5 at the top"
    assert failed.items == {0: 20, 1: 60}
    stand(takes=lambda _: 0.1)
    rest = go(tmp_path / "rest", rungs=(Rung(items=20),), timeout=2.5)
    assert not any(each.state == "failed" for each in rest)
    history = History.read(tmp_path / "rest" / "history.db")
    assert history.fact("finals")["winner"] is not None, "40 items of validation take 4 seconds"


@pytest.mark.parametrize("at_once", [False, True])
def test_what_is_on_record_is_not_decided_anew(tmp_path: Path, stand: Stand, at_once: bool) -> None:
    toy = stand(at_once=at_once, takes=slow)
    go(tmp_path, until=lambda history: history.lost(14, 0) is not None, timeout=5.0)
    asked = toy.asked.count("trial 14")
    toy = stand(at_once=at_once)
    (failed,) = [each for each in go(tmp_path, timeout=5.0) if each.state == "failed"]
    assert failed.name == "trial 14"
    assert "took longer than 5 s" in str(failed.error)
    assert asked
    assert "trial 14" not in toy.asked


HANGS = """
import ctypes, sys
from pathlib import Path
import search_driver
from alloyd_daemon.runner import RUNNERS
from alloyd_daemon.search import time_limit
from alloyd_daemon.search.history import History
from alloyd_daemon.search.run import search
from search.toy import Toy

time_limit.GRACE = 1.0
folder = Path(sys.argv[1])

def takes(name):
    if name == "trial 14":
        ctypes.PyDLL(None).sleep(600)  # no other thread of Python gets a turn
    return 0.0

RUNNERS.open()
RUNNERS._found["toy"] = Toy(takes=takes).runner()
with History(folder / "history.db") as history:
    for _ in search(search_driver.task(folder, runner="toy", timeout=3.0), history):
        pass
"""


KILLED = """
import os, signal, sys
from pathlib import Path
import search_driver
from alloyd.search_schema import Budget
from alloyd_daemon.runner import RUNNERS
from search.toy import Toy

def deadly(name):
    if name == "trial 16":
        os.kill(os.getpid(), signal.SIGKILL)
    return False

RUNNERS.open()
RUNNERS._found["toy"] = Toy(at_once=True, refuses=deadly).runner()
search_driver.run(Path(sys.argv[1]), runner="toy", batch=8, budget=Budget(candidates=8))
"""


def test_a_process_that_dies_over_a_population_costs_the_one_of_it(tmp_path: Path) -> None:
    path = os.pathsep.join(part for part in sys.path if part)
    ends = []
    while not ends or (ends[-1] and len(ends) < 9):
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(tmp_path)],
            env={**os.environ, "PYTHONPATH": path},
            timeout=600,
            check=False,
        )
        ends.append(done.returncode)
    assert ends == [-signal.SIGKILL] * 3 + [0]
    trials = History.read(tmp_path / "history.db").trials()
    assert [each.name for each in trials if each.state == "failed"] == ["trial 16"]
    assert len(trials) == 19


def test_a_hang_costs_the_process_and_after_three_the_trial(tmp_path: Path) -> None:
    path = os.pathsep.join(part for part in sys.path if part)
    said = []
    for _ in range(9):  # on a busy machine another trial may take too long for once
        done = subprocess.run(
            [sys.executable, "-c", HANGS, str(tmp_path)],
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        if not done.returncode:
            break
        assert done.returncode == 1
        assert "Timeout" in done.stderr
        said.append(done.stderr)
    assert sum("in takes" in each for each in said) == 3
    trials = {each.name: each for each in History.read(tmp_path / "history.db").trials()}
    failed = trials["trial 14"].error
    assert isinstance(failed, ChildDied)
    assert "3 processes died" in failed.message
    assert len(trials) == 21
