"""`alloy ui`: the queue and every job's page, live, for the one user of this machine who has the token."""

from __future__ import annotations

import asyncio
import gzip
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Final
from urllib.parse import parse_qs

from .. import health
from ..aio import AsyncClient
from ..api import Client
from ..errors import AccessDenied, AlloydError, JobNotFound, ServiceError
from ..foreign import printable
from . import queue
from .document import document
from .enter import enter
from .gate import Gate
from .http import Answer, Request
from .news import News
from .parts import Head, Section, Words
from .sections import head, sections
from .served import served
from .story import gather

ORDERS: Final = ("cancel", "pause", "resume", "retry")
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
ALWAYS: Final = {
    "content-security-policy": POLICY,
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
_JOB: Final = re.compile(r"/jobs/((?:[a-z_]{1,20}-)?[0-9]{1,18})(?:/([a-z]{1,10}))?")
_STATUS: Final = ((JobNotFound, 404), (AccessDenied, 403), (ServiceError, 503), (AlloydError, 409))


class Site:
    """Every address of the page. Neither ``client`` nor what ``spare`` makes should start a daemon."""

    def __init__(self, gate: Gate, client: AsyncClient, spare: Callable[[], Client]) -> None:
        self.news = News(client)
        self._gate = gate
        self._client = client
        self._spare = spare
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="page")

    def close(self) -> None:
        """Let go of the threads."""
        self._threads.shutdown(cancel_futures=True)

    async def handle(self, request: Request) -> Answer:
        """The answer to any request; what nobody may see is not even looked for."""
        try:
            answer = await self._answer(request)
        except AlloydError as wrong:
            status = next(each for kind, each in _STATUS if isinstance(wrong, kind))
            answer = _text(status, wrong.message)
        return replace(answer, headers={**ALWAYS, **answer.headers})

    async def _answer(self, request: Request) -> Answer:
        if not self._gate.near(request):
            return _text(403, "this page is at http://127.0.0.1 and http://localhost only")
        path, _, query = request.target.partition("?")
        if request.method == "POST":
            return await self._order(request, path)
        if request.method != "GET":
            return replace(_text(405, "only GET and POST"), headers={"allow": "GET, POST"})
        if not self._gate.knows(request):
            return enter()
        return replace(await self._get(path, query, request), trusted=True)

    async def _get(self, path: str, query: str, request: Request) -> Answer:
        answer: Answer | None = None
        job = _JOB.fullmatch(path)
        if path == "/":
            answer = _html(200, queue.page(self._gate.order))
        elif path == "/events":
            named = parse_qs(query).get("job", [""])[0]
            stream = self.news.of_job(named) if named else self.news.of_queue()
            answer = Answer(200, stream, {"content-type": "text/event-stream"})
        elif path == "/metrics":
            text = await self._client.metrics()
            answer = Answer(200, text.encode(), {"content-type": "text/plain; version=0.0.4; charset=utf-8"})
        elif path in ("/healthz", "/readyz"):
            well, said = await self._apart(health.live if path == "/healthz" else health.ready)
            answer = _text(200 if well else 503, said)
        elif path.startswith("/assets/"):
            answer = await asyncio.to_thread(served, path.removeprefix("/assets/"), request)
        elif job is not None and job[2] is None:
            answer = await self._apart(
                _job_page, job[1], "gzip" in request.headers.get("accept-encoding", "")
            )
        return answer or _text(404, "there is no such page")

    async def _order(self, request: Request, path: str) -> Answer:
        if path == "/enter":
            if not self._gate.of_itself(request):
                return _text(403, "only the page itself may ask for this")
            if not self._gate.bears(request):
                return _text(401, "this is not the page's token")
            return Answer(204, b"", {"set-cookie": self._gate.cookie}, trusted=True)
        if not self._gate.knows(request):
            return _text(401, "this needs the page's token")
        if not self._gate.orders(request):
            return _text(403, "only the page itself may ask for this")
        job = _JOB.fullmatch(path)
        if job is None or job[2] not in ORDERS:
            return _text(404, "there is no such order")
        now = await getattr(self._client, job[2])(job[1])
        return replace(_text(200, f"{now.id} {now.state.value}"), trusted=True)

    async def _apart(self, what: Callable[..., Any], *words: Any) -> Any:
        """Run ``what`` with a client of its own in a thread, where it may take its time."""

        def run() -> Any:
            with self._spare() as client:
                return what(client, *words)

        return await asyncio.get_running_loop().run_in_executor(self._threads, run)


def _job_page(client: Client, name: str, packed: bool) -> Answer:
    """A job's page, or one that says why there is none; ``packed``: it is taken often, through tunnels too."""
    answer = _html(*_told(client, name))
    if not packed:
        return answer
    assert isinstance(answer.body, bytes)
    headers = {**answer.headers, "content-encoding": "gzip", "vary": "accept-encoding"}
    return replace(answer, body=gzip.compress(answer.body, 3), headers=headers)


def _told(client: Client, name: str) -> tuple[int, str]:
    try:
        story = gather(client, name)
    except (JobNotFound, ServiceError) as wrong:
        status = 404 if isinstance(wrong, JobNotFound) else 503
        said = Words([each for each in (wrong.message, wrong.hint) if each], "error")
        return status, document(Head(name, kind="job"), [Section("overview", "Overview", [said])], live=True)
    return 200, document(head(story), sections(story), live=True)


def _html(status: int, text: str) -> Answer:
    return Answer(
        status, text.encode("utf-8", "backslashreplace"), {"content-type": "text/html; charset=utf-8"}
    )


def _text(status: int, text: str) -> Answer:
    body = f"{printable(text)}\n".encode("utf-8", "backslashreplace")
    return Answer(status, body, {"content-type": "text/plain; charset=utf-8"})
