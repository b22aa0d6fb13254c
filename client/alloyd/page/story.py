"""All that a job's page tells, gathered over the ordinary client: whatever its kind, and however far it is."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from ..api import Client
from ..errors import JobError
from ..jobs import Event, Job, Sample

MOST_EVENTS: Final = 500
LOG_BYTES: Final = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """One job at the moment ``told``.

    ``results``: what a search has written of itself, for an opened test those of its search. ``events``: the newest,
    ``earlier`` ones are left out. ``log``: the end of it, of ``log_bytes`` in all. ``missing``: what could not be had,
    and why.
    """

    job: Job
    told: datetime
    home: str = ""
    events: tuple[Event, ...] = ()
    earlier: int = 0
    results: dict[str, Any] | None = None
    samples: tuple[Sample, ...] = ()
    log: str = ""
    log_bytes: int = 0
    missing: tuple[str, ...] = ()


def gather(client: Client, name: str) -> Story:
    """The story of the job called ``name``. Raises JobNotFound, and DaemonUnreachable where nobody answers.

    What an old job no longer has (its log, its samples) is told as missing.
    """
    job = client.job(name)
    missing: list[str] = []
    newest: deque[Event] = deque(maxlen=MOST_EVENTS)
    stored = 0
    for event in client.events(job.id):
        newest.append(event)
        stored += 1
    try:
        piece = client.log(job.id, offset=-LOG_BYTES)
        log, log_bytes = piece.text, piece.next
    except JobError:
        log, log_bytes = "", 0
    return Story(
        job=job,
        told=datetime.now(UTC),
        home=client.status().home,
        events=tuple(newest),
        earlier=stored - len(newest),
        results=_results(client, job, missing),
        samples=tuple(client.resources(job.id)),
        log=log,
        log_bytes=log_bytes,
        missing=tuple(missing),
    )


def _results(client: Client, job: Job, missing: list[str]) -> dict[str, Any] | None:
    of = job.spec.get("search") if job.kind == "open_test" else job.id if job.kind == "search" else None
    if not of:
        return None
    try:
        return client.results(str(of))
    except JobError as why:
        if job.kind == "search" and not job.state.ended:
            missing.append("Its figures come with the first candidates that are scored.")
        else:
            missing.append(f"No results to show: {why.message}.")
    return None
