"""Messages that no client of ours would send: each gets an answer or none, and the daemon goes on."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
import zmq

from alloyd import wire
from alloyd.errors import ProtocolError, UsageError
from alloyd.jobs import JobState
from trial_daemon import PATIENCE, TrialDaemon, eventually, trial


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[TrialDaemon]:
    with TrialDaemon(tmp_path / "home") as running:
        yield running


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrialDaemon]:
    """One for all that is only asked, with a job that has ended."""
    folder = tmp_path_factory.mktemp("lasting")
    with TrialDaemon(folder / "home") as running:
        with running.client() as client:
            client.wait(client.submit(trial(folder / "out", 1)).id, timeout=PATIENCE)
        yield running


@contextmanager
def speaking(daemon: TrialDaemon) -> Iterator[zmq.Socket[bytes]]:
    """A socket that says anything to a daemon."""
    connection = msgspec.json.decode(daemon.home.connection.read_bytes(), type=wire.Connection)
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.setsockopt(zmq.RCVTIMEO, int(PATIENCE * 1000))
        dealer.connect(connection.requests)
        yield dealer


@pytest.fixture
def raw(lasting: TrialDaemon) -> Iterator[zmq.Socket[bytes]]:
    with speaking(lasting) as dealer:
        yield dealer


def test_malformed_messages_get_an_error_and_the_daemon_goes_on(
    lasting: TrialDaemon, raw: zmq.Socket[bytes]
) -> None:
    _, good = wire.ask(wire.Hello(), "s")
    header = json.loads(good[1])
    bad: list[list[bytes]] = [
        [b""],
        [b"hello"],
        [wire.MARK],
        [wire.MARK, b"{}", b"{}"],
        [*good, b"one more"],
        [b"<other>", *good[1:]],
        [wire.MARK, b"\xff\xff", b"{}", b"{}"],
        [wire.MARK, b"[]", b"{}", b"{}"],
        [wire.MARK, b"[" * 50_000, b"{}", b"{}"],
        [wire.MARK, json.dumps({**header, "kind": "boom"}).encode(), b"{}", b"{}"],
        [wire.MARK, json.dumps({**header, "protocol": "99.1"}).encode(), b"{}", b"{}"],
        [*good[:3], b"null"],
        [*good[:3], b'{"unknown": 1}'],
        [*good[:3], b"\x00" * 1000],
    ]
    for frames in bad:
        raw.send_multipart(frames)
        with pytest.raises((ProtocolError, UsageError)):
            wire.read_answer(raw.recv_multipart(), object)
    noise = random.Random(0)
    for _ in range(300):
        raw.send_multipart([noise.randbytes(noise.randrange(50)) for _ in range(noise.randrange(1, 8))])
        raw.recv_multipart()
    raw.send_multipart(good)
    assert wire.read_answer(raw.recv_multipart(), wire.Greeting).pid == lasting.pid
    with lasting.client() as client:
        assert client.status().malformed >= 300


@pytest.mark.parametrize(
    "request_",
    [
        wire.ListEvents(2**62, "", -5),
        wire.ListEvents(-(2**62), "", 2**62),
        wire.ListJobs((), -1),
        wire.ListJobs((JobState.DONE,), 2**62),
        wire.ListJobs((JobState.QUEUED,) * 40_000, 5, "next", -(2**62)),
        wire.GetJob("x" * 100_000),
        wire.GetJob("merge-\x00"),
        wire.GetJob("9" * 5001),
        wire.ReadLog("../../etc/passwd"),
        wire.ReadLog("1", -(2**62)),
        wire.ReadLog("1", 2**62),
        wire.Submit({}, "t"),
        wire.Submit({"kind": ["merge"]}, "t"),
        wire.Submit({"kind": "merge", "recipe": "x" * 1_000_000, "base_dir": "/", "out": "/o"}, "t"),
    ],
    ids=lambda each: type(each).__name__,
)
def test_strange_fields_are_answered(
    lasting: TrialDaemon, raw: zmq.Socket[bytes], request_: wire.Request
) -> None:
    with lasting.client() as client:
        name, frames = wire.ask(request_, "s")
        raw.send_multipart(frames)
        reply = raw.recv_multipart()
        assert wire.answers(reply) == name
        said = json.loads(reply[3])
        assert said["status"] == "ok" or said["error"]["code"] in ("E_USAGE", "E_JOB_NOT_FOUND"), said
        assert client.hello().pid == lasting.pid


def test_a_peer_that_leaves_before_its_answer_does_no_harm(lasting: TrialDaemon) -> None:
    connection = msgspec.json.decode(lasting.home.connection.read_bytes(), type=wire.Connection)
    with zmq.Context() as context:
        for _ in range(20):
            with context.socket(zmq.DEALER) as dealer:
                dealer.setsockopt(zmq.LINGER, 0)
                dealer.connect(connection.requests)
                for _ in range(20):
                    dealer.send_multipart(wire.ask(wire.ListJobs(), "s")[1])
    with lasting.client() as client:
        assert client.hello().pid == lasting.pid


def test_a_subscriber_that_does_not_read_does_not_hold_the_daemon(
    daemon: TrialDaemon, tmp_path: Path
) -> None:
    connection = msgspec.json.decode(daemon.home.connection.read_bytes(), type=wire.Connection)
    with zmq.Context() as context, context.socket(zmq.SUB) as deaf:
        deaf.setsockopt(zmq.RCVHWM, 1)
        deaf.subscribe(b"")
        deaf.connect(connection.events)
        with daemon.client() as client:
            for number in range(12):
                job = client.submit(trial(tmp_path / f"out{number}", 1, at={0: "note"}))
            client.wait(job.id, timeout=PATIENCE)
            assert client.status().last_event >= 48


def test_the_sockets_are_private_and_go_with_the_daemon(daemon: TrialDaemon) -> None:
    connection = msgspec.json.decode(daemon.home.connection.read_bytes(), type=wire.Connection)
    sockets = [Path(address.removeprefix("ipc://")) for address in (connection.requests, connection.events)]
    for place in sockets:
        assert place.stat().st_mode & 0o077 == 0
        assert place.parent.stat().st_mode & 0o077 == 0
    daemon.terminate()
    assert not any(place.exists() for place in sockets)


def test_a_daemon_whose_home_was_taken_away_ends(daemon: TrialDaemon) -> None:
    with daemon.client() as client:
        pid = client.hello().pid
    assert daemon.process is not None
    shutil.rmtree(daemon.home.root)
    assert daemon.process.wait(PATIENCE) == 0
    assert not Path(f"/proc/{pid}").exists()


def test_dead_sockets_of_other_homes_are_swept(tmp_path: Path) -> None:
    import os
    import socket

    with TrialDaemon(tmp_path / "home") as daemon:
        folder = Path(daemon.runtime) / "alloyd"
        daemon.terminate()
        for name, age in (("dead.requests", 120), ("young.requests", 0)):
            with socket.socket(socket.AF_UNIX) as made:
                made.bind(str(folder / name))
            os.utime(folder / name, (os.stat(folder).st_mtime - age,) * 2)
        with socket.socket(socket.AF_UNIX) as living:
            living.bind(str(folder / "living.events"))
            living.listen()
            os.utime(folder / "living.events", (1, 1))
            (folder / "a.file.requests").write_text("not a socket")
            daemon.start()
            with daemon.client() as client:
                client.hello()
            eventually(lambda: not (folder / "dead.requests").exists())
            left = {place.name for place in folder.iterdir()}
        assert {"young.requests", "living.events", "a.file.requests"} <= left


def test_an_output_that_would_lie_in_the_daemons_own_folder_is_refused(
    lasting: TrialDaemon, raw: zmq.Socket[bytes]
) -> None:
    spec = {"kind": "merge", "recipe": '{"steps": 1}', "base_dir": "/", "out": "somewhere"}
    _, frames = wire.ask(wire.Submit(spec, "token"), "s")
    raw.send_multipart(frames)
    with pytest.raises(UsageError, match="out must be an absolute path, not 'somewhere'"):
        wire.read_answer(raw.recv_multipart(), dict)
    with lasting.client() as client:
        assert [Path(job.out).name for job in client.jobs()] == ["out"]


def test_a_character_that_a_piece_of_log_would_cut_is_in_the_next_one(
    daemon: TrialDaemon, tmp_path: Path
) -> None:
    with daemon.client() as client:
        job = client.submit(trial(tmp_path / "out", 900, pause=0.05))
        eventually(lambda: client.job(job.id).state is JobState.RUNNING)
        said = "x" + 100_000 * "\u20ac"  # 300,001 bytes: no piece of 256 KiB ends between two characters
        daemon.home.log(job.id).write_text(said + "\u20ac", encoding="utf-8")
        with open(daemon.home.log(job.id), "r+b") as log:
            log.truncate(len(said.encode()) + 2)  # the last one is being written
        read, offset = "", 0
        while (piece := client.log(job.id, offset=offset)).text:
            read, offset = read + piece.text, piece.next
        assert read == said
        client.cancel(job.id)
        eventually(lambda: client.job(job.id).state is JobState.CANCELLED)
        last = client.log(job.id, offset=offset)
        assert (last.text, last.end) == ("\ufffd", True)
