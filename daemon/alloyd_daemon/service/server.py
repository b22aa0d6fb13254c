"""Answers requests (ROUTER) and publishes events (XPUB) in one loop, in which the worker takes its steps.

Events go out in the order of the store and only once they are on disk. A subscriber may miss some; the store has them
all, and every publication and heartbeat says how far it has got.
"""

from __future__ import annotations

import codecs
import contextlib
import logging
import os
import signal
import stat
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import zmq

from alloyd import __version__, wire
from alloyd.authorised_keys import AuthorisedKeys
from alloyd.errors import AccessDenied, AlloydError, ProtocolError, ServiceError, UsageError
from alloyd.jobs import Job, JobState, OpenTestSpec, Sample
from alloyd.paths import Home
from alloyd.roles import Role
from alloyd.search_results import read_results
from alloyd.space_schema import GetSpace, Prune
from alloyd.watch_schema import Watch

from ..settings import Loaded
from .access import Access, Caller, RefusalLog, check_path
from .gateway_process import GatewayProcess
from .hooks import Hooks
from .housekeeping import Housekeeping, Task
from .metrics import Metrics
from .notify import Notifier
from .processes import resident_memory
from .roots import check_opening, confine, narrowed
from .sockets import connect, refuse_taken
from .store import Store
from .watch_process import WatchProcess
from .worker import Worker

HEARTBEAT = 1.0
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
LOG_PIECE = 256 * 1024
DAEMON_LOG = "daemon"
LARGEST_SPEC = 900_000
WHOSE = (wire.Submit, wire.ReadLog, wire.WatchAdd, Prune)  # what may be done depends on who asks

log = logging.getLogger("alloyd")


class Server:
    """The sockets of one daemon.

    ``wakeup`` is a descriptor that gives the number of each signal that came: the first one to stop lets blocks be
    finished, the second one does not. The daemon ends, as by a signal, when the descriptor ``leash`` does.
    """

    def __init__(
        self,
        store: Store,
        worker: Worker,
        home: Home,
        loaded: Loaded,
        *,
        requests: str,
        events: str,
        wakeup: int | None = None,
        leash: int | None = None,
        notifier: Notifier | None = None,
        reopen: Callable[[], None] = lambda: None,
        gateway: GatewayProcess | None = None,
        watch: WatchProcess | None = None,
    ) -> None:
        self._store = store
        self._worker = worker
        self._home = home
        self._loaded = loaded
        self._watch = watch or WatchProcess(home)
        self._wakeup = wakeup
        self._leash = leash
        self._gateway = gateway
        self._access = Access(AuthorisedKeys(home.keys))
        # Once for all: Python keeps each freshly made name by which a method was looked up, thousands of them.
        self._doers: dict[str, Callable[..., object]] = {
            kind: getattr(self, f"_do_{kind}") for kind in wire.REQUESTS
        }
        self._refusals = RefusalLog()
        self._session = wire.new_session()
        self._sockets = [Path(address.removeprefix("ipc://")) for address in (requests, events)]
        for place in self._sockets:
            refuse_taken(place)
        self._started = datetime.now(UTC)
        self._begun = time.monotonic()
        self._beat = 0.0
        self._malformed = 0
        self._reopen = reopen
        self._notifier = notifier or Notifier({})
        self._metrics = Metrics(store, worker, home, loaded.settings)
        self._hooks = Hooks(store, home, loaded.settings.hooks)
        self._keeping = Housekeeping(
            store,
            home,
            loaded.settings,
            quiet=lambda: not worker.busy,
            busy=lambda: self._hooks.jobs() | self._watch.jobs(),
            shielded=lambda: self._watch.shielded(loaded.settings.model_roots()),
            claims=self._watch.prune,
        )
        self._owed: list[tuple[list[bytes], wire.Header, Task]] = []
        self._metrics.sources += [self._hooks.families, self._watch.families]
        self._published = store.last_event()
        self._stood, self._stands = -1, ""
        self._lock_file = str(home.lock)
        self._lock = _identity(self._lock_file)
        self._context = zmq.Context()
        self._context.setsockopt(zmq.LINGER, 500)
        self._router = self._context.socket(zmq.ROUTER)
        self._router.setsockopt(zmq.MAXMSGSIZE, wire.LARGEST_MESSAGE)
        self._events = self._context.socket(zmq.XPUB)
        self._events.setsockopt(zmq.MAXMSGSIZE, 4096)
        # A subscriber hears at once that its subscription counts, and asks the store what it has missed.
        self._events.setsockopt(zmq.XPUB_WELCOME_MSG, b"welcome")
        try:
            for one, address in ((self._router, requests), (self._events, events)):
                one.bind(address)
                os.chmod(address.removeprefix("ipc://"), 0o600)
        except (zmq.ZMQError, OSError) as wrong:
            self.close()
            raise ServiceError(
                f"cannot listen on {requests}: {wrong}",
                hint="Look at what is there and at its rights, or set another daemon.endpoint.",
                path=requests,
            ) from wrong

    def sweep(self) -> None:
        """Remove sockets beside this daemon's own that daemons of other homes left behind when they were killed."""
        for place in self._sockets[0].parent.glob("*.[er]*s"):
            try:
                facts = place.lstat()
                # One that was made this minute may be bound but not yet listening.
                if not stat.S_ISSOCK(facts.st_mode) or time.time() - facts.st_mtime < 60:
                    continue
                connect(place)
            except ConnectionRefusedError:
                place.unlink(missing_ok=True)
            except OSError:
                continue

    def close(self) -> None:
        """Close the sockets and remove them from the file system."""
        self._hooks.kill()
        self._keeping.stop()
        self._metrics.close()
        self._watch.stop()
        self._context.destroy()
        for place in self._sockets:
            with contextlib.suppress(OSError):
                place.unlink()

    def stop(self, *, now: bool = False) -> None:
        """Leave the loop after the blocks in flight, or at once."""
        if not self._worker.stopping:
            log.info("stopping; running jobs finish their block and are queued again")
            self._publish("stopping", {"now": now})
            self._notifier.stopping()
            self._watch.stop()
            self._keeping.stop()
            self._worker.stop()
        if now:
            self._worker.kill()
            self._hooks.kill()

    def serve(self) -> None:
        """Serve until :meth:`stop` was called and no child is left."""
        while True:
            wait = self._worker.step()
            if self._gateway is not None:
                wait = min(wait, self._gateway.step())
            if not self._worker.stopping:
                self._watch.step()
            self._publish_news()
            self._metrics.step(malformed=self._malformed)
            self._hooks.step()
            if not self._worker.stopping:
                wait = min(wait, self._keeping.step())
            self._answer_owed()
            self._notifier.turn(self._standing())
            if self._worker.stopping and not self._worker.busy:
                self._hooks.stop()
                if not self._hooks.busy:
                    return
                wait = min(wait, 0.05)
            poller = zmq.Poller()
            poller.register(self._router, zmq.POLLIN)
            poller.register(self._events, zmq.POLLIN)
            pipes = set(self._worker.pipes())
            for descriptor in (*pipes, self._wakeup, self._leash):
                if descriptor is not None:
                    poller.register(descriptor, zmq.POLLIN)
            for ready, _ in poller.poll(int(1000 * min(wait, HEARTBEAT, self._notifier.patience)) + 1):
                if ready is self._router:
                    self._answer_waiting()
                elif ready is self._events:
                    self._events.recv()
                elif ready in pipes:
                    self._worker.hear(ready)
                elif ready == self._wakeup:
                    for number in os.read(ready, 4096):
                        self._hear_signal(number)
                elif not os.read(ready, 4096):
                    self._leash = None
                    self.stop()

    def _hear_signal(self, number: int) -> None:
        # A terminal that is closed ends what runs in it; to a service the same signal says that logs were moved.
        if number == signal.SIGHUP and not os.isatty(0):
            self._reopen()
            log.info("the log was opened again; settings are read when a daemon starts ('alloy restart')")
        elif number in SIGNALS:
            self.stop(now=self._worker.stopping)

    def _standing(self) -> str:
        """How the daemon stands, for ``systemctl status``; counted anew only when something has happened."""
        if self._stood != self._published:
            self._stood = self._published
            counts = self._store.counts()
            jobs = [f"{counts[state]} {state.value}" for state in JobState if counts.get(state)]
            self._stands = f"jobs: {', '.join(jobs) or 'none yet'}"
        return self._stands

    def _publish_news(self) -> None:
        """Publish what the store has got since the last time, then the newest progress, then now and then a beat."""
        while news := self._store.events(self._published):
            for event in news:
                self._publish("event", event, job=event.job)
                self._published = event.seq
                self._metrics.hear(event)
                self._hooks.hear(event)
                self._watch.hear(event)
        for tick in self._worker.ticks():
            self._publish("event", tick, job=tick.job)
        if time.monotonic() - self._beat >= HEARTBEAT:
            if (
                self._lock is not None
                and _identity(self._lock_file) != self._lock
                and not self._worker.stopping
            ):
                log.error(
                    "the home %s was taken away; nothing that is done here would be found", self._home.root
                )
                self.stop(now=True)
            self._beat = time.monotonic()
            self._publish("heartbeat", {"last": self._published})

    def _publish(self, kind: str, content: object, *, job: str = "") -> None:
        self._events.send_multipart(wire.publish(kind, content, self._session, job=job), zmq.NOBLOCK)

    def _answer_waiting(self) -> None:
        """Answer what has arrived, at most so much that children and events are not forgotten."""
        for _ in range(100):
            try:
                frames = self._router.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            # Behind the gateway's address stands that of its peer: the way that the reply goes.
            way = 2 if len(frames) == 6 else 1
            reply = self._reply(frames[way:], remote=way == 2)
            if isinstance(reply, Task):
                self._owed.append((frames[:way], wire.read_header(frames[way:]), reply))
            else:
                self._send([*frames[:way], *reply])

    def _answer_owed(self) -> None:
        """Answer those whose answer took time."""
        for way, header, task in [each for each in self._owed if each[2].done]:
            self._owed.remove((way, header, task))
            self._send([*way, *wire.answer(header, self._session, task.value, task.error)])

    def _send(self, frames: list[bytes]) -> None:
        with contextlib.suppress(zmq.ZMQError):  # a peer that has gone, or does not read
            self._router.send_multipart(frames, zmq.NOBLOCK)

    def _reply(self, frames: Sequence[bytes], *, remote: bool = False) -> list[bytes] | Task:
        """The frames of the answer, or the work that it has to wait for."""
        header: wire.Header | None = None
        caller: Caller | None = None
        try:
            header = wire.read_header(frames)
            if remote and not header.caller:
                raise AccessDenied(
                    "a remote request without a key", hint="docs/remote.md says how to come with one."
                )
            caller = self._access.caller(header)
            header, request = wire.read_request(frames)
            value = self._do(request, caller)
            return value if isinstance(value, Task) else wire.answer(header, self._session, value)
        except AlloydError as error:
            if isinstance(error, AccessDenied):
                key = caller.name if caller else header.caller if header else ""
                who = "the local user" if caller and caller.local else f"the key '{key}'"
                self._refusals.tell(who, f"{header.kind if header else ''}: {error}")
            if isinstance(error, ProtocolError):
                self._malformed += 1
                log.warning("a message was refused: %s", error)
            if header is None:
                with contextlib.suppress(ProtocolError):
                    header = wire.read_header(frames)
            return wire.answer(header, self._session, error=error)
        except Exception as error:
            log.exception("a request failed")
            text = f"internal error of the daemon: {type(error).__name__}: {error}"
            return wire.answer(
                header, self._session, error=ServiceError(text, hint=f"See {self._home.log('daemon')}.")
            )

    def _do(self, request: wire.Request, caller: Caller) -> object:
        kind = wire.kind_of(request)
        self._access.check(caller, kind)
        do = self._doers[kind]
        return do(request, caller) if isinstance(request, WHOSE) else do(request)

    def _do_hello(self, _: wire.Hello) -> wire.Greeting:
        return wire.Greeting(__version__, wire.PROTOCOL, os.getpid(), str(self._home.root), self._started)

    def _do_submit(self, request: wire.Submit, caller: Caller) -> Job:
        spec = wire.read_spec(request.spec)
        if self._worker.stopping:
            raise ServiceError("the daemon is stopping and takes no more jobs", hint="Try again in a moment.")
        size = len(msgspec.json.encode(request.spec))
        if size > LARGEST_SPEC:
            raise UsageError(
                f"the job is {size} bytes long; at most {LARGEST_SPEC} are taken",
                hint="Put what is long into a file that it names.",
            )
        settings = self._loaded.settings
        roots: Sequence[str | Path] = request.confined
        if not caller.local:
            roots = narrowed(request.confined, settings.remote_roots(), settings)
        elif isinstance(spec, OpenTestSpec) and not roots:
            roots = self._store.job(spec.search).spec.get("roots", ())  # as its search was
        if roots or not caller.local:
            spec = confine(spec, roots, settings, self._home.root)
            if isinstance(spec, OpenTestSpec):
                search = wire.read_spec(self._store.job(spec.search).spec)
                check_opening(spec, search, settings, self._home.root)
        out = getattr(spec, "out", "")
        if out and not os.path.isabs(out):
            raise UsageError(
                f"out must be an absolute path, not '{out}'",
                hint="The daemon runs in a folder of its own.",
                key="out",
            )
        job = self._store.submit(
            spec,
            request.token,
            at_most=self._loaded.settings.jobs.queue,
            priority=request.priority,
            after=request.after,
            owner=caller.name,
        )
        self._worker.submitted(job.id)
        return self._paced(job)

    def _do_job(self, request: wire.GetJob) -> Job:
        return self._paced(self._store.job(request.job))

    def _do_jobs(self, request: wire.ListJobs) -> list[Job]:
        found = self._store.jobs(request.states, request.limit, request.order, request.past)
        return [self._paced(job) for job in found]

    def _do_events(self, request: wire.ListEvents) -> object:
        return self._store.events(request.since, request.job, request.limit)

    def _do_cancel(self, request: wire.Cancel) -> Job:
        return self._paced(self._worker.cancel(request.job))

    def _do_pause(self, request: wire.Pause) -> Job:
        return self._paced(self._worker.pause(request.job))

    def _do_resume(self, request: wire.Resume) -> Job:
        return self._paced(self._worker.resume(request.job))

    def _do_retry(self, request: wire.Retry) -> Job:
        return self._paced(self._worker.retry(request.job))

    def _do_move(self, request: wire.Move) -> Job:
        self._store.place(request.job, request.to)
        return self._paced(self._store.job(request.job))

    def _do_log(self, request: wire.ReadLog, caller: Caller) -> wire.LogPiece:
        name, ended = DAEMON_LOG, False
        if request.job == DAEMON_LOG:
            # It begins with the settings, and names every key and peer.
            self._access.require(caller, Role.ADMIN, "the daemon's own log")
        else:
            job = self._store.job(request.job)
            name, ended = job.id, job.state.ended
        try:
            with open(self._home.log(name), "rb") as file:
                size = file.seek(0, os.SEEK_END)
                offset = request.offset if request.offset >= 0 else max(0, size + request.offset)
                if offset > size:  # it was cut, or rotated
                    offset = 0
                file.seek(offset)
                data = file.read(LOG_PIECE)
        except FileNotFoundError:
            offset, size, data = 0, 0, b""
        end = ended and offset + len(data) >= size
        # A character that is cut by the end of the piece belongs to the next one.
        reader = codecs.getincrementaldecoder("utf-8")("replace")
        text = reader.decode(data, final=end)
        return wire.LogPiece(text, offset, offset + len(data) - len(reader.getstate()[0]), end)

    def _do_results(self, request: wire.GetResults) -> dict[str, Any]:
        return read_results(str(self._home.root), self._store.job(request.job))

    def _do_status(self, _: wire.GetStatus) -> wire.Status:
        return wire.Status(
            software=__version__,
            pid=os.getpid(),
            home=str(self._home.root),
            started=self._started,
            uptime=time.monotonic() - self._begun,
            resident=resident_memory(),
            jobs={state.value: self._store.counts().get(state.value, 0) for state in JobState},
            last_event=self._store.last_event(),
            malformed=self._malformed,
            stopping=self._worker.stopping,
            log=str(self._home.log("daemon")),
        )

    def _do_config(self, _: wire.GetConfig) -> wire.Configured:
        sections = msgspec.to_builtins(self._loaded.settings)
        values = {
            f"{section}.{key}": value for section, keys in sections.items() for key, value in keys.items()
        }
        return wire.Configured(values, dict(self._loaded.origins))

    def _do_resources(self, request: wire.GetResources) -> list[Sample]:
        return self._worker.resources.samples(self._store.job(request.job).id)

    def _do_metrics(self, _: wire.GetMetrics) -> str:
        return self._metrics.text(malformed=self._malformed)

    def _do_watch_add(self, request: wire.WatchAdd, caller: Caller) -> Watch:
        if self._worker.stopping:
            raise ServiceError("the daemon is stopping", hint="Try again in a moment.")
        wanted = request.settings
        settings = self._loaded.settings
        for path in filter(None, (request.path, wanted.out)):
            check_path(path, caller, settings, output=True)
        for path in wanted.roots:
            check_path(path, caller, settings)
        return self._watch.add(
            request.path,
            wanted,
            existing=request.existing,
            model_roots=settings.model_roots(),
            hub=settings.hub(),
        )

    def _do_watch_remove(self, request: wire.WatchRemove) -> bool:
        return self._watch.remove(request.path)

    def _do_watches(self, _: wire.ListWatches) -> list[Watch]:
        return self._watch.watches()

    def _do_space(self, _: GetSpace) -> Task:
        return self._keeping.space()

    def _do_prune(self, request: Prune, caller: Caller) -> Task:
        roots = self._loaded.settings.remote_roots()
        return self._keeping.prune(request, None if caller.local else [str(each) for each in roots])

    def _do_shutdown(self, request: wire.Shutdown) -> None:
        self.stop(now=request.now)

    def _paced(self, job: Job) -> Job:
        """``job`` with how fast it runs, or what it waits for, which the store does not know."""
        return msgspec.structs.replace(
            job, progress=self._worker.pace(job.id), reason=self._worker.waits_for(job)
        )


def _identity(file: str) -> tuple[int, int] | None:
    """What tells ``file`` from another one that has taken its place; ``None`` when there is none."""
    try:
        facts = os.stat(file)
    except OSError:
        return None
    return facts.st_dev, facts.st_ino
