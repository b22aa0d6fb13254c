"""The Python client for asyncio: the verbs of :class:`alloyd.Client`, each to be awaited."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, Unpack

import msgspec
import zmq
import zmq.asyncio

from . import connecting, spawn, wire
from . import follow as _follow
from .errors import DaemonUnreachable, RateLimited
from .jobs import Event, Job, JobState, Order, Sample, Spec, VerifySpec
from .listing import Listing
from .paths import find_home, lock_holder
from .space_schema import GetSpace, Prune, Pruned, Space
from .specs import (
    PathLike,
    Queueing,
    extension,
    kinship_spec,
    merge_spec,
    open_test_spec,
    place_for,
    plan_spec,
    queueing,
    rebuild_spec,
    score_spec,
    search_spec,
    submission,
)
from .verdicts import busy, check_version, ended_well, patience, stopped, time_for, timed_out
from .watch_schema import Watch, WatchSettings

T = TypeVar("T")


class AsyncClient:
    """As :class:`alloyd.Client`; its requests may be awaited at the same time.

    Use it as ``async with``: a private daemon starts on entry.
    """

    def __init__(
        self,
        *,
        connect: str | None = None,
        home: PathLike | None = None,
        autostart: bool = True,
        private: bool = False,
        timeout: float = 15.0,
        strict: bool = True,
    ) -> None:
        self._remote = connecting.remote(connect, home=home is not None or private)
        self.home = find_home(os.fspath(home) if home is not None else None)
        self._wants_private = private
        self._private: spawn.Private | None = None
        self._autostart = autostart and not private and self._remote is None
        self._timeout = timeout
        self._strict = strict
        self._session = wire.new_session()
        self._context = zmq.asyncio.Context()
        self._context.setsockopt(zmq.LINGER, 0)
        self._connecting = asyncio.Lock()
        self._requests: zmq.asyncio.Socket | None = None
        self._connection: wire.Connection | None = None
        self._handshakes: connecting.Handshakes | None = None
        self._reader: asyncio.Task[None] | None = None
        self._awaited: dict[str, asyncio.Future[list[bytes]]] = {}

    async def __aenter__(self) -> Self:
        if self._wants_private:
            self._private = await asyncio.to_thread(spawn.start_private)
            self.home = self._private.home
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of the daemon; a private one is ended."""
        self._disconnect()
        self._context.destroy()
        if self._private is not None:
            await asyncio.to_thread(self._private.close)
            self._private = None

    async def submit(self, spec: Spec, **how: Unpack[Queueing]) -> Job:
        """See :meth:`alloyd.Client.submit`."""
        return await self._ask(submission(spec, how), Job)

    async def merge(self, recipe: PathLike | Mapping[str, Any], out: PathLike, **options: Any) -> Job:
        """See :meth:`alloyd.Client.merge`."""
        how, fields = queueing(options)
        return await self.submit(merge_spec(recipe, out, fields, far=self.far), **how)

    async def plan(
        self, recipe: PathLike | Mapping[str, Any], out: PathLike | None = None, **options: Any
    ) -> dict[str, Any]:
        """See :meth:`alloyd.Client.plan`."""
        return await self._result(await self.submit(plan_spec(recipe, out, options, far=self.far)))

    async def rebuild(self, path: PathLike, out: PathLike | None = None, **options: Any) -> Job:
        """See :meth:`alloyd.Client.rebuild`."""
        how, fields = queueing(options)
        return await self.submit(rebuild_spec(path, out, fields, far=self.far), **how)

    async def verify(self, path: PathLike) -> dict[str, Any]:
        """See :meth:`alloyd.Client.verify`."""
        return await self._result(await self.submit(VerifySpec(place_for(path, self.far))))

    async def score(
        self,
        models: PathLike
        | Sequence[PathLike | Mapping[str, Any]]
        | Mapping[str, PathLike | Mapping[str, Any]],
        tasks: PathLike | Sequence[PathLike],
        **options: Any,
    ) -> Job:
        """See :meth:`alloyd.Client.score`."""
        how, fields = queueing(options)
        return await self.submit(score_spec(models, tasks, fields, far=self.far), **how)

    async def kinship(self, base: PathLike, models: Sequence[PathLike], **options: Any) -> dict[str, Any]:
        """See :meth:`alloyd.Client.kinship`."""
        return await self._result(await self.submit(kinship_spec(base, models, options, far=self.far)))

    async def search(self, spec: PathLike | Mapping[str, Any], **options: Any) -> Job:
        """See :meth:`alloyd.Client.search`."""
        how, fields = queueing(options)
        return await self.submit(search_spec(spec, fields, far=self.far), **how)

    async def extend_search(self, job: str, **options: Any) -> Job:
        """See :meth:`alloyd.Client.extend_search`."""
        how, fields = queueing(options)
        return await self.submit(extension(await self.job(job), fields), **how)

    async def open_test(self, job: str, **options: Any) -> Job:
        """See :meth:`alloyd.Client.open_test`."""
        how, fields = queueing(options)
        return await self.submit(open_test_spec((await self.job(job)).id, fields), **how)

    async def results(self, job: str) -> dict[str, Any]:
        """See :meth:`alloyd.Client.results`."""
        return await self._ask(wire.GetResults(job), dict[str, Any])

    async def wait(self, job: str, *, timeout: float | None = None) -> Job:
        """See :meth:`alloyd.Client.wait`."""
        name = (await self.job(job)).id
        async for _ in self.events(name, since=-1, follow=True, timeout=timeout):
            pass
        return ended_well(await self.job(name))

    async def job(self, job: str) -> Job:
        """See :meth:`alloyd.Client.job`."""
        return await self._ask(wire.GetJob(job), Job)

    async def jobs(
        self, states: Sequence[JobState] = (), *, limit: int = 1000, order: Order = "newest"
    ) -> list[Job]:
        """See :meth:`alloyd.Client.jobs`."""
        listing = Listing(states, limit, order)
        while (request := listing.request()) is not None:
            listing.take(await self._ask(request, list[Job]))
        return listing.jobs

    async def events(
        self, job: str = "", *, since: int = 0, follow: bool = False, timeout: float | None = None
    ) -> AsyncIterator[Event]:
        """See :meth:`alloyd.Client.events`."""
        name = (await self.job(job)).id if job else ""
        if since < 0:
            since = (await self.status()).last_event
        follower = _follow.Follower(name, since)
        deadline = None if timeout is None else time.monotonic() + timeout
        subscriber = await self._subscribe(follower) if follow else None
        try:
            while True:
                if follower.rung:
                    follower.rung = False
                    try:
                        over = not follow or (bool(name) and (await self.job(name)).state.ended)
                        page, more = await self._page(follower)
                    except DaemonUnreachable:
                        if subscriber is None:
                            raise
                        subscriber.close()
                        await self._look_after(follower)
                        subscriber = await self._subscribe(follower)
                        continue
                    for event in page:
                        yield event
                    if over and not more:
                        return
                    follower.rung |= more
                    continue
                if deadline is not None and time.monotonic() >= deadline:
                    raise timed_out(name, timeout or 0.0)
                left = (
                    _follow.SILENCE if deadline is None else min(_follow.SILENCE, deadline - time.monotonic())
                )
                assert subscriber is not None
                if await subscriber.poll(max(0, int(1000 * left) + 1)):
                    tick = follower.hear(await subscriber.recv_multipart())
                    if tick is not None:
                        yield tick
                elif left == _follow.SILENCE:
                    subscriber.close()
                    await self._look_after(follower)
                    subscriber = await self._subscribe(follower)
        finally:
            if subscriber is not None:
                subscriber.close()

    async def log(self, job: str, *, offset: int = 0) -> wire.LogPiece:
        """See :meth:`alloyd.Client.log`."""
        return await self._ask(wire.ReadLog(job, offset), wire.LogPiece)

    async def status(self) -> wire.Status:
        """See :meth:`alloyd.Client.status`."""
        return await self._ask(wire.GetStatus(), wire.Status)

    async def config(self) -> wire.Configured:
        """See :meth:`alloyd.Client.config`."""
        return await self._ask(wire.GetConfig(), wire.Configured)

    async def resources(self, job: str) -> list[Sample]:
        """See :meth:`alloyd.Client.resources`."""
        return await self._ask(wire.GetResources(job), list[Sample])

    async def metrics(self) -> str:
        """See :meth:`alloyd.Client.metrics`."""
        return await self._ask(wire.GetMetrics(), str)

    async def hello(self) -> wire.Greeting:
        """See :meth:`alloyd.Client.hello`."""
        return await self._ask(wire.Hello(), wire.Greeting)

    async def space(self) -> Space:
        """See :meth:`alloyd.Client.space`."""
        return await self._ask(GetSpace(), Space)

    async def cancel(self, job: str) -> Job:
        """See :meth:`alloyd.Client.cancel`."""
        return await self._ask(wire.Cancel(job), Job)

    async def pause(self, job: str) -> Job:
        """See :meth:`alloyd.Client.pause`."""
        return await self._ask(wire.Pause(job), Job)

    async def resume(self, job: str) -> Job:
        """See :meth:`alloyd.Client.resume`."""
        return await self._ask(wire.Resume(job), Job)

    async def retry(self, job: str) -> Job:
        """See :meth:`alloyd.Client.retry`."""
        return await self._ask(wire.Retry(job), Job)

    async def move(self, job: str, to: Literal["top", "bottom"] | int) -> Job:
        """See :meth:`alloyd.Client.move`."""
        return await self._ask(wire.Move(job, to), Job)

    async def watches(self) -> list[Watch]:
        """See :meth:`alloyd.Client.watches`."""
        return await self._ask(wire.ListWatches(), list[Watch])

    async def watch_add(self, path: PathLike, *, existing: bool = False, **settings: Any) -> Watch:
        """See :meth:`alloyd.Client.watch_add`."""
        wanted = WatchSettings(**settings)
        return await self._ask(wire.WatchAdd(place_for(path, self.far), wanted, existing), Watch)

    async def watch_remove(self, path: PathLike) -> bool:
        """See :meth:`alloyd.Client.watch_remove`."""
        return await self._ask(wire.WatchRemove(place_for(path, self.far)), bool)

    async def prune(self, **how: Any) -> Pruned:
        """See :meth:`alloyd.Client.prune`."""
        return await self._ask(Prune(**how), Pruned)

    async def shutdown(self, *, now: bool = False) -> None:
        """See :meth:`alloyd.Client.shutdown`."""
        await self._ask(wire.Shutdown(now), object)

    @property
    def far(self) -> bool:
        """See :attr:`alloyd.Client.far`."""
        return self._remote is not None

    async def _result(self, job: Job) -> dict[str, Any]:
        return (await self.wait(job.id)).result or {}

    async def _page(self, follower: _follow.Follower) -> tuple[list[Event], bool]:
        """See :meth:`alloyd.Client._page`."""
        page = await self._ask(wire.ListEvents(follower.cursor, follower.job, _follow.PAGE), list[Event])
        return page, follower.take(page)

    async def _connect(self) -> wire.Connection:
        async with self._connecting:
            # A socket finds the next daemon by itself: what is sent through the last one's may be done by this one, and
            # be asked once more all the same.
            if self._connection and self._remote is None and not spawn.lives(self.home, self._connection):
                self._disconnect()
            if self._connection is None:
                if self._remote is not None:
                    connection = self._remote.connection
                else:
                    connection = await asyncio.to_thread(self._find)
                    check_version(connection, strict=self._strict)
                self._requests = self._context.socket(zmq.DEALER)
                if self._remote is not None:
                    self._remote.dress(self._requests)
                    self._handshakes = connecting.Handshakes(self._remote, self._requests)
                self._requests.connect(connection.requests)
                self._reader = asyncio.create_task(self._read(self._requests))
                try:
                    self._connection = await self._greeted(connection)
                except BaseException:
                    self._disconnect()
                    raise
            return self._connection

    async def _greeted(self, connection: wire.Connection) -> wire.Connection:
        """``connection``, with the version that a daemon on another machine greets with; checked."""
        if self._remote is None:
            return connection
        self._connection = connection
        name, frames = wire.ask(wire.Hello(), self._session)
        reply = await self._exchange(name, frames, connection, self._timeout)
        greeting = wire.read_answer(reply or [], wire.Greeting)
        found = msgspec.structs.replace(connection, software=greeting.software, protocol=greeting.protocol)
        check_version(found, strict=self._strict)
        return found

    def _find(self) -> wire.Connection:
        if self._private is not None:
            return self._private.connection
        return spawn.reach(self.home, autostart=self._autostart)

    def _disconnect(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
        if self._requests is not None:
            self._requests.close()
        if self._handshakes is not None:
            self._handshakes.close()
        self._reader = self._requests = self._connection = self._handshakes = None

    async def _read(self, requests: zmq.asyncio.Socket) -> None:
        """Hand each reply to whoever awaits it."""
        while True:
            reply = await requests.recv_multipart()
            waiting = self._awaited.pop(wire.answers(reply), None)
            if waiting is not None and not waiting.done():
                waiting.set_result(reply)

    async def _ask(self, request: wire.Request, kind: type[T]) -> T:
        """Send a request and return its answer; once more when the daemon died over it."""
        name, frames = wire.ask(request, self._session)
        again = True
        while True:
            connection = await self._connect()
            reply = await self._exchange(name, frames, connection, time_for(request, self._timeout))
            if reply is not None:
                try:
                    return wire.read_answer(reply, kind)
                except RateLimited as limited:
                    await asyncio.sleep(patience(limited, self._timeout))
                    continue
            if self._connection is connection:
                self._disconnect()
            if not again or not self._autostart:
                raise spawn.gone(self.home, "the daemon died before it answered")
            again = False

    async def _exchange(
        self, name: str, frames: list[bytes], connection: wire.Connection, timeout: float
    ) -> list[bytes] | None:
        """Send a request; its reply, or ``None`` when the daemon is gone."""
        assert self._requests is not None
        future = self._awaited[name] = asyncio.get_running_loop().create_future()
        try:
            await self._requests.send_multipart(frames)
            return await self._await(future, frames, connection, timeout)
        finally:
            self._awaited.pop(name, None)

    async def _await(
        self,
        future: asyncio.Future[list[bytes]],
        frames: list[bytes],
        connection: wire.Connection,
        timeout: float,
    ) -> list[bytes] | None:
        """The reply; ``None`` when the daemon is gone."""
        deadline = time.monotonic() + timeout
        while True:
            done, _ = await asyncio.wait([future], timeout=0.1 if self._handshakes else 0.5)
            if done:
                return future.result()
            if self._remote is not None:
                handshakes = self._handshakes
                if handshakes is None or self._requests is None:
                    raise self._remote.silent("another request lost the connection")
                if handshakes.look():
                    await self._requests.send_multipart(frames)
                if time.monotonic() > deadline:
                    raise handshakes.silent()
                continue
            if self._connection is not connection or not spawn.lives(self.home, connection):
                return None
            if time.monotonic() > deadline:
                raise busy(connection, timeout)

    async def _subscribe(self, follower: _follow.Follower) -> zmq.asyncio.Socket:
        connection = await self._connect()
        subscriber = self._context.socket(zmq.SUB)
        for topic in follower.topics:
            subscriber.subscribe(topic)
        if self._remote is not None:
            self._remote.dress(subscriber)
        subscriber.connect(connection.events)
        return subscriber

    async def _look_after(self, follower: _follow.Follower) -> None:
        """The daemon is silent: find out whether it lives, and find or start the next one."""
        follower.rung = True
        if self._remote is not None:
            await self._look_far(follower)
            return
        if self._connection is None or lock_holder(self.home) != self._connection.pid:
            self._disconnect()
        if follower.stopped or not self._autostart:
            deadline = time.monotonic() + _follow.REPLACEMENT
            while await asyncio.to_thread(spawn.find, self.home) is None:
                if time.monotonic() > deadline:
                    raise stopped(follower) if follower.stopped else spawn.gone(self.home)
                await asyncio.sleep(0.1)
            follower.stopped = False
        await self.hello()

    async def _look_far(self, follower: _follow.Follower) -> None:
        """The daemon of another machine is silent: its greeting tells that it lives, or that another one does."""
        deadline = time.monotonic() + _follow.REPLACEMENT
        while True:
            try:
                await self.hello()
                follower.stopped = False
                return
            except DaemonUnreachable:
                if time.monotonic() > deadline:
                    if follower.stopped:
                        raise stopped(follower) from None
                    raise
                await asyncio.sleep(0.2)
