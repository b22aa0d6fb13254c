"""The process that talks to the network: CURVE and ZAP outside, an ordinary peer of the daemon's local sockets inside.

It is a process of its own so that nothing from the network reaches the daemon but whole requests of known keys, a few
at a time: what a peer does to this process's memory or to the library under it, it does to this process alone, which
the daemon starts again. It ends when its stdin does. Each request goes on with the sender's public key written over
``header.caller``; what the key may do is decided by the daemon, message by message.
"""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

import msgspec
import zmq
import zmq.auth.thread

from alloyd import wire
from alloyd.authorised_keys import AuthorisedKeys
from alloyd.errors import AlloydError, RateLimited, ServiceError
from alloyd.key_files import Pair, server_pair
from alloyd.paths import Home

from .access import RefusalLog
from .gateway_orders import Orders, Said
from .limits import TokenBuckets
from .log_file import begin

LARGEST_REQUEST: Final = 2**20
"""Bytes of one frame from a remote peer; a spec has at most 900,000."""
LARGEST_ANSWER: Final = 32 * 2**20
WAITING_REQUESTS: Final = 8
WAITING_ANSWERS: Final = 8
WAITING_EVENTS: Final = 200
"""Messages that wait for a slow peer; then requests stay with the peer, and answers and events are dropped."""
HANDSHAKE: Final = 5_000
"""Milliseconds in which a connection must have shown its key."""
BEAT: Final = 5_000
"""Milliseconds after which a silent connection is asked for a sign of life; after three it is closed."""
SPARE_FILES: Final = 4
"""Descriptors that this process needs now and then beside its connections."""
LOOK: Final = 0.5
"""Seconds between two looks at the list of keys."""

log = logging.getLogger("alloyd")


class Zap(zmq.auth.thread.ThreadAuthenticator):
    """ZeroMQ's own authenticator, in a thread of its own; lets in the keys of the list and nobody else."""

    def __init__(self, context: zmq.Context[Any], keys: AuthorisedKeys) -> None:
        super().__init__(context, log=logging.getLogger("alloyd.zap"))
        self._keys = keys
        self._refusals = RefusalLog()
        self._address = ""
        self.admitted: set[str] = set()
        """Every key that was ever let in: some of its connections may still be open."""
        self.configure_curve_callback("*", self)

    async def handle_zap_message(self, msg: list[bytes]) -> None:
        """Note where the peer is, for the log, and decide."""
        self._address = msg[3].decode("ascii", "replace") if len(msg) > 3 else ""
        await super().handle_zap_message(msg)

    def callback(self, domain: str, key: bytes) -> bool:
        """Whether the key (Z85) is let in. It never raises: that would end the thread, and with it every handshake."""
        text = key.decode("ascii", "replace")
        try:
            if self._keys.find(text) is not None:
                self.admitted.add(text)
                return True
            why = f"the key {text} is not authorized"
        except Exception as wrong:
            why = str(wrong)
        self._refusals.tell(self._address, f"its connection: {why}")
        return False


class Port:
    """One listening socket."""

    def __init__(self, context: zmq.Context[Any], kind: int, address: str, pair: Pair) -> None:
        self._context = context
        self._pair = pair
        self._kind = kind
        self._bound = False
        self.address = address
        self.socket = self._made()

    def _made(self) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = self._context.socket(self._kind)
        socket.curve_server = True
        socket.curve_publickey = self._pair.public.encode()
        socket.curve_secretkey = self._pair.secret.encode()
        socket.setsockopt(zmq.ZAP_DOMAIN, b"*")
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE)
        socket.setsockopt(zmq.HEARTBEAT_IVL, BEAT)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 3 * BEAT)
        socket.setsockopt(zmq.IPV6, 1 if "[" in self.address else 0)
        if self._kind == zmq.ROUTER:
            socket.setsockopt(zmq.MAXMSGSIZE, LARGEST_REQUEST)
            socket.setsockopt(zmq.RCVHWM, WAITING_REQUESTS)
            socket.setsockopt(zmq.SNDHWM, WAITING_ANSWERS)
            socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        else:
            socket.setsockopt(zmq.MAXMSGSIZE, 512)
            socket.setsockopt(zmq.SNDHWM, WAITING_EVENTS)
            socket.setsockopt(zmq.XPUB_WELCOME_MSG, b"welcome")
        return socket

    def listen(self) -> None:
        """Bind; a port of 0 is chosen by the system. Raises ZMQError."""
        self.socket.bind(self.address)
        self._bound = True
        address = self.socket.getsockopt(zmq.LAST_ENDPOINT)
        assert isinstance(address, bytes)
        self.address = address.rstrip(b"\0").decode()

    def renew(self) -> None:
        """Drop every peer; those that are still let in come back by themselves."""
        self.socket.close(0)
        self._bound = False
        self.socket = self._made()
        self.tend()

    def tend(self) -> None:
        """Listen again, as soon as the system gives the port back."""
        if not self._bound:
            with contextlib.suppress(zmq.ZMQError):
                self.listen()


class Gateway:
    """The loop between the network and the daemon."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        keys = Home(Path(orders.home)).keys
        self._keys = AuthorisedKeys(keys)
        self._refusals = RefusalLog()
        self._looked = 0.0
        self._files = 0
        self._buckets = TokenBuckets(orders.rate)
        self._session = wire.new_session()
        pair = server_pair(keys)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._zap = Zap(self._context, AuthorisedKeys(keys))
        self._zap.start()
        self.requests = Port(self._context, zmq.ROUTER, orders.listen, pair)
        self.events = Port(self._context, zmq.XPUB, orders.events, pair)
        self._inner = self._context.socket(zmq.DEALER)
        self._inner.setsockopt(zmq.LINGER, 0)
        self._inner.connect(orders.local_requests)
        self._news = self._context.socket(zmq.SUB)
        for topic in (b"job.", b"daemon."):
            self._news.subscribe(topic)
        self._news.connect(orders.local_events)

    def listen(self) -> None:
        """Bind both ports; events, where no address is given, on the port after that of requests."""
        for port in (self.requests, self.events):
            if port is self.events and not self._orders.events:
                host, _, number = self.requests.address.rpartition(":")
                port.address = f"{host}:{int(number) + 1}"
            try:
                port.listen()
            except zmq.ZMQError as wrong:
                raise ServiceError(
                    f"cannot listen on {port.address}: {wrong}",
                    hint="Is it this machine's address, and the port free? See [remote] listen.",
                    endpoint=port.address,
                ) from None

    def serve(self) -> None:
        """Serve until stdin ends."""
        while True:
            poller = zmq.Poller()
            for socket in (
                self.requests.socket,
                self.events.socket,
                self._inner,
                self._news,
            ):
                poller.register(socket, zmq.POLLIN)
            poller.register(0, zmq.POLLIN)
            ready = dict(poller.poll(int(1000 * LOOK)))
            if 0 in ready and not os.read(0, 4096):
                return
            if self._inner in ready:
                self._hand_back()
            if self.requests.socket in ready:
                self._hand_on()
            if self._news in ready:
                self._pass_news()
            if self.events.socket in ready:
                self.events.socket.recv()
            for port in (self.requests, self.events):
                port.tend()
            if time.monotonic() - self._looked >= LOOK:
                self._looked = time.monotonic()
                self._look_at_keys()
                self._look_at_connections()

    def _look_at_keys(self) -> None:
        """Drop the subscribers when a key was revoked: its next request is refused anyway, but events just flow."""
        revoked = self._zap.admitted - self._read_keys()
        if revoked:
            log.info("a key was revoked; every remote subscriber is asked for its key again")
            self._zap.admitted -= revoked
            self.events.renew()

    def limit_connections(self) -> None:
        """Let no more be open than there may be: beyond it peers wait for one to end, or for a handshake to fail.

        The library knows no such limit, so that it is one of the system's: a connection is a file descriptor.
        """
        self._files = len(os.listdir("/proc/self/fd")) + SPARE_FILES + 2 * self._orders.connections
        resource.setrlimit(resource.RLIMIT_NOFILE, (self._files, self._files))

    def _look_at_connections(self) -> None:
        try:
            full = len(os.listdir("/proc/self/fd")) >= self._files - 1
        except OSError:
            full = True
        if full:
            self._refusals.tell(
                "new connections", f"{2 * self._orders.connections} are open, as many as may be"
            )

    def _read_keys(self) -> frozenset[str]:
        try:
            return frozenset(each.key for each in self._keys.names().values())
        except ServiceError as wrong:
            self._refusals.tell("every remote key", wrong.message)
            return frozenset()

    def _hand_on(self) -> None:
        """Requests from the network: checked for form and rate, stamped, and passed to the daemon."""
        for _ in range(50):
            try:
                parts = self.requests.socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            peer = parts[0].bytes
            key = str(parts[-1].get("User-Id"))
            frames = [each.bytes for each in parts[1:]]
            header: wire.Header | None = None
            try:
                header = wire.read_header(frames)
                wait = self._buckets.wait(key)
                if wait:
                    rate = self._orders.rate
                    raise RateLimited(
                        f"your key asks more than {rate:g} times a second",
                        hint="Ask less often; events come by themselves.",
                        wait=round(wait, 3),
                    )
                stamped = msgspec.structs.replace(header, caller=key)
                frames[1] = msgspec.json.encode(stamped)
                self._inner.send_multipart([peer, *frames], zmq.NOBLOCK)
            except AlloydError as error:
                self._refusals.tell(self._name(key), str(error))
                self._answer(peer, wire.answer(header, self._session, error=error))
            except zmq.Again:
                busy = ServiceError("the daemon does not answer", hint="Try again in a moment.")
                self._answer(peer, wire.answer(header, self._session, error=busy))

    def _hand_back(self) -> None:
        for _ in range(50):
            try:
                peer, *frames = self._inner.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            if sum(map(len, frames)) > LARGEST_ANSWER:
                frames = wire.refit(
                    frames,
                    ServiceError(
                        f"the answer is larger than {LARGEST_ANSWER >> 20} MiB, which is too much for the network",
                        hint="Ask for less at a time.",
                    ),
                )
            self._answer(peer, frames)

    def _answer(self, peer: bytes, frames: Sequence[bytes]) -> None:
        """Answer a peer; one that has gone, or does not read, goes without."""
        with contextlib.suppress(zmq.ZMQError):
            self.requests.socket.send_multipart([peer, *frames], zmq.NOBLOCK)

    def _pass_news(self) -> None:
        for _ in range(200):
            try:
                frames = self._news.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            with contextlib.suppress(zmq.ZMQError):
                self.events.socket.send_multipart(frames, zmq.NOBLOCK)

    def _name(self, key: str) -> str:
        with contextlib.suppress(ServiceError):
            found = self._keys.find(key)
            if found is not None:
                return f"the key '{found[0]}'"
        return f"the key {key}"


def main() -> NoReturn:
    """Do as the one line on stdin says, then leave."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the daemon says when, by the end of stdin
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(0, 1)
        if not piece:
            os._exit(0)
        line += piece
    orders = msgspec.json.decode(line, type=Orders)
    begin(Home(Path(orders.home)), orders.daemon, "gateway")
    resource.setrlimit(resource.RLIMIT_AS, (orders.memory, orders.memory))
    try:
        gateway = Gateway(orders)
        gateway.listen()
        gateway.limit_connections()
    except AlloydError as error:
        _say(Said(error=error.to_dict()))
        os._exit(1)
    _say(Said(gateway.requests.address, gateway.events.address))
    gateway.serve()
    os._exit(0)


def _say(said: Said) -> None:
    os.write(1, msgspec.json.encode(said) + b"\n")


if __name__ == "__main__":
    sys.exit(main())
