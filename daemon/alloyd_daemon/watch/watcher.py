"""The loop over watched folders: look, let things settle, claim what is whole, follow what was claimed."""

from __future__ import annotations

import logging
import os
import stat
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from alloyd.errors import AlloydError
from alloyd.file_systems import network_file_system
from alloyd.watch_schema import Waiting, Watch

from . import identity, ignored
from .bell import Bell
from .drops import Drops
from .identity import Unknown
from .ledger import Folder, Ledger
from .newcomers import Newcomers
from .rules import Rules
from .settle import Settling

SETTLE = 2.0
SETTLE_POLLED = 10.0
POLL = 10.0
FOLLOW = 5.0
"""Seconds between two questions to the daemon about a folder's jobs, which it tells of by itself when they end."""
SHOWN = 50
BACK_OFF = (1.0, 60.0)

log = logging.getLogger("alloyd.watch")


class _Eye:
    """One folder as it was last seen."""

    def __init__(self, folder: Folder, polled: bool, newcomers: Callable[[Folder, float], Newcomers]) -> None:
        settle = folder.settings.settle
        seconds = (SETTLE_POLLED if polled else SETTLE) if settle is None else settle
        self.settling = Settling(seconds)
        self.newcomers = newcomers(folder, seconds) if folder.settings.rules else None
        self.polled = polled
        self.due = 0.0
        self.trouble: dict[str, tuple[float, float, str]] = {}  # name -> not before, wait, why
        self.status: tuple[object, ...] = ()


class Watcher:
    """Takes a step whenever something rings or is due; ``clock`` is monotonic."""

    def __init__(
        self,
        ledger: Ledger,
        drops: Drops,
        rules: Rules,
        newcomers: Callable[[Folder, float], Newcomers],
        bell: Bell,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._drops = drops
        self._rules = rules
        self._newcomers = newcomers
        self._bell = bell
        self._clock = clock
        self._eyes: dict[str, tuple[Folder, _Eye]] = {}

    def step(self) -> float:
        """Do what is due; seconds until something is again, if nothing rings before."""
        rung = self._bell.rung()
        waits = [3600.0]
        folders = self._ledger.folders()
        for gone in self._eyes.keys() - {each.id for each in folders}:
            del self._eyes[gone]
            self._bell.leave(gone)
        for folder in folders:
            eye = self._eye(folder)
            now = self._clock()
            if folder.id in rung or eye.due <= now:
                eye.due = now + self._look(folder, eye)
            waits.append(eye.due - self._clock())
        return max(0.01, min(waits))

    def wake(self) -> None:
        """Look at every folder now: the daemon has news."""
        for _, eye in self._eyes.values():
            eye.due = 0.0

    def _eye(self, folder: Folder) -> _Eye:
        known = self._eyes.get(folder.id)
        if known is not None and known[0].added == folder.added and known[0].removed == folder.removed:
            return known[1]
        polled = folder.settings.mode == "polling" or (
            folder.settings.mode == "auto" and bool(network_file_system(Path(folder.path)))
        )
        eye = _Eye(folder, polled, self._newcomers)
        self._eyes[folder.id] = (folder, eye)
        return eye

    def _look(self, folder: Folder, eye: _Eye) -> float:
        """Look at a folder once; seconds until the next look."""
        waiting: list[Waiting] = []
        message, state = "", "ok"
        wait = min(POLL, folder.settings.rescan) if eye.polled else folder.settings.rescan
        try:
            if not folder.marked and not folder.removed:
                folder = identity.mark(folder, self._ledger)
            if identity.check(folder, self._ledger):
                self._bell.leave(folder.id)  # what it listens to is the folder that was there before
            if not eye.polled and not folder.removed:
                why = self._bell.listen(folder.id, folder.path)
                if why:
                    message, eye.polled = f"polling: {why}", True
            wait = min(wait, self._drive(folder, eye, waiting))
            if not folder.removed:
                wait = min(wait, self._recipes(folder, eye, waiting))
                if eye.newcomers is not None:
                    wait = min(wait, self._models(folder, eye, eye.newcomers, waiting))
        except Unknown as unknown:
            state, message, wait = "unknown", str(unknown), min(wait, POLL)
            self._bell.leave(folder.id)
        except OSError as wrong:
            state, message, wait = "unknown", f"{folder.path}: {wrong.strerror or wrong}", min(wait, POLL)
        if folder.removed and not self._ledger.open_claims(folder.id):
            identity.unmark(folder)
            self._ledger.drop(folder.id)
        # Of what is gone nothing need be remembered.
        eye.trouble = {
            key: each for key, each in eye.trouble.items() if each[0] + BACK_OFF[1] > self._clock()
        }
        self._tell(folder, eye, state, message, waiting)
        return wait

    def _drive(self, folder: Folder, eye: _Eye, waiting: list[Waiting]) -> float:
        """Go on with every claim of a folder; one that cannot go on now is left alone for a while."""
        wait = 3600.0
        for claim in self._ledger.open_claims(folder.id):
            drive = self._rules.drive if claim.rule else self._drops.drive
            wait = min(wait, FOLLOW, self._try(eye, claim.id, claim.name, waiting, drive, folder, claim))
        return wait

    def _recipes(self, folder: Folder, eye: _Eye, waiting: list[Waiting]) -> float:
        """Claim the files that have settled, oldest first, no more than may be in flight."""
        now = self._clock()
        ignore = ignored.read_mergeignore(Path(folder.path))
        found: list[tuple[float, str]] = []
        wait, names = 3600.0, set()
        with os.scandir(folder.path) as entries:
            for entry in entries:
                name = entry.name
                if ignored.passed_over(name) or not ignored.may_be_recipe(name) or ignore(name):
                    continue
                try:
                    facts = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if stat.S_ISDIR(facts.st_mode):
                    continue
                if ignored.not_text(name):
                    waiting.append(Waiting(ignored.readable(name), ignored.NOT_TEXT))
                    continue
                names.add(name)
                signature = (facts.st_size, facts.st_mtime_ns, facts.st_ino, facts.st_dev)
                left = eye.settling.look(name, signature, now)
                if left:
                    waiting.append(Waiting(name, "was changed a moment ago"))
                    wait = min(wait, left)
                else:
                    found.append((facts.st_mtime, name))
        eye.settling.keep(names)
        for _, name in sorted(found):
            if self._is_full(folder, name, waiting):
                continue
            wait = min(wait, FOLLOW, self._try(eye, name, name, waiting, self._drops.begin, folder, name))
        return wait

    def _models(self, folder: Folder, eye: _Eye, newcomers: Newcomers, waiting: list[Waiting]) -> float:
        """Claim the models that are complete and new to a rule, no more than may be in flight."""
        ready, wait = newcomers.look(self._clock(), waiting)
        for model in ready:
            if self._is_full(folder, model.name, waiting):
                continue
            later = self._rules.why_later(folder, model.rule)
            if later:
                waiting.append(Waiting(model.name, later))
                wait = min(wait, FOLLOW)
                continue
            key = f"{model.rule.name} {model.digest}"
            wait = min(
                wait, FOLLOW, self._try(eye, key, model.name, waiting, self._rules.begin, folder, model)
            )
        return wait

    def _is_full(self, folder: Folder, name: str, waiting: list[Waiting]) -> bool:
        """Whether ``name`` must wait because as many jobs as may be are in flight."""
        most = folder.settings.in_flight
        if self._ledger.open_count(folder.id) < most:
            return False
        waiting.append(Waiting(name, f"{most} of this folder's jobs are in flight"))
        return True

    def _try(
        self, eye: _Eye, key: str, name: str, waiting: list[Waiting], do: Callable[..., None], *what: object
    ) -> float:
        """Do something that may fail for now; then not again before a while, which doubles each time."""
        now = self._clock()
        before, pause, why = eye.trouble.get(key, (0.0, BACK_OFF[0] / 2, ""))
        if now < before:
            waiting.append(Waiting(name, why))
            return before - now
        try:
            do(*what)
        except (AlloydError, OSError) as wrong:
            pause = min(BACK_OFF[1], 2 * pause)
            why = getattr(wrong, "message", "") or str(wrong)
            eye.trouble[key] = (now + pause, pause, why)
            waiting.append(Waiting(name, why))
            log.warning("%s: %s", name, why)
            return pause
        eye.trouble.pop(key, None)
        return 3600.0

    def _tell(self, folder: Folder, eye: _Eye, state: str, message: str, waiting: list[Waiting]) -> None:
        """Keep how the folder is: when that changed, or now and then."""
        mode = "polling" if eye.polled else "inotify"
        shown = (mode, state, message, len(waiting), tuple(waiting[:SHOWN]))
        if (shown, int(self._clock() / 30)) == eye.status:
            return
        eye.status = (shown, int(self._clock() / 30))
        status = Watch(
            "",
            folder.settings,
            mode,
            state,
            message,
            datetime.now(UTC),
            {},
            len(waiting),
            tuple(waiting[:SHOWN]),
        )
        self._ledger.tell(folder.id, status)
