"""What systemd is told of a daemon that it runs (sd_notify): ready, stopping, how it stands, and that it turns."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, MutableMapping


class Notifier:
    """Speaks to ``$NOTIFY_SOCKET``; without one it does nothing.

    The variables are taken out of ``environ``, so that no child speaks in the daemon's name.
    """

    def __init__(
        self,
        environ: MutableMapping[str, str] = os.environ,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._address = environ.pop("NOTIFY_SOCKET", "")
        meant = environ.pop("WATCHDOG_PID", "") in ("", str(os.getpid()))
        limit = environ.pop("WATCHDOG_USEC", "")
        # Twice as often as asked, so that one late turn of the loop is no death.
        self._every = int(limit) / 2e6 if meant and limit.isdigit() and int(limit) else None
        self._fed = clock()
        self._status = ""

    @property
    def patience(self) -> float:
        """The most seconds that the loop may sleep."""
        return float("inf") if self._every is None else self._every / 2

    def ready(self) -> None:
        """The daemon serves."""
        self._send(f"READY=1\nMAINPID={os.getpid()}")

    def stopping(self) -> None:
        """The daemon has begun to stop."""
        self._send("STOPPING=1")

    def turn(self, status: str) -> None:
        """The loop has turned once: feed the watchdog when it is time, and say how the daemon stands when that changed.

        Called from the loop and nowhere else, so that a daemon that hangs is not fed.
        """
        if self._every is not None and self._clock() - self._fed >= self._every:
            self._fed = self._clock()
            self._send("WATCHDOG=1")
        if status != self._status:
            self._status = status
            self._send(f"STATUS={status}")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.setblocking(False)
            channel.sendto(message.encode(), address)
