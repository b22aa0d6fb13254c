"""What a store's events must tell: numbers without a gap, and of each job a story that can have happened."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from alloyd.jobs import JobState
from alloyd_daemon.service.job_moves import MOVES


class Told(NamedTuple):
    """An event as every listener of the soak writes it down."""

    seq: int
    job: str
    kind: str
    state: str
    code: str


def stored(store: Path) -> list[Told]:
    """Every event, read past the daemon from its file."""
    query = """
        SELECT seq, jobs.kind || '-' || job AS name, events.kind AS kind, body
        FROM events LEFT JOIN jobs ON jobs.number = events.job ORDER BY seq
    """
    db = sqlite3.connect(f"file:{store}?mode=ro", uri=True)
    try:
        return [
            told(seq, name or "", kind, msgspec.json.decode(body))
            for seq, name, kind, body in db.execute(query)
        ]
    finally:
        db.close()


def told(seq: int, job: str, kind: str, body: dict[str, Any]) -> Told:
    code = (body.get("error") or {}).get("code", "") if kind == "state" else ""
    return Told(seq, job, kind, body.get("state", ""), code)


def check_numbers(events: Sequence[Told]) -> None:
    assert [each.seq for each in events] == list(range(1, len(events) + 1)), (
        "a number is missing, or there twice"
    )


def ends(events: Sequence[Told]) -> dict[str, tuple[str, str]]:
    """The state in which each job was left and its error's code, once each story was found to be possible."""
    stories: dict[str, list[Told]] = defaultdict(list)
    for each in events:
        if each.job and each.kind == "state":
            stories[each.job].append(each)
    for job, story in stories.items():
        states = [JobState(each.state) for each in story]
        assert states[0] is JobState.QUEUED, f"{job} began as {states[0].value}"
        for before, after in pairwise(states):
            # The same state again tells of a wish, or of another place in the queue.
            possible = (after is before and not before.ended) or after in MOVES[before]
            assert possible, f"{job} went from {before.value} to {after.value}: {story}"
    return {job: (story[-1].state, story[-1].code) for job, story in stories.items()}
