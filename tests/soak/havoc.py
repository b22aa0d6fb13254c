"""Kills what the service runs, at moments that the events lead to: children, the watcher, and a few daemons."""

from __future__ import annotations

import contextlib
import json
import random
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Final

import psutil

from alloyd.jobs import Event, JobState
from alloyd.paths import Home, lock_holder

MOST: Final = {"search": 1, "score": 1}
"""Kills of one job of a kind: a search gives a candidate up that dies with its process time and again."""
MOST_USUALLY: Final = 3
"""One less than what puts a job in quarantine."""
CHILDREN, WATCHERS, DAEMONS_ALONE = 0.35, 0.05, 0.5
"""The chance of a child to be killed, of the watcher at each job's end, and of children to outlive their daemon."""


class Havoc(threading.Thread):
    """Hears of every event, and strikes a moment later. So many ``daemons`` die before ``settled`` jobs have ended."""

    def __init__(self, home: Home, seed: int, *, daemons: int, settled: int) -> None:
        super().__init__(daemon=True)
        self.kills: Counter[str] = Counter()
        self._home = home
        self._chance = random.Random(f"havoc {seed}")
        self._deadly = set(self._chance.sample(range(1, settled), daemons))
        self._ended = 0
        self._of_job: Counter[str] = Counter()
        self._due: list[tuple[float, str, str]] = []
        self._over = threading.Event()

    def stop(self) -> None:
        self._over.set()
        self.join()

    def hear(self, event: Event) -> None:
        """Decide whether something is to die of this; called by the thread that follows events."""
        if event.kind != "state" or not event.job:
            return
        state = JobState(event.body["state"])
        self._ended += state.ended
        if state.ended and self._ended in self._deadly:
            self._deadly.remove(self._ended)
            self._plan("daemon", "")
        elif state in (JobState.RUNNING, JobState.CANCELLED) and self._chance.random() < CHILDREN:
            self._plan("child", event.job)
        elif state.ended and self._chance.random() < WATCHERS:
            self._plan("watcher", "")

    def run(self) -> None:
        while not self._over.wait(0.02):
            for strike in [each for each in self._due if each[0] <= time.monotonic()]:
                self._due.remove(strike)
                if holder := lock_holder(self._home):
                    with contextlib.suppress(psutil.Error):
                        self._strike(psutil.Process(holder), *strike[1:])

    def _plan(self, what: str, job: str) -> None:
        self._due.append((time.monotonic() + self._chance.uniform(0, 1.2), what, job))

    def _strike(self, daemon: psutil.Process, what: str, job: str) -> None:
        children = daemon.children()
        if what == "daemon":
            together = self._chance.random() > DAEMONS_ALONE
            daemon.kill()
            for each in children if together else ():
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.kill()
            self.kills["daemon and children" if together else "daemon"] += 1
            return
        most = MOST.get(job.partition("-")[0], MOST_USUALLY)
        acts = self._acts(job) if what == "child" and self._of_job[job] < most else {}
        for each in children:
            if what == "watcher" and "alloyd_daemon.watch" in each.cmdline():
                each.kill()
                self.kills["watcher"] += 1
            elif each.pid in acts:
                each.kill()
                self._of_job[job] += 1
                self.kills[f"child that was to {acts[each.pid]}"] += 1

    def _acts(self, job: str) -> dict[int, str]:
        """The processes that were started for a job, each with what it was to do, as the daemon's log tells."""
        found = {}
        with contextlib.suppress(OSError):
            for line in Path(self._home.log("daemon")).read_text().splitlines():
                with contextlib.suppress(ValueError):
                    told = json.loads(line)
                    if told.get("job") == job and "child" in told:
                        found[told["child"]] = told["message"].split()[-1]
        return found
