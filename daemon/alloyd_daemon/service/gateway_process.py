"""Keeps the gateway alive beside the daemon: starts it, starts it again with growing pauses, ends it."""

from __future__ import annotations

import logging
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable

import msgspec

from alloyd.errors import AlloydError, ServiceError
from alloyd.key_files import server_pair
from alloyd.paths import Home
from alloyd.units import parse_size

from ..settings import Settings
from .gateway_orders import Orders, Said
from .pipe import write_all

COMMAND = (sys.executable, "-P", "-m", "alloyd_daemon.service.gateway")
READY = 20.0
LONGEST_PAUSE = 30.0
STEADY = 60.0
"""Seconds after which one that ends is started again as soon as the first was."""

log = logging.getLogger("alloyd")


class GatewayProcess:
    """The gateway of one daemon. Raises, at once, for what is wrong with keys or addresses."""

    def __init__(
        self,
        settings: Settings,
        home: Home,
        requests: str,
        events: str,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        try:
            server_pair(home.keys)
        except ServiceError as wrong:
            raise ServiceError(
                f"{settings.remote.listen} is open to the network and needs the server's own keys: {wrong.message}",
                hint="Make them with 'alloy keys new', let a client in with 'alloy keys authorize'.",
                endpoint=settings.remote.listen,
            ) from None
        self._orders = Orders(
            home=str(home.root),
            daemon=settings.daemon,
            listen=settings.remote.listen,
            events=settings.remote.events,
            local_requests=requests,
            local_events=events,
            rate=settings.remote.rate,
            connections=settings.remote.connections,
            memory=parse_size(settings.remote.memory),
        )
        self._clock = clock
        self._pause = 1.0
        self._again: float | None = None
        self._begun = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        self.said = Said()

    def start(self) -> Said:
        """Start it and wait until it listens. Raises AlloydError for why it does not."""
        self._begin()
        process = self._process
        assert process is not None
        assert process.stdout is not None
        if not select.select([process.stdout], [], [], READY)[0]:
            self.close()
            raise ServiceError(f"the gateway was not ready after {READY:.0f} s")
        said = self._hear(process)
        if said.error is not None:
            self.close()
            raise AlloydError.from_dict(said.error)
        # The ports that were chosen stay, whatever comes.
        self._orders = msgspec.structs.replace(self._orders, listen=said.requests, events=said.events)
        self.said = said
        return said

    def step(self) -> float:
        """Look after it; the seconds until it should be looked after again."""
        if self._process is not None and (status := self._process.poll()) is not None:
            if self._clock() - self._begun > STEADY:
                self._pause = 1.0
            log.error("the gateway ended with %d; it is started again in %g s", status, self._pause)
            self.close()
            self._again = self._clock() + self._pause
            self._pause = min(LONGEST_PAUSE, 2 * self._pause)
        if self._process is None and self._again is not None:
            left = self._again - self._clock()
            if left > 0:
                return left
            self._again = None
            try:
                self._begin()
            except OSError as wrong:  # the machine has no process to give, or this one died at once
                log.error("the gateway cannot be started: %s", wrong)
                self.close()
                self._again = self._clock() + self._pause
        return 1.0

    def close(self) -> None:
        """End it."""
        if self._process is not None:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.close()
            try:
                self._process.wait(2)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process.stdout.close()
            self._process = None

    def _begin(self) -> None:
        self._begun = self._clock()
        self._process = subprocess.Popen(
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env={**os.environ, "MALLOC_ARENA_MAX": "2"},
        )
        assert self._process.stdin is not None
        write_all(self._process.stdin.fileno(), msgspec.json.encode(self._orders) + b"\n")

    def _hear(self, process: subprocess.Popen[bytes]) -> Said:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            self.close()
            raise ServiceError("the gateway ended while it was started", hint="The daemon's log tells why.")
        return msgspec.json.decode(line, type=Said)
