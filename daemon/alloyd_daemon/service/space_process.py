"""The process that looks at the disk, as the daemon's loop keeps it: given an order, waited for, never for ever."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from typing import IO, Any, Final

import msgspec

from alloyd.errors import AlloydError, ServiceError
from alloyd.paths import Home

from ..settings import Settings
from ..space.orders import Answer, Clear, Cleared, Failed, Look, Orders, Seen, Weigh, Weighed

COMMAND: Final = (sys.executable, "-P", "-m", "alloyd_daemon.space")
LONGEST: Final = 3600.0
"""Seconds after which a disk that does not answer is given up."""
LOOK_AGAIN: Final = 0.02

Asking = Generator[float, None, Any]
"""Something that takes turns in the loop: it yields the seconds after which it wants the next one."""


class SpaceProcess:
    """Starts the process anew for each order; one at a time."""

    def __init__(self, home: Home, settings: Settings, *, command: Sequence[str] = COMMAND) -> None:
        self._home = home
        self._settings = settings
        self._command = tuple(command)
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, order: Look | Weigh | Clear) -> Generator[float, None, Seen | Weighed | Cleared]:
        """Carry out ``order``; the answer is what is returned.

        Raises
        ------
        ServiceError
            The process died, or a disk has not answered for an hour.
        """
        orders = msgspec.json.encode(Orders(str(self._home.root), self._settings, order))
        begun = time.monotonic()
        with _nameless() as said, _nameless() as asked:
            asked.write(orders)
            asked.flush()
            try:
                self._process = subprocess.Popen(
                    [*self._command, str(asked.fileno())],
                    stdin=subprocess.PIPE,
                    stdout=said,
                    pass_fds=[asked.fileno()],
                    process_group=0,
                )
            except OSError as wrong:
                raise ServiceError(f"no process could be started to look at the disk: {wrong}") from wrong
            try:
                while self._process.poll() is None:
                    if time.monotonic() - begun > LONGEST:
                        raise ServiceError(
                            f"a disk has not answered for {LONGEST:.0f} s",
                            hint="Is one of those that jobs wrote to gone? 'alloy ps --all' names them.",
                        )
                    yield LOOK_AGAIN
                status = self._process.returncode
            finally:
                self.stop()
            said.seek(0)
            try:
                answer: Answer = msgspec.json.decode(said.read(), type=Answer)
            except msgspec.DecodeError:
                raise ServiceError(
                    f"the process that looks at the disk ended with status {status}",
                    hint="The daemon's log tells more; try again.",
                ) from None
        if isinstance(answer, Failed):
            raise AlloydError.from_dict(answer.error)
        return answer

    def stop(self) -> None:
        """End the process; what it was removing is removed by the next one."""
        if self._process is None:
            return
        assert self._process.stdin is not None
        self._process.stdin.close()
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        # One that hangs on a disk that is gone dies when the disk comes back; it is not waited for.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
        self._process = None


def _nameless() -> IO[bytes]:
    """A file without a name; in memory where there are such, for the disk may be full."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("alloyd"), "w+b")
    return tempfile.TemporaryFile()
