"""Jobs and their events in SQLite: the service's SQL, all of it at the top of this file.

A change of state and the event that tells of it are one transaction, on disk (synchronous=FULL) before anybody hears
of it. Times are UTC. Progress is not stored.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from alloyd.errors import AlloydError, JobError, JobNotFound, ServiceError, StoreError
from alloyd.file_systems import network_file_system
from alloyd.jobs import KEPT, Event, Job, JobState, Spec, spec_fields

from ..faults import reach
from .store_rows import as_text, cancelled, job_of

APPLICATION = 0x616C6C6F  # "allo"

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE jobs (
        number   INTEGER PRIMARY KEY AUTOINCREMENT,
        kind     TEXT NOT NULL,
        state    TEXT NOT NULL,
        wanted   TEXT NOT NULL DEFAULT '',  -- 'pause' or 'cancel' while a running job is asked to stop
        discard  INTEGER NOT NULL DEFAULT 0, -- a cancelled job's staging is still to be removed
        reason   TEXT NOT NULL DEFAULT '',
        token    TEXT NOT NULL UNIQUE,
        spec     TEXT NOT NULL,
        out      TEXT NOT NULL,
        created  TEXT NOT NULL,
        started  TEXT,
        ended    TEXT,
        attempts INTEGER NOT NULL DEFAULT 0,
        deaths   INTEGER NOT NULL DEFAULT 0, -- children that died one after the other without getting further
        furthest INTEGER NOT NULL DEFAULT -1, -- the most progress that a dead child had reported
        summary  TEXT,
        result   TEXT,
        error    TEXT
    );
    CREATE INDEX jobs_by_state ON jobs (state, number);
    CREATE TABLE events (
        seq  INTEGER PRIMARY KEY AUTOINCREMENT,
        job  INTEGER NOT NULL REFERENCES jobs (number),
        kind TEXT NOT NULL,
        at   TEXT NOT NULL,
        body TEXT NOT NULL
    );
    CREATE INDEX events_by_job ON events (job, seq);
    """,
)

_UNUSABLE = "Check its disk and rights; if it is damaged, move it away (finished merges are not in it)."
INSERT_JOB = "INSERT INTO jobs (kind, state, token, spec, out, created) VALUES (?, 'queued', ?, ?, ?, ?)"
INSERT_EVENT = "INSERT INTO events (job, kind, at, body) VALUES (?, ?, ?, ?)"
JOB_BY_NUMBER = "SELECT * FROM jobs WHERE number = ?"
JOB_BY_TOKEN = "SELECT * FROM jobs WHERE token = ?"
SAME_JOB = """
    SELECT * FROM jobs WHERE kind = ? AND spec = ? AND state IN ('queued', 'running', 'paused')
    AND wanted != 'cancel' ORDER BY number DESC LIMIT 1
"""
NEWEST_JOBS = "SELECT * FROM jobs ORDER BY number DESC LIMIT ?"
NEWEST_JOBS_IN = (
    "SELECT * FROM jobs WHERE state IN (SELECT value FROM json_each(?)) ORDER BY number DESC LIMIT ?"
)
OLDEST_QUEUED = (
    "SELECT * FROM jobs WHERE state = 'queued' AND kind IN (SELECT value FROM json_each(?)) ORDER BY number"
)
TO_DISCARD = "SELECT * FROM jobs WHERE discard = 1 ORDER BY number"
RUNNING = "SELECT * FROM jobs WHERE state = 'running' ORDER BY number"
COUNT_BY_STATE = "SELECT state, COUNT(*) FROM jobs GROUP BY state"
EVENTS = "SELECT * FROM events WHERE seq > ? ORDER BY seq LIMIT ?"
EVENTS_OF_JOB = "SELECT * FROM events WHERE seq > ? AND job = ? ORDER BY seq LIMIT ?"
LAST_EVENT = "SELECT COALESCE(MAX(seq), 0) FROM events"
SET_STATE = """
    UPDATE jobs SET state = :state, reason = :reason, wanted = '', discard = :discard,
        started = CASE WHEN :state = 'running' THEN COALESCE(started, :at) ELSE started END,
        ended = CASE WHEN :state IN ('done', 'failed', 'cancelled') THEN :at ELSE NULL END,
        attempts = attempts + (:state = 'running'),
        result = :result, error = :error
    WHERE number = :number
"""
SET_WANTED = "UPDATE jobs SET wanted = ?, reason = ? WHERE number = ?"
SET_SUMMARY = "UPDATE jobs SET summary = ? WHERE number = ?"
SET_DEATHS = "UPDATE jobs SET deaths = ?, furthest = ? WHERE number = ?"
CLEAR_DISCARD = "UPDATE jobs SET discard = 0 WHERE number = ?"

# From each state, the states a job may go to.
MOVES: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.PAUSED, JobState.CANCELLED}),
    JobState.RUNNING: frozenset(
        {JobState.QUEUED, JobState.PAUSED, JobState.DONE, JobState.FAILED, JobState.CANCELLED}
    ),
    JobState.PAUSED: frozenset({JobState.QUEUED, JobState.CANCELLED}),
    JobState.FAILED: frozenset({JobState.QUEUED, JobState.CANCELLED}),
    JobState.DONE: frozenset(),
    JobState.CANCELLED: frozenset(),
}


def refuse_network(folder: Path) -> None:
    """Raise StoreError when ``folder`` lies on a network file system."""
    name = network_file_system(folder)
    if name:
        raise StoreError(
            f"the home {folder} lies on a network file system ({name}), where a job store is not safe",
            hint="Choose a local folder with --home or ALLOYD_HOME.",
            path=str(folder),
        )


class Store:
    """The jobs of one home. One process, one thread; the home's lock keeps others out.

    Raises
    ------
    StoreError
        The file is newer than this program, damaged, of another program, or on a network file system.
    """

    def __init__(
        self,
        path: Path,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        migrations: Sequence[str] = MIGRATIONS,
    ) -> None:
        self.path = path
        self._now = now
        refuse_network(path.parent)
        try:
            self._db = sqlite3.connect(path, isolation_level=None, timeout=10.0)
        except sqlite3.Error as wrong:
            text = f"the job store {path} cannot be opened: {wrong}"
            raise StoreError(text, hint=_UNUSABLE, path=str(path)) from wrong
        try:
            os.chmod(path, 0o600)
            self._db.row_factory = sqlite3.Row
            self._open(tuple(migrations))
        except sqlite3.Error as wrong:
            self._db.close()
            raise self._damaged(str(wrong)) from wrong
        except BaseException:
            self._db.close()
            raise

    def _open(self, migrations: tuple[str, ...]) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        (application,) = self._db.execute("PRAGMA application_id").fetchone()
        (tables,) = self._db.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()
        if application != APPLICATION and (application or version or tables):
            raise StoreError(
                f"{self.path} is a database of another program",
                hint="Choose another home with --home or ALLOYD_HOME.",
                path=str(self.path),
            )
        if version > len(migrations):
            raise StoreError(
                f"the job store {self.path} is of version {version}; this program knows up to {len(migrations)}",
                hint="Use the newer program that wrote it, or another home.",
                path=str(self.path),
            )
        (sound,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        if sound != "ok":
            raise self._damaged(sound)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA foreign_keys = ON")
        if version == len(migrations):
            return
        if version:
            self._back_up(version)
        with self._writing("migrate"):
            for script in migrations[version:]:
                for statement in _statements(script):
                    self._db.execute(statement)
            self._db.execute(f"PRAGMA application_id = {APPLICATION}")
            self._db.execute(f"PRAGMA user_version = {len(migrations)}")

    def _back_up(self, version: int) -> None:
        """Copy the store to ``<name>.v<version>``, whole or not at all, before it is migrated."""
        final = self.path.with_name(f"{self.path.name}.v{version}")
        beside = final.with_name(final.name + ".new")
        beside.unlink(missing_ok=True)
        copy = sqlite3.connect(beside)
        try:
            self._db.backup(copy)
        finally:
            copy.close()
        os.chmod(beside, 0o600)
        handle = os.open(beside, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        os.replace(beside, final)

    def _damaged(self, what: str) -> StoreError:
        return StoreError(
            f"the job store {self.path} is damaged or cannot be read: {what}",
            hint="Look for room on its disk; if it is damaged, move it away or restore a backup beside it.",
            path=str(self.path),
        )

    @contextmanager
    def _writing(self, what: str) -> Iterator[None]:
        """One transaction, on disk when the block is left; ``store-<what>`` is its fault point."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        except sqlite3.Error as wrong:
            text = f"the job store {self.path} cannot be written: {wrong}"
            raise StoreError(text, hint=_UNUSABLE, path=str(self.path)) from wrong
        reach(f"store-{what}")

    def close(self) -> None:
        """Fold the write-ahead log back into the file and let go of it."""
        self._db.close()

    # Jobs

    def submit(self, spec: Spec, token: str, *, at_most: int) -> Job:
        """Add a job; the same ``token``, or work of the same spec that is kept and has not ended, is that job.

        Raises
        ------
        ServiceError
            ``at_most`` jobs wait already.
        """
        fields = spec_fields(spec)
        kind = str(fields["kind"])
        text = as_text(fields)
        with self._writing("submit"):
            row = self._db.execute(JOB_BY_TOKEN, (token,)).fetchone()
            if row is None and kind in KEPT:
                row = self._db.execute(SAME_JOB, (kind, text)).fetchone()
                if row is not None and row["state"] == JobState.PAUSED:
                    self._set(row, JobState.QUEUED, "submitted again")
            if row is not None:
                return job_of(self._db.execute(JOB_BY_NUMBER, (row["number"],)).fetchone())
            waiting = self.counts().get(JobState.QUEUED, 0)
            if waiting >= at_most:
                raise ServiceError(
                    f"the daemon is busy: {waiting} jobs wait already",
                    hint="Wait for some, or raise jobs.queue in the configuration.",
                    waiting=waiting,
                )
            at = self._time()
            cursor = self._db.execute(INSERT_JOB, (kind, token, text, fields.get("out", ""), at))
            number = cursor.lastrowid
            self._db.execute(INSERT_EVENT, (number, "state", at, as_text({"state": "queued", "reason": ""})))
            return job_of(self._db.execute(JOB_BY_NUMBER, (number,)).fetchone())

    def job(self, name: str) -> Job:
        """The job called ``name``: its id (``merge-12``) or its number (``12``).

        Raises
        ------
        JobNotFound
            There is none.
        """
        return job_of(self._row(name))

    def jobs(self, states: Sequence[JobState] = (), limit: int = 1000) -> list[Job]:
        """The newest ``limit`` jobs in ``states`` (any when empty), oldest first."""
        limit = max(0, limit)
        if states:
            rows = self._db.execute(NEWEST_JOBS_IN, (as_text(list(states)), limit)).fetchall()
        else:
            rows = self._db.execute(NEWEST_JOBS, (limit,)).fetchall()
        return [job_of(row) for row in reversed(rows)]

    def queued(self, kinds: Sequence[str]) -> list[Job]:
        """The queued jobs of ``kinds``, oldest first."""
        return [job_of(row) for row in self._db.execute(OLDEST_QUEUED, (as_text(list(kinds)),))]

    def to_discard(self) -> list[Job]:
        """The cancelled jobs whose staging is still to be removed."""
        return [job_of(row) for row in self._db.execute(TO_DISCARD)]

    def counts(self) -> dict[str, int]:
        """The number of jobs by state; states without jobs are left out."""
        return dict(self._db.execute(COUNT_BY_STATE).fetchall())

    def wanted(self, name: str) -> str:
        """What a running job was asked to do: ``pause``, ``cancel`` or nothing."""
        return str(self._row(name)["wanted"])

    def deaths(self, name: str) -> tuple[int, int]:
        """How many children of this job died in a row without getting further, and how far the furthest got."""
        row = self._row(name)
        return int(row["deaths"]), int(row["furthest"])

    # Changes

    def move(
        self,
        name: str,
        state: JobState,
        *,
        reason: str = "",
        result: dict[str, Any] | None = None,
        error: AlloydError | None = None,
        discard: bool = False,
    ) -> None:
        """Put a job into ``state`` and record the event.

        Raises
        ------
        JobError
            A job in its present state cannot go there.
        """
        with self._writing(state.value):
            self._set(self._row(name), state, reason, result=result, error=error, discard=discard)

    def want(self, name: str, wanted: str, *, reason: str) -> None:
        """Remember, across a death of the daemon, that a running job was asked to ``pause`` or ``cancel``."""
        with self._writing("want"):
            row = self._row(name)
            self._db.execute(SET_WANTED, (wanted, reason, row["number"]))
            body = {"state": row["state"], "reason": reason}
            self._db.execute(INSERT_EVENT, (row["number"], "state", self._time(), as_text(body)))

    def plan(self, name: str, summary: dict[str, Any]) -> None:
        """Keep what a job planned; the same summary again (after a resume) is no news."""
        with self._writing("plan"):
            row = self._row(name)
            text = as_text(summary)
            if row["summary"] != text:
                self._db.execute(SET_SUMMARY, (text, row["number"]))
                self._db.execute(INSERT_EVENT, (row["number"], "planned", self._time(), text))

    def note(self, name: str, level: str, text: str) -> None:
        """Keep a sentence for the user with its job."""
        with self._writing("note"):
            number = self._row(name)["number"]
            self._db.execute(
                INSERT_EVENT, (number, "note", self._time(), as_text({"level": level, "text": text}))
            )

    def died(self, name: str, deaths: int, furthest: int) -> None:
        """Remember how many children of this job died in a row, and how far they got."""
        with self._writing("died"):
            self._db.execute(SET_DEATHS, (deaths, furthest, self._row(name)["number"]))

    def discarded(self, name: str) -> None:
        """The staging of a cancelled job is gone."""
        with self._writing("discarded"):
            self._db.execute(CLEAR_DISCARD, (self._row(name)["number"],))

    def recover(self) -> None:
        """After a daemon's death: what ran is queued again, or paused or cancelled if that had been asked."""
        with self._writing("recover"):
            for row in self._db.execute(RUNNING).fetchall():
                if row["wanted"] == "cancel":
                    error = cancelled(f"{row['kind']}-{row['number']}")
                    self._set(row, JobState.CANCELLED, "cancelled on request", error=error, discard=True)
                elif row["wanted"] == "pause":
                    self._set(row, JobState.PAUSED, "paused on request")
                else:
                    self._set(row, JobState.QUEUED, "the daemon stopped while it ran")

    # Events

    def events(self, since: int, job: str = "", limit: int = 1000) -> list[Event]:
        """Stored events after ``since``, oldest first, at most ``limit``; of one job when it is named."""
        limit = max(0, min(limit, 10_000))
        if job:
            rows = self._db.execute(EVENTS_OF_JOB, (since, self._row(job)["number"], limit)).fetchall()
        else:
            rows = self._db.execute(EVENTS, (since, limit)).fetchall()
        kinds: dict[int, str] = {}
        for row in rows:
            if row["job"] not in kinds:
                kinds[row["job"]] = self._db.execute(JOB_BY_NUMBER, (row["job"],)).fetchone()["kind"]
        return [
            Event(
                seq=row["seq"],
                job=f"{kinds[row['job']]}-{row['job']}",
                kind=row["kind"],
                at=datetime.fromisoformat(row["at"]),
                body=msgspec.json.decode(row["body"]),
            )
            for row in rows
        ]

    def last_event(self) -> int:
        """The number of the newest event, 0 when there is none."""
        return int(self._db.execute(LAST_EVENT).fetchone()[0])

    def _row(self, name: str) -> sqlite3.Row:
        kind, _, digits = name.rpartition("-")
        row = None
        if digits.isascii() and digits.isdigit() and len(digits) < 19:
            row = self._db.execute(JOB_BY_NUMBER, (int(digits),)).fetchone()
        if row is None or (kind and row["kind"] != kind):
            raise JobNotFound(f"there is no job '{name}'", hint="'alloy ps --all' lists the jobs.", job=name)
        found: sqlite3.Row = row
        return found

    def _set(
        self,
        row: sqlite3.Row,
        state: JobState,
        reason: str,
        *,
        result: dict[str, Any] | None = None,
        error: AlloydError | None = None,
        discard: bool = False,
    ) -> None:
        """Change the state and record the event, inside the caller's transaction."""
        before = JobState(row["state"])
        name = f"{row['kind']}-{row['number']}"
        if state not in MOVES[before]:
            raise JobError(
                f"{name} is {before.value} and cannot become {state.value}", job=name, state=before.value
            )
        at = self._time()
        failure = None if error is None else error.to_dict()
        self._db.execute(
            SET_STATE,
            {
                "number": row["number"],
                "state": state.value,
                "reason": reason,
                "discard": int(discard),
                "at": at,
                "result": None if result is None else as_text(result),
                "error": None if failure is None else as_text(failure),
            },
        )
        body: dict[str, Any] = {"state": state.value, "reason": reason}
        if result is not None:
            body["result"] = result
        if failure is not None:
            body["error"] = failure
        self._db.execute(INSERT_EVENT, (row["number"], "state", at, as_text(body)))

    def _time(self) -> str:
        return self._now().isoformat()


def _statements(script: str) -> Iterator[str]:
    """The statements of ``script`` one by one, because ``executescript`` would commit the open transaction."""
    pending = ""
    for piece in re.split(r"(?<=;)", script):
        pending += piece
        if sqlite3.complete_statement(pending):
            yield pending
            pending = ""
    if pending.strip():
        yield pending
