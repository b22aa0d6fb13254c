"""``alloy ps --watch``: the queue, drawn again as it changes; lines or NDJSON where nobody can redraw."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import msgspec

from . import render
from .connecting import async_client_of, client_of, is_far
from .console import Console
from .jobs import Event, Job, JobState
from .near import near
from .render_live import describe
from .watching import Watching

FRAME: Final = 0.1
"""Seconds between two pictures at the least."""
EVERY: Final = 5.0
"""Seconds between two plain lines about a job that runs."""
ENDED: Final = 10
"""Ended jobs that stay in sight."""


class View(Protocol):
    """What shows a board."""

    def show(self, watching: Watching) -> None:
        """The board has changed, a second has passed, or the window has another size."""

    def hear(self, event: Event) -> None:
        """Something happened."""


def watch(options: argparse.Namespace, console: Console) -> int:
    """Show the queue until Ctrl-C."""
    # Starts a daemon, as every command does; the spectator below starts none.
    with client_of(options, autostart=not options.no_start) as client:
        client.hello()
    with _view(options, console) as view:
        jobs = asyncio.run(_watch(options, view))
    if not console.json and sys.stdout.isatty():
        short = str if is_far(options) else near
        for line in render.jobs_table(jobs, short=short) if jobs else ():
            console.show(line)
    console.result(jobs)
    return 0


async def _watch(options: argparse.Namespace, view: View) -> list[Job]:
    loop = asyncio.get_running_loop()
    over, resized = asyncio.Event(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, over.set)
    loop.add_signal_handler(signal.SIGWINCH, resized.set)
    async with async_client_of(options, autostart=False, timeout=5.0) as client:
        watching = Watching(client, ended=options.limit if options.all else ENDED, heard=view.hear)
        running = asyncio.ensure_future(watching.run())
        leaving = asyncio.ensure_future(over.wait())
        try:
            version = 0
            while not over.is_set():
                waits: list[asyncio.Future[Any]] = [
                    asyncio.ensure_future(each) for each in (watching.after(version), resized.wait())
                ]
                try:
                    await asyncio.wait(
                        [running, leaving, *waits], timeout=1.0, return_when=asyncio.FIRST_COMPLETED
                    )
                finally:
                    for each in waits:
                        each.cancel()
                if running.done():
                    running.result()
                version = watching.version
                resized.clear()
                view.show(watching)
                await asyncio.wait([leaving], timeout=FRAME)
        finally:
            for each in (running, leaving):
                each.cancel()
            await asyncio.gather(running, leaving, return_exceptions=True)
        return watching.board.jobs()


@contextlib.contextmanager
def _view(options: argparse.Namespace, console: Console) -> Iterator[View]:
    if console.json:
        yield _Records(console)
    elif sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        from rich.console import Console as Terminal
        from rich.live import Live

        with Live(console=Terminal(), screen=True, auto_refresh=False) as live:
            yield _Window(live, options.limit, str if is_far(options) else near)
    else:
        yield _Lines(console)


class _Window:
    """The whole window of a terminal, which is as it was when this ends."""

    def __init__(self, live: Any, most: int, short: Callable[[str], str]) -> None:
        self._live = live
        self._most = most
        self._short = short

    def show(self, watching: Watching) -> None:
        """Draw."""
        from .render_board import picture

        width, height = self._live.console.size
        now = datetime.now(UTC)
        shown = picture(
            watching.board, now=now, width=width, height=height, most=self._most, short=self._short
        )
        self._live.update(shown, refresh=True)

    def hear(self, event: Event) -> None:
        """What counts is on the board."""


class _Lines:
    """A line whenever a job has another state or reason, and now and then how far it is."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._told: dict[str, tuple[JobState, str]] = {}
        self._next: dict[str, float] = {}
        self._away = ""
        self._cut = False

    def show(self, watching: Watching) -> None:
        """Print what is new."""
        board = watching.board
        if self._cut != bool(board.left_out):
            self._cut = not self._cut
            self._say(
                "queue",
                f"{board.left_out:,} more wait, of which nothing is said yet" if self._cut else "all seen",
            )
        if board.away != self._away:
            self._away = board.away
            self._say("daemon", f"away: {board.away}" if board.away else "here again")
        jobs = board.jobs()
        self._told = {job.id: self._told[job.id] for job in jobs if job.id in self._told}
        self._next = {name: when for name, when in self._next.items() if name in self._told}
        now = asyncio.get_running_loop().time()
        for job in jobs:
            due = job.state is JobState.RUNNING and now >= self._next.get(job.id, 0.0)
            if self._told.get(job.id) != (job.state, job.reason):
                self._told[job.id] = job.state, job.reason
                why = "" if job.state is JobState.FAILED else job.reason
                said = filter(None, (job.state.value, why, render.what_of(job)))
                self._say(job.id, "  ".join(said))
            elif due and job.progress is not None:
                self._say(job.id, describe(msgspec.to_builtins(job.progress)))
            else:
                continue
            self._next[job.id] = now + EVERY

    def hear(self, event: Event) -> None:
        """What counts is on the board."""

    def _say(self, name: str, text: str) -> None:
        self._console.show(f"{datetime.now():%H:%M:%S}  {name:<12} {text}")


class _Records:
    """NDJSON: each job as it is and whenever it changes, ticks of progress, and whether the daemon is there."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._told: dict[str, Job] = {}
        self._away: str | None = None

    def show(self, watching: Watching) -> None:
        """Write what is new."""
        board = watching.board
        if board.away != self._away and (board.away or board.status is not None):
            self._away = board.away
            self._console.line("daemon", {"there": not board.away, "why": board.away})
        jobs = {job.id: job for job in board.jobs()}
        for name, job in jobs.items():
            # Progress has lines of its own.
            plain = msgspec.structs.replace(job, progress=None)
            if self._told.get(name) != plain:
                self._console.line("job", job)
            jobs[name] = plain
        self._told = jobs

    def hear(self, event: Event) -> None:
        """Pass a tick of progress on."""
        if event.kind == "progress":
            self._console.line("progress", event)
