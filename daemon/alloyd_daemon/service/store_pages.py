"""A page of jobs: in an order, from some job on, and no more of them than go well into one message."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from alloyd.jobs import Job, JobState, Order
from alloyd.numbers import LARGEST_NUMBER

from .store_rows import job_of

MOST: Final = 10_000
"""Jobs of a page."""
LARGEST: Final = 8 * 2**20
"""Bytes of a page, but for its last job: a message may have eight times as many."""
_LONG: Final = ("spec", "summary", "result", "error")
"""Columns that may be long."""
_IN_ORDER: Final[dict[Order, str]] = {
    "newest": "AND number < :past ORDER BY number DESC",
    "next": "ORDER BY priority DESC, rank, number",
}
_NEXT_PAST: Final = """
    AND (-priority, rank, number) > (SELECT -priority, rank, number FROM jobs WHERE number = :past)
"""


def page(
    db: sqlite3.Connection, states: Sequence[JobState], limit: int, order: Order, past: int
) -> list[Job]:
    """At most ``limit`` jobs in ``states`` (any when empty): the newest, oldest first, or those that are begun next.

    They are such as come after the job of number ``past`` in this order; 0 is before all.
    """
    named = {f"state{place}": state.value for place, state in enumerate(dict.fromkeys(states))}
    query = "SELECT * FROM jobs WHERE " + (
        f"state IN ({', '.join(f':{name}' for name in named)})" if named else "TRUE"
    )
    query += f" {_NEXT_PAST if order == 'next' and past > 0 else ''} {_IN_ORDER[order]} LIMIT :limit"
    where = {"past": past if past > 0 else LARGEST_NUMBER, "limit": max(0, min(limit, MOST))}
    found: list[Job] = []
    size = 0
    for row in db.execute(query, named | where):
        found.append(job_of(row))
        size += sum(len((row[name] or "").encode()) for name in _LONG)
        if size >= LARGEST:
            break
    return found[::-1] if order == "newest" else found
