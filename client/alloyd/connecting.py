"""How a client reaches a daemon on another machine: CURVE sockets, and why one stays silent."""

from __future__ import annotations

import argparse
import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import zmq
from zmq.utils.monitor import parse_monitor_message

from . import wire
from .errors import AccessDenied, DaemonUnreachable
from .key_files import Pair, read_pair
from .profiles import Profile, read

if TYPE_CHECKING:
    from .aio import AsyncClient
    from .api import Client

VARIABLE: Final = "ALLOYD_CONNECT"
BEAT: Final = 2_000
"""Milliseconds of silence after which the other side is asked for a sign of life; after three it is gone."""
FAILED: Final = 3
"""Handshakes that may fail without a reason before one is sure that no other will go well."""
_SEEN: Final = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_CONNECTED
)


class Remote:
    """A daemon that a profile tells of."""

    def __init__(self, name: str, profile: Profile, pair: Pair) -> None:
        self.name = name
        self.profile = profile
        self.pair = pair

    @property
    def connection(self) -> wire.Connection:
        """Where it listens; who it is, only its greeting tells."""
        return wire.Connection(0, "", wire.PROTOCOL, self.profile.requests, self.profile.events)

    def dress(self, socket: Any) -> None:
        """Give a socket the keys, before it connects."""
        socket.curve_serverkey = self.profile.server_key.encode()
        socket.curve_publickey = self.pair.public.encode()
        socket.curve_secretkey = self.pair.secret.encode()
        socket.setsockopt(zmq.HEARTBEAT_IVL, BEAT)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 3 * BEAT)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 2_000)
        socket.setsockopt(zmq.IPV6, 1 if "[" in self.profile.requests else 0)

    def refused(self) -> AccessDenied:
        """The error for a key that the daemon does not know."""
        return AccessDenied(
            f"the daemon at {self.profile.requests} does not let this key in",
            hint=f"On its machine: alloy keys authorize NAME '{self.pair.public}' --role submit",
            key=self.pair.public,
        )

    def silent(self, why: str) -> DaemonUnreachable:
        """The error for a daemon that does not answer."""
        return DaemonUnreachable(
            f"the daemon '{self.name}' at {self.profile.requests} does not answer: {why}",
            hint="Does it run, with [remote] listen in its configuration? Compare the address: alloy profile list",
            endpoint=self.profile.requests,
        )


def remote(connect: str | None, *, home: bool = False) -> Remote | None:
    """The daemon of the profile ``connect``, else of ``$ALLOYD_CONNECT`` unless a ``home`` was named; ``None`` is here.

    Raises
    ------
    UsageError, ServiceError
        There is no such profile, or its private key cannot be read.
    """
    name = connect if connect is not None or home else os.environ.get(VARIABLE, "")
    if not name:
        return None
    profile = read(name)
    return Remote(name, profile, read_pair(Path(profile.key)))


def client_of(options: argparse.Namespace, **more: Any) -> Client:
    """A client of the daemon that a command goes to: that of ``--connect``, else that of ``--home``."""
    from .api import Client

    return Client(connect=getattr(options, "connect", None), home=getattr(options, "home", None), **more)


def async_client_of(options: argparse.Namespace, **more: Any) -> AsyncClient:
    """The same for asyncio."""
    from .aio import AsyncClient

    return AsyncClient(connect=getattr(options, "connect", None), home=getattr(options, "home", None), **more)


def is_far(options: argparse.Namespace) -> bool:
    """Whether a command goes to another machine, where its paths are then."""
    home = getattr(options, "home", None) is not None or getattr(options, "no_daemon", False)
    return bool(getattr(options, "connect", None) or (not home and os.environ.get(VARIABLE)))


class Handshakes:
    """What becomes of a socket's handshakes, from its monitor; CURVE itself tells a stranger nothing."""

    def __init__(self, remote: Remote, socket: Any) -> None:
        self._remote = remote
        self._socket = socket
        address = f"inproc://handshakes-{id(self)}"
        socket.monitor(address, _SEEN)
        # A plain socket, whether the one it watches is for asyncio or not.
        self.monitor: zmq.Socket[bytes] = zmq.Context.shadow(socket.context.underlying).socket(zmq.PAIR)
        self.monitor.connect(address)
        self._failed = 0
        self._met = False
        self._well = 0

    def take(self, frames: list[bytes]) -> None:
        """One message of the monitor.

        Raises
        ------
        AccessDenied
            The daemon said that it does not let the key in.
        DaemonUnreachable
            Whoever listens there ends every handshake: the server's key is another one.
        """
        event = parse_monitor_message(frames)["event"]
        if event == zmq.EVENT_CONNECTED:
            self._met = True
        elif event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self._well += 1
            self._failed = 0
        elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            raise self._remote.refused()
        else:
            self._failed += 1
            if self._failed >= FAILED:
                raise self.silent()

    def look(self) -> bool:
        """Take what has come; whether the connection was made anew since, so that what was asked may be lost."""
        before = self._well
        while self.monitor.poll(0):
            self.take(self.monitor.recv_multipart())
        return self._well > max(before, 1)

    def silent(self) -> DaemonUnreachable:
        """Why nothing comes, as far as one can know."""
        if self._failed:
            why = (
                "it ends the handshake. Either its key is not the server key of the profile, "
                "or it is no daemon of alloyd, or it does not know your key"
            )
        elif self._well:
            why = "it was there, and has not answered in time"
        elif self._met:
            why = "it takes the connection and then says nothing: the server key may be wrong, or your key unknown"
        else:
            why = "nothing listens there, or a firewall is between"
        return self._remote.silent(why)

    def close(self) -> None:
        """Let go of the monitor."""
        with contextlib.suppress(zmq.ZMQError):
            self._socket.monitor(None, 0)
        self.monitor.close(0)
