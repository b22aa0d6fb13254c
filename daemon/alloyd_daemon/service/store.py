"""Jobs and their events in SQLite: the service's SQL, all of it at the top of this file and in :mod:`store_schema`.

A change of state and the event that tells of it are one transaction, on disk (synchronous=FULL) before anybody hears
of it. Times are UTC. Progress is not stored.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from alloyd.errors import (
    AlloydError,
    JobError,
    ServiceError,
    StoreError,
)
from alloyd.jobs import KEPT, Event, Job, JobState, Order, Spec, spec_fields
from alloyd.wire import KEY

from ..faults import reach
from ..transaction import transaction
from .job_moves import MOVES
from .refusals import (
    cancelled,
    cannot_follow,
    in_quarantine,
    key_of_another,
    key_of_pruned,
    not_now,
    unknown,
)
from .store_file import UNUSABLE, open_store
from .store_pages import page
from .store_prune import KEY_SPENT, LAST_JOB, Pruning, digest_of
from .store_rows import Lack, Waiting, as_text, event_of, job_of, waiting_of, with_gaps
from .store_schema import MIGRATIONS

INSERT_JOB = """
    INSERT INTO jobs (kind, state, token, spec, out, created, owner, priority, after, memory)
    VALUES (:kind, 'queued', :token, :spec, :out, :at, :owner, :priority, :after, :memory)
"""
RANK_BY_AGE = "UPDATE jobs SET rank = number WHERE number = ?"
INSERT_EVENT = "INSERT INTO events (job, kind, at, body) VALUES (?, ?, ?, ?)"
JOB_BY_NUMBER = "SELECT * FROM jobs WHERE number = ?"
JOB_BY_TOKEN = "SELECT * FROM jobs WHERE token = ?"
SAME_JOB = """
    SELECT * FROM jobs WHERE kind = ? AND spec = ? AND state IN ('queued', 'running', 'paused')
    AND wanted != 'cancel' ORDER BY number DESC LIMIT 1
"""
IN_QUARANTINE = "SELECT * FROM jobs WHERE quarantined = 1 AND kind = ? AND spec = ? LIMIT 1"
QUEUE = """
    SELECT number, kind, memory, after, lacks, discard FROM jobs WHERE state = 'queued' ORDER BY priority DESC, rank
"""
FIRST_IN_QUEUE = """
    SELECT priority, rank FROM jobs WHERE state = 'queued' AND number != ? ORDER BY priority DESC, rank LIMIT 1
"""
LAST_IN_QUEUE = """
    SELECT priority, rank FROM jobs WHERE state = 'queued' AND number != ? ORDER BY priority, rank DESC LIMIT 1
"""
UNFINISHED = """
    SELECT number, kind, state FROM jobs WHERE number IN (SELECT value FROM json_each(?)) AND state != 'done'
    ORDER BY number
"""
TO_DISCARD = "SELECT * FROM jobs WHERE discard = 1 ORDER BY number"
RUNNING = "SELECT * FROM jobs WHERE state = 'running' ORDER BY number"
COUNT_BY_STATE = "SELECT state, COUNT(*) FROM jobs GROUP BY state"
EVENTS = """
    SELECT events.*, jobs.kind AS job_kind FROM events LEFT JOIN jobs ON jobs.number = events.job
    WHERE seq > ? ORDER BY seq LIMIT ?
"""
EVENTS_OF_JOB = """
    SELECT events.*, jobs.kind AS job_kind FROM events JOIN jobs ON jobs.number = events.job
    WHERE seq > ? AND job = ? ORDER BY seq LIMIT ?
"""
# Not the greatest that is there: events may be removed, but their numbers are never given again.
LAST_EVENT = "SELECT COALESCE((SELECT seq FROM sqlite_sequence WHERE name = 'events'), 0)"
SET_STATE = """
    UPDATE jobs SET state = :state, reason = :reason, wanted = '', discard = :discard,
        started = CASE WHEN :state = 'running' THEN COALESCE(started, :at) ELSE started END,
        ended = CASE WHEN :state IN ('done', 'failed', 'cancelled') THEN :at ELSE NULL END,
        attempts = attempts + (:state = 'running'),
        quarantined = :quarantined, lacks = :lacks,
        result = :result, error = :error
    WHERE number = :number
"""
SET_PLACE = "UPDATE jobs SET priority = ?, rank = ? WHERE number = ?"
FORGET_LACK = "UPDATE jobs SET lacks = NULL WHERE number = ?"
SET_WANTED = "UPDATE jobs SET wanted = ?, reason = ? WHERE number = ?"
SET_SUMMARY = "UPDATE jobs SET summary = ? WHERE number = ?"
SET_DEATHS = "UPDATE jobs SET deaths = ?, furthest = ? WHERE number = ?"
CLEAR_DISCARD = "UPDATE jobs SET discard = 0 WHERE number = ?"


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
        self._db = open_store(path, migrations)
        self.pruning = Pruning(self._db, self._writing, now)

    @contextmanager
    def _writing(self, what: str) -> Iterator[None]:
        """One transaction, on disk when the block is left; ``store-<what>`` is its fault point."""
        try:
            with transaction(self._db):
                yield
        except sqlite3.Error as wrong:
            text = f"the job store {self.path} cannot be written: {wrong}"
            raise StoreError(text, hint=UNUSABLE, path=str(self.path)) from wrong
        reach(f"store-{what}")

    def close(self) -> None:
        """Fold the write-ahead log back into the file and let go of it."""
        self._db.close()

    # Jobs

    def submit(
        self,
        spec: Spec,
        token: str,
        *,
        at_most: int,
        owner: str = "local",
        priority: int = 0,
        after: Sequence[str] = (),
    ) -> Job:
        """Add a job; the same ``token``, or work of the same spec that is kept and has not ended, is that job.

        A token that is its owner's own key is the same only for that owner. ``after`` names the jobs to be done first.

        Raises
        ------
        ServiceError
            ``at_most`` jobs wait already.
        UsageError
            The owner's key was used for another spec.
        Quarantined
            A job of this spec has crashed too often.
        JobNotFound, DependencyFailed, JobError
            There is no such job to follow, or it did not end well; or the same work waits already, but not for it.
        """
        fields = spec_fields(spec)
        kind, text = str(fields["kind"]), as_text(fields)
        key = token.removeprefix(KEY) if token.startswith(KEY) else None
        if key is not None:
            token = f"{KEY}{owner}:{key}"
        with self._writing("submit"):
            row = self._db.execute(JOB_BY_TOKEN, (token,)).fetchone()
            if row is not None:
                if key is not None and (row["kind"], row["spec"]) != (kind, text):
                    raise key_of_another(key, job_of(row).id)
                return job_of(row)
            spent = key and self._db.execute(KEY_SPENT, (digest_of(token),)).fetchone()
            if spent:
                raise key_of_pruned(str(key), spent["job"])
            first = self._to_follow(after)
            row = self._db.execute(SAME_JOB, (kind, text)).fetchone() if kind in KEPT else None
            if row is not None:
                return self._continued(row, priority, first)
            shut = self._db.execute(IN_QUARANTINE, (kind, text)).fetchone()
            if shut is not None:
                raise in_quarantine(job_of(shut).id)
            waiting = self.counts().get(JobState.QUEUED, 0)
            if waiting >= at_most:
                raise ServiceError(
                    f"the daemon is busy: {waiting} jobs wait already",
                    hint="Wait for some, or raise jobs.queue in the configuration.",
                    waiting=waiting,
                )
            at = self._time()
            values = {
                "kind": kind,
                "token": token,
                "spec": text,
                "out": fields.get("out", ""),
                "at": at,
                "owner": owner,
                "priority": priority,
                "after": as_text(first),
                "memory": fields.get("memory"),
            }
            number = self._db.execute(INSERT_JOB, values).lastrowid
            self._db.execute(RANK_BY_AGE, (number,))
            self._event(number, "state", {"state": "queued", "reason": ""}, at)
            return job_of(self._db.execute(JOB_BY_NUMBER, (number,)).fetchone())

    def _to_follow(self, names: Sequence[str]) -> list[str]:
        """The ids of the jobs of these ``names``, oldest first, none of which has ended badly."""
        rows = {row["number"]: row for row in map(self._row, names)}
        for row in rows.values():
            state = JobState(row["state"])
            if state in (JobState.FAILED, JobState.CANCELLED) or row["wanted"] == "cancel":
                raise cannot_follow(job_of(row).id, state)
        return [job_of(rows[number]).id for number in sorted(rows)]

    def _continued(self, row: sqlite3.Row, priority: int, after: Sequence[str]) -> Job:
        """The job that does the same work already, which may come to wait at a better place."""
        job = job_of(row)
        if not set(after) <= set(job.after) and job.state is not JobState.RUNNING:
            raise JobError(
                f"{job.id} does this already, and does not wait for the same jobs",
                hint=f"'alloy cancel {job.id}', then ask again.",
                job=job.id,
            )
        if job.state is JobState.PAUSED:
            self._set(row, JobState.QUEUED, "submitted again")
        elif row["wanted"] == "pause":
            self._want(row, "", "submitted again")
        if priority > job.priority:
            self._db.execute(SET_PLACE, (priority, row["rank"], row["number"]))
            now = self._db.execute(JOB_BY_NUMBER, (row["number"],)).fetchone()
            told = {"state": now["state"], "reason": f"has priority {priority}", "priority": priority}
            self._event(row["number"], "state", told)
        return job_of(self._db.execute(JOB_BY_NUMBER, (row["number"],)).fetchone())

    def job(self, name: str) -> Job:
        """The job called ``name``: its id (``merge-12``) or its number (``12``).

        Raises
        ------
        JobNotFound
            There is none.
        """
        return job_of(self._row(name))

    def jobs(
        self,
        states: Sequence[JobState] = (),
        limit: int = 1000,
        order: Order = "newest",
        past: int = 0,
    ) -> list[Job]:
        """See :func:`.store_pages.page`."""
        return page(self._db, states, limit, order, past)

    @property
    def changes(self) -> int:
        """A number that grows with every change of what is stored."""
        return self._db.total_changes

    def queue(self) -> list[Waiting]:
        """The queued jobs, in the order in which they are to be begun."""
        return [waiting_of(row) for row in self._db.execute(QUEUE)]

    def unfinished(self, jobs: Sequence[int]) -> list[tuple[str, JobState]]:
        """Which of the jobs of these numbers are not done, and where each stands."""
        rows = self._db.execute(UNFINISHED, (as_text(list(jobs)),))
        return [(f"{row['kind']}-{row['number']}", JobState(row["state"])) for row in rows]

    def to_discard(self) -> list[Job]:
        """The jobs whose staging is still to be removed: cancelled ones, and those that nothing may continue from."""
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
        lacks: Lack | None = None,
        quarantined: bool = False,
    ) -> None:
        """Put a job into ``state`` and record the event.

        ``lacks``: what it waits for, in the queue. ``quarantined``: its spec is refused until it is queued again.

        Raises
        ------
        JobError
            A job in its present state cannot go there.
        """
        with self._writing(state.value):
            self._set(
                self._row(name),
                state,
                reason,
                result=result,
                error=error,
                discard=discard,
                lacks=lacks,
                quarantined=quarantined,
            )

    def place(self, name: str, to: Literal["top", "bottom"] | int) -> None:
        """Put a job before or behind all others in the queue, or give it another priority.

        Raises
        ------
        JobError
            It has ended.
        """
        with self._writing("place"):
            row = self._row(name)
            job = job_of(row)
            if job.state.ended:
                raise not_now(job.id, job.state, "and waits no more")
            if isinstance(to, int):
                priority, rank, said = to, row["number"], f"has priority {to}"
            else:
                end, step = (FIRST_IN_QUEUE, -1) if to == "top" else (LAST_IN_QUEUE, 1)
                other = self._db.execute(end, (row["number"],)).fetchone()
                priority, rank, said = job.priority, job.rank, f"moved to the {to}"
                # A job whose own priority puts it there already stays as it is.
                if other is not None and step * (job.priority - other["priority"]) >= 0:
                    priority, rank = other["priority"], other["rank"] + step
            self._db.execute(SET_PLACE, (priority, rank, row["number"]))
            self._event(
                row["number"], "state", {"state": job.state.value, "reason": said, "priority": priority}
            )

    def want(self, name: str, wanted: str, *, reason: str) -> None:
        """Remember, across a death of the daemon, that a running job was asked to ``pause`` or ``cancel``."""
        with self._writing("want"):
            self._want(self._row(name), wanted, reason)

    def plan(self, name: str, summary: dict[str, Any]) -> None:
        """Keep what a job planned; the same summary again (after a resume) is no news."""
        with self._writing("plan"):
            row = self._row(name)
            text = as_text(summary)
            if row["summary"] != text:
                self._db.execute(SET_SUMMARY, (text, row["number"]))
                self._event(row["number"], "planned", summary)

    def note(self, name: str, level: str, text: str) -> None:
        """Keep a sentence for the user with its job."""
        with self._writing("note"):
            self._event(self._row(name)["number"], "note", {"level": level, "text": text})

    def died(self, name: str, deaths: int, furthest: int) -> None:
        """Remember how many children of this job died in a row, and how far they got."""
        with self._writing("died"):
            self._db.execute(SET_DEATHS, (deaths, furthest, self._row(name)["number"]))

    def discarded(self, name: str) -> None:
        """What a job staged is gone."""
        with self._writing("discarded"):
            self._db.execute(CLEAR_DISCARD, (self._row(name)["number"],))

    def retry(self, name: str) -> None:
        """Queue a job that has failed or was cancelled again, as if it had never been tried; one that waits no longer
        waits for room.

        Raises
        ------
        JobError
            It is done, runs, or is paused.
        """
        with self._writing("retry"):
            row = self._row(name)
            state = JobState(row["state"])
            if state in (JobState.FAILED, JobState.CANCELLED):
                self._set(row, JobState.QUEUED, "retried on request")
                self._db.execute(SET_DEATHS, (0, -1, row["number"]))
            elif state is JobState.QUEUED:
                self._db.execute(FORGET_LACK, (row["number"],))
            else:
                raise not_now(job_of(row).id, state, "and cannot be retried")

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

    def tell(self, kind: str, body: dict[str, Any]) -> None:
        """Keep an event of no job: of the daemon, or of a watched folder."""
        with self._writing("tell"):
            self._event(None, kind, body)

    def events(self, since: int, job: str = "", limit: int = 1000) -> list[Event]:
        """Stored events after ``since``, oldest first, at most ``limit``; of one job when it is named.

        In place of events of all jobs that were pruned stands one of the kind ``gap``, with the number of the last.
        """
        limit = max(0, min(limit, 10_000))
        if job:
            rows = self._db.execute(EVENTS_OF_JOB, (since, self._row(job)["number"], limit))
            return [event_of(row) for row in rows]
        return with_gaps(since, [event_of(row) for row in self._db.execute(EVENTS, (since, limit))])[:limit]

    def last_event(self) -> int:
        """The number of the newest event, 0 when there is none."""
        return int(self._db.execute(LAST_EVENT).fetchone()[0])

    def _row(self, name: str) -> sqlite3.Row:
        kind, _, digits = name.rpartition("-")
        number = int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 19 else 0
        row = self._db.execute(JOB_BY_NUMBER, (number,)).fetchone()
        if row is None or (kind and row["kind"] != kind):
            last = self._db.execute(LAST_JOB).fetchone()[0]
            raise unknown(name, pruned=row is None and 1 <= number <= last)
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
        lacks: Lack | None = None,
        quarantined: bool = False,
    ) -> None:
        """Change the state and record the event, inside the caller's transaction."""
        before = JobState(row["state"])
        name = f"{row['kind']}-{row['number']}"
        if state not in MOVES[before]:
            raise not_now(name, before, f"and cannot become {state.value}")
        at = self._time()
        failure = None if error is None else error.to_dict()
        self._db.execute(
            SET_STATE,
            {
                "number": row["number"],
                "state": state.value,
                "reason": reason,
                # What is still to be removed is removed first, wherever the job goes meanwhile.
                "discard": int(discard or row["discard"]),
                "quarantined": int(quarantined),
                "lacks": None if lacks is None else as_text(lacks),
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
        self._event(row["number"], "state", body, at)

    def _want(self, row: sqlite3.Row, wanted: str, reason: str) -> None:
        self._db.execute(SET_WANTED, (wanted, reason, row["number"]))
        self._event(row["number"], "state", {"state": row["state"], "reason": reason})

    def _event(self, job: int | None, kind: str, body: dict[str, Any], at: str | None = None) -> None:
        self._db.execute(INSERT_EVENT, (job, kind, at or self._time(), as_text(body)))

    def _time(self) -> str:
        return self._now().isoformat()
