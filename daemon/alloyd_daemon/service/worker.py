"""Runs jobs, one child process each, and writes down what becomes of them.

Single-threaded: the server's loop calls :meth:`Worker.step` and hands over every pipe that has something to read.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

from alloyd.errors import AlloydError, ChildDied, JobError, SourceChanged
from alloyd.jobs import SPECS, Event, Finished, Job, JobState, Note, Pace, Planned, Progress
from alloyd.paths import Home
from alloyd.units import parse_size

from ..settings import Settings
from .child_process import CHILD, spawn
from .log_file import bound
from .pipe import Answer, Begin, Failed, Frames, Halt, Halted, frame, write_all
from .resources import Sampler
from .store import Store
from .store_rows import cancelled

# Kinds that need little memory never wait behind a merge.
LIGHT = ("plan", "verify")
LIGHT_AT_ONCE = 4
MOST_DEATHS = 4
"""One more than a search gives one of its candidates, so that the candidate fails and not the search."""
# The default pipe holds 64 KiB; a recipe must fit without the daemon waiting for its child to read.
PIPE_SIZE = 2**20
LOG_CHECK = 1.0

log = logging.getLogger("alloyd")


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
        self.pace = Pace(report.done, report.total, report.unit, report.what, rate, eta)
        return self.pace


@dataclass(slots=True, eq=False)
class Child:
    """A running child: its job, its process, and what it was asked and has said."""

    job: Job
    act: Literal["run", "discard"]
    process: subprocess.Popen[bytes]
    orders: int
    reports: int
    begun: float
    oom_kills: int
    frames: Frames = field(default_factory=Frames)
    meter: PaceMeter = field(default_factory=PaceMeter)
    asked: Literal["", "pause", "cancel", "requeue"] = ""
    said: Finished | Failed | Halted | None = None
    furthest: int = -1
    deadline: float | None = None


class Worker:
    """Starts queued jobs, hears their children, and turns what they say into states of the store."""

    def __init__(
        self,
        store: Store,
        home: Home,
        settings: Settings,
        *,
        child: Sequence[str] = CHILD,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._home = home
        self._settings = settings
        self._command = tuple(child)
        self._clock = clock
        self._children: list[Child] = []
        self._ticks: dict[str, Event] = {}
        self._spare: subprocess.Popen[bytes] | None = None
        self.stopping = False
        self.resources = Sampler(home, clock=clock)
        self._logs_due = 0.0

    def prepare(self, spare: subprocess.Popen[bytes] | None = None) -> None:
        """Have a child that loads its libraries while the first job is still on its way; ``spare`` is one already."""
        self._spare = spare or spawn(self._command)

    @property
    def busy(self) -> bool:
        """Whether any child lives."""
        return bool(self._children)

    def pipes(self) -> Iterator[int]:
        """The descriptors that have news for :meth:`hear`."""
        return (child.reports for child in self._children if child.reports >= 0)

    def ticks(self) -> list[Event]:
        """The newest progress of each job since the last call."""
        ticks = list(self._ticks.values())
        self._ticks.clear()
        return ticks

    def pace(self, job: str) -> Pace | None:
        """The newest progress of a running job."""
        child = self._running(job)
        return None if child is None else child.meter.pace

    def waits_for(self, job: Job) -> str:
        """Why a job is where it is: for a queued one, which jobs run before it."""
        ahead = [each.job.id for each in self._children if (each.job.kind in LIGHT) == (job.kind in LIGHT)]
        room = LIGHT_AT_ONCE if job.kind in LIGHT else self._settings.jobs.parallel
        if job.state is not JobState.QUEUED or len(ahead) < room:
            return job.reason
        return f"waits for {', '.join(ahead)}"

    def step(self) -> float:
        """Bury the dead, cut off who was asked to stop too long ago, start what can start.

        Returns the seconds until it should be called again, if nothing else happens.
        """
        now = self._clock()
        for child in [each for each in self._children if each.reports < 0]:
            # Seen dead but not yet waited for, so that its process group is still its own.
            if os.waitid(os.P_PID, child.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                self._bury(child)
        for child in self._children:
            if child.deadline is not None and now >= child.deadline:
                _kill(child)
        if not self.stopping:
            self._start_discards()
            self._start_queued()
        self._bound_logs(now)
        self.resources.step((each.job, each.process.pid) for each in self._children if each.act == "run")
        if any(child.reports < 0 for child in self._children):
            return 0.02
        deadlines = [child.deadline - now for child in self._children if child.deadline is not None]
        return max(0.0, min([1.0, *deadlines]))

    def hear(self, pipe: int) -> None:
        """Take in what a child has written to ``pipe``."""
        child = next(each for each in self._children if each.reports == pipe)
        data = os.read(pipe, 1 << 16)
        if not data:
            os.close(pipe)
            child.reports = -1
            # It leaves by _exit right after this; one that does not is stuck.
            child.deadline = min(child.deadline or float("inf"), self._clock() + 5.0)
            return
        try:
            for body in child.frames.feed(data):
                self._take(child, msgspec.msgpack.decode(body, type=Answer))
        except (ValueError, msgspec.DecodeError) as wrong:
            log.error("%s said something unreadable: %s", child.job.id, wrong)
            _kill(child)

    # Requests

    def cancel(self, name: str) -> Job:
        """End a job and have its staging removed. JobError when it has ended well or is cancelled already."""
        job = self._store.job(name)
        if job.state in (JobState.DONE, JobState.CANCELLED):
            raise JobError(f"{job.id} is {job.state.value} already", job=job.id, state=job.state.value)
        child = self._running(job.id)
        if child is None:
            error = cancelled(job.id)
            reason = "cancelled on request"
            self._store.move(job.id, JobState.CANCELLED, reason=reason, error=error, discard=job.attempts > 0)
        elif child.asked != "cancel":
            self._store.want(job.id, "cancel", reason="being cancelled")
            self._halt(child, "cancel")
        return self._store.job(job.id)

    def pause(self, name: str) -> Job:
        """Stop a job at the end of its block; JobError when it has ended."""
        job = self._store.job(name)
        if job.state.ended:
            raise JobError(
                f"{job.id} is {job.state.value} and cannot be paused", job=job.id, state=job.state.value
            )
        child = self._running(job.id)
        if child is not None:
            if child.asked in ("", "requeue"):
                self._store.want(job.id, "pause", reason="being paused")
                self._halt(child, "pause")
        elif job.state is JobState.QUEUED:
            self._store.move(job.id, JobState.PAUSED, reason="paused on request")
        return self._store.job(job.id)

    def resume(self, name: str) -> Job:
        """Queue a paused or failed job again; JobError when it is done or cancelled."""
        job = self._store.job(name)
        child = self._running(job.id)
        if child is not None:
            if child.asked == "cancel":
                raise JobError(f"{job.id} is being cancelled", job=job.id, state=job.state.value)
            if child.asked == "pause":
                self._store.want(job.id, "", reason="resumes after the block in flight")
                child.asked = "requeue"
        elif job.state in (JobState.PAUSED, JobState.FAILED):
            self._store.died(job.id, 0, -1)
            self._store.move(job.id, JobState.QUEUED, reason="resumed on request")
        elif job.state is not JobState.QUEUED:
            raise JobError(
                f"{job.id} is {job.state.value} and cannot be resumed", job=job.id, state=job.state.value
            )
        return self._store.job(job.id)

    def stop(self) -> None:
        """Ask every child to stop at the end of its block; its job will be queued again."""
        self.stopping = True
        for child in self._children:
            if child.act == "discard":
                child.deadline = self._clock() + self._settings.jobs.stop_grace
            elif not child.asked:
                self._halt(child, "requeue")

    def kill(self) -> None:
        """End every child at once; nothing is lost but the blocks in flight."""
        self.stopping = True
        if self._spare is not None:
            self._spare.kill()
            self._spare.communicate()
            self._spare = None
        for child in self._children:
            if not child.asked:
                child.asked = "requeue"
            _kill(child)

    # Inside

    def _running(self, name: str) -> Child | None:
        return next((each for each in self._children if each.job.id == name and each.act == "run"), None)

    def _halt(self, child: Child, asked: Literal["pause", "cancel", "requeue"]) -> None:
        child.asked = asked
        child.deadline = self._clock() + self._settings.jobs.stop_grace
        with contextlib.suppress(BrokenPipeError):
            write_all(child.orders, frame(Halt("cancel" if asked == "cancel" else "pause")))

    def _start_discards(self) -> None:
        busy = {child.job.id for child in self._children}
        for job in self._store.to_discard():
            if job.id in busy:
                continue
            try:
                self._start(job, "discard")
            except OSError as wrong:
                self._store.note(job.id, "warning", f"what it staged could not be removed: {wrong}")
                self._store.discarded(job.id)

    def _start_queued(self) -> None:
        light = sum(child.job.kind in LIGHT for child in self._children)
        heavy = sum(child.job.kind not in LIGHT and child.act == "run" for child in self._children)
        for job in self._store.queued(tuple(SPECS)):
            if job.kind in LIGHT and light < LIGHT_AT_ONCE:
                light += 1
            elif job.kind not in LIGHT and heavy < self._settings.jobs.parallel:
                heavy += 1
            else:
                continue
            self._store.move(job.id, JobState.RUNNING)
            try:
                self._start(self._store.job(job.id), "run")
            except OSError as wrong:
                error = ChildDied(f"no process could be started for {job.id}: {wrong}", job=job.id)
                self._store.move(job.id, JobState.FAILED, error=error)

    def _start(self, job: Job, act: Literal["run", "discard"]) -> None:
        process = self._spare or spawn(self._command)
        self._spare = None
        assert process.stdin is not None
        assert process.stdout is not None
        # The descriptors are kept bare: the server polls them, and nothing may close them behind its back.
        orders, reports = os.dup(process.stdin.fileno()), os.dup(process.stdout.fileno())
        process.stdin.close()
        process.stdout.close()
        with contextlib.suppress(OSError):
            fcntl.fcntl(orders, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
        child = Child(job, act, process, orders, reports, time.time(), _oom_kills())
        self._children.append(child)
        settings = msgspec.to_builtins(self._settings)
        root, file = str(self._home.root), str(self._home.log(job.id))
        begin = Begin(act, job.kind, job.spec, root, job.id, settings, file)
        log.info("%s %s", job.id, act, extra={"job": job.id, "child": process.pid})
        with contextlib.suppress(BrokenPipeError):
            write_all(orders, frame(begin))

    def _bound_logs(self, now: float) -> None:
        """Cut the logs of children that print for ever; a second of printing is the most that a disk must hold."""
        if now < self._logs_due:
            return
        self._logs_due = now + LOG_CHECK
        for child in self._children:
            bound(self._home.log(child.job.id), parse_size(self._settings.daemon.log_size))

    def _take(self, child: Child, report: Answer) -> None:
        name = child.job.id
        if isinstance(report, Progress):
            child.furthest = max(child.furthest, report.done)
            pace = child.meter.take(report, self._clock())
            self._ticks[name] = Event(0, name, "progress", datetime.now(UTC), msgspec.to_builtins(pace))
        elif isinstance(report, Planned):
            self._store.plan(name, report.summary)
        elif isinstance(report, Note):
            self._store.note(name, report.level, report.text)
        else:
            child.said = report

    def _bury(self, child: Child) -> None:
        """The child is gone: say what became of its job."""
        self._children.remove(child)
        self._ticks.pop(child.job.id, None)
        os.close(child.orders)
        _kill(child)  # what it may have left running in its group
        child.process.wait()
        name, said = child.job.id, child.said
        facts = {"job": name, "said": type(said).__name__, "status": child.process.returncode}
        log.info("%s %s ended", name, child.act, extra=facts)
        if child.act == "discard":
            if not isinstance(said, Halted) and not self.stopping:
                reason = (
                    said.error.get("message", "") if isinstance(said, Failed) else self._death(child).message
                )
                self._store.note(name, "warning", f"what it staged could not be removed: {reason}")
            if isinstance(said, Halted) or not self.stopping:
                self._store.discarded(name)
            return
        if isinstance(said, Finished):
            self._store.move(name, JobState.DONE, result=said.result)
        elif child.asked == "cancel":
            left = not (isinstance(said, Halted) and said.how == "cancel")
            reason = "cancelled on request"
            self._store.move(name, JobState.CANCELLED, reason=reason, error=cancelled(name), discard=left)
        elif isinstance(said, Failed):
            self._store.move(name, JobState.FAILED, error=AlloydError.from_dict(said.error))
        elif child.asked == "pause":
            self._store.move(name, JobState.PAUSED, reason="paused on request")
        elif child.asked == "requeue":
            reason = "the daemon stopped while it ran" if self.stopping else "resumed on request"
            self._store.move(name, JobState.QUEUED, reason=reason)
        elif isinstance(said, Halted):
            self._store.move(name, JobState.QUEUED, reason="its process was asked to stop from outside")
        else:
            self._died(child)

    def _died(self, child: Child) -> None:
        """A child ended without a word: try again, unless that makes no sense or has not helped."""
        name, error = child.job.id, self._death(child)
        deaths, furthest = self._store.deaths(name)
        deaths = 1 if child.furthest > furthest else deaths + 1
        self._store.died(name, deaths, max(furthest, child.furthest))
        if isinstance(error, SourceChanged) or deaths >= MOST_DEATHS:
            self._store.move(name, JobState.FAILED, error=error)
        else:
            self._store.note(name, "warning", error.message)
            reason = f"its process died; {deaths} of {MOST_DEATHS} times without progress"
            self._store.move(name, JobState.QUEUED, reason=reason)

    def _death(self, child: Child) -> AlloydError:
        """Why a child without a last word is dead."""
        name, code = child.job.id, child.process.returncode
        again = f"then 'alloy resume {name}'; 'alloy logs {name}' tells more"
        if code == -signal.SIGBUS:
            sources = _sources(self._store.job(name))
            changed = [path for path, size in sources.items() if _changed(Path(path), child.begun, size)]
            which = ", ".join(changed) or f"one of {', '.join(sources) or 'the inputs'}"
            return SourceChanged(
                f"source changed or unreadable: {which}",
                hint=f"A file lost bytes while it was mapped, or its disk failed. Restore it, {again}.",
                job=name,
                path=changed[0] if changed else None,
            )
        if code == -signal.SIGKILL:
            by = "from outside (SIGKILL)"
            if _oom_kills() > child.oom_kills:
                by = "by the kernel for want of memory (SIGKILL)"
            return ChildDied(
                f"the process of {name} was killed {by}",
                hint=f"If memory was short, free some or give the job less with --memory, {again}.",
                job=name,
                signal="SIGKILL",
            )
        if code < 0:
            known = {each.value: each.name for each in signal.Signals}
            how = known.get(-code, f"signal {-code}")
            return ChildDied(f"the process of {name} crashed ({how})", hint=f"'alloy logs {name}' shows where.",
                             job=name, signal=how)  # fmt: skip
        return ChildDied(
            f"the process of {name} ended with status {code} and no result",
            hint=f"'alloy logs {name}' shows why.",
            job=name,
            status=code,
        )


def _kill(child: Child) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.process.pid, signal.SIGKILL)


def _oom_kills() -> int:
    """How many processes the kernel has killed for want of memory since it started."""
    try:
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    except OSError:
        pass
    return 0


def _sources(job: Job) -> dict[str, int]:
    """The paths a job reads, as far as its spec and plan tell, each with the least bytes it must hold."""
    models = [model for model in (job.summary or {}).get("models", []) if isinstance(model, dict)]
    found = {str(model["path"]): int(model.get("bytes") or 0) for model in models if model.get("path")}
    for path in (job.spec.get("path"), *(each.get("path") for each in job.spec.get("subjects", []))):
        if path:
            found.setdefault(str(path), 0)
    return found


def _changed(path: Path, when: float, size: int) -> bool:
    """Whether ``path``, or a checkpoint file in it, is gone, was changed after ``when`` (Unix seconds), or is short."""
    try:
        files = list(path.glob("*.safetensors")) if path.is_dir() else [path]
        facts = [file.stat() for file in files] or [path.stat()]
        # Times are not enough: a file being cut off gets its new time only after its pages are gone.
        return sum(each.st_size for each in facts) < size or any(
            max(each.st_mtime, each.st_ctime) >= when for each in facts
        )
    except OSError:
        return True
