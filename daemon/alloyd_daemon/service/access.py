"""Who asks, and whether they may: the caller of a message, the role that a request needs, the log of refusals."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from alloyd import wire
from alloyd.authorised_keys import AuthorisedKeys
from alloyd.errors import AccessDenied, ServiceError
from alloyd.roles import Role

from ..settings import Settings
from .roots import Bounds, Named

log = logging.getLogger("alloyd")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a request: the local user, or a remote key by its name."""

    name: str
    role: Role
    local: bool


LOCAL: Final = Caller("local", Role.ADMIN, True)


class Access:
    """What the keys of a home may do; read again whenever their list has changed, so a revoked key ends at once."""

    def __init__(self, keys: AuthorisedKeys) -> None:
        self._keys = keys

    def caller(self, header: wire.Header) -> Caller:
        """Who sent a message. AccessDenied for a key that is not, or no longer, let in."""
        if not header.caller:
            return LOCAL
        try:
            found = self._keys.find(header.caller)
        except ServiceError as wrong:
            raise AccessDenied(wrong.message, hint=wrong.hint) from None
        if found is None:
            raise AccessDenied(
                "your key is not let in, or was revoked",
                hint=f"On the daemon's machine: alloy keys authorize NAME '{header.caller}' --role read",
                key=header.caller,
            )
        name, rights = found
        return Caller(name, rights.role, False)

    def check(self, caller: Caller, kind: str) -> None:
        """AccessDenied unless ``caller`` may make a request of this kind."""
        self.require(caller, wire.ROLES.get(kind, Role.ADMIN), f"'{kind}'")

    def require(self, caller: Caller, least: Role, what: str) -> None:
        """AccessDenied unless ``caller`` has the role that ``what`` needs at the least."""
        if not caller.role.covers(least):
            raise AccessDenied(
                f"{what} needs the role {least.value}, and the key '{caller.name}' has {caller.role.value}",
                hint=f"On the daemon's machine: alloy keys authorize {caller.name} KEY --role {least.value}",
                key=caller.name,
                role=caller.role.value,
            )


def check_path(path: str, caller: Caller, settings: Settings, *, output: bool = False) -> None:
    """AccessDenied for a ``path`` outside of ``remote.roots`` that a remote ``caller`` names."""
    if not caller.local:
        Bounds.of(settings.remote_roots(), settings).check(Named("the path", str(Path(path)), output=output))


class RefusalLog:
    """Writes refusals to the log: a few of each peer in a row, then how many there were."""

    BURST = 5
    EVERY = 60.0
    MOST_PEERS = 1000

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[str, tuple[float, int]] = {}

    def tell(self, peer: str, what: str) -> None:
        """Log that ``peer`` was refused ``what``."""
        now = self._clock()
        since, count = self._seen.get(peer, (now, 0))
        if now - since >= self.EVERY:
            if count > self.BURST:
                log.warning("refused %s %d times more", peer, count - self.BURST)
            since, count = now, 0
        if len(self._seen) >= self.MOST_PEERS and peer not in self._seen:
            self._seen.clear()
        self._seen[peer] = (since, count + 1)
        if count < self.BURST:
            log.warning("refused %s: %s", peer, what)
