"""A real daemon takes any message, over its local socket and from the network, and goes on as if there were none.

Each message is answered by a value or by one documented error. All the while a correct client is served, memory stays
within bounds, no traceback is logged, and jobs that no message named are what they were.
"""

from __future__ import annotations

import json
import random
import socket
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import psutil
import pytest
import zmq

from alloyd import Client, connecting, wire
from alloyd.errors import AlloydError
from alloyd.jobs import Job, JobState
from alloyd.roles import Role
from remote.conftest import Far
from trial_daemon import eventually, trial

from .messages import Messages
from .oracle import check

SLICE: Final = 500
WHOLE: Final = 100_000
BATCH: Final = 20
"""Messages that are under way at a time."""
REMOTE: Final = 4
"""How many of these come from the network."""
PROBE: Final = 25
"""Batches after each of which a correct client asks."""
PATIENCE: Final = 60.0
"""Seconds in which a message is answered, also on a busy machine."""
MEMORY: Final = 96 * 2**20
"""Bytes by which a process of the daemon may grow: a few messages of the largest size, and what it learnt of jobs."""
BUSY: Final = 60
"""Jobs that wait, after which a probe clears the queue."""


class Attack:
    """Peers that send what no client would, and one that sends what every client does."""

    def __init__(self, far: Far, seed: int) -> None:
        self.far = far
        self.seed = seed
        self.codes: Counter[str] = Counter()
        self.slowest = 0.0
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.chance = random.Random(f"protocol {seed}")
        with far.daemon.client() as client:
            self.canaries = list(_canaries(client, far.root))
            self.connection = json.loads((far.daemon.home.root / "connection.json").read_text())
        for name, role in (("screen", Role.READ), ("laptop", Role.SUBMIT), ("boss", Role.ADMIN)):
            far.key(name, role)
        names = [each.id for each in self.canaries]
        self.local = Messages(self.chance, far.root, names, huge=True)
        self.remote = Messages(self.chance, far.root, names, huge=False)
        self.before = self.memory()

    def memory(self) -> dict[str, int]:
        """Resident bytes of the daemon and of its gateway."""
        processes = {"daemon": psutil.Process(self.far.daemon.pid)}
        for each in self.far.daemon.children():
            if "alloyd_daemon.service.gateway" in each.cmdline():
                processes["gateway"] = each
        return {name: each.memory_info().rss for name, each in processes.items()}

    @contextmanager
    def peer(self, name: str = "") -> Iterator[zmq.Socket[bytes]]:
        """A socket that is connected: with the keys of a profile to the network, else to the local socket."""
        made = self.context.socket(zmq.DEALER)
        made.setsockopt(zmq.LINGER, 0)
        if name:
            remote = connecting.remote(name)
            assert remote is not None
            remote.dress(made)
            made.connect(remote.profile.requests)
        else:
            made.connect(self.connection["requests"])
        try:
            yield made
        finally:
            made.close()

    def run(self, count: int) -> None:
        """Send ``count`` messages, a probe now and then between them."""
        with (
            self.peer() as local,
            self.peer("screen") as one,
            self.peer("laptop") as two,
            self.peer("boss") as three,
        ):
            for number in range(0, count, BATCH):
                far = [(self.chance.choice((one, two, three)), self.remote.one()) for _ in range(REMOTE)]
                near = [(local, self.local.one()) for _ in range(BATCH - REMOTE)]
                self.send([*far, *near], number)
                if number // BATCH % PROBE == PROBE - 1:
                    self.noise()
                    self.probe()

    def send(self, batch: list[tuple[zmq.Socket[bytes], list[bytes]]], number: int) -> None:
        """Send some messages, and judge the one answer that each of them gets, in whatever order they come."""
        sent = [[each[:300] for each in frames[:6]] for _, frames in batch]
        where = f"messages from {number} on of seed {self.seed}: {sent}"
        begun = time.monotonic()
        for peer, frames in batch:
            peer.send_multipart(frames)
        for peer, _ in batch:
            assert peer.poll(int(1000 * PATIENCE)), f"an answer is missing to {where}"
            answer = peer.recv_multipart()
            # Of five frames the first looks like the address of a peer behind the gateway, and comes back.
            reply = answer[1:] if len(answer) == 5 else answer
            try:
                assert wire.read_header(reply).kind == "reply"
                self.codes[_code(reply)] += 1
            except Exception as wrong:
                raise AssertionError(f"the answer {answer} to one of the {where}") from wrong
        self.slowest = max(self.slowest, time.monotonic() - begun)

    def noise(self) -> None:
        """Bytes that are no messages, on each of the daemon's doors."""
        doors = [self.connection["requests"], self.connection["events"], self.far.address]
        for address in doors:
            kind, _, place = address.partition("://")
            with socket.socket(socket.AF_UNIX if kind == "ipc" else socket.AF_INET) as peer:
                host, _, port = place.rpartition(":")
                peer.connect(place if kind == "ipc" else (host, int(port)))
                greeting = (
                    b"\xff" + bytes(8) + b"\x7f\3\0" + self.chance.choice((b"NULL", b"CURVE", b"\xff" * 20))
                )
                noise = self.chance.choice((b"", b"GET / HTTP/1.1\r\n\r\n", greeting.ljust(64, b"\0")))
                peer.sendall(noise + self.chance.randbytes(self.chance.choice((0, 9, 500))))
        with self.context.socket(zmq.XSUB) as subscriber:
            subscriber.setsockopt(zmq.LINGER, 0)
            subscriber.connect(self.connection["events"])
            assert subscriber.poll(int(1000 * PATIENCE), zmq.POLLOUT)
            for size in (0, 1, 300, 5000):
                subscriber.send_multipart(
                    [self.chance.choice((b"\1", b"\0", b"x")) + self.chance.randbytes(size)] * 2
                )

    def probe(self) -> None:
        """What a correct client asks is answered rightly, the canaries are what they were, memory is bounded."""
        with self.far.daemon.client(timeout=PATIENCE) as client:
            assert client.status().pid == self.far.daemon.pid
            for each in self.canaries:
                assert _lasting(client.job(each.id)) == _lasting(each), each.id
            if sum(job.state is JobState.QUEUED for job in client.jobs(limit=1000)) > BUSY:
                self.clear(client)
        for name, now in self.memory().items():
            assert now < self.before[name] + MEMORY, (
                f"the {name} grew from {self.before[name]} to {now} bytes"
            )
        for name in ("daemon", "gateway", "watch"):
            log = self.far.daemon.home.log(name)
            assert not log.exists() or b'"traceback"' not in log.read_bytes(), log.read_text()[-3000:]

    def clear(self, client: Client) -> None:
        """Cancel what waits or runs, so that new jobs are taken."""
        canaries = {each.id for each in self.canaries}
        for job in client.jobs(limit=1000):
            if job.state in (JobState.QUEUED, JobState.RUNNING) and job.id not in canaries:
                try:
                    client.cancel(job.id)
                except AlloydError:
                    continue  # it ended meanwhile

    def end(self) -> None:
        """The daemon stops as it should, and the next one finds the same jobs in a store that is whole."""
        with self.far.daemon.client() as client:
            self.clear(client)
            for watch in client.watches():
                client.watch_remove(watch.path)
            eventually(lambda: not client.jobs(["queued", "running"]), seconds=240)
            held = [_lasting(each) for each in client.jobs(limit=100_000)]
        self.context.destroy(0)
        assert self.far.daemon.terminate() == 0
        with sqlite3.connect(f"file:{self.far.daemon.home.root}/jobs.sqlite?mode=ro", uri=True) as store:
            assert store.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            numbers = [seq for (seq,) in store.execute("SELECT seq FROM events ORDER BY seq")]
        assert numbers == list(range(1, len(numbers) + 1))
        self.far.daemon.start()
        with self.far.daemon.client() as client:
            assert [_lasting(each) for each in client.jobs(limit=100_000)] == held
        strange = [path for path in _files(self.far.root.parent.parent) if not self.expected(path)]
        assert not strange

    def expected(self, path: Path) -> bool:
        """Whether a valid request makes this file: a job's output, or what the daemon and the keys are made of."""
        if path.is_relative_to(self.far.root):
            name = path.relative_to(self.far.root).parts[0]
            return name.startswith(("out-", "canary-", "drop-"))
        own = (
            self.far.daemon.home.root,
            self.far.root.parent / "daemon.err",
            self.far.root.parent.parent / "here",
        )
        return any(path.is_relative_to(each) for each in own)


def _canaries(client: Client, root: Path) -> Iterator[Job]:
    """A job in each of the states that a job may stay in."""
    done = client.submit(trial(root / "canary-done", 1))
    failed = client.submit(trial(root / "canary-failed", 3, at={1: "refuse"}))
    cancelled = client.submit(trial(root / "canary-cancelled", 1000, pause=0.1))
    paused = client.submit(trial(root / "canary-paused", 1000, pause=0.1))
    client.cancel(cancelled.id)
    client.pause(paused.id)
    for each, state in ((done, "done"), (failed, "failed"), (cancelled, "cancelled"), (paused, "paused")):
        eventually(lambda each=each, state=state: client.job(each.id).state == state)
        yield client.job(each.id)


def _lasting(job: Job) -> Job:
    return msgspec.structs.replace(job, progress=None)


def _code(reply: list[bytes]) -> str:
    """``ok``, or the code of the error in a reply; AssertionError for one that says too little, or of a bug."""
    try:
        wire.read_answer(reply, Any)
    except AlloydError as error:
        check(error, named=PLACES)
        return error.code
    return "ok"


PLACES: Final = ("message", "request", "job", "daemon", "folder", "path", "key", "header", "size", "machine")
"""What an error of the service is about, where its facts do not say."""


def _files(root: Path) -> Iterator[Path]:
    return (path for path in root.rglob("*") if not path.is_dir())


@pytest.fixture
def attack(far: Far) -> Iterator[Attack]:
    made = Attack(far, 0)
    yield made
    made.context.destroy(0)


@pytest.mark.parametrize("far", [{"RATE": "1000000"}], indirect=True)
def test_a_slice_of_the_protocol(attack: Attack) -> None:
    attack.run(SLICE)
    attack.end()
    assert attack.codes["ok"] > SLICE / 20
    assert attack.codes["E_PROTOCOL"] > SLICE / 20


@pytest.mark.soak
@pytest.mark.parametrize("far", [{"RATE": "1000000"}], indirect=True)
def test_the_protocol_whole(far: Far) -> None:
    attack = Attack(far, random.SystemRandom().randrange(2**32))
    begun, before = time.monotonic(), attack.memory()
    attack.run(WHOLE)
    print(
        f"{WHOLE} messages of seed {attack.seed} in {time.monotonic() - begun:.0f} s: {attack.codes.most_common()}"
    )
    print(f"slowest answers to a batch {attack.slowest:.2f} s; memory from {before} to {attack.memory()}")
    attack.end()
