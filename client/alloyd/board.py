"""The jobs as they stand now, in the order in which people look at them. Pure: what the daemon says goes in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from .jobs import Event, Job, JobState, Pace
from .wire import Status

LIVING: Final = (JobState.RUNNING, JobState.PAUSED, JobState.QUEUED)
ENDED: Final = (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


_Place = tuple[int, float, float, str]


class Board:
    """Every job that runs or is paused, the first ``waiting`` that wait, and the newest ``ended`` ones of the others.

    ``away`` says why the daemon does not answer; what is known of its jobs is then of before.
    """

    def __init__(self, *, ended: int, waiting: int = 1000) -> None:
        self.status: Status | None = None
        self.away = ""
        self._most = ended
        self._longest = waiting
        self._jobs: dict[str, Job] = {}
        self._end: _Place | None = None  # of the queue, as far as it is known
        self._had = 0

    def fill(self, jobs: Iterable[Job], *, cut: bool = False) -> None:
        """These are all jobs there are; or, where the queue is ``cut``, more wait behind those of them that do."""
        self._jobs = {job.id: job for job in jobs}
        queue = self._queue()
        self._had = len(queue)
        self._end = _place(queue[-1]) if cut and queue else None
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

    @property
    def left_out(self) -> int:
        """How many jobs wait behind those that are here."""
        if self._end is None or self.status is None:
            return 0
        return max(0, self.status.jobs.get(JobState.QUEUED.value, 0) - len(self._queue()))

    @property
    def thin(self) -> bool:
        """Whether so many of a cut queue have begun that it is time to fill the board again."""
        return self._end is not None and 2 * len(self._queue()) < self._had

    def _queue(self) -> list[Job]:
        return [job for job in self.jobs() if job.state is JobState.QUEUED]

    def counts(self) -> list[str]:
        """How many jobs there are in each state, those that live first: ``["1 running", "12 queued", "480 done"]``."""
        numbers = self.status.jobs if self.status is not None else {}
        return [f"{numbers[state]:,} {state.value}" for state in (*LIVING, *ENDED) if numbers.get(state)]

    def _trim(self) -> None:
        jobs = self.jobs()
        queue = [job for job in jobs if job.state is JobState.QUEUED]
        if len(queue) > self._longest:
            self._had = self._longest
            self._end = _place(queue[self._longest - 1])
        ended = [job for job in jobs if job.state.ended]
        beyond = [job for job in queue if self._end is not None and _place(job) > self._end]
        for job in (*ended[self._most :], *beyond):
            del self._jobs[job.id]


def _place(job: Job) -> _Place:
    if job.state is JobState.RUNNING:
        return 0, (job.started or job.created).timestamp(), 0, job.id
    if job.state is JobState.PAUSED:
        return 1, job.created.timestamp(), 0, job.id
    if job.state is JobState.QUEUED:
        return 2, -job.priority, job.rank, job.id
    return 3, -(job.ended or job.created).timestamp(), 0, job.id
