"""The jobs as they stand now, in the order in which people look at them. Pure: what the daemon says goes in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from .jobs import Event, Job, JobState, Pace
from .wire import Status

LIVING: Final = (JobState.RUNNING, JobState.PAUSED, JobState.QUEUED)
ENDED: Final = (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


class Board:
    """Every job that runs, is paused or waits, and the newest ``ended`` ones of the others.

    ``away`` says why the daemon does not answer; what is known of its jobs is then of before.
    """

    def __init__(self, *, ended: int) -> None:
        self.status: Status | None = None
        self.away = ""
        self._most = ended
        self._jobs: dict[str, Job] = {}

    def fill(self, jobs: Iterable[Job]) -> None:
        """These are all jobs there are."""
        self._jobs = {job.id: job for job in jobs}
        self._trim()

    def put(self, job: Job) -> None:
        """A job as it is now."""
        self._jobs[job.id] = job
        self._trim()

    def drop(self, name: str) -> None:
        """A job is there no more."""
        self._jobs.pop(name, None)

    def tick(self, event: Event) -> bool:
        """Take a progress event; whether it was of a job that runs here."""
        job = self._jobs.get(event.job)
        if job is None or job.state is not JobState.RUNNING:
            return False
        pace = msgspec.convert(event.body, Pace)
        self._jobs[job.id] = msgspec.structs.replace(job, progress=pace)
        return True

    def get(self, name: str) -> Job | None:
        """One of the jobs."""
        return self._jobs.get(name)

    def jobs(self) -> list[Job]:
        """Running ones by age, paused ones, waiting ones as they are to be begun, ended ones from the newest."""
        return sorted(self._jobs.values(), key=_place)

    def counts(self) -> list[str]:
        """How many jobs there are in each state, those that live first: ``["1 running", "12 queued", "480 done"]``."""
        numbers = self.status.jobs if self.status is not None else {}
        return [f"{numbers[state]:,} {state.value}" for state in (*LIVING, *ENDED) if numbers.get(state)]

    def _trim(self) -> None:
        ended = [job for job in self.jobs() if job.state.ended]
        for job in ended[self._most :]:
            del self._jobs[job.id]


def _place(job: Job) -> tuple[int, float, float, str]:
    if job.state is JobState.RUNNING:
        return 0, (job.started or job.created).timestamp(), 0, job.id
    if job.state is JobState.PAUSED:
        return 1, job.created.timestamp(), 0, job.id
    if job.state is JobState.QUEUED:
        return 2, -job.priority, job.rank, job.id
    return 3, -(job.ended or job.created).timestamp(), 0, job.id
