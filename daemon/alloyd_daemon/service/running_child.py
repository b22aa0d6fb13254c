"""A child at work: its job, its process and pipes, what it was asked, and what it has said."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
from dataclasses import dataclass, field
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
    """

    job: Job
    act: Literal["run", "discard"]
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

    def tell(self, message: Begin | Halt) -> None:
        """Send an order; one that is dead already does not hear it."""
        self.send(frame(message))

    def send(self, order: bytes) -> None:
        """The same with an order that is bytes already."""
        with contextlib.suppress(BrokenPipeError):
            write_all(self.orders, order)

    def kill(self) -> None:
        """End it, and whatever it has left running in its group, at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)


def take_pipes(process: subprocess.Popen[bytes]) -> tuple[int, int]:
    """The descriptors for orders to and reports from a process, bare: the server polls them, and nothing may close
    them behind its back."""
    assert process.stdin is not None
    assert process.stdout is not None
    orders, reports = os.dup(process.stdin.fileno()), os.dup(process.stdout.fileno())
    process.stdin.close()
    process.stdout.close()
    with contextlib.suppress(OSError):
        fcntl.fcntl(orders, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
    return orders, reports
