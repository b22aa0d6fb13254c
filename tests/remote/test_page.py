"""The live page of a daemon elsewhere: it shows what the key may see, and orders what it may order."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest

from alloyd import AsyncClient
from alloyd.page.gate import Gate
from alloyd.page.http import Answer, Request
from alloyd.page.server import Site
from alloyd.roles import Role
from extras import need
from remote.conftest import Far
from trial_daemon import PATIENCE, trial

need("page", "plotly", "h11")

GATE = Gate("t" * 43)
Ask = Callable[[str, str], Awaitable[Answer]]


def looking(far: Far, name: str, test: Callable[[Site, Ask], Awaitable[None]]) -> None:
    async def run() -> None:
        async with AsyncClient(connect=name, autostart=False, timeout=PATIENCE) as client:
            site = Site(GATE, client, lambda: far.client(name, autostart=False))
            watching = asyncio.ensure_future(site.news.watching.run())

            async def ask(method: str, path: str) -> Answer:
                headers = {"host": "localhost", "authorization": f"Bearer {'t' * 43}"}
                return await site.handle(Request(method, path, headers))

            try:
                await test(site, ask)
            finally:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)
                site.close()

    asyncio.run(run())


@pytest.mark.parametrize("role", [Role.READ, Role.SUBMIT])
def test_a_page_shows_and_orders_what_the_key_may(role: Role, far: Far) -> None:
    far.key("laptop", role)
    with far.daemon.client() as client:
        job = client.submit(trial(far.root / "out", 10_000, pause=0.05))

    async def test(site: Site, ask: Ask) -> None:
        stream = site.news.of_queue()
        async with asyncio.timeout(PATIENCE):
            async for piece in stream:
                if f'"{job.id}"'.encode() in piece:
                    news = json.loads(piece.removeprefix(b"data: "))
                    break
        await stream.aclose()
        assert news["away"] == ""
        page = await ask("GET", f"/jobs/{job.id}")
        assert isinstance(page.body, bytes)
        assert (page.status, job.id.encode() in page.body) == (200, True)
        ordered = await ask("POST", f"/jobs/{job.id}/cancel")
        assert ordered.status == (403 if role is Role.READ else 200), ordered.body
        assert (await ask("GET", "/readyz")).status == 200

    looking(far, "laptop", test)
