"""A board is kept as the daemon's jobs are: through orders, bursts, pruning and the daemon's death."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from alloyd import AsyncClient
from alloyd.board import Board
from alloyd.watching import BURST, WAITING, Watching
from trial_daemon import PATIENCE, TrialDaemon, trial


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[TrialDaemon]:
    with TrialDaemon(tmp_path / "home") as found:
        yield found


class Seen:
    """A board that is kept, and waiting until it shows something."""

    def __init__(self, watching: Watching, client: AsyncClient) -> None:
        self.watching = watching
        self.client = client

    async def until(self, check: Callable[[Board], object]) -> None:
        version = -1
        async with asyncio.timeout(PATIENCE):
            while not check(self.watching.board):
                version = await self.watching.after(version)

    def states(self) -> dict[str, str]:
        return {job.id: job.state.value for job in self.watching.board.jobs()}


def seeing(daemon: TrialDaemon, test: Callable[[Seen], Awaitable[None]], *, ended: int = 5) -> None:
    async def run() -> None:
        async with (
            AsyncClient(home=daemon.home.root, autostart=False) as client,
            AsyncClient(home=daemon.home.root, autostart=False) as orders,
        ):
            watching = Watching(client, ended=ended)
            running = asyncio.ensure_future(watching.run())
            try:
                await test(Seen(watching, orders))
                assert not running.done()
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)

    asyncio.run(run())


def test_orders_are_seen(daemon: TrialDaemon, tmp_path: Path) -> None:
    async def test(seen: Seen) -> None:
        first = await seen.client.submit(trial(tmp_path / "first", 10_000, pause=0.05))
        second = await seen.client.submit(trial(tmp_path / "second", 3))
        third = await seen.client.submit(trial(tmp_path / "third", 3))
        await seen.until(lambda board: list(seen.states()) == [first.id, second.id, third.id])
        await seen.client.move(third.id, "top")
        await seen.until(lambda board: list(seen.states()) == [first.id, third.id, second.id])
        await seen.until(
            lambda board: (job := board.get(first.id)) and job.progress and job.progress.done > 3
        )
        await seen.client.pause(first.id)
        await seen.until(lambda board: seen.states()[first.id] == "paused")
        await seen.until(lambda board: seen.states()[second.id] == "done")
        await seen.client.cancel(first.id)
        await seen.until(lambda board: seen.states()[first.id] == "cancelled")

    seeing(daemon, test)


def test_what_jobs_wait_for_is_seen_though_no_event_tells_of_it(daemon: TrialDaemon, tmp_path: Path) -> None:
    async def test(seen: Seen) -> None:
        first = await seen.client.submit(trial(tmp_path / "first", 10_000, pause=0.05))
        second = await seen.client.submit(trial(tmp_path / "second", 10_000, pause=0.05))
        others = [await seen.client.submit(trial(tmp_path / f"other {each}")) for each in range(WAITING + 2)]

        def all_wait_for(board: Board, name: str) -> bool:
            return all((job := board.get(each.id)) and name in job.reason for each in others)

        await seen.until(lambda board: all_wait_for(board, first.id))
        await seen.client.cancel(first.id)
        await seen.until(lambda board: all_wait_for(board, second.id))

    seeing(daemon, test)


def test_of_a_long_queue_the_next_jobs_are_seen(
    daemon: TrialDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alloyd.watching.MOST", 4)

    async def test(seen: Seen) -> None:
        first = await seen.client.submit(trial(tmp_path / "first", 10_000, pause=0.05))
        await seen.until(lambda board: board.status is not None)
        jobs = [(await seen.client.submit(trial(tmp_path / f"out-{n}"))).id for n in range(BURST + 5)]
        await seen.until(lambda board: board.left_out == len(jobs) - 4)
        assert list(seen.states()) == [first.id, *jobs[:4]]
        for name in jobs[:3]:
            await seen.client.cancel(name)
        await seen.until(lambda board: list(seen.states())[1:5] == jobs[3:7])
        await seen.until(lambda board: board.left_out == len(jobs) - 7)

    seeing(daemon, test)


def test_a_burst_is_seen_whole_and_what_is_pruned_goes(daemon: TrialDaemon, tmp_path: Path) -> None:
    async def test(seen: Seen) -> None:
        await seen.until(lambda board: board.status is not None)
        jobs = [await seen.client.submit(trial(tmp_path / f"out-{n}", 1)) for n in range(BURST + 5)]
        await seen.until(lambda board: seen.states().get(jobs[-1].id) == "done")
        assert len(seen.states()) == 5, "only the newest of those that have ended"
        await seen.client.prune(older_than=0, keep=1)
        await seen.until(lambda board: list(seen.states()) == [jobs[-1].id])

    seeing(daemon, test)


def test_a_daemon_that_dies_is_away_until_the_next(daemon: TrialDaemon, tmp_path: Path) -> None:
    async def test(seen: Seen) -> None:
        job = await seen.client.submit(trial(tmp_path / "out", 10_000, pause=0.05))
        await seen.until(lambda board: seen.states().get(job.id) == "running")
        for _ in range(2):
            await asyncio.to_thread(daemon.kill_all)
            await seen.until(lambda board: board.away)
            assert list(seen.states()) == [job.id], "what was known stays in sight"
            await asyncio.to_thread(daemon.start)
            await seen.until(lambda board: not board.away and seen.states()[job.id] == "running")

    seeing(daemon, test)
