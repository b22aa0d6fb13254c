"""Readers of events whose daemon is away between two pages: nothing of what was read is missed or told twice."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from alloyd import AsyncClient, follow, wire
from alloyd.errors import DaemonUnreachable
from alloyd.jobs import JobState
from trial_daemon import TrialDaemon, eventually, trial

PAGE = 3


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TrialDaemon]:
    """One with many pages of events; its last job goes on for long."""
    monkeypatch.setattr(follow, "PAGE", PAGE)
    with TrialDaemon(tmp_path / "home") as running:
        with running.client() as client:
            for number in range(4):
                client.wait(client.submit(trial(tmp_path / str(number), 1)).id, timeout=20)
            long = client.submit(trial(tmp_path / "long", 900, pause=0.1))
            eventually(lambda: client.job(long.id).state is JobState.RUNNING)
        yield running


class Away:
    """Whether a request finds no daemon: once, when some pages of events were read."""

    def __init__(self) -> None:
        self.pages = 0

    def __call__(self, request: wire.Request) -> bool:
        self.pages += isinstance(request, wire.ListEvents)
        return self.pages == 3 and isinstance(request, wire.ListEvents)


def test_a_follower_misses_nothing_when_the_daemon_is_away_between_two_pages(
    daemon: TrialDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    with daemon.client() as client:
        last = client.status().last_event
        ask, away = client._ask, Away()

        def unsteady(request: wire.Request, kind: Any) -> Any:
            if away(request):
                raise DaemonUnreachable("it is away")
            return ask(request, kind)

        monkeypatch.setattr(client, "_ask", unsteady)
        read: list[int] = []
        for event in client.events(follow=True):
            read += [event.seq] if event.seq else []
            if event.seq == last:
                break
        assert read == list(range(1, last + 1))
        assert [event.seq for event in client.events()][:last] == read


def test_so_does_one_for_asyncio(daemon: TrialDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with AsyncClient(home=daemon.home.root, autostart=False) as client:
            last = (await client.status()).last_event
            ask, away = client._ask, Away()

            async def unsteady(request: wire.Request, kind: Any) -> Any:
                if away(request):
                    raise DaemonUnreachable("it is away")
                return await ask(request, kind)

            monkeypatch.setattr(client, "_ask", unsteady)
            read: list[int] = []
            async for event in client.events(follow=True):
                read += [event.seq] if event.seq else []
                if event.seq == last:
                    break
            assert read == list(range(1, last + 1))

    asyncio.run(asyncio.wait_for(run(), 30))
