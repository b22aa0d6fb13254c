"""Keeps a board as the daemon's jobs are: follows events, and comes back after the daemon was away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from .aio import AsyncClient
from .board import ENDED, LIVING, Board
from .errors import JobNotFound, ServiceError
from .jobs import Event, JobState

MOST: Final = 1000
"""Jobs of one state that are kept; of a longer queue the first ones."""
BURST: Final = 20
"""Of so many changed jobs each is asked for; of more, all jobs at once."""
WAITING: Final = 10
"""Of so many jobs that wait it is asked at every look what they wait for, in turn: that changes without an event."""
LOOK: Final = 1.0
"""Seconds from one look at the daemon to the next."""
PAUSE: Final = 0.05
"""Seconds in which changes are gathered."""


class Watching:
    """``run`` it as a task; whoever draws awaits :meth:`after`. ``heard`` is told of every event.

    Its client should start no daemon: whoever stops one does not want a spectator to start the next.
    """

    def __init__(
        self, client: AsyncClient, *, ended: int, heard: Callable[[Event], None] = lambda event: None
    ) -> None:
        self.board = Board(ended=ended, waiting=MOST)
        self.version = 0
        self._client = client
        self._ended = ended
        self._heard = heard
        self._changed = asyncio.Event()
        self._stale: set[str] = set()
        self._asked = asyncio.Event()

    async def after(self, version: int) -> int:
        """The board's version once it is another than ``version``."""
        while self.version == version:
            await self._changed.wait()
        return self.version

    async def run(self) -> None:
        """Never ends by itself."""
        while True:
            try:
                await self._keep()
            except ServiceError as gone:
                self.board.away = gone.message
                self._tell()
                await asyncio.sleep(LOOK / 2)

    async def _keep(self) -> None:
        """Follow one daemon; ends with a ServiceError."""
        status = await self._client.status()
        await self._fill()
        self.board.status, self.board.away = status, ""
        self._tell()
        await _first_failure(self._follow(status.last_event), self._look(), self._refresh())

    async def _follow(self, since: int) -> None:
        async for event in self._client.events(since=since, follow=True):
            self._heard(event)
            if event.kind == "progress":
                if self.board.tick(event):
                    self._tell()
            elif event.job:
                self._stale.add(event.job)
                self._asked.set()
            elif event.body.get("what") == "pruned":
                self._stale.update(job.id for job in self.board.jobs() if job.state.ended)
                self._asked.set()

    async def _look(self) -> None:
        """Ask how the daemon is: a dead one is silent, and its followers would wait for long."""
        turn = 0
        while True:
            await asyncio.sleep(LOOK)
            self.board.status = await self._client.status()
            waiting = [job.id for job in self.board.jobs() if job.state is JobState.QUEUED]
            self._stale.update(waiting[turn : turn + WAITING])
            if self._stale or self.board.thin:
                self._asked.set()
            turn = turn + WAITING if turn + WAITING < len(waiting) else 0
            self._tell()

    async def _refresh(self) -> None:
        """Fetch jobs that changed, many changes at a time."""
        while True:
            await self._asked.wait()
            await asyncio.sleep(PAUSE)
            self._asked.clear()
            names, self._stale = self._stale, set()
            if len(names) > BURST or self.board.thin:
                await self._fill()
            else:
                for name in sorted(names):
                    try:
                        self.board.put(await self._client.job(name))
                    except JobNotFound:
                        self.board.drop(name)
            self._tell()

    async def _fill(self) -> None:
        at_work = [state for state in LIVING if state is not JobState.QUEUED]
        found = [job for state in at_work for job in await self._client.jobs((state,), limit=MOST)]
        waiting = await self._client.jobs((JobState.QUEUED,), limit=MOST, order="next")
        ended = await self._client.jobs(ENDED, limit=self._ended)
        # A job that changed its group between two answers is put right by the event that told of it.
        self.board.fill([*found, *waiting, *ended], cut=len(waiting) >= MOST)

    def _tell(self) -> None:
        self.version += 1
        self._changed.set()
        self._changed = asyncio.Event()


async def _first_failure(*work: Coroutine[Any, Any, None]) -> None:
    """Run all of ``work`` until one fails; raises what that raised, when the others have ended too."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for each in done:
            each.result()
    finally:
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
