"""How fast a job goes, from what it reports."""

from __future__ import annotations

from collections import deque

from alloyd.foreign import in_one_line
from alloyd.jobs import Pace, Progress


class PaceMeter:
    """Speed over the last seconds, from progress reports and a monotonic clock."""

    WINDOW = 15.0

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()
        self._total = -1
        self.pace: Pace | None = None

    def take(self, report: Progress, at: float) -> Pace:
        """The pace after ``report`` at monotonic second ``at``; ``rate`` is ``None`` in the first half second."""
        if report.total != self._total or (self._seen and report.done < self._seen[-1][1]):
            self._seen.clear()
            self._total = report.total
        self._seen.append((at, report.done))
        while len(self._seen) > 2 and self._seen[1][0] <= at - self.WINDOW:
            self._seen.popleft()
        begun, done = self._seen[0]
        rate = (report.done - done) / (at - begun) if at - begun >= 0.5 else None
        # The first steps hold the loading of libraries and models, and would promise hours.
        known = rate is not None and 100 * report.done >= report.total
        eta = (report.total - report.done) / rate if rate and known else None
        self.pace = Pace(report.done, report.total, report.unit, in_one_line(report.what), rate, eta)
        return self.pace
