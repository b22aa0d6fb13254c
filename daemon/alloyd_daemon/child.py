"""The process of one job: ``python -m alloyd_daemon.child``, orders on stdin, reports on stdout, logs on stderr.

It runs the job's generator and closes it between two reports when it is told to stop, when it gets SIGTERM, or when
stdin ends, which means that the daemon died. It leaves by ``os._exit``, because a job's libraries may take long to die.
"""

from __future__ import annotations

import contextlib
import errno
import faulthandler
import io
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Generator
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from alloyd.errors import AccessDenied, AlloydError, DiskFull
from alloyd.jobs import Finished, Progress, Report

from .job import JOBS, Context, JobKind
from .plugins import Door
from .service.pipe import Answer, Begin, Failed, Frames, Halt, Halted, Orders, frame, write_all
from .settings import Settings
from .ulimits import tight

TICK = 0.1
# What a job does between two reports may outlast the daemon's death by this; then it is cut off.
ORPHAN_GRACE = 10.0


class _Stop:
    """What the child was told: nothing, ``pause`` or ``cancel``; a cancel overrides a pause."""

    def __init__(self) -> None:
        self.how = ""

    def ask(self, how: str) -> None:
        if how == "now":
            os._exit(128 + signal.SIGTERM)
        if self.how != "cancel":
            self.how = how


def main(door: Door[JobKind] = JOBS) -> NoReturn:
    """Run the one job that stdin describes, then leave."""
    # Libraries may print: what they write to fd 1 goes to the log, and the reports keep a descriptor of their own.
    reports = os.dup(1)
    orders = os.dup(0)
    os.dup2(2, 1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    faulthandler.enable()
    stop = _Stop()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: stop.ask("now" if stop.how else "pause"))
    frames = Frames()
    # A child may be started before its job is known: what most jobs need is loaded meanwhile.
    with contextlib.suppress(Exception):
        door.get("merge")
    begin = _first(orders, frames)
    if begin is None:
        os._exit(0)
    _log_into(begin.log)
    threading.Thread(target=_listen, args=(orders, frames, stop), name="orders", daemon=True).start()
    last = _work(begin, door, stop, reports)
    sys.stdout.flush()
    sys.stderr.flush()
    _send(reports, last)
    os._exit(0)


class _Words(io.FileIO):
    """A log whose disk is full loses words, and costs no work."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data) or 0
        except OSError:
            return memoryview(data).nbytes


def _log_into(file: str) -> None:
    """Have what this process and its libraries say go into ``file``, or nowhere if that cannot be opened."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    try:
        log = os.open(file, flags, 0o600)
    except OSError as wrong:
        print(f"{file} cannot be opened: {wrong.strerror}", file=sys.stderr, flush=True)
        log = os.open(os.devnull, flags)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    sys.stdout, sys.stderr = (
        io.TextIOWrapper(
            io.BufferedWriter(_Words(descriptor, "w", closefd=False)),
            encoding="utf-8",
            errors="backslashreplace",
            line_buffering=True,
        )
        for descriptor in (1, 2)
    )


def _first(orders: int, frames: Frames) -> Begin | None:
    while data := os.read(orders, 65536):
        for body in frames.feed(data):
            return msgspec.msgpack.decode(body, type=Begin)
    return None


def _listen(orders: int, frames: Frames, stop: _Stop) -> None:
    """Hear orders until stdin ends; then the daemon is dead, and the job has a little time to reach a block's end."""
    data = b""  # an order may have come together with the first message
    while True:
        for body in frames.feed(data):
            order = msgspec.msgpack.decode(body, type=Orders)
            if isinstance(order, Halt):
                stop.ask(order.how)
        if not (data := os.read(orders, 65536)):
            break
    stop.ask("pause")
    time.sleep(ORPHAN_GRACE)
    print("the daemon is gone and this job did not stop in time", file=sys.stderr, flush=True)
    os._exit(1)


def _work(begin: Begin, door: Door[JobKind], stop: _Stop, reports: int) -> Answer:
    """Do what was ordered and return the last thing to say."""
    try:
        settings = msgspec.convert(begin.settings, Settings)
        if settings.jobs.nice:
            os.nice(settings.jobs.nice)
        kind = door.get(begin.kind)
        spec = msgspec.convert(begin.spec, kind.spec)
        context = Context(Path(begin.home), settings, begin.job)
        _confine(spec, context)
        if begin.act == "discard":
            if kind.discard is not None:
                kind.discard(spec, context)
            return Halted("discard")
        result = _run(kind.run(spec, context), stop, reports)
        if result is not None:
            return result
        if stop.how == "cancel":
            if kind.discard is not None:
                kind.discard(spec, context)
            return Halted("cancel")
        return Halted("pause")
    except AlloydError as error:
        return Failed(error.to_dict())
    except Exception as error:
        traceback.print_exc()
        confined = bool(begin.spec.get("roots"))
        return Failed(_foreign(error, begin.job, confined=confined).to_dict())


def _confine(spec: Any, context: Context) -> None:
    """Hold a confined job to its roots: what its spec names is looked at, then the kernel looks at what is opened."""
    roots = getattr(spec, "roots", ())
    if not roots:
        return
    from .confinement import hold_to
    from .service.roots import check

    check(spec, context.settings, context.home)
    if not hold_to(roots, home=context.home, settings=context.settings):
        print("this kernel has no Landlock: paths were checked, and are not looked at again", file=sys.stderr)


def _run(job: Generator[Report, None, None], stop: _Stop, reports: int) -> Finished | None:
    """Send what ``job`` yields; its result, or ``None`` when it was stopped."""
    finished: Finished | None = None
    held: Progress | None = None
    sent = 0.0
    try:
        for report in job:
            if isinstance(report, Finished):
                finished = report  # said last, when the job's own tidying is over
                continue
            if isinstance(report, Progress) and time.monotonic() - sent < TICK:
                held = report
            else:
                if held is not None and not isinstance(report, Progress):
                    _send(reports, held)
                held = None
                sent = time.monotonic() if isinstance(report, Progress) else sent
                _send(reports, report)
            if stop.how:
                if held is not None:
                    _send(reports, held)
                return None
    finally:
        job.close()
    if finished is None:
        raise RuntimeError("the job ended without a result")
    if held is not None:
        _send(reports, held)
    return finished


def _send(reports: int, message: Answer) -> None:
    """Send one report; when nobody reads any more, the job goes on to the end of its block and stops."""
    try:
        write_all(reports, frame(message))
    except BrokenPipeError:
        return


def _foreign(error: Exception, job: str, *, confined: bool = False) -> AlloydError:
    """An error that no part of alloyd foresaw, as one that can be shown."""
    if isinstance(error, PermissionError) and confined:
        return AccessDenied(
            f"{error.filename} may not be used: {error.strerror}",
            hint="It lies, perhaps by a link, outside the folders that this job may use, or its rights forbid it.",
            path=str(error.filename),
        )
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return DiskFull(
            f"no room is left: {error}", hint="Make room, then resume the job.", path=str(error.filename)
        )
    if isinstance(error, MemoryError):
        return AlloydError(
            "the job ran out of memory",
            hint=f"Give it less to do at once with --memory.{tight()}",
            job=job,
        )
    if isinstance(error, OSError) and error.strerror:
        return AlloydError(
            f"{error.strerror}: {error.filename}",
            hint=f"'alloy logs {job}' tells more.{tight()}",
            job=job,
        )
    return AlloydError(
        f"internal error: {type(error).__name__}: {error}",
        hint=f"'alloy logs {job}' shows where.{tight()}",
        job=job,
    )


if __name__ == "__main__":
    main()
