"""HTTP/1.1 for few and close readers: h11 reads and writes it, this bounds what a peer can take.

A peer has ``PATIENCE`` seconds for a whole request and for each piece of an answer. Of ``MOST`` connections the oldest
that has shown no right to be here makes room for the next, so that strangers who hold theirs keep nobody out.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

import h11

MOST: Final = 64
PATIENCE: Final = 15.0
MOST_HEAD: Final = 16_384
MOST_BODY: Final = 4_096
PIECE: Final = 65_536
# h11 counts what is not yet a whole head: a larger piece could be one of any size.
READ: Final = 4_096


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked; names of headers in lower case, of one that comes twice the values joined by commas."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered: a body, or a stream of pieces without an end. ``trusted``: whoever asked may be here."""

    status: int
    body: bytes | AsyncGenerator[bytes, None] = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    trusted: bool = False


class Refused(Exception):
    """A request that is answered with a status and no more."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


Handler = Callable[[Request], Awaitable[Answer]]


class Server:
    """Answers by ``handle``; ``fallen`` is told of what it should not have raised."""

    def __init__(self, handle: Handler, fallen: Callable[[Exception], None]) -> None:
        self._handle = handle
        self._fallen = fallen
        # By age. A connection is trusted while it is given an answer that not everybody gets.
        self._open: dict[asyncio.Task[None], bool] = {}
        self._listening: asyncio.Server | None = None

    async def start(self, place: socket.socket) -> None:
        """Take connections from a bound socket."""
        self._listening = await asyncio.start_server(self._accept, sock=place, limit=PIECE, backlog=MOST)

    async def close(self) -> None:
        """End every connection."""
        assert self._listening is not None
        self._listening.close()
        ending = list(self._open)
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._open) >= MOST:
            stranger = next((each for each, trusted in self._open.items() if not trusted), None)
            if stranger is None:
                writer.transport.abort()
                return
            del self._open[stranger]
            stranger.cancel()
        self._open[task] = False
        try:
            await self._talk(task, reader, writer)
        except (OSError, TimeoutError, h11.ProtocolError, asyncio.CancelledError):
            pass  # it left, dawdled, or had to make room
        finally:
            self._open.pop(task, None)
            # Not close(): what a peer that reads nothing was to get would be kept for ever.
            writer.transport.abort()

    async def _talk(
        self, task: asyncio.Task[None], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while True:
            state = h11.Connection(h11.SERVER, max_incomplete_event_size=MOST_HEAD)
            try:
                async with asyncio.timeout(PATIENCE):
                    request = await _read(state, reader)
            except Refused as refused:
                await _write(state, reader, writer, _plain(refused.status))
                return await _part(reader, writer)
            if request is None:
                return None
            try:
                answer = await self._handle(request)
            except Exception as wrong:
                self._fallen(wrong)
                answer = _plain(500)
            if task in self._open:
                self._open[task] = answer.trusted
            await _write(state, reader, writer, answer)
            if task in self._open:
                self._open[task] = False
            if state.our_state is not h11.DONE or state.their_state is not h11.DONE:
                return await _part(reader, writer)
            if state.trailing_data[0]:
                return await _part(reader, writer)  # it did not wait for the answer


async def _read(state: h11.Connection, reader: asyncio.StreamReader) -> Request | None:
    """One whole request; ``None`` when no more come. Raises Refused."""
    head: h11.Request | None = None
    body = b""
    while True:
        try:
            event = state.next_event()
        except h11.RemoteProtocolError as wrong:
            raise Refused(wrong.error_status_hint) from None
        if event is h11.NEED_DATA:
            state.receive_data(await reader.read(READ))
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > MOST_BODY:
                raise Refused(413)
        elif isinstance(event, h11.EndOfMessage):
            assert head is not None
            headers: dict[str, str] = {}
            for name, value in head.headers:
                key, text = name.decode("ascii"), value.decode("latin-1")
                headers[key] = f"{headers[key]}, {text}" if key in headers else text
            return Request(head.method.decode("ascii"), head.target.decode("latin-1"), headers, body)
        else:
            return None


async def _write(
    state: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Answer
) -> None:
    headers = list(answer.headers.items())
    if isinstance(answer.body, bytes) and answer.status not in (204, 304):
        headers.append(("content-length", str(len(answer.body))))
    phrase = HTTPStatus(answer.status).phrase
    await _send(writer, state.send(h11.Response(status_code=answer.status, headers=headers, reason=phrase)))
    if isinstance(answer.body, bytes):
        for start in range(0, len(answer.body), PIECE):
            await _send(writer, state.send(h11.Data(data=answer.body[start : start + PIECE])))
    else:
        async with contextlib.aclosing(_as_long_as(answer.body, reader)) as pieces:
            async for piece in pieces:
                await _send(writer, state.send(h11.Data(data=piece)))
    await _send(writer, state.send(h11.EndOfMessage()))


async def _as_long_as(
    stream: AsyncGenerator[bytes, None], reader: asyncio.StreamReader
) -> AsyncGenerator[bytes, None]:
    """The pieces of ``stream`` until the peer leaves; one that asks for more meanwhile has left this stream."""
    leaving = asyncio.ensure_future(reader.read(1))
    async with contextlib.aclosing(stream):
        try:
            while True:
                piece = asyncio.ensure_future(anext(stream, b""))
                try:
                    await asyncio.wait([piece, leaving], return_when=asyncio.FIRST_COMPLETED)
                finally:
                    if not piece.done():
                        piece.cancel()
                        await asyncio.gather(piece, return_exceptions=True)
                if leaving.done() or not piece.result():
                    return
                yield piece.result()
        finally:
            leaving.cancel()
            await asyncio.gather(leaving, return_exceptions=True)


async def _send(writer: asyncio.StreamWriter, data: bytes | None) -> None:
    if data:
        writer.write(data)
        async with asyncio.timeout(PATIENCE):
            await writer.drain()


async def _part(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say that nothing more comes, and let the peer read what has: an aborted connection loses it."""
    writer.write_eof()
    async with asyncio.timeout(1.0):
        while await reader.read(PIECE):
            pass


def _plain(status: int) -> Answer:
    text = f"{status} {HTTPStatus(status).phrase}\n".encode()
    return Answer(status, text, {"content-type": "text/plain; charset=utf-8", "connection": "close"})
