"""What the store may forget and how: ended jobs with their events, old events of no job, and the days it has lived.

A job is forgotten in one transaction, which also writes down what it left on the disk: from then on nobody sees the
job, and what it left is removed by whoever comes next, however often that dies. Numbers of jobs and events are never
given again, so what is still on the disk is taken for nobody else's.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Final

import msgspec
from msgspec import Struct

from alloyd.jobs import SPECS
from alloyd.wire import KEY

from .store_rows import as_text

ENDED_BEFORE: Final = """
    SELECT number, kind FROM jobs
    WHERE state IN ('done', 'failed', 'cancelled') AND discard = 0 AND quarantined = 0
        AND kind IN (SELECT value FROM json_each(:kinds))
        AND (:before IS NULL OR ended < :before)
        AND (:upto IS NULL OR (SELECT MAX(seq) FROM events WHERE job = jobs.number) <= :upto)
        AND number <= COALESCE((
            SELECT number FROM jobs WHERE ended IS NOT NULL AND kind IN (SELECT value FROM json_each(:kinds))
            ORDER BY number DESC LIMIT 1 OFFSET :keep
        ), 0)
    ORDER BY number
"""
LIVING: Final = "SELECT number, after, spec FROM jobs WHERE state IN ('queued', 'running', 'paused')"
MAY_LIVE_AGAIN: Final = """
    SELECT number, after, COALESCE(json_extract(spec, '$.search'), '') || ' '
        || COALESCE(json_extract(spec, '$.continues'), '') AS spec
    FROM jobs WHERE state IN ('failed', 'cancelled') AND (after != '[]' OR kind IN ('search', 'open_test'))
"""
STILL_ENDED: Final = """
    SELECT number, kind, token FROM jobs
    WHERE number IN (SELECT value FROM json_each(?)) AND state IN ('done', 'failed', 'cancelled')
        AND discard = 0 AND quarantined = 0
    ORDER BY number
"""
KNOWN: Final = "SELECT 1 FROM jobs WHERE number = ? AND kind = ?"
KEEP_REMOVAL: Final = "INSERT INTO removals (what) VALUES (?)"
KEEP_KEY: Final = "INSERT OR REPLACE INTO spent (digest, job) VALUES (?, ?)"
KEY_SPENT: Final = "SELECT job FROM spent WHERE digest = ?"
FORGET_EVENTS: Final = "DELETE FROM events WHERE job = ?"
FORGET_JOB: Final = "DELETE FROM jobs WHERE number = ?"
OLD_EVENTS: Final = (
    "DELETE FROM events WHERE seq IN (SELECT seq FROM events WHERE job IS NULL AND seq <= ? LIMIT ?)"
)
HAS_OLD_EVENTS: Final = "SELECT 1 FROM events WHERE job IS NULL AND seq <= ? LIMIT 1"
TELL: Final = "INSERT INTO events (job, kind, at, body) VALUES (NULL, 'daemon', ?, ?)"
REMOVALS: Final = "SELECT number, what FROM removals ORDER BY number"
HAS_REMOVALS: Final = "SELECT 1 FROM removals LIMIT 1"
REMOVED: Final = "DELETE FROM removals WHERE number IN (SELECT value FROM json_each(?))"
LAST_JOB: Final = "SELECT COALESCE((SELECT seq FROM sqlite_sequence WHERE name = 'jobs'), 0)"
RAISE_LAST_JOB: Final = "UPDATE sqlite_sequence SET seq = :number WHERE name = 'jobs' AND seq < :number"
FIRST_LAST_JOB: Final = """
    INSERT INTO sqlite_sequence (name, seq) SELECT 'jobs', :number
    WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'jobs')
"""
LAST_DAY: Final = "SELECT at FROM days ORDER BY day DESC LIMIT 1"
COUNT_DAY: Final = """
    INSERT INTO days (at, seq)
    VALUES (?, COALESCE((SELECT seq FROM sqlite_sequence WHERE name = 'events'), 0))
"""
MOVE_DAY: Final = "UPDATE days SET at = ? WHERE day = (SELECT MAX(day) FROM days)"
DAY_BEFORE: Final = "SELECT at, seq FROM days ORDER BY day DESC LIMIT 1 OFFSET ?"
OLD_DAYS: Final = "DELETE FROM days WHERE day <= (SELECT MAX(day) FROM days) - ?"

MOST_DAYS: Final = 3660
"""So many days are known apart; what is older is as old as the oldest of them."""
PAGES_AT_ONCE: Final = 500
"""What the file gives back in one step, some 2 MB: a step must not keep the daemon's loop."""
EVENTS_AT_ONCE: Final = 2000
NEVER: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""Before all that is."""

_NAMED: Final = re.compile(rf"\b(?:{'|'.join(SPECS)})-([1-9][0-9]{{0,14}})\b")


class Weights(Struct, frozen=True):
    """Files of the published output ``folder``, each with its size, time of change and inode: what is not so stays."""

    folder: str
    files: tuple[tuple[str, int, int, int], ...]


class Removal(Struct, frozen=True, omit_defaults=True):
    """What is to be removed of ``job``: its files in the home, the staging of the outputs ``staged``, some weights.

    ``out`` is the output that it was asked for: what another job stages for it is left alone.
    """

    job: str
    out: str = ""
    staged: tuple[str, ...] = ()
    weights: tuple[Weights, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """Which ended jobs may go: of ``kinds``, ended before ``before``, their last event not after number ``upto``.

    The newest ``keep`` of these kinds stay. ``None`` is no bound.
    """

    kinds: tuple[str, ...] = tuple(SPECS)
    before: datetime | None = None
    upto: int | None = None
    keep: int = 0


class Pruning:
    """The part of the store that forgets. Every change is one short transaction."""

    def __init__(
        self,
        db: sqlite3.Connection,
        writing: Callable[[str], AbstractContextManager[None]],
        now: Callable[[], datetime],
    ) -> None:
        self._db = db
        self._writing = writing
        self.now = now

    # Jobs

    def ended(self, rule: Rule) -> dict[int, str]:
        """The ids of the jobs that ``rule`` lets go, by number, oldest first; those in quarantine are none of them."""
        before = None if rule.before is None else rule.before.isoformat()
        values = {"kinds": as_text(rule.kinds), "before": before, "upto": rule.upto, "keep": rule.keep}
        rows = self._db.execute(ENDED_BEFORE, values)
        return {row["number"]: f"{row['kind']}-{row['number']}" for row in rows}

    def needed(self, numbers: Iterable[int]) -> dict[int, int]:
        """Which of the jobs of these ``numbers`` another one needs that stays and may still run; and which one that is.

        It waits for them, or its spec names them.
        """
        going = set(numbers)
        naming = [(row["number"], self._names(row)) for row in self._db.execute(LIVING)]
        again = [(row["number"], self._names(row)) for row in self._db.execute(MAY_LIVE_AGAIN)]
        found: dict[int, int] = {}
        more = True
        while more:
            new = {
                name: number
                for number, names in naming + [each for each in again if each[0] not in going]
                for name in names & going
                if name != number
            }
            found |= new
            going -= new.keys()
            more = bool(new)
        return found

    def forget(self, removals: Sequence[Removal], *, reason: str) -> list[str]:
        """Forget those of the jobs that may still go, and keep what is to be removed of them; their ids."""
        wanted = {each.job: each for each in removals}
        with self._writing("forget"):
            going = self.still(removals)
            events = 0
            for job, row in going.items():
                self._db.execute(KEEP_REMOVAL, (as_text(wanted[job]),))
                if row["token"].startswith(KEY):
                    self._db.execute(KEEP_KEY, (digest_of(row["token"]), job))
                events += self._db.execute(FORGET_EVENTS, (row["number"],)).rowcount
                self._db.execute(FORGET_JOB, (row["number"],))
            if going:
                self._tell(jobs=len(going), events=events, reason=reason)
        return list(going)

    def still(self, removals: Sequence[Removal]) -> dict[str, sqlite3.Row]:
        """Those of the jobs that may go at this moment, oldest first, by id."""
        numbers = [int(each.job.rpartition("-")[2]) for each in removals]
        needed = self.needed(numbers)
        rows = self._db.execute(STILL_ENDED, (as_text(numbers),))
        return {f"{row['kind']}-{row['number']}": row for row in rows if row["number"] not in needed}

    def keep_removals(self, removals: Sequence[Removal]) -> None:
        """Write down what is to be removed of jobs that are not known; their numbers are never given from now on."""
        with self._writing("removals"):
            for each in removals:
                kind, _, number = each.job.rpartition("-")
                if self._db.execute(KNOWN, (int(number), kind)).fetchone() is None:
                    self._db.execute(KEEP_REMOVAL, (as_text(each),))
            last = max((int(each.job.rpartition("-")[2]) for each in removals), default=0)
            self._db.execute(FIRST_LAST_JOB, {"number": last})
            self._db.execute(RAISE_LAST_JOB, {"number": last})

    def has_removals(self) -> bool:
        """Whether something is still to be removed from the disk."""
        return self._db.execute(HAS_REMOVALS).fetchone() is not None

    def removed(self, numbers: Sequence[int]) -> None:
        """These removals are done."""
        with self._writing("removed"):
            self._db.execute(REMOVED, (as_text(list(numbers)),))

    # Events of no job

    def forget_events(self, upto: int, *, reason: str) -> bool:
        """Forget some events of no job up to number ``upto``; whether there may be more."""
        if self._db.execute(HAS_OLD_EVENTS, (upto,)).fetchone() is None:
            return False
        with self._writing("forget-events"):
            count = self._db.execute(OLD_EVENTS, (upto, EVENTS_AT_ONCE)).rowcount
            self._tell(jobs=0, events=count, reason=reason)
        return count == EVENTS_AT_ONCE

    # Days

    def count_day(self, lived: float) -> bool:
        """Count a day if one has passed; ``lived`` are the seconds since this daemon last counted one, or began.

        However far the clock jumps, it is one day: so nothing grows older than the daemon has seen it grow.
        """
        row = self._db.execute(LAST_DAY).fetchone()
        now = self.now()
        passed = None if row is None else (now - datetime.fromisoformat(row["at"])).total_seconds()
        if passed is not None and passed < 0 and lived < DAY:
            with self._writing("day"):  # the clock was set back: a day begins here
                self._db.execute(MOVE_DAY, (now.isoformat(),))
            return False
        if passed is not None and passed < DAY and lived < DAY:
            return False
        with self._writing("day"):
            self._db.execute(COUNT_DAY, (now.isoformat(),))
            self._db.execute(OLD_DAYS, (MOST_DAYS,))
        return True

    def event_before(self, days: int) -> int:
        """The newest event that is surely ``days`` counted days old; 0 when none is."""
        row = self._db.execute(DAY_BEFORE, (min(days, MOST_DAYS - 1),)).fetchone()
        return 0 if row is None else int(row["seq"])

    def moment_before(self, days: int) -> datetime:
        """What the clock said ``days`` counted days ago; the beginning of time where there were not so many."""
        row = self._db.execute(DAY_BEFORE, (min(days, MOST_DAYS - 1),)).fetchone()
        return NEVER if row is None else datetime.fromisoformat(row["at"])

    # The file

    def shrink(self) -> bool:
        """Give a piece of what is free in the file back to the disk; whether there is more."""
        (free,) = self._db.execute("PRAGMA freelist_count").fetchone()
        (kind,) = self._db.execute("PRAGMA auto_vacuum").fetchone()
        if not free or not kind:
            return False
        # As a script: executed as a statement it gives back one page.
        self._db.executescript(f"PRAGMA incremental_vacuum({PAGES_AT_ONCE})")
        (left,) = self._db.execute("PRAGMA freelist_count").fetchone()
        return bool(0 < left < free)

    def settle(self) -> None:
        """Fold the write-ahead log into the file, so that the file is as small as what it holds."""
        (patience,) = self._db.execute("PRAGMA busy_timeout").fetchone()
        self._db.execute("PRAGMA busy_timeout = 0")  # whoever reads it at this moment is not waited for
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        self._db.execute(f"PRAGMA busy_timeout = {patience}")

    def _names(self, row: sqlite3.Row) -> set[int]:
        after = msgspec.json.decode(row["after"], type=list[str])
        return {int(each[1]) for each in _NAMED.finditer(f"{' '.join(after)} {row['spec']}")}

    def _tell(self, *, jobs: int, events: int, reason: str) -> None:
        body = {"what": "pruned", "jobs": jobs, "events": events, "reason": reason}
        self._db.execute(TELL, (self.now().isoformat(), as_text(body)))


DAY: Final = 86400.0


def digest_of(token: str) -> bytes:
    """What is kept of a caller's key when its job is forgotten."""
    return blake2b(token.encode(), digest_size=16).digest()
