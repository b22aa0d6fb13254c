"""What keeps a home from growing for ever: looking at what takes room, pruning when told to, and retention.

Each is a piece of work that takes turns in the daemon's loop, one after the other; no turn is long. What is slow, to
weigh and remove files, is done by a process of its own.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Final, Protocol

import msgspec

from alloyd.errors import AlloydError, ServiceError, StoreError, UsageError
from alloyd.jobs import SPECS
from alloyd.paths import Home
from alloyd.space_schema import Place, Prune, Pruned, Room, Space
from alloyd.units import format_size, parse_age

from ..faults import reach
from ..settings import NEVER, Settings
from ..space.orders import Clear, Cleared, Look, Seen, Weigh, Weighed
from .space_process import Asking, SpaceProcess
from .store import Store
from .store_prune import DAY, Removal, Rule

RESULTS: Final = ("score", "search", "open_test")
"""Kinds whose jobs hold what they found in the home."""
PLAIN: Final = tuple(kind for kind in SPECS if kind not in RESULTS)
AT_ONCE: Final = 200
"""Jobs that are forgotten in one turn."""
LOOK_EVERY: Final = 3600.0
"""Seconds between two looks at whether a day has passed."""
MOST_TASKS: Final = 16
LONGEST_AGE: Final = 100 * 366 * DAY
BACKUPS: Final = "jobs.sqlite.v*"

log = logging.getLogger("alloyd")


class Claims(Protocol):
    """Forgets what is no longer needed of what ended before a moment, piece by piece; how much, in each."""

    def __call__(self, before: datetime, *, dry_run: bool) -> Iterator[int]: ...


def _no_claims(before: datetime, *, dry_run: bool) -> Iterator[int]:
    return iter(())


class Task:
    """A piece of work that somebody waits for: ``done`` once there is a ``value`` or an ``error``."""

    def __init__(self, work: Asking) -> None:
        self._work = work
        self.done = False
        self.value: object = None
        self.error: AlloydError | None = None

    def step(self) -> float:
        """Take a turn; the seconds until the next."""
        try:
            return next(self._work)
        except StopIteration as end:
            self.value = end.value
        except AlloydError as error:
            self.error = error
        except Exception as error:
            log.exception("the home could not be looked after")
            self.error = ServiceError(f"internal error of the daemon: {type(error).__name__}: {error}")
        self.done = True
        return 0.0

    def drop(self) -> None:
        """Leave the work where it is."""
        self._work.close()
        self.error = ServiceError("the daemon is stopping", hint="Try again in a moment.")
        self.done = True


class Housekeeping:
    """The work that is to be done, first come first served.

    ``quiet`` says whether jobs leave the disk alone at this moment, ``busy`` which jobs somebody is still occupied with
    though they have ended, ``shielded`` the folders in which no weights are removed; ``claims`` prunes the record of
    watched folders. ``clock`` runs on while the machine sleeps.
    """

    def __init__(
        self,
        store: Store,
        home: Home,
        settings: Settings,
        *,
        quiet: Callable[[], bool],
        busy: Callable[[], Iterable[str]],
        shielded: Callable[[], Iterable[str]],
        claims: Claims = _no_claims,
        clock: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
    ) -> None:
        self._rows = store.pruning
        self._home = home
        self._settings = settings
        self._quiet = quiet
        self._busy = busy
        self._shielded = shielded
        self._claims = claims
        self._clock = clock
        self._process = SpaceProcess(home, settings)
        self._tasks: deque[Task] = deque()
        self._looking: Task | None = None
        self._counted = clock()
        self._look = self._counted
        self._wanted: float | None = self._counted  # since when a pass is due

    def space(self) -> Task:
        """Look at what takes room; who asks while somebody waits for that gets the same answer."""
        if self._looking is None or self._looking.done:
            self._looking = self._begin(self._space())
        return self._looking

    def prune(self, order: Prune, roots: Sequence[str] | None) -> Task:
        """Prune, or say what that would remove; outside of the home only in ``roots``, where they are given.

        Raises
        ------
        UsageError
            An order that makes no sense.
        ServiceError
            Too many wait already.
        """
        if len(self._tasks) >= MOST_TASKS:
            raise ServiceError(
                f"the daemon is busy: {len(self._tasks)} prunings wait already", hint="Wait for them to end."
            )
        if not 0 <= order.older_than <= LONGEST_AGE:
            raise UsageError(
                f"jobs cannot be {order.older_than:g} seconds old", hint="Give an age such as 30d."
            )
        if order.before is not None:
            order = msgspec.structs.replace(order, before=_in_utc(order.before))
        if order.keep is not None and order.keep < 0:
            raise UsageError(f"{order.keep} jobs cannot be kept", hint="Give 0 or more.")
        return self._begin(self._prune(order, None if roots is None else tuple(roots)))

    def step(self) -> float:
        """Take a turn; the seconds until the next."""
        now = self._clock()
        if now >= self._look:
            self._look = now + LOOK_EVERY
            try:
                if self._rows.count_day(now - self._counted):
                    self._counted = now
                    self._wanted = now if self._wanted is None else self._wanted
            except StoreError as wrong:  # the day is counted at the next look
                log.error("%s", wrong.message)
        if self._wanted is not None and not self._tasks and (self._quiet() or now - self._wanted > DAY):
            self._wanted = None
            self._begin(self.retain())
        if not self._tasks:
            return LOOK_EVERY
        task = self._tasks[0]
        wait = task.step()
        if task.done:
            self._tasks.popleft()
            if task.error is not None:
                log.error("%s", task.error.message)
        return wait

    def stop(self) -> None:
        """Leave everything where it is; the next daemon goes on with what was begun."""
        while self._tasks:
            self._tasks.popleft().drop()
        self._process.stop()

    # The work

    def _begin(self, work: Asking) -> Task:
        task = Task(work)
        self._tasks.append(task)
        return task

    def _space(self) -> Generator[float, None, Space]:
        seen = yield from self._process.ask(Look())
        assert isinstance(seen, Seen)
        return seen.space

    def _prune(self, order: Prune, roots: tuple[str, ...] | None) -> Generator[float, None, Pruned]:
        """Decide, weigh, forget, remove; whatever dies in between, what was forgotten is removed by the next daemon."""
        before = order.before or self._rows.now() - timedelta(seconds=order.older_than)
        going = self._rows.ended(Rule(before=before, keep=order.keep or 0))
        surely, doubt, doubted = self._doubt(order, before, going)
        kept = [*doubted, *self._spare(going)]
        weighing = Weigh(
            tuple(going),
            outputs=order.outputs,
            shielded=tuple(self._shielded()) if order.outputs else (),
            roots=roots,
            orphans=surely.timestamp(),
            backups=surely.timestamp(),
            doubted=before.timestamp(),
            doubt=doubt,
        )
        weighed = yield from self._process.ask(weighing)
        assert isinstance(weighed, Weighed)
        claims, troubled = yield from self._prune_claims(surely, dry_run=order.dry_run)
        told = Pruned(
            dry_run=order.dry_run,
            before=before,
            jobs=tuple(each.job for each in weighed.removals),
            parts=weighed.parts,
            staged=weighed.staged,
            outputs=weighed.outputs,
            orphans=weighed.orphans,
            claims=claims,
            kept=(*kept, *weighed.kept, *troubled),
        )
        if order.dry_run:
            return told
        forgotten = yield from self._forget(weighed.removals, "asked")
        if weighed.orphan_removals:
            self._rows.keep_removals(weighed.orphan_removals)
        parts, left = yield from self._clear(backups=weighed.backups)
        yield from self._shrink()
        went = set(forgotten)
        log.info("pruned %d jobs, %s", len(went), format_size(sum(each.real for each in parts.values())))
        return Pruned(
            dry_run=False,
            before=before,
            jobs=tuple(forgotten),
            parts=parts,
            staged=tuple(each for each in weighed.staged if each.job in went),
            outputs=tuple(each for each in weighed.outputs if each.job in went),
            orphans=weighed.orphans,
            claims=claims,
            kept=(*told.kept, *left),
        )

    def retain(self) -> Asking:
        """One pass of what the settings say is to be forgotten."""
        wanted = self._settings.retention
        going = self._old(PLAIN, wanted.jobs) | self._old(RESULTS, wanted.results)
        going |= self._rows.ended(Rule(kinds=PLAIN, keep=max(wanted.keep, wanted.most)))
        self._spare(going)
        forgotten: list[str] = []
        backups: tuple[str, ...] = ()
        copies = self._moment(wanted.backups) if any(self._home.root.glob(BACKUPS)) else None
        if going or copies is not None:
            oldest = None if copies is None else copies.timestamp()
            weighed = yield from self._process.ask(Weigh(tuple(going), backups=oldest))
            assert isinstance(weighed, Weighed)
            backups = weighed.backups
            forgotten = yield from self._forget(weighed.removals, "retention")
        days = self._days(wanted.jobs)
        if days is not None:
            while self._rows.forget_events(self._rows.event_before(days), reason="retention"):
                yield 0.0
        moment = self._moment(wanted.jobs)
        if moment is not None:
            yield from self._prune_claims(moment, dry_run=False)
        told = self._old(PLAIN, wanted.logs) | self._old(RESULTS, wanted.logs)
        self._spare(told)
        quiet = tuple(told.values())
        if quiet or backups or self._rows.has_removals():
            parts, _ = yield from self._clear(quiet, backups)
            freed = sum(each.real for each in parts.values())
            if forgotten or freed:
                log.info("retention: forgot %d jobs, gave back %s", len(forgotten), format_size(freed))
        yield from self._shrink()

    def _old(self, kinds: tuple[str, ...], age: str) -> dict[int, str]:
        """Ended jobs of such an age, by the clock and by the days that this home has seen pass."""
        days = self._days(age)
        if days is None:
            return {}
        rule = Rule(
            kinds=kinds,
            before=self._rows.now() - timedelta(seconds=parse_age(age)),
            upto=self._rows.event_before(days),
            keep=self._settings.retention.keep,
        )
        return self._rows.ended(rule) if rule.upto else {}

    def _moment(self, age: str) -> datetime | None:
        """When it was that what is of such an age now came to be, by the clock and by the days seen to pass."""
        days = self._days(age)
        if days is None:
            return None
        return min(self._rows.now() - timedelta(seconds=parse_age(age)), self._rows.moment_before(days))

    def _doubt(
        self, order: Prune, before: datetime, going: dict[int, str]
    ) -> tuple[datetime, str, list[Place]]:
        """Take those jobs out of ``going`` that the clock alone makes old, for it may be wrong.

        The moment before which everything else must have come to be, what to say of the rest, and those jobs. An age
        below a day is the clock's alone.
        """
        days = 0 if order.trust_clock else int((self._rows.now() - before).total_seconds() // DAY)
        if days <= 0:
            return before, "", []
        upto = self._rows.event_before(days)
        surely = self._rows.ended(Rule(before=before, upto=upto, keep=order.keep or 0)) if upto else {}
        why = f"old by the clock alone: this home has not seen {days} days pass since then (--trust-clock)"
        doubted = [
            Place("", Room(), going.pop(number), why) for number in sorted(going.keys() - surely.keys())
        ]
        return min(before, self._rows.moment_before(days)), why, doubted

    def _prune_claims(
        self, before: datetime, *, dry_run: bool
    ) -> Generator[float, None, tuple[int, tuple[Place, ...]]]:
        """Prune the record of watched folders: how many entries; where it cannot be used, that it stays."""
        count = 0
        try:
            for some in self._claims(before, dry_run=dry_run):
                count += some
                yield 0.0
        except StoreError as wrong:
            log.warning("%s", wrong.message)
            return count, (Place(str(self._home.root / "watch.sqlite"), Room(), "", wrong.message),)
        return count, ()

    def _days(self, age: str) -> int | None:
        return None if age == NEVER else max(1, ceil(parse_age(age) / DAY))

    def _spare(self, going: dict[int, str]) -> list[Place]:
        """Take those jobs out of ``going`` that must stay; they, each with the reason."""
        busy = set(self._busy())
        kept = {number: "its end is still being told of" for number, job in going.items() if job in busy}
        for number, other in self._rows.needed(number for number in going if number not in kept).items():
            kept[number] = f"job {other} needs it"
        return [Place("", Room(), going.pop(number), why) for number, why in sorted(kept.items())]

    def _forget(self, removals: Sequence[Removal], reason: str) -> Generator[float, None, list[str]]:
        forgotten: list[str] = []
        for begin in range(0, len(removals), AT_ONCE):
            some = removals[begin : begin + AT_ONCE]
            try:
                forgotten += self._rows.forget(some, reason=reason)
            except StoreError:
                # On a full disk what these jobs left makes the room that it takes to forget them.
                yield from self._process.ask(Clear(whole=tuple(self._rows.still(some))))
                forgotten += self._rows.forget(some, reason=reason)
            yield 0.0
        return forgotten

    def _clear(
        self, quiet: tuple[str, ...] = (), backups: tuple[str, ...] = ()
    ) -> Generator[float, None, tuple[dict[str, Room], tuple[Place, ...]]]:
        """Remove what is to be removed."""
        cleared = yield from self._process.ask(Clear(quiet, backups=backups))
        assert isinstance(cleared, Cleared)
        reach("prune-cleared")
        for begin in range(0, len(cleared.numbers), 10 * AT_ONCE):
            self._rows.removed(cleared.numbers[begin : begin + 10 * AT_ONCE])
            yield 0.0
        return cleared.parts, cleared.left

    def _shrink(self) -> Asking:
        while self._rows.shrink():
            yield 0.0
        self._rows.settle()


def _in_utc(moment: datetime) -> datetime:
    """``moment`` as the store has it, where moments are compared as text. UsageError for one of no time zone."""
    try:
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except OverflowError:
        pass
    raise UsageError(
        f"'{moment.isoformat()}' is no moment before which jobs end",
        hint="Give one with its time zone, such as 2026-01-31T12:00:00+00:00.",
    )
