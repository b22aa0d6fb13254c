"""Which block of which tensor is worked on next: earliest tensor first, a few begun ahead so that no worker waits."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from .tensor_run import TensorRun


@dataclass(frozen=True, slots=True)
class Task:
    """One block (by its first element) of the sweep that a tensor is in."""

    run: TensorRun
    first: int


class Schedule:
    """Hands tasks to workers; every method may be called from any thread."""

    def __init__(self, runs: Iterable[TensorRun], in_flight: int) -> None:
        self.lock = threading.Lock()
        self._changed = threading.Condition(self.lock)
        self._waiting = deque(runs)
        self._active: list[TensorRun] = []
        self._in_flight = in_flight
        self._stopped = False
        self.bytes_total = sum(each.cost for each in self._waiting)
        self.bytes_done = 0
        self.current = ""

    @property
    def complete(self) -> bool:
        """Whether every tensor is written."""
        return not self._waiting and not self._active

    def take(self) -> Task | None:
        """The next task, once there is one; ``None`` when all is done or was stopped."""
        while True:
            begin: TensorRun | None = None
            with self.lock:
                while True:
                    if self._stopped or self.complete:
                        return None
                    for run in self._active:
                        first = run.next()
                        if first is not None:
                            self.current = self._active[0].plan.name
                            return Task(run, first)
                    if self._waiting and len(self._active) < self._in_flight:
                        begin = self._waiting.popleft()
                        self._active.append(begin)
                        break
                    self._changed.wait()
            # Beginning a tensor may compute; nobody else can touch it before it has pending blocks. From then on
            # others may: a small tensor can be finished by them before this worker comes back to it.
            begin.begin()
            self._settle(begin)

    def finish(self, task: Task) -> None:
        """Note that a task is done; the worker that did a sweep's last block moves the tensor on."""
        run = task.run
        with self.lock:
            run.outstanding -= 1
            self.bytes_done += run.cost_of(task.first)
            last = run.outstanding == 0
            self._changed.notify()
        if last:
            run.advance()
            self._settle(run)

    def _settle(self, run: TensorRun) -> None:
        with self.lock:
            if run.finished and run in self._active:
                self._active.remove(run)
                self.bytes_done += run.uncounted
            self._changed.notify_all()

    def stop(self) -> None:
        """Hand out no more tasks."""
        with self.lock:
            self._stopped = True
            self._changed.notify_all()

    def wait(self, seconds: float) -> None:
        """Sleep so long, or until all is done or was stopped."""
        with self.lock:
            self._changed.wait_for(lambda: self.complete or self._stopped, seconds)
