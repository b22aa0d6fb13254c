"""Which of the jobs that wait may begin, and what the others wait for.

They are begun in their order, except that a job which waits for something that others do not need lets them pass: for
a job before it, for room on a disk, or, a few times, for memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from alloyd.units import format_size

from ..settings import Settings
from .machine import Disk, Machine
from .store_rows import Lack, Waiting

LIGHT: Final = ("plan", "verify")
"""Kinds that need little memory; they never wait behind a merge."""
LIGHT_AT_ONCE: Final = 4
ON_GPU: Final = ("score", "search", "open_test")
"""Kinds that take a GPU for themselves where there is one."""
MOST_PASSED: Final = 3
"""So many later jobs may begin beside those that run before one that waits for memory; then it is its turn."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds before a job that gave way to a full disk is tried again, doubled each time; room is looked for as often."""


@dataclass(frozen=True, slots=True)
class Running:
    """A job at work, and the private memory that it may come to need."""

    id: str
    kind: str
    memory: int


class Admission:
    """Decides, and remembers for each queued job why it waits."""

    def __init__(
        self, settings: Settings, machine: Machine, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._machine = machine
        self._clock = clock
        self._reasons: dict[str, str] = {}
        self._passed: dict[str, int] = {}
        self._gave_way: dict[str, tuple[int, float]] = {}
        self._disks: dict[str, tuple[float, Disk | None]] = {}

    def reason(self, job: str) -> str:
        """What a queued job waits for; empty when it is about to begin."""
        return self._reasons.get(job, "")

    def memory_of(self, asked: int | None) -> int:
        """The memory budget of a job that asks for so much, or for nothing."""
        return self._settings.memory_bytes() if asked is None else asked

    def gave_way(self, job: str) -> None:
        """A job's disk was full: it is not tried again at once."""
        times = self._gave_way.get(job, (0, 0.0))[0]
        self._gave_way[job] = (times + 1, self._clock() + min(LONGEST_PAUSE, FIRST_PAUSE * 2**times))

    def forgive(self, job: str) -> None:
        """Try ``job`` again at once, whatever has happened."""
        self._gave_way.pop(job, None)

    def choose(
        self,
        queue: Sequence[Waiting],
        running: Sequence[Running],
        unfinished: Callable[[Sequence[int]], Sequence[str]],
    ) -> list[str]:
        """The jobs of ``queue`` to begin now beside those ``running``; ``unfinished`` names those of some not done."""
        at_work, chosen = list(running), []
        reasons: dict[str, str] = {}
        big = ""  # the first that waits for memory
        for job in queue:
            reasons[job.id] = self._obstacle(job, at_work, unfinished)
            if not reasons[job.id] and job.kind not in LIGHT:
                reasons[job.id] = self._want_of_memory(job, at_work)
                if reasons[job.id]:
                    big = big or job.id
                elif big and self._passed.get(big, 0) >= MOST_PASSED and _heavy(at_work):
                    reasons[job.id] = f"waits for {big}, whose turn it is once there is memory"
                elif big:
                    self._passed[big] = self._passed.get(big, 0) + 1
            if not reasons[job.id]:
                chosen.append(job.id)
                at_work.append(Running(job.id, job.kind, self.memory_of(job.memory)))
        self._reasons = reasons
        living = {*reasons, *(each.id for each in running)}
        self._passed = {
            key: each for key, each in self._passed.items() if key in living and key not in chosen
        }
        self._gave_way = {key: each for key, each in self._gave_way.items() if key in living}
        return chosen

    def _obstacle(
        self, job: Waiting, at_work: Sequence[Running], unfinished: Callable[[Sequence[int]], Sequence[str]]
    ) -> str:
        """What but memory keeps a job from beginning."""
        if job.discarding:
            return "waits until what it staged before is removed"
        if job.after and (first := unfinished(job.after)):
            return f"waits for {', '.join(first)}"
        light = job.kind in LIGHT
        peers = [each for each in at_work if (each.kind in LIGHT) == light]
        lack = job.lacks
        if lack is not None and lack.what == "disk":
            disk = self._disk(lack.path)
            if disk is not None and disk.free < lack.need:
                return out_of_room(lack, disk.free)
            if self._gave_way.get(job.id, (0, 0.0))[1] > self._clock():
                return f"waits a moment: {lack.path} was full"
        if len(peers) >= (LIGHT_AT_ONCE if light else self._settings.jobs.parallel):
            return f"waits for {', '.join(each.id for each in peers)}"
        if job.kind in ON_GPU and (there := self._machine.gpus()):
            holders = [each.id for each in at_work if each.kind in ON_GPU]
            if len(holders) >= there:
                return f"waits for the GPU that {', '.join(holders)} uses"
        return ""

    def _want_of_memory(self, job: Waiting, at_work: Sequence[Running]) -> str:
        """What memory a job waits for. One that is alone begins in any case, unless it was killed for want of it."""
        need = self.memory_of(job.memory)
        others = _heavy(at_work)
        killed = job.lacks is not None and job.lacks.what == "memory"
        if not others and not killed:
            return ""
        free = max(0, self._machine.memory() - sum(each.memory for each in others))
        if need <= free:
            free = min(free, self._machine.available())
        if need <= free:
            return ""
        beside = f" beside {', '.join(each.id for each in others)}" if others else ""
        return f"waits: needs {format_size(need)} of memory, {format_size(free)} are free{beside}"

    def _disk(self, path: str) -> Disk | None:
        """The disk of ``path`` as it was a moment ago."""
        seen, disk = self._disks.get(path, (float("-inf"), None))
        if self._clock() - seen >= FIRST_PAUSE:
            disk = self._machine.disk(Path(path))
            self._disks = {
                key: each for key, each in self._disks.items() if self._clock() - each[0] < LONGEST_PAUSE
            }
            self._disks[path] = (self._clock(), disk)
        return disk


def _heavy(at_work: Sequence[Running]) -> list[Running]:
    """Those that hold memory which others wait for. Where there are none, only other programs can give it back."""
    return [each for each in at_work if each.kind not in LIGHT]


def out_of_room(lack: Lack, free: int) -> str:
    """Why a job waits for its disk."""
    return f"waits: needs {format_size(lack.need)} on {lack.path}, {format_size(free)} are free"
