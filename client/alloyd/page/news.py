"""What open pages are told: streams of server-sent events about the queue, or about one job.

A message says how things are now, not what has changed since; whoever reads slowly gets fewer, and none that is late.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any, Final

from ..aio import AsyncClient
from ..jobs import Event
from ..watching import Watching
from . import queue
from .outcome import running

BEAT: Final = 10.0
"""Seconds without news after which a stream says that it is alive."""
FRAME: Final = 0.3
"""Seconds between two messages of a stream."""
MOST: Final = 4096
"""Jobs whose last event is kept in mind."""
_ALIVE: Final = b"event: alive\ndata:\n\n"


class News:
    """Run its ``watching``; ``client`` is that one's."""

    def __init__(self, client: AsyncClient) -> None:
        self.watching = Watching(client, ended=queue.ENDED, heard=self._hear)
        self._last: dict[str, int] = {}

    async def of_queue(self) -> AsyncGenerator[bytes, None]:
        """The daemon, the order of jobs, and the rows that are not as they were last told."""
        told: dict[str, Any] = {}
        last: dict[str, Any] = {}
        async for changed in self._changes():
            rows, more = queue.rows(self.watching.board)
            fresh = {name: each for name, each in rows.items() if told.get(name) != each}
            head = {**queue.summary(self.watching.board), "order": list(rows), "more": more}
            if fresh or head != last:
                told, last = rows, head
                yield _message({**head, "rows": fresh})
            elif not changed:
                yield _ALIVE

    async def of_job(self, name: str) -> AsyncGenerator[bytes, None]:
        """How far one job is, and the number of the last event that was heard of it."""
        last: dict[str, Any] = {}
        async for changed in self._changes():
            board = self.watching.board
            job = board.get(name)
            row = {**queue.row(job), "says": running(job)} if job is not None else None
            news = {"away": queue.summary(board)["away"], "seen": self._last.get(name, 0), "row": row}
            if news != last:
                last = news
                yield _message(news)
            elif not changed:
                yield _ALIVE

    async def _changes(self) -> AsyncGenerator[bool, None]:
        """True now and whenever the board changes, False when it has not for a while."""
        version = -1
        while True:
            try:
                async with asyncio.timeout(BEAT):
                    version = await self.watching.after(version)
            except TimeoutError:
                yield False
                continue
            yield True
            await asyncio.sleep(FRAME)

    def _hear(self, event: Event) -> None:
        if event.kind == "progress" or not event.job:
            return
        if len(self._last) >= MOST and event.job not in self._last:
            self._last.clear()  # open pages of these look again, and find what they have
        self._last[event.job] = event.seq


def _message(value: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(value, separators=(',', ':'))}\n\n".encode()
