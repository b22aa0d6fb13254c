"""What running jobs use, sampled once a second into ``resources/<job>.jsonl``: the timeline of a job's report.

A file holds at most :data:`MOST` samples: when it is full every second one is dropped, and from then on half as many
are taken. A job that was stopped or killed goes on in its file. A file that cannot be written costs samples, no job.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Final

import msgspec

from alloyd.jobs import Job, Sample
from alloyd.paths import Home

from .processes import Usage, usage

MOST: Final = 2000
INTERVAL: Final = 1.0

log = logging.getLogger("alloyd")


def read_samples(file: Path) -> list[Sample]:
    """The samples in ``file``, in order of time; lines that are none (such as a torn last one) are passed over.

    A file that cannot be read has none.
    """
    try:
        lines = file.read_bytes().splitlines()
    except OSError:
        return []
    samples: list[Sample] = []
    for line in lines:
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
            sample = msgspec.json.decode(line, type=Sample)
            if not samples or sample.t >= samples[-1].t:
                samples.append(sample)
    return samples


@dataclass(slots=True)
class _Course:
    """The sampling of one running process of a job; ``before`` is what earlier processes of the job used."""

    file: Path
    process: int
    begun: float
    due: float
    interval: float
    count: int
    before: Usage
    start: float
    last: Usage
    run: int = 1


class Sampler:
    """Samples the processes of running jobs. ``totals`` adds up what all of them used since this daemon began."""

    def __init__(
        self,
        home: Home,
        *,
        clock: Callable[[], float] = time.monotonic,
        look: Callable[[int], Usage | None] = usage,
    ) -> None:
        self._home = home
        self._clock = clock
        self._look = look
        self._courses: dict[str, _Course] = {}
        self._told = False
        self.totals = Usage()

    def now(self) -> Usage:
        """What the running jobs used together when they were last looked at."""
        together = Usage()
        for course in self._courses.values():
            together = together.plus(course.last)
        return together

    def step(self, running: Iterable[tuple[Job, int]]) -> None:
        """Sample the jobs whose time it is; ``running`` are all that run, each with its process."""
        now = self._clock()
        present = {job.id: (job, process) for job, process in running}
        for name in [name for name, course in self._courses.items()
                     if name not in present or present[name][1] != course.process]:  # fmt: skip
            del self._courses[name]
        for name, (job, process) in present.items():
            if name not in self._courses:
                self._courses[name] = self._begin(job, process, now)
            if now >= self._courses[name].due:
                self._sample(self._courses[name], now)

    def samples(self, job: str) -> list[Sample]:
        """The samples of ``job``, a full id."""
        return read_samples(self._home.resources(job))

    def _begin(self, job: Job, process: int, now: float) -> _Course:
        file = self._home.resources(job.id)
        earlier = read_samples(file)
        waited = 0.0
        if job.started is not None:
            waited = max(0.0, (datetime.now(UTC) - job.started).total_seconds())
        if not earlier:
            return _Course(file, process, now, now, INTERVAL, 0, Usage(), waited, Usage())
        last = earlier[-1]
        self._rewrite(file, earlier)  # without what was torn
        gaps = [after.t - before.t for before, after in pairwise(earlier)]
        interval = INTERVAL
        while gaps and interval * 1.5 < median(gaps):
            interval *= 2
        before = Usage(read=last.read, written=last.written, cpu=last.cpu)
        start = max(last.t, waited)
        return _Course(file, process, now, now, interval, len(earlier), before, start, Usage(), last.run + 1)

    def _sample(self, course: _Course, now: float) -> None:
        course.due = now + course.interval
        seen = self._look(course.process)
        if seen is None:
            return
        # What an ended child used is its parent's, but may be missing for a moment: sums never fall.
        seen = seen.at_least(course.last)
        self.totals = self.totals.plus(seen.since(course.last))
        course.last = seen
        if course.count >= MOST:
            kept = read_samples(course.file)[::2]
            self._rewrite(course.file, kept)
            course.count = len(kept)
            course.interval *= 2
            course.due = now + course.interval
        all_together = seen.plus(course.before)
        sample = Sample(
            t=round(course.start + now - course.begun, 3),
            resident=seen.resident,
            private=seen.private,
            read=all_together.read,
            written=all_together.written,
            cpu=round(all_together.cpu, 2),
            run=course.run,
        )
        with self._writing():
            handle = os.open(course.file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                os.write(handle, msgspec.json.encode(sample) + b"\n")
            finally:
                os.close(handle)
            course.count += 1

    def _rewrite(self, file: Path, samples: list[Sample]) -> None:
        with self._writing():
            beside = file.with_name(f".{file.name}")
            beside.write_bytes(b"".join(msgspec.json.encode(each) + b"\n" for each in samples))
            os.chmod(beside, 0o600)
            os.replace(beside, file)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
            self._told = False
        except OSError as wrong:
            if not self._told:
                log.warning("what jobs use cannot be written down: %s", wrong)
            self._told = True
