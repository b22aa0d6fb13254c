"""What peers may do to the gateway, and that the daemon does not notice."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator

import psutil
import pytest
import zmq

from alloyd import connecting
from alloyd.roles import Role
from remote.conftest import Far
from trial_daemon import PATIENCE, eventually, trial


class Peers:
    """Sockets for frames that no client would send."""

    def __init__(self) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._made: list[zmq.Socket[bytes]] = []

    def plain(self) -> zmq.Socket[bytes]:
        """One without keys, not yet connected."""
        self._made.append(self._context.socket(zmq.DEALER))
        return self._made[-1]

    def dealer(self, name: str) -> zmq.Socket[bytes]:
        """One with the keys of a profile, connected."""
        remote = connecting.remote(name)
        assert remote is not None
        made = self.plain()
        remote.dress(made)
        made.connect(remote.profile.requests)
        return made

    def drop(self) -> None:
        """Close them all."""
        for each in self._made:
            each.close(0)

    def close(self) -> None:
        self.drop()
        self._context.term()


@pytest.fixture
def peers() -> Iterator[Peers]:
    made = Peers()
    yield made
    made.close()


def gateway(far: Far) -> psutil.Process:
    found = [each for each in far.daemon.children() if "alloyd_daemon.service.gateway" in each.cmdline()]
    assert len(found) == 1
    return found[0]


def answers(far: Far, name: str) -> bool:
    """Whether a known key is served, by a gateway that may just be starting."""
    try:
        with far.client(name, timeout=10.0) as client:
            return bool(client.status().pid)
    except Exception:
        return False


def test_noise_is_no_handshake(far: Far) -> None:
    far.key("laptop", Role.READ)
    host, port = far.address.removeprefix("tcp://").split(":")
    for noise in (
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff" * 5000,
        b"\xff\0\0\0\0\0\0\0\1\x7f\3\0NULL" + b"\0" * 60,
        b"",
    ):
        with socket.create_connection((host, int(port)), timeout=PATIENCE) as peer:
            peer.sendall(noise)
            time.sleep(0.05)
    eventually(lambda: answers(far, "laptop"))


def test_a_peer_without_curve_is_not_heard(far: Far, peers: Peers) -> None:
    plain = peers.plain()
    plain.connect(far.address)
    plain.send_multipart([b"<alloyd>", b'{"id": "1", "kind": "status"}', b"{}", b"{}"])
    assert not plain.poll(1500)


@pytest.mark.parametrize(
    "frames",
    [[b""], [b"x"] * 3, [b"<alloyd>"] * 4, [b"<alloyd>", b"[[", b"", b""], [b"x"] * 5000],
    ids=["empty", "three", "marks", "broken", "many"],
)
def test_malformed_messages_are_answered(far: Far, peers: Peers, frames: list[bytes]) -> None:
    far.key("laptop", Role.READ)
    peer = peers.dealer("laptop")
    peer.send_multipart(frames)
    assert peer.poll(int(PATIENCE * 1000))
    assert b"E_PROTOCOL" in peer.recv_multipart()[3]
    eventually(lambda: answers(far, "laptop"))


def test_nobody_can_say_that_he_is_another(far: Far, peers: Peers) -> None:
    """Whatever stands in the header, the gateway writes the key over it that the handshake proved."""
    admin = far.key("boss", Role.ADMIN)
    far.key("screen", Role.READ)
    for said in (admin.public, "", "local"):
        peer = peers.dealer("screen")
        header = f'{{"id": "1", "kind": "config", "caller": "{said}"}}'.encode()
        peer.send_multipart([b"<alloyd>", header, b"{}", b"{}"])
        assert peer.poll(int(PATIENCE * 1000))
        assert b"needs the role admin" in peer.recv_multipart()[3]


def test_a_message_that_is_too_large_ends_the_connection(far: Far, peers: Peers) -> None:
    far.key("laptop", Role.READ)
    peer = peers.dealer("laptop")
    peer.send_multipart([b"<alloyd>", b'{"id": "1", "kind": "status"}', b"{}", b" " * 2_000_000])
    assert not peer.poll(1000)
    eventually(lambda: answers(far, "laptop"))


@pytest.mark.parametrize("far", [{"MEMORY": "400MB"}], indirect=True)
def test_a_message_without_end_costs_the_gateway_only(far: Far, peers: Peers) -> None:
    far.key("laptop", Role.READ)
    eventually(lambda: answers(far, "laptop"))
    rss = psutil.Process(far.daemon.pid).memory_info().rss
    peer = peers.dealer("laptop")
    piece = zmq.Frame(b"x" * 1_000_000)
    # The library sends a message when its last frame is known; until then the frames are one piece of memory.
    peer.send_multipart([piece] * 600, copy=False)
    most = 0
    for _ in range(100):
        most = max([most, *(each.memory_info().rss for each in far.daemon.children())])
        time.sleep(0.05)
    assert most < 400e6
    peers.drop()
    with far.daemon.client() as local:
        assert local.status().pid == far.daemon.pid
    assert psutil.Process(far.daemon.pid).memory_info().rss < rss + 50 * 2**20
    eventually(lambda: answers(far, "laptop"))


def test_a_killed_gateway_comes_back_and_jobs_do_not_notice(far: Far) -> None:
    far.key("laptop", Role.SUBMIT)
    with far.client("laptop") as client:
        job = client.submit(trial(far.root / "out", 30, pause=0.1))
        gateway(far).kill()
        assert client.wait(job.id, timeout=PATIENCE).attempts <= 1


@pytest.mark.parametrize("far", [{"CONNECTIONS": "4"}], indirect=True)
def test_connections_are_limited_and_those_that_show_no_key_end(far: Far) -> None:
    far.key("laptop", Role.READ)
    host, port = far.address.removeprefix("tcp://").split(":")
    with far.client("laptop") as early:
        early.status()
        held: list[socket.socket] = []
        for _ in range(4):  # on a busy machine the first may be gone before anybody looks
            held += [socket.create_connection((host, int(port)), timeout=PATIENCE) for _ in range(20)]
            with contextlib.suppress(AssertionError):
                eventually(lambda: "as many as may be" in far.log, seconds=10)
                break
        assert "as many as may be" in far.log
        assert len(gateway(far).net_connections()) <= 4 * 2 + 4 + 4
        early.status()  # who is in stays in
        eventually(lambda: answers(far, "laptop"))  # and the others make room
        for each in held:
            each.close()


def test_a_peer_that_never_reads_does_not_stop_others(far: Far, peers: Peers) -> None:
    far.key("slow", Role.READ)
    far.key("laptop", Role.READ)
    peer = peers.dealer("slow")
    peer.setsockopt(zmq.RCVHWM, 1)
    for number in range(400):
        if peer.poll(50, zmq.POLLOUT):
            header = f'{{"id": "{number}", "kind": "jobs"}}'.encode()
            peer.send_multipart([b"<alloyd>", header, b"{}", b"{}"])
    eventually(lambda: answers(far, "laptop"))
