"""A child at work: its job, its process and pipes, what it was asked, and what it has said."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from alloyd.jobs import Finished, Job

from .pace import PaceMeter
from .pipe import Begin, Failed, Frames, Halt, Halted, frame, write_all

PIPE_SIZE: Final = 2**20
"""The default pipe holds 64 KiB; a recipe must fit without the daemon waiting for its child to read."""


@dataclass(slots=True, eq=False)
class Child:
    """A running child.

    ``begun`` is in Unix seconds, ``memory`` the private memory it may come to need, ``memory_kills`` how often the
    kernel had killed for want of memory when it began. ``furthest`` is the most progress that it has reported.
    One that is ``dead`` has been waited for; what became of its job is still to be written down, and ``deaths``, if not
    0, how often in a row that job's process died.
    """

    job: Job
    act: Literal["run", "discard"]
    log: Path
    process: subprocess.Popen[bytes]
    orders: int
    reports: int
    begun: float
    memory: int
    memory_kills: int
    frames: Frames = field(default_factory=Frames)
    meter: PaceMeter = field(default_factory=PaceMeter)
    asked: Literal["", "pause", "cancel", "requeue"] = ""
    said: Finished | Failed | Halted | None = None
    furthest: int = -1
    deadline: float | None = None
    dead: bool = False
    deaths: int = 0

    def tell(self, message: Begin | Halt) -> None:
        """Send an order; one that is dead already does not hear it."""
        self.send(frame(message))

    def send(self, order: bytes) -> None:
        """The same with an order that is bytes already."""
        if not self.dead:
            with contextlib.suppress(BrokenPipeError):
                write_all(self.orders, order)

    def kill(self) -> None:
        """End it, and whatever it has left running in its group, at once."""
        if not self.dead:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def lay_out(self) -> None:
        """It is over: end what it has left running in its group, wait for it, and let go of it."""
        self.kill()
        self.process.wait()
        os.close(self.orders)
        self.dead = True


def take_pipes(process: subprocess.Popen[bytes]) -> tuple[int, int]:
    """The descriptors for orders to and reports from a process, bare: the server polls them, and nothing may close
    them behind its back."""
    assert process.stdin is not None
    assert process.stdout is not None
    # One after the other: where a process could be started, one more descriptor is to be had.
    orders = os.dup(process.stdin.fileno())
    process.stdin.close()
    reports = os.dup(process.stdout.fileno())
    process.stdout.close()
    with contextlib.suppress(OSError):
        fcntl.fcntl(orders, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
    return orders, reports
