"""The watcher's process as the daemon keeps it: started while a folder is watched, started again when it died."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

from alloyd.errors import StoreError, UsageError
from alloyd.jobs import Event, JobState
from alloyd.paths import Home
from alloyd.recipe import ModelRef
from alloyd.watch_rules import check as check_rules
from alloyd.watch_schema import Watch, WatchSettings, check

from ..recipes.models import resolve
from ..watch.dropped import allowed, hold
from ..watch.identity import identity
from ..watch.ignored import OWN_FOLDERS, sees
from ..watch.ledger import FILE, Ledger
from ..watch.shield import shield
from .prometheus import Family, by_label

WATCHER = (sys.executable, "-P", "-m", "alloyd_daemon.watch")
SLOWEST = 60.0
STEADY = 30.0

log = logging.getLogger("alloyd")


class WatchProcess:
    """Folders that are watched, and the process that does it; ``clock`` is monotonic."""

    def __init__(
        self, home: Home, *, command: Sequence[str] = WATCHER, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._home = home
        self._command = (*command, str(home.root))
        self._clock = clock
        self._process: subprocess.Popen[bytes] | None = None
        self._ledger: Ledger | None = None
        self._begun = 0.0
        self._not_before = 0.0
        self._pause = 0.5
        self._wanted = False
        try:
            self._wanted = (home.root / FILE).exists() and bool(self._open().folders())
        except StoreError as wrong:  # whoever asks for a folder hears it too
            log.error("no folder is watched: %s", wrong.message)

    def _open(self) -> Ledger:
        if self._ledger is None:
            self._ledger = Ledger(self._home.root / FILE)
        return self._ledger

    def add(
        self,
        path: str,
        settings: WatchSettings,
        *,
        existing: bool = False,
        model_roots: Sequence[Path] = (),
        hub: Path | None = None,
    ) -> Watch:
        """Watch a folder, or watch it otherwise.

        ``existing``: models that are there count as new. ``model_roots`` and ``hub``: where else models are found.

        Raises
        ------
        AlloydError
            The folder cannot be watched, or a rule is wrong or names what lies elsewhere.
        """
        check(path, settings)
        path = os.path.normpath(path)
        numbers = identity(path)
        self._refuse_taken(path, numbers)
        check_rules(settings.rules)
        self._refuse_circle(path, settings)
        roots = allowed(path, settings, [*model_roots, *([hub] if hub else [])])
        for rule in settings.rules:
            models = [rule.base] if rule.base else []
            models += [] if rule.soup is None else [rule.soup.start]
            tasks = () if rule.soup is None else rule.soup.score
            hold([*models, *tasks], f"the rule {rule.name}", Path(path), roots)
            for model in models:
                resolve(ModelRef.parse(model), base_dir=Path(path), roots=model_roots, hf_home=hub)
        self._open().add(path, settings, *numbers, present=_present(path, settings), existing=existing)
        self._wanted = True
        self.step()
        self.poke()
        return next(each for each in self.watches() if each.path == path)

    def _refuse_taken(self, path: str, numbers: tuple[int, int]) -> None:
        """Refuse a folder whose files belong to the daemon, or to a folder that is watched already."""
        real = Path(os.path.realpath(path))
        if real.is_relative_to(self._home.root):
            raise UsageError(
                f"{path} lies in the daemon's own folder {self._home.root}, whose files are nobody's recipes",
                hint="Make a folder elsewhere, and watch that.",
                path=path,
            )
        # By what is known of the others: one of them may be on a disk that does not answer.
        for each in self._open().folders():
            if each.path == path or each.removed:
                continue
            if (each.device, each.inode) == numbers:
                raise UsageError(
                    f"{path} is watched already, as {each.path}",
                    hint=f"'alloy watch rm {each.path}' first, to watch it by its other name.",
                    path=path,
                )
            if any(real.is_relative_to(Path(each.path, name)) for name in OWN_FOLDERS):
                raise UsageError(
                    f"in {path} the watched folder {each.path} keeps what it has taken",
                    hint="Make a folder elsewhere, and watch that.",
                    path=path,
                )

    def _refuse_circle(self, path: str, settings: WatchSettings) -> None:
        """Refuse rules whose outputs come back to them through the rules of other folders: that would never end."""
        ruled = {each.path: each.settings for each in self._open().folders() if each.settings.rules}
        ruled[path] = settings
        if not settings.rules:
            return
        ways, seen = [[path]], {path}
        while ways:
            way = ways.pop()
            for other in ruled:
                if not sees(other, ruled[way[-1]].out):
                    continue
                if other == path and len(way) > 1:
                    raise UsageError(
                        f"what rules make would go round for ever: from {', to '.join([*way, path])}",
                        hint="Let the outputs of one of them go elsewhere with --out.",
                        path=path,
                    )
                if other not in seen:
                    seen.add(other)
                    ways.append([*way, other])

    def remove(self, path: str) -> bool:
        """Watch a folder no longer; whether it was."""
        found = self._open().remove(os.path.normpath(path))
        self.poke()
        return found

    def watches(self) -> list[Watch]:
        """Every watched folder."""
        return self._open().watches() if (self._home.root / FILE).exists() else []

    def shielded(self, roots: Sequence[Path]) -> list[str]:
        """What watched folders need of models that are there, and that may lie in ``roots``."""
        return sorted(set(shield(self.watches(), roots)))

    def prune(self, before: datetime, *, dry_run: bool) -> Iterator[int]:
        """Forget what is no longer needed of what was taken from watched folders; see :meth:`Ledger.prune`."""
        if (self._home.root / FILE).exists():
            yield from self._open().prune(before, dry_run=dry_run)

    def jobs(self) -> set[str]:
        """The jobs of files whose end in their folder is still to come."""
        return self._open().open_jobs() if (self._home.root / FILE).exists() else set()

    def step(self) -> None:
        """See that the watcher lives; one that dies at once is started again ever more slowly."""
        if self._process is not None:
            if self._process.poll() is None:
                return
            log.warning("the watcher ended with status %s", self._process.returncode)
            steady = self._clock() - self._begun > STEADY
            self._pause = 0.5 if steady else min(SLOWEST, 2 * self._pause)
            self._not_before = self._clock() + self._pause
            self._drop()
        if self._wanted and self._clock() >= self._not_before:
            self._begun = self._clock()
            try:
                self._process = subprocess.Popen(
                    self._command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, process_group=0
                )
                assert self._process.stdin is not None
                # A watcher that hangs on a dead mount reads nothing for long; the daemon never waits for it.
                os.set_blocking(self._process.stdin.fileno(), False)
            except OSError as wrong:
                log.error("the watcher cannot be started: %s", wrong)
                self._not_before = self._clock() + SLOWEST

    def stop(self) -> None:
        """End the watcher; it loses nothing."""
        self._wanted = False
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._drop()
        if self._ledger is not None:
            self._ledger.close()
            self._ledger = None

    def hear(self, event: Event) -> None:
        """Take in one stored event: the end of a job is news to whoever dropped it."""
        if event.kind == "state" and JobState(event.body["state"]).ended:
            self.poke()

    def families(self) -> Iterator[Family]:
        """What was taken from watched folders, for the daemon's figures."""
        counts: Counter[str] = Counter()
        try:
            for each in self.watches():
                counts.update(each.claims)
        except StoreError:
            return
        yield by_label(
            "alloyd_watch_files", "gauge", "Files and models taken from watched folders.", "state", counts
        )

    def poke(self) -> None:
        """Have the watcher look at once."""
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                os.write(self._process.stdin.fileno(), b"!")

    def _drop(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
        self._process = None


def _present(path: str, settings: WatchSettings) -> list[str]:
    """The signatures of the models that are in a folder whose rules begin to count."""
    # Loaded here: the daemon starts without the libraries that reading models takes.
    from ..watch.model_folders import candidates

    try:
        return [each.signature for each in candidates(path, settings)] if settings.rules else []
    except OSError as wrong:
        raise UsageError(f"the folder {path} cannot be read: {wrong.strerror}", path=path) from None
