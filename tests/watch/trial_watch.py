"""A watcher in the test's own process: its clock is the test's, its daemon ends every job as soon as it is asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from alloyd.errors import JobNotFound
from alloyd.jobs import Job, JobState, MergeSpec, Spec, spec_fields
from alloyd.watch_schema import Rule, Watch, WatchSettings
from alloyd_daemon.recipes.models import resolve
from alloyd_daemon.watch.drops import Drops
from alloyd_daemon.watch.identity import identity
from alloyd_daemon.watch.ledger import Folder, Ledger
from alloyd_daemon.watch.model_folders import candidates
from alloyd_daemon.watch.newcomers import Newcomers
from alloyd_daemon.watch.rules import Rules
from alloyd_daemon.watch.watcher import Watcher
from watch.trial_models import rule

SETTLE = 2.0


class Silence:
    """A bell that never rings: what happens must be found by looking."""

    descriptor = -1

    def rung(self) -> set[str]:
        return set()

    def listen(self, folder: str, path: str) -> str:
        return ""

    def leave(self, folder: str) -> None:
        pass


class QuickDaemon:
    """Every job is done at once, unless ``state`` says otherwise; merges make their folder, ``result`` is of each."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}  # by key
        self.named: dict[str, Job] = {}
        self.specs: list[Spec] = []
        self.state = JobState.DONE
        self.result: Callable[[Spec], dict[str, Any]] = lambda spec: {}

    def submit(self, spec: Spec, *, key: str, priority: int, confined: Sequence[str]) -> Job:
        if key not in self.jobs:
            if isinstance(spec, MergeSpec):
                Path(spec.out).mkdir(parents=True)
            self.specs.append(spec)
            self.jobs[key] = Job(
                f"job-{len(self.jobs)}",
                "any",
                self.state,
                datetime.now(UTC),
                spec=spec_fields(spec),
                result=self.result(spec),
            )
            self.named[self.jobs[key].id] = self.jobs[key]
        return self.jobs[key]

    def job(self, name: str) -> Job:
        if name not in self.named:
            raise JobNotFound(f"there is no job {name}")
        return msgspec.structs.replace(self.named[name], state=self.state)


class Desk:
    """One watched folder and its watcher, which may be begun anew as after a kill."""

    def __init__(self, root: Path, *rules: Rule, **settings: Any) -> None:
        self.folder = root / "drop"
        self.folder.mkdir(exist_ok=True)
        self.root = root
        self.now = 0.0
        self.daemon = QuickDaemon()
        self.ledger = Ledger(root / "watch.sqlite")
        self.ledger._db.execute("PRAGMA synchronous = OFF")  # no power is cut here
        self.settings = WatchSettings(settle=SETTLE, rules=rules or (rule(),), roots=(str(root),), **settings)
        self.add()
        self.begin()

    def add(self, *, existing: bool = False) -> None:
        """As `alloy watch add` does it."""
        path = str(self.folder)
        present = [each.signature for each in candidates(path, self.settings)]
        self.ledger.add(path, self.settings, *identity(path), present=present, existing=existing)

    def begin(self) -> None:
        """Another watcher, which knows what is in the ledger."""
        find = partial(resolve, roots=(), hf_home=None)

        def newcomers(folder: Folder, settle: float) -> Newcomers:
            return Newcomers(folder, self.ledger, (), find, settle)

        drops, rules = Drops(self.ledger, self.daemon, ()), Rules(self.ledger, self.daemon, (), find)
        bell: Any = Silence()
        self.watcher = Watcher(self.ledger, drops, rules, newcomers, bell, clock=lambda: self.now)

    def look(self, seconds: float = 1.0, *, times: int = 0) -> None:
        """Let so much time pass, with so many looks: else one each second, or ten in all if that is fewer."""
        steps = times or min(10, max(1, int(seconds)))
        for _ in range(steps):
            self.now += seconds / steps
            self.watcher.wake()
            self.watcher.step()

    @property
    def status(self) -> Watch:
        (found,) = self.ledger.watches()
        return found

    @property
    def waiting(self) -> dict[str, str]:
        """What waits, and why."""
        return {each.name: each.why for each in self.status.waiting}

    @property
    def triggered(self) -> list[str]:
        """The names of outputs that were asked for, in order."""
        return [Path(each.out).name for each in self.daemon.specs if isinstance(each, MergeSpec)]
