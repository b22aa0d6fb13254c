"""Listing jobs page by page: what to ask the daemon for, and what has come. Knows no socket.

A page holds as many jobs as go into one message, so the next one is asked for until one comes empty.
"""

from __future__ import annotations

from collections.abc import Sequence

from .jobs import Job, JobState, Order
from .wire import ListJobs


class Listing:
    """At most ``limit`` jobs in ``states`` (any when empty), in an ``order``; see :meth:`alloyd.Client.jobs`."""

    def __init__(self, states: Sequence[JobState], limit: int, order: Order) -> None:
        self.jobs: list[Job] = []
        self._states = tuple(states)
        self._limit = limit
        self._order: Order = order
        self._past = 0
        self._over = False

    def request(self) -> ListJobs | None:
        """What to ask for; ``None`` when all have come."""
        left = self._limit - len(self.jobs)
        return None if self._over or left <= 0 else ListJobs(self._states, left, self._order, self._past)

    def take(self, page: Sequence[Job]) -> None:
        """The answer."""
        known = {job.id for job in self.jobs}
        fresh = [job for job in page if job.id not in known]  # one that was moved meanwhile comes again
        self._over = not fresh
        if fresh and self._order == "newest":
            self.jobs = fresh + self.jobs
            self._past = _number(page[0])
        elif fresh:
            self.jobs += fresh
            self._past = _number(page[-1])


def _number(job: Job) -> int:
    return int(job.id.rpartition("-")[2])
