"""The Python client: submit jobs to the daemon of this machine, follow them, and wait for what they make."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, Unpack

import zmq
from msgspec import structs

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


class Client:
    """One caller of one daemon; not to be shared between threads.

    Parameters
    ----------
    connect:
        A connection profile (``alloy profile add``): the daemon of another machine, where all paths are then; by
        default ``$ALLOYD_CONNECT``, unless a home is given.
    home:
        The daemon's home; by default ``$ALLOYD_HOME``, else ``~/.local/state/alloyd``.
    autostart:
        Start a daemon when none runs, and again when it dies.
    private:
        Use a daemon of this client's own instead, in a fresh home, that ends with :meth:`close`.
    timeout:
        Seconds to wait for the answer to a request.
    strict:
        Refuse a daemon of another version; without it only one of another protocol is refused.

    Raises
    ------
    DaemonUnreachable
        None answers (from any method).
    VersionMismatch
        The daemon is older or newer than this client (from any method).
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
        self._private = spawn.start_private() if private else None
        given = os.fspath(home) if home is not None else None
        self.home = self._private.home if self._private else find_home(given)
        self._autostart = autostart and not private and self._remote is None
        self._timeout = timeout
        self._strict = strict
        self._session = wire.new_session()
        self._context = zmq.Context()
        self._context.setsockopt(zmq.LINGER, 0)
        self._requests: zmq.Socket[bytes] | None = None
        self._connection: wire.Connection | None = None
        self._handshakes: connecting.Handshakes | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self, *, now: bool = False) -> None:
        """Let go of the daemon; a private one is ended, after the block in flight unless ``now``."""
        self._disconnect()
        self._context.destroy()
        if self._private is not None:
            self._private.close(now=now)
            self._private = None

    def submit(self, spec: Spec, **how: Unpack[Queueing]) -> Job:
        """Add a job. One of the same spec that waits, runs or is paused is continued, unless it is a plan or check.

        Of the jobs that wait, that of the highest ``priority`` (-100 to 100) is begun first. It waits for the jobs
        ``after`` to be done, and fails if one of them is not. A second submission of the same ``key`` answers with the
        first one's job, whatever has become of that. ``confined``: folders that what the spec names must lie in. The
        other verbs that submit a job take the same keywords.
        """
        return self._ask(submission(spec, how), Job)

    def merge(self, recipe: PathLike | Mapping[str, Any], out: PathLike, **options: Any) -> Job:
        """Submit a merge of ``recipe`` (a file, YAML text, or a mapping) into the folder ``out``.

        ``options`` are fields of :class:`alloyd.MergeSpec`: ``memory`` (bytes), ``threads``, ``force``, ``lenient``...
        """
        how, fields = queueing(options)
        return self.submit(merge_spec(recipe, out, fields, far=self.far), **how)

    def plan(
        self, recipe: PathLike | Mapping[str, Any], out: PathLike | None = None, **options: Any
    ) -> dict[str, Any]:
        """What a merge would read, write and need; waits for it. Raises what a merge would, before work."""
        return self._result(self.submit(plan_spec(recipe, out, options, far=self.far)))

    def rebuild(self, path: PathLike, out: PathLike | None = None, **options: Any) -> Job:
        """Submit the making again of a merged model from the manifest in the folder ``path``, there or into ``out``.

        It is published only if every byte is the same. ``options`` are fields of :class:`alloyd.RebuildSpec`.
        """
        how, fields = queueing(options)
        return self.submit(rebuild_spec(path, out, fields, far=self.far), **how)

    def verify(self, path: PathLike) -> dict[str, Any]:
        """Read a checkpoint again and compare it with its manifest; waits for it. DigestMismatch when it differs."""
        return self._result(self.submit(VerifySpec(place_for(path, self.far))))

    def score(
        self,
        models: PathLike
        | Sequence[PathLike | Mapping[str, Any]]
        | Mapping[str, PathLike | Mapping[str, Any]],
        tasks: PathLike | Sequence[PathLike],
        **options: Any,
    ) -> Job:
        """Submit a job that scores ``models`` on ``tasks``.

        A model is a checkpoint folder, a GGUF file, or a recipe as :meth:`merge` takes it; a mapping names several.
        A task is a JSONL file or ``EVALUATOR:SOURCE``. ``options`` are fields of :class:`alloyd.ScoreSpec`.
        """
        how, fields = queueing(options)
        return self.submit(score_spec(models, tasks, fields, far=self.far), **how)

    def kinship(self, base: PathLike, models: Sequence[PathLike], **options: Any) -> dict[str, Any]:
        """How alike ``models`` are that were made from ``base``: cosines, correlations and distances of what they
        learnt, as a whole, by layer and by component; waits for it.

        Models are checkpoint folders or names. ``options`` are fields of :class:`alloyd.KinshipSpec`.
        """
        return self._result(self.submit(kinship_spec(base, models, options, far=self.far)))

    def search(self, spec: PathLike | Mapping[str, Any], **options: Any) -> Job:
        """Submit a recipe search as ``spec`` (a file, YAML text, or a mapping; docs/search.md) says.

        ``options`` are fields of :class:`alloyd.SearchSpec` and stand in place of what the spec says: ``seed``,
        ``candidates``, ``items``, ``seconds``, ``optimiser``, ``mode``, ``runner``, ``memory``, ``threads``.
        """
        how, fields = queueing(options)
        return self.submit(search_spec(spec, fields, far=self.far), **how)

    def extend_search(self, job: str, **options: Any) -> Job:
        """Go on with a search that has ended, with a larger budget: ``candidates``, ``items`` or ``seconds`` in all.

        The new job begins with all that the old one found, and keeps its seed, optimiser and tasks.
        """
        how, fields = queueing(options)
        return self.submit(extension(self.job(job), fields), **how)

    def open_test(self, job: str, **options: Any) -> Job:
        """Submit the one opening of a search's locked test: its winner and its baselines on the test split."""
        how, fields = queueing(options)
        return self.submit(open_test_spec(self.job(job).id, fields), **how)

    def results(self, job: str) -> dict[str, Any]:
        """All that is known of a search, as docs/search.md describes it; of one that runs, until now.

        Raises
        ------
        JobError
            The job is no search, or has no results yet.
        """
        return self._ask(wire.GetResults(job), dict[str, Any])

    def wait(self, job: str, *, timeout: float | None = None) -> Job:
        """The job once it is done.

        Raises
        ------
        AlloydError
            What the job failed with; JobCancelled when it was cancelled.
        WaitTimedOut
            It had not ended after ``timeout`` seconds.
        """
        name = self.job(job).id
        for _ in self.events(name, since=-1, follow=True, timeout=timeout):
            pass
        return ended_well(self.job(name))

    def job(self, job: str) -> Job:
        """One job, by its id (``merge-12``) or number (``12``)."""
        return self._ask(wire.GetJob(job), Job)

    def jobs(
        self, states: Sequence[JobState] = (), *, limit: int = 1000, order: Order = "newest"
    ) -> list[Job]:
        """Jobs in ``states`` (any when empty): the newest, oldest first; or those to be begun ``"next"``, in order."""
        listing = Listing(states, limit, order)
        while (request := listing.request()) is not None:
            listing.take(self._ask(request, list[Job]))
        return listing.jobs

    def events(
        self, job: str = "", *, since: int = 0, follow: bool = False, timeout: float | None = None
    ) -> Iterator[Event]:
        """Stored events after number ``since`` (-1: only what is new), of one job or of all, oldest first.

        With ``follow`` it goes on as they happen, progress ticks (``seq`` 0) included, without missing a stored one
        however often the daemon dies; for one job until that has ended.

        Raises
        ------
        WaitTimedOut
            ``timeout`` seconds have passed.
        """
        name = self.job(job).id if job else ""
        if since < 0:
            since = self.status().last_event
        follower = _follow.Follower(name, since)
        while not follow:
            page, more = self._page(follower)
            yield from page
            if not more:
                return
        deadline = None if timeout is None else time.monotonic() + timeout
        subscriber = self._subscribe(follower)
        try:
            while True:
                if follower.rung:
                    follower.rung = False
                    try:
                        # Asked before the events are read: what ends after this is found at the next ring.
                        over = bool(name) and self.job(name).state.ended
                        page, more = self._page(follower)
                    except DaemonUnreachable:
                        subscriber.close()
                        self._look_after(follower)
                        subscriber = self._subscribe(follower)
                        continue
                    yield from page
                    if over and not more:
                        return
                    follower.rung |= more
                    continue
                if deadline is not None and time.monotonic() >= deadline:
                    raise timed_out(name, timeout or 0.0)
                left = (
                    _follow.SILENCE if deadline is None else min(_follow.SILENCE, deadline - time.monotonic())
                )
                if subscriber.poll(max(0, int(1000 * left) + 1)):
                    tick = follower.hear(subscriber.recv_multipart())
                    if tick is not None:
                        yield tick
                elif left == _follow.SILENCE:
                    subscriber.close()
                    self._look_after(follower)
                    subscriber = self._subscribe(follower)
        finally:
            subscriber.close()

    def log(self, job: str, *, offset: int = 0) -> wire.LogPiece:
        """A piece of a job's log from byte ``offset``; below 0 counts from the end."""
        return self._ask(wire.ReadLog(job, offset), wire.LogPiece)

    def status(self) -> wire.Status:
        """How the daemon is."""
        return self._ask(wire.GetStatus(), wire.Status)

    def config(self) -> wire.Configured:
        """The daemon's settings, each with its origin."""
        return self._ask(wire.GetConfig(), wire.Configured)

    def resources(self, job: str) -> list[Sample]:
        """What the job's processes used over time, oldest first, at most 2,000 samples; none for a very old job."""
        return self._ask(wire.GetResources(job), list[Sample])

    def metrics(self) -> str:
        """The daemon's figures in Prometheus' text format."""
        return self._ask(wire.GetMetrics(), str)

    def hello(self) -> wire.Greeting:
        """Who answers."""
        return self._ask(wire.Hello(), wire.Greeting)

    def watches(self) -> list[Watch]:
        """The watched folders."""
        return self._ask(wire.ListWatches(), list[Watch])

    def space(self) -> Space:
        """What takes room in the home and beside it, and how much is free; to look may take a while."""
        return self._ask(GetSpace(), Space)

    def cancel(self, job: str) -> Job:
        """End a job and remove what it staged; the job as it is now (it may need a moment to stop)."""
        return self._ask(wire.Cancel(job), Job)

    def pause(self, job: str) -> Job:
        """Stop a job at the next block and keep what it staged; the job as it is now."""
        return self._ask(wire.Pause(job), Job)

    def resume(self, job: str) -> Job:
        """Queue a paused or failed job again; the job as it is now."""
        return self._ask(wire.Resume(job), Job)

    def retry(self, job: str) -> Job:
        """Queue a failed, quarantined or cancelled job again, as if it had never been tried; the job as it is now.

        One that waits for room is tried at once.
        """
        return self._ask(wire.Retry(job), Job)

    def move(self, job: str, to: Literal["top", "bottom"] | int) -> Job:
        """Put a job first (``top``) or last (``bottom``) in the queue, or give it another priority; the job then."""
        return self._ask(wire.Move(job, to), Job)

    def watch_add(self, path: PathLike, *, existing: bool = False, **settings: Any) -> Watch:
        """Watch a folder, or watch it otherwise; ``settings`` are fields of :class:`alloyd.WatchSettings`.

        Of models that are there already its rules take no notice, unless ``existing``; then what failed is tried again.
        """
        wanted = WatchSettings(**settings)
        return self._ask(wire.WatchAdd(place_for(path, self.far), wanted, existing), Watch)

    def watch_remove(self, path: PathLike) -> bool:
        """Watch a folder no longer; whether it was watched. What was taken from it is brought to its end."""
        return self._ask(wire.WatchRemove(place_for(path, self.far)), bool)

    def prune(self, **how: Any) -> Pruned:
        """Forget jobs that ended long ago and remove what they left; ``how`` are fields of :class:`alloyd.Prune`.

        ``dry_run=True`` only says what would go.
        """
        return self._ask(Prune(**how), Pruned)

    def shutdown(self, *, now: bool = False) -> None:
        """Stop the daemon after the blocks in flight, or at once; its jobs go on when it is started again."""
        self._ask(wire.Shutdown(now), object)

    @property
    def far(self) -> bool:
        """Whether the daemon is on another machine: paths are sent as they are, and mean what they mean there."""
        return self._remote is not None

    def _result(self, job: Job) -> dict[str, Any]:
        return self.wait(job.id).result or {}

    def _page(self, follower: _follow.Follower) -> tuple[list[Event], bool]:
        """The next stored events, to be passed on before anything else can fail; whether there may be more."""
        page = self._ask(wire.ListEvents(follower.cursor, follower.job, _follow.PAGE), list[Event])
        return page, follower.take(page)

    def _connect(self) -> wire.Connection:
        # A socket finds the next daemon by itself: what is sent through the last one's may be done by this one, and be
        # asked once more all the same.
        if self._connection and self._remote is None and not spawn.lives(self.home, self._connection):
            self._disconnect()
        if self._connection is None and self._remote is not None:
            self._reach(self._remote)
        elif self._connection is None:
            private = self._private
            connection = private.connection if private else spawn.reach(self.home, autostart=self._autostart)
            check_version(connection, strict=self._strict)
            self._requests = self._context.socket(zmq.DEALER)
            self._requests.connect(connection.requests)
            self._connection = connection
        assert self._connection is not None
        return self._connection

    def _reach(self, remote: connecting.Remote) -> None:
        """Connect to a daemon on another machine, and see by its greeting that it is there and of this version."""
        self._requests = self._context.socket(zmq.DEALER)
        remote.dress(self._requests)
        self._handshakes = connecting.Handshakes(remote, self._requests)
        self._requests.connect(remote.profile.requests)
        self._connection = remote.connection
        try:
            greeting = self._ask(wire.Hello(), wire.Greeting)
            found = structs.replace(remote.connection, software=greeting.software, protocol=greeting.protocol)
            check_version(found, strict=self._strict)
            self._connection = found
        except BaseException:
            self._disconnect()
            raise

    def _disconnect(self) -> None:
        if self._handshakes is not None:
            self._handshakes.close()
            self._handshakes = None
        if self._requests is not None:
            self._requests.close()
        self._requests = self._connection = None

    def _ask(self, request: wire.Request, kind: type[T]) -> T:
        """Send a request and return its answer; once more when the daemon died over it."""
        again = True
        name, frames = wire.ask(request, self._session)
        while True:
            self._connect()
            assert self._requests is not None
            self._requests.send_multipart(frames)
            reply = self._await(name, frames, time_for(request, self._timeout))
            if reply is not None:
                try:
                    return wire.read_answer(reply, kind)
                except RateLimited as limited:
                    time.sleep(patience(limited, self._timeout))
                    continue
            self._disconnect()
            if not again or not self._autostart:
                raise spawn.gone(self.home, "the daemon died before it answered")
            again = False

    def _await(self, name: str, frames: list[bytes], timeout: float) -> list[bytes] | None:
        """The reply to request ``name``; ``None`` when the daemon is gone."""
        assert self._requests is not None
        deadline = time.monotonic() + timeout
        while True:
            if self._requests.poll(100 if self._handshakes else 500):
                reply = self._requests.recv_multipart()
                if wire.answers(reply) in (name, ""):
                    return reply
                continue
            if self._handshakes is not None:
                if self._handshakes.look():
                    self._requests.send_multipart(frames)
                if time.monotonic() > deadline:
                    raise self._handshakes.silent()
                continue
            if self._connection is not None and not spawn.lives(self.home, self._connection):
                return None
            if time.monotonic() > deadline:
                raise busy(self._connection, timeout)

    def _subscribe(self, follower: _follow.Follower) -> zmq.Socket[bytes]:
        subscriber: zmq.Socket[bytes] = self._context.socket(zmq.SUB)
        for topic in follower.topics:
            subscriber.subscribe(topic)
        if self._remote is not None:
            self._remote.dress(subscriber)
        subscriber.connect(self._connect().events)
        return subscriber

    def _look_after(self, follower: _follow.Follower) -> None:
        """The daemon is silent: find out whether it lives, and find or start the next one."""
        follower.rung = True
        if self._remote is not None:
            self._look_far(follower)
            return
        if self._connection is None or lock_holder(self.home) != self._connection.pid:
            self._disconnect()
        if follower.stopped or not self._autostart:
            deadline = time.monotonic() + _follow.REPLACEMENT
            while spawn.find(self.home) is None:
                if time.monotonic() > deadline:
                    raise stopped(follower) if follower.stopped else spawn.gone(self.home)
                time.sleep(0.1)
            follower.stopped = False
        self.hello()

    def _look_far(self, follower: _follow.Follower) -> None:
        """The daemon of another machine is silent: its greeting tells that it lives, or that another one does."""
        deadline = time.monotonic() + _follow.REPLACEMENT
        while True:
            try:
                self.hello()
                follower.stopped = False
                return
            except DaemonUnreachable:
                if time.monotonic() > deadline:
                    if follower.stopped:
                        raise stopped(follower) from None
                    raise
                time.sleep(0.2)
