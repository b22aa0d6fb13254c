"""Follows all events of a daemon, however often it dies, with a client of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from alloyd import Client
from alloyd.errors import AlloydError
from alloyd.jobs import Event

from .story import Told, told


class Ear(threading.Thread):
    """What it hears goes into ``heard`` and to those whom it is to ``tell``; what breaks, into ``broken``.

    Once ``over`` is set it starts no daemon in the place of one that stops.
    """

    def __init__(self, home: Path, tell: Sequence[Callable[[Event], None]] = ()) -> None:
        super().__init__(daemon=True)
        self._home = home
        self._tell = tell
        self.heard: list[Told] = []
        self.broken: list[str] = []
        self.over = False

    def run(self) -> None:
        while not self.over:
            last = self.heard[-1].seq if self.heard else 0
            try:
                with Client(home=self._home) as client:
                    for event in client.events(since=last, follow=True):
                        if event.seq:
                            self.heard.append(told(event.seq, event.job, event.kind, event.body))
                            for each in self._tell:
                                each(event)
            except AlloydError as wrong:
                self.broken.append(f"{wrong.code}: {wrong.message}")
                time.sleep(0.2)

    def hears(self, last: int, seconds: float = 60.0) -> None:
        """Wait until event ``last`` is in, or too long."""
        deadline = time.monotonic() + seconds
        while (not self.heard or self.heard[-1].seq < last) and time.monotonic() < deadline:
            time.sleep(0.05)
