"""Rows of the store as jobs: how their columns are written, and read again."""

from __future__ import annotations

import sqlite3
from datetime import datetime
from typing import Any

import msgspec

from alloyd.errors import JobCancelled
from alloyd.jobs import Job, JobState


def cancelled(name: str) -> JobCancelled:
    """The error that a cancelled job carries."""
    return JobCancelled(f"{name} was cancelled", job=name)


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
    )
