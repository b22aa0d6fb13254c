"""Rows of the store as jobs and events: how their columns are written, and read again."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec
from msgspec import Struct

from alloyd.jobs import Event, Job, JobState


class Lack(Struct, frozen=True):
    """What a job that gave way waits for: ``need`` bytes of memory, or of the disk that ``path`` lies on.

    ``free`` is what there was of it.
    """

    what: Literal["memory", "disk"]
    need: int
    free: int
    path: str = ""


class Waiting(Struct, frozen=True):
    """A queued job, as far as it matters for when it is begun.

    ``memory`` is what its spec asks for, ``after`` are the numbers of the jobs that come first, ``discarding`` tells
    that what it staged before is still to be removed.
    """

    id: str
    kind: str
    memory: int | None
    after: tuple[int, ...]
    lacks: Lack | None
    discarding: bool


def as_text(value: object) -> str:
    """Plain data as a column holds it."""
    return msgspec.json.encode(value).decode()


def job_of(row: sqlite3.Row) -> Job:
    """The job that a row holds."""

    def time(name: str) -> datetime | None:
        return None if row[name] is None else datetime.fromisoformat(row[name])

    def fields(name: str) -> dict[str, Any] | None:
        return None if row[name] is None else msgspec.json.decode(row[name], type=dict[str, Any])

    return Job(
        id=f"{row['kind']}-{row['number']}",
        kind=row["kind"],
        state=JobState(row["state"]),
        created=datetime.fromisoformat(row["created"]),
        started=time("started"),
        ended=time("ended"),
        out=row["out"],
        reason=row["reason"],
        attempts=row["attempts"],
        spec=fields("spec") or {},
        summary=fields("summary"),
        result=fields("result"),
        error=fields("error"),
        owner=row["owner"],
        priority=row["priority"],
        rank=row["rank"],
        after=msgspec.json.decode(row["after"], type=tuple[str, ...]),
        quarantined=bool(row["quarantined"]),
    )


def waiting_of(row: sqlite3.Row) -> Waiting:
    """The queued job that a row holds."""
    return Waiting(
        id=f"{row['kind']}-{row['number']}",
        kind=row["kind"],
        memory=row["memory"],
        after=() if row["after"] == "[]" else _numbers(row["after"]),
        lacks=None if row["lacks"] is None else msgspec.json.decode(row["lacks"], type=Lack),
        discarding=bool(row["discard"]),
    )


def _numbers(names: str) -> tuple[int, ...]:
    """The numbers of the jobs that a list of ids names."""
    return tuple(int(name.rpartition("-")[2]) for name in msgspec.json.decode(names, type=list[str]))


def event_of(row: sqlite3.Row) -> Event:
    """The event that a row holds, joined with its job's kind."""
    return Event(
        seq=row["seq"],
        job="" if row["job"] is None else f"{row['job_kind']}-{row['job']}",
        kind=row["kind"],
        at=datetime.fromisoformat(row["at"]),
        body=msgspec.json.decode(row["body"]),
    )


def with_gaps(since: int, events: Sequence[Event]) -> list[Event]:
    """``events``, all that are stored after ``since``, with a ``gap`` in place of numbers that are there no more.

    There is always a later event than those of a gap: the one that tells of the pruning.
    """
    found: list[Event] = []
    last = max(0, since)
    for event in events:
        if event.seq > last + 1:
            found.append(
                Event(event.seq - 1, "", "gap", event.at, {"first": last + 1, "last": event.seq - 1})
            )
        found.append(event)
        last = event.seq
    return found
