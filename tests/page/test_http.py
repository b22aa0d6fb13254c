"""The HTTP server: what peers may send, how long they may take, and how many there may be."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable

import pytest

from alloyd.page import http
from alloyd.page.http import Answer, Request, Server
from trial_daemon import PATIENCE as LONG

GET = b"GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
BIG = 32_000_000


class Peer:
    """One connection to the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def head(self) -> bytes:
        async with asyncio.timeout(LONG):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def rest(self) -> bytes:
        async with asyncio.timeout(LONG):
            with contextlib.suppress(ConnectionError):
                return await self.reader.read()
        return b""

    async def ask(self, path: bytes) -> bytes:
        self.send(GET % path)
        head = await self.head()
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        return head + await self.reader.readexactly(length)


class Ground:
    """A running server with a few answers, and peers of it."""

    def __init__(self) -> None:
        self.fallen: list[Exception] = []
        self.ended = 0
        self.server = Server(self.handle, self.fallen.append)
        self.port = 0
        self.peers: list[Peer] = []

    async def handle(self, request: Request) -> Answer:
        if request.target == "/bug":
            raise ZeroDivisionError
        if request.target == "/big":
            return Answer(200, b"x" * BIG)
        if request.target == "/stream":
            return Answer(200, self.stream(0.02), trusted=True)
        if request.target == "/quiet":
            return Answer(200, self.stream(600.0), trusted=True)
        return Answer(200, f"{request.method} {request.target} ".encode() + request.body)

    async def stream(self, pause: float) -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield b"piece\n"
                await asyncio.sleep(pause)
        finally:
            self.ended += 1

    async def peer(self) -> Peer:
        peer = Peer(*await asyncio.open_connection("127.0.0.1", self.port))
        self.peers.append(peer)
        return peer


def with_server(test: Callable[[Ground], Awaitable[None]]) -> Ground:
    """Run ``test`` beside a server."""

    async def run(ground: Ground) -> None:
        place = socket.create_server(("127.0.0.1", 0))
        ground.port = place.getsockname()[1]
        await ground.server.start(place)
        try:
            await test(ground)
        finally:
            for peer in ground.peers:
                peer.writer.transport.abort()
            await ground.server.close()
        assert not ground.server._open

    ground = Ground()
    asyncio.run(run(ground))
    return ground


async def until(check: Callable[[], object]) -> None:
    async with asyncio.timeout(LONG):
        while not check():
            await asyncio.sleep(0.01)


def test_one_connection_asks_again_and_again() -> None:
    async def test(ground: Ground) -> None:
        peer = await ground.peer()
        for path in (b"/one", b"/two?x=%41"):
            assert (await peer.ask(path)).endswith(b"GET %s " % path)
        peer.send(
            b"POST /three HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        )
        assert b"200 OK" in await peer.head()
        assert await peer.reader.readexactly(15) == b"POST /three abc"
        peer.writer.write_eof()
        assert await peer.rest() == b""

    with_server(test)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nNo colon\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 30_000 + b"\r\n\r\n", b"431"),
        (b"GET /" + b"x" * 20_000, b"431"),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 4_000, b"431"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n" + b"x" * 5000, b"413"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", b"501"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"400"),
    ],
)
def test_what_is_no_request_is_refused_and_the_connection_ended(sent: bytes, status: bytes) -> None:
    async def test(ground: Ground) -> None:
        peer = await ground.peer()
        peer.send(sent)
        assert (await peer.head()).startswith(b"HTTP/1.1 " + status)
        peer.writer.write_eof()
        await peer.rest()
        await until(lambda: not ground.server._open)

    assert with_server(test).fallen == []


def test_a_bug_is_answered_and_told() -> None:
    async def test(ground: Ground) -> None:
        peer = await ground.peer()
        peer.send(GET % b"/bug")
        assert b" 500 " in await peer.head()

    assert [type(each) for each in with_server(test).fallen] == [ZeroDivisionError]


def test_requests_that_do_not_wait_for_answers_get_one() -> None:
    async def test(ground: Ground) -> None:
        peer = await ground.peer()
        peer.send(GET % b"/one" + GET % b"/two")
        assert (await peer.rest()).count(b"HTTP/1.1 200") == 1

    with_server(test)


def test_slow_and_silent_peers_keep_nobody_out() -> None:
    async def test(ground: Ground) -> None:
        stream = await ground.peer()
        stream.send(GET % b"/stream")
        await stream.head()
        for _ in range(3 * http.MOST):
            peer = await ground.peer()
            peer.send(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-")  # and nothing more
            assert len(ground.server._open) <= http.MOST
        assert b"GET /me " in await (await ground.peer()).ask(b"/me")
        await until(lambda: len(ground.server._open) <= http.MOST)
        assert b"piece" in await stream.reader.readline() + await stream.reader.readline()
        assert ground.ended == 0, "who may be here need not make room"

    with_server(test)


def test_a_hundred_connections_that_may_all_be_here_are_too_many() -> None:
    async def test(ground: Ground) -> None:
        peers = [await ground.peer() for _ in range(100)]
        for peer in peers:
            with contextlib.suppress(ConnectionError):
                peer.send(GET % b"/stream")
        heads = await asyncio.gather(*(peer.head() for peer in peers), return_exceptions=True)
        served = [each for each in heads if isinstance(each, bytes)]
        assert 0 < len(served) <= http.MOST
        assert len(ground.server._open) <= http.MOST

    ground = with_server(test)
    assert ground.ended == 0 or ground.ended <= http.MOST


def test_a_request_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "PATIENCE", 0.2)

    async def test(ground: Ground) -> None:
        peer = await ground.peer()
        peer.send(b"GET / HTTP/1.1\r\nX")
        assert await peer.rest() == b""

    with_server(test)


def test_an_answer_that_nobody_reads_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "PATIENCE", 2.0)  # the other one's time, too

    async def test(ground: Ground) -> None:
        reader = await ground.peer()
        reader.writer.transport.pause_reading()  # type: ignore[attr-defined]
        reader.send(GET % b"/big")
        other = await ground.peer()
        assert b"GET /me " in await other.ask(b"/me"), "while the first one's answer waits"
        await until(lambda: not ground.server._open)

    with_server(test)


@pytest.mark.parametrize("path", [b"/stream", b"/quiet"])
def test_a_stream_ends_with_its_reader(path: bytes) -> None:
    async def test(ground: Ground) -> None:
        peer = await ground.peer()
        peer.send(GET % path)
        await peer.head()
        peer.writer.close()
        await until(lambda: ground.ended == 1)
        await until(lambda: not ground.server._open)

    with_server(test)
