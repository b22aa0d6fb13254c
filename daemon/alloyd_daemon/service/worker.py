"""Runs jobs, one child process each, and writes down what becomes of them.

Single-threaded: the server's loop calls :meth:`Worker.step` and hands over every pipe that has something to read.
"""

from __future__ import annotations

import logging
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Literal

import msgspec

from alloyd.errors import AlloydError, ChildDied, OutOfMemory, SourceChanged, StoreError
from alloyd.foreign import in_one_line
from alloyd.jobs import KEPT, Event, Finished, Job, JobState, Note, Pace, Planned, Progress
from alloyd.paths import Home
from alloyd.units import parse_size

from ..settings import Settings
from . import disk_full
from .admission import LIGHT_AT_ONCE, Admission, Running, out_of_room
from .child_process import CHILD, spawn
from .deaths import Death, cause
from .log_file import bound
from .machine import Machine
from .pipe import Answer, Begin, Failed, Halt, Halted, frame
from .refusals import cancelled, cannot_follow, not_now
from .resources import Sampler
from .running_child import Child, take_pipes
from .store import Store
from .store_rows import Lack

MOST_DEATHS = 4
"""One more than a search gives one of its candidates, so that the candidate fails and not the search."""
LOG_CHECK = 1.0
TRY_AGAIN = 1.0
"""Seconds until what this machine refused, a process or a write to the store, is tried again."""

LOOK = 1.0
"""Seconds until the queue is looked at though nothing has happened: room may have come from elsewhere."""
REST = 4.0
"""For so many times as long as a look took it is not looked at again, so that a long queue leaves the loop its time."""

log = logging.getLogger("alloyd")


class _NoProcess(Exception):
    """The machine has no process to give at this moment."""


class Worker:
    """Starts queued jobs, hears their children, and turns what they say into states of the store.

    An ``impatient`` one lets a job whose disk is full fail at once: somebody waits for this one job.
    """

    def __init__(
        self,
        store: Store,
        home: Home,
        settings: Settings,
        *,
        child: Sequence[str] = CHILD,
        machine: Machine | None = None,
        impatient: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._home = home
        self._settings = settings
        self._command = tuple(child)
        self._clock = clock
        self._machine = machine or Machine()
        self._impatient = impatient
        self._admission = Admission(settings, self._machine, clock=clock)
        self._children: list[Child] = []
        self._ticks: dict[str, Event] = {}
        self._discards: dict[str, int] = {}  # how often a process died that was to remove what a job staged
        self._spare: subprocess.Popen[bytes] | None = None
        self._trouble = ""  # what this machine refuses at this moment, so that no job begins
        self._try_at = 0.0
        self._seen = -1  # the store's changes at the last look at the queue
        self._look_at = self._rest_until = 0.0
        self.stopping = False
        self.resources = Sampler(home, clock=clock)
        self._logs_due = 0.0

    def prepare(self, spare: subprocess.Popen[bytes] | None = None) -> None:
        """Have a child that loads its libraries while the first job is still on its way; ``spare`` is one already."""
        self._spare = spare or spawn(self._command)

    @property
    def busy(self) -> bool:
        """Whether any child lives."""
        return any(not child.dead for child in self._children)

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
        """Why a job is where it is: for a queued one, what it waits for."""
        if job.state is not JobState.QUEUED:
            return job.reason
        return self._trouble or self._admission.reason(job.id) or job.reason

    def step(self) -> float:
        """Bury the dead, cut off who was asked to stop too long ago, start what can start.

        Returns the seconds until it should be called again, if nothing else happens.
        """
        now = self._clock()
        for child in [each for each in self._children if each.reports < 0 and not each.dead]:
            # Seen dead but not yet waited for, so that its process group is still its own.
            if os.waitid(os.P_PID, child.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                self._lay_out(child)
        for child in self._children:
            if child.deadline is not None and now >= child.deadline:
                child.kill()
        if now >= self._try_at:
            self._write_down()
        self._bound_logs(now)
        self.resources.step(
            (each.job, each.process.pid) for each in self._children if each.act == "run" and not each.dead
        )
        living = [child for child in self._children if not child.dead]
        if any(child.reports < 0 for child in living):
            return 0.02
        waits = [child.deadline - now for child in living if child.deadline is not None]
        if not self.stopping and self._store.changes != self._seen:
            waits.append(max(self._rest_until, self._try_at) - now)
        return max(0.0, min([LOOK, *waits]))

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
            child.kill()

    # Requests

    def cancel(self, name: str) -> Job:
        """End a job and have its staging removed. JobError when it has ended well or is cancelled already."""
        job = self._store.job(name)
        if job.state in (JobState.DONE, JobState.CANCELLED):
            raise not_now(job.id, job.state, "already")
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
            raise not_now(job.id, job.state, "and cannot be paused")
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
                raise not_now(job.id, job.state, "and is being cancelled")
            if child.asked == "pause":
                self._store.want(job.id, "", reason="resumes after the block in flight")
                child.asked = "requeue"
        elif job.state in (JobState.PAUSED, JobState.FAILED):
            self._store.died(job.id, 0, -1)
            self._store.move(job.id, JobState.QUEUED, reason="resumed on request")
        elif job.state is not JobState.QUEUED:
            raise not_now(job.id, job.state, "and cannot be resumed")
        return self._store.job(job.id)

    def submitted(self, name: str) -> None:
        """A job was asked for, perhaps again: one that was to pause goes on, if the store says so."""
        child = self._running(name)
        if child is not None and child.asked == "pause" and not self._store.wanted(name):
            child.asked = "requeue"

    def retry(self, name: str) -> Job:
        """Begin a failed, quarantined or cancelled job anew; one that waits for room is tried at once.

        Raises
        ------
        JobError
            It is done, runs, or is paused.
        """
        job = self._store.job(name)
        self._store.retry(job.id)
        self._admission.forgive(job.id)
        return self._store.job(job.id)

    def stop(self) -> None:
        """Ask every child to stop at the end of its block; its job will be queued again."""
        self.stopping, self._try_at = True, 0.0
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
            child.kill()

    # Inside

    def _running(self, name: str) -> Child | None:
        return next((each for each in self._children if each.job.id == name and each.act == "run"), None)

    def _halt(self, child: Child, asked: Literal["pause", "cancel", "requeue"]) -> None:
        child.asked = asked
        child.deadline = self._clock() + self._settings.jobs.stop_grace
        child.tell(Halt("cancel" if asked == "cancel" else "pause"))

    def _write_down(self) -> None:
        """Say what became of the jobs of the dead, and begin what can begin; while the store is full, neither."""
        trouble = ""
        try:
            for child in [each for each in self._children if each.dead]:
                self._bury(child)
                self._children.remove(child)
                self._look_at = 0.0
            if not self.stopping:
                self._look_at_queue()
        except StoreError as wrong:
            trouble = wrong.message
        except _NoProcess as wrong:
            trouble = str(wrong)
        if trouble:
            self._try_at = self._clock() + TRY_AGAIN
            if not self._trouble:
                log.error("no job begins or ends: %s", trouble)
        self._trouble = trouble

    def _look_at_queue(self) -> None:
        """Begin what can begin, if anything has happened since the last look or that was long ago."""
        begun, changes = self._clock(), self._store.changes
        if begun < self._look_at and (changes == self._seen or begun < self._rest_until):
            return
        self._start_discards()
        self._start_queued()
        ended = self._clock()
        self._seen, self._look_at = changes, ended + LOOK
        self._rest_until = ended + REST * (ended - begun)

    def _start_discards(self) -> None:
        busy = {child.job.id for child in self._children}
        room = LIGHT_AT_ONCE - sum(child.act == "discard" for child in self._children)
        for job in [each for each in self._store.to_discard() if each.id not in busy][: max(0, room)]:
            self._have_process()
            try:
                self._start(job, "discard")
            except (OSError, OverflowError) as wrong:
                self._store.note(job.id, "warning", f"what it staged could not be removed: {wrong}")
                self._store.discarded(job.id)

    def _start_queued(self) -> None:
        running = [
            Running(child.job.id, child.job.kind, child.memory)
            for child in self._children
            if child.act == "run"
        ]
        queue = self._store.queue()
        for name in [each.id for each in queue if each.after and self._cannot_follow(each.id, each.after)]:
            queue = [each for each in queue if each.id != name]
        for name in self._admission.choose(queue, running, self._unfinished):
            self._have_process()
            self._store.move(name, JobState.RUNNING)
            try:
                self._start(self._store.job(name), "run")
            except (OSError, OverflowError) as wrong:
                error = ChildDied(f"no process could be started for {name}: {wrong}", job=name)
                self._store.move(name, JobState.FAILED, error=error)

    def _have_process(self) -> None:
        """Have a child before its job is said to run: a machine that has no process to give costs time, no job."""
        if self._spare is None and not self._impatient:
            try:
                self._spare = spawn(self._command)
            except OSError as wrong:
                raise _NoProcess(f"no process can be started for a job: {wrong}") from wrong

    def _unfinished(self, jobs: Sequence[int]) -> list[str]:
        return [name for name, _ in self._store.unfinished(jobs)]

    def _cannot_follow(self, name: str, after: Sequence[int]) -> bool:
        """Fail a queued job if one that it was to follow has ended badly; whether that was so."""
        for first, state in self._store.unfinished(after):
            if state.ended:
                error = cannot_follow(first, state, job=name)
                self._store.move(name, JobState.FAILED, reason=error.message, error=error)
                return True
        return False

    def _start(self, job: Job, act: Literal["run", "discard"]) -> None:
        settings = msgspec.to_builtins(self._settings)
        root, file = str(self._home.root), self._home.log(job.id)
        # Made before there is a process: a spec that no pipe can carry is its own job's trouble.
        order = frame(Begin(act, job.kind, job.spec, root, job.id, settings, str(file)))
        process = self._spare or spawn(self._command)
        self._spare = None
        orders, reports = take_pipes(process)
        memory = self._admission.memory_of(job.spec.get("memory"))
        kills = self._machine.memory_kills()
        child = Child(job, act, file, process, orders, reports, time.time(), memory, kills)
        self._children.append(child)
        log.info("%s %s", job.id, act, extra={"job": job.id, "child": process.pid})
        child.send(order)

    def _bound_logs(self, now: float) -> None:
        """Cut the logs of children that print for ever; a second of printing is the most that a disk must hold."""
        if now < self._logs_due:
            return
        self._logs_due = now + LOG_CHECK
        for child in self._children:
            bound(child.log, parse_size(self._settings.daemon.log_size))

    def _take(self, child: Child, report: Answer) -> None:
        name = child.job.id
        if isinstance(report, Progress):
            child.furthest = max(child.furthest, report.done)
            pace = child.meter.take(report, self._clock())
            self._ticks[name] = Event(0, name, "progress", datetime.now(UTC), msgspec.to_builtins(pace))
        elif isinstance(report, Planned):
            self._keep(name, lambda: self._store.plan(name, report.summary))
            peak = report.summary.get("peak_memory")
            if isinstance(peak, int):  # what it surely needs at most is less than what it may take
                child.memory = min(child.memory, peak)
        elif isinstance(report, Note):
            self._keep(name, lambda: self._store.note(name, report.level, in_one_line(report.text)))
        else:
            child.said = report

    def _keep(self, name: str, write: Callable[[], None]) -> None:
        """Keep what a running job tells; a store that cannot be written loses it, and no more."""
        try:
            write()
        except StoreError as wrong:
            log.error("what %s tells is not kept: %s", name, wrong.message, extra={"job": name})

    def _lay_out(self, child: Child) -> None:
        """The child is gone: let go of what belonged to its process."""
        self._ticks.pop(child.job.id, None)
        child.lay_out()
        facts = {"job": child.job.id, "said": type(child.said).__name__, "status": child.process.returncode}
        log.info("%s %s ended", child.job.id, child.act, extra=facts)

    def _bury(self, child: Child) -> None:
        """Write down what became of the job of a child that is gone; it is repeated if the store cannot be written."""
        name, said = child.job.id, child.said
        if child.act == "discard":
            if said is None and not self.stopping and self._discards.get(name, 0) + 1 < MOST_DEATHS:
                self._discards[name] = self._discards.get(name, 0) + 1  # it was killed, and is started again
                return
            self._discards.pop(name, None)
            if not isinstance(said, Halted) and not self.stopping:
                reason = (
                    said.error.get("message", "") if isinstance(said, Failed) else self._cause(child).message
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
            self._failed(child, said)
        elif child.asked == "pause":
            self._store.move(name, JobState.PAUSED, reason="paused on request")
        elif child.asked == "requeue":
            reason = "the daemon stopped while it ran" if self.stopping else "resumed on request"
            self._store.move(name, JobState.QUEUED, reason=reason)
        elif isinstance(said, Halted):
            self._store.move(name, JobState.QUEUED, reason="its process was asked to stop from outside")
        else:
            self._died(child)

    def _failed(self, child: Child, said: Failed) -> None:
        """A job ended with an error: that of a full disk lets it wait for room, any other is its end."""
        name = child.job.id
        lack = None
        if child.job.kind in KEPT and not self._impatient:
            lack = disk_full.wanting(said.error, self._machine)
        if lack is None:
            error = AlloydError.from_dict(said.error)
            owner = child.job.owner
            who = "the local user" if owner == "local" else f"the key '{owner}'"
            log.warning("%s of %s failed: %s", name, who, error, extra={"job": name, "code": error.code})
            self._store.move(name, JobState.FAILED, error=error)
        elif child.asked == "pause":
            self._store.move(name, JobState.PAUSED, reason="paused on request, while its disk was full")
        else:
            self._admission.gave_way(name)
            self._store.move(name, JobState.QUEUED, reason=out_of_room(lack, lack.free), lacks=lack)

    def _died(self, child: Child) -> None:
        """A child ended without a word: try again, unless that makes no sense or has not helped."""
        name, error = child.job.id, self._cause(child)
        deaths, furthest = self._store.deaths(name)
        child.deaths = child.deaths or (1 if child.furthest > furthest else deaths + 1)
        self._store.died(name, child.deaths, max(furthest, child.furthest))
        if isinstance(error, SourceChanged):
            # What is staged mixes two states of a source: nothing may continue from it.
            self._store.move(name, JobState.FAILED, error=error, discard=True)
        elif child.deaths >= MOST_DEATHS:
            reason = f"in quarantine: its process died {child.deaths} times without progress"
            self._store.move(name, JobState.FAILED, reason=reason, error=error, quarantined=True)
        else:
            self._store.note(name, "warning", error.message)
            reason = f"its process died; {child.deaths} of {MOST_DEATHS} times without progress"
            lack = None
            if isinstance(error, OutOfMemory) and child.memory <= self._machine.memory():
                lack = Lack("memory", child.memory, self._machine.available())
            self._store.move(name, JobState.QUEUED, reason=reason, lacks=lack)

    def _cause(self, child: Child) -> AlloydError:
        """Why a child without a last word is dead."""
        job, killed = self._store.job(child.job.id), self._machine.memory_kills() > child.memory_kills
        budget = self._admission.memory_of(job.spec.get("memory"))
        return cause(Death(job, child.process.returncode, child.begun, budget, killed))
