"""Commands of the daemon's own config that are run when a job has ended; the queue never waits for one.

An end has a number, that of its event. The number is on disk before the command is started, so a hook runs at most
once for one end, whatever dies; an end whose hook had not been started when the daemon died gets it from the next one.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any, Final

from alloyd.errors import JobNotFound
from alloyd.jobs import Event, JobState
from alloyd.paths import Home

from ..faults import reach
from ..settings import HookSettings
from .prometheus import Family
from .store import Store

SUPERVISOR: Final = (sys.executable, "-P", "-m", "alloyd_daemon.hook_process")
AT_ONCE: Final = 4
STOP_SECONDS: Final = 10.0
"""A hook that runs when the daemon stops may go on so long."""
LONGEST_VALUE: Final = 8192

log = logging.getLogger("alloyd")


@dataclass(slots=True, eq=False)
class _Running:
    event: Event
    process: subprocess.Popen[bytes]
    said: IO[bytes]
    begun: float


class Hooks:
    """Starts hooks in the order in which jobs ended, at most :data:`AT_ONCE` at a time."""

    def __init__(
        self,
        store: Store,
        home: Home,
        settings: HookSettings,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._home = home
        self._settings = settings
        self._clock = clock
        self._commands = {
            state: command
            for state in (JobState.DONE, JobState.FAILED, JobState.CANCELLED)
            if (command := getattr(settings, f"on_{state.value}"))
        }
        self._place = home.root / "hooks.last"
        self._running: list[_Running] = []
        self._waiting: list[Event] = []
        self._stop_by: float | None = None
        self._counts: Counter[tuple[str, str]] = Counter()
        if not self._commands:
            with contextlib.suppress(OSError):
                self._place.unlink()
            return
        for state, command in self._commands.items():
            if not os.access(command[0], os.X_OK):
                log.warning("the hook hooks.on_%s, %s, cannot be run", state.value, command[0])
        # Ends before hooks were set are nobody's news.
        since = self._read()
        if since is None:
            since = store.last_event()
            self._keep(since, surely=True)
        while news := store.events(since):
            for event in news:
                self.hear(event)
            since = news[-1].seq

    @property
    def busy(self) -> bool:
        """Whether a hook runs; one that is still to be started is the next daemon's."""
        return bool(self._running)

    def jobs(self) -> set[str]:
        """The jobs whose hook is still to be started."""
        return {event.job for event in self._waiting}

    def hear(self, event: Event) -> None:
        """Take in one stored event."""
        if not self._commands or event.kind != "state" or not event.job:
            return
        state = event.body.get("state")
        if state in self._commands:
            self._waiting.append(event)
        elif state in (JobState.DONE, JobState.FAILED, JobState.CANCELLED) and not self._waiting:
            self._keep(event.seq)

    def step(self) -> None:
        """Start what can be started, and tell of what has ended."""
        for each in [one for one in self._running if one.process.poll() is not None]:
            self._running.remove(each)
            self._ended(each)
        while self._waiting and len(self._running) < AT_ONCE and self._stop_by is None:
            self._start(self._waiting.pop(0))
        if self._stop_by is not None and self._clock() >= self._stop_by:
            self.kill()

    def stop(self) -> None:
        """Start no more; those that run get a little time."""
        if self._stop_by is None:
            self._stop_by = self._clock() + STOP_SECONDS

    def kill(self) -> None:
        """End every hook at once."""
        self._stop_by = self._clock()
        for each in self._running:
            assert each.process.stdin is not None
            each.process.stdin.close()  # its supervisor kills it, with all that it started
        for each in self._running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                each.process.wait(2)
            each.process.kill()
            each.process.wait()
            each.said.close()
        self._running.clear()

    def families(self) -> Iterator[Family]:
        """How hooks ended, for the daemon's figures."""
        samples: list[Any] = [
            ("", {"hook": hook, "result": result}, number)
            for (hook, result), number in sorted(self._counts.items())
        ]
        yield Family("alloyd_hooks_total", "counter", "Hooks that have ended, by result.", samples)

    def _start(self, event: Event) -> None:
        state = JobState(event.body["state"])
        if not self._keep(event.seq, surely=True):
            self._count(state, "not started")
            return
        reach("hook")
        command = [*SUPERVISOR, str(self._settings.time_limit), *self._commands[state]]
        try:
            environ = self._environment(event)
            said = tempfile.TemporaryFile()  # noqa: SIM115  (closed when the hook has ended)
        except (OSError, JobNotFound) as wrong:  # retried, ended again and pruned before its turn came
            self._not_started(event, wrong)
            return
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=said, stderr=said, env=environ,
                process_group=0,
            )  # fmt: skip
        except OSError as wrong:
            said.close()
            self._not_started(event, wrong)
            return
        self._running.append(_Running(event, process, said, self._clock()))

    def _not_started(self, event: Event, wrong: OSError | JobNotFound) -> None:
        log.error("no hook could be started for %s: %s", event.job, wrong, extra={"job": event.job})
        self._count(JobState(event.body["state"]), "not started")

    def _ended(self, one: _Running) -> None:
        one.said.seek(0)
        output = one.said.read(2 * LONGEST_VALUE).decode("utf-8", "replace").strip()
        one.said.close()
        assert one.process.stdin is not None
        one.process.stdin.close()
        state, status = JobState(one.event.body["state"]), one.process.returncode
        took = round(self._clock() - one.begun, 3)
        level = logging.INFO if status == 0 else logging.WARNING
        extra = {"job": one.event.job, "status": status, "seconds": took, "output": output}
        log.log(
            level, "hook on_%s of %s ended with status %d", state.value, one.event.job, status, extra=extra
        )
        self._count(state, "well" if status == 0 else "badly")

    def _count(self, state: JobState, result: str) -> None:
        self._counts[f"on_{state.value}", result] += 1

    def _environment(self, event: Event) -> dict[str, str]:
        job = self._store.job(event.job)
        error = event.body.get("error") or {}
        told = {
            "ALLOYD_JOB": job.id,
            "ALLOYD_KIND": job.kind,
            "ALLOYD_STATE": str(event.body["state"]),
            "ALLOYD_EVENT": str(event.seq),
            "ALLOYD_OUT": job.out,
            "ALLOYD_REASON": str(event.body.get("reason", "")),
            "ALLOYD_ERROR": str(error.get("message", "")),
            "ALLOYD_ERROR_CODE": str(error.get("code", "")),
            "ALLOYD_HOME": str(self._home.root),
        }
        # A variable ends at a NUL, and its length is limited by the kernel.
        return os.environ | {name: value.replace("\0", "")[:LONGEST_VALUE] for name, value in told.items()}

    def _read(self) -> int | None:
        try:
            return int(self._place.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None

    def _keep(self, number: int, *, surely: bool = False) -> bool:
        """Write down that ends up to event ``number`` are seen to; ``surely`` also across a power cut."""
        try:
            handle = os.open(self._place, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                # One write of a fixed length: whoever reads it finds the old number or the new one.
                os.pwrite(handle, f"{number:020d}\n".encode(), 0)
                if surely:
                    os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as wrong:
            log.error("%s cannot be written, so no hook is run: %s", self._place, wrong)
            return False
        return True
