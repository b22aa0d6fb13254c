"""What systemd hears, on a socket of the test's own."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from alloyd_daemon.service.notify import Notifier
from trial_daemon import PATIENCE, TrialDaemon, eventually, trial


class Listener:
    """A notify socket that collects what it is told."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(place)
        self.socket.setblocking(False)
        self.heard: list[str] = []

    def hear(self) -> list[str]:
        while True:
            try:
                self.heard += self.socket.recv(4096).decode().splitlines()
            except BlockingIOError:
                return self.heard


@pytest.fixture
def listener() -> Iterator[Listener]:
    with tempfile.TemporaryDirectory(prefix="alloyd-", dir="/tmp") as short:
        one = Listener(f"{short}/notify")
        yield one
        one.socket.close()


def test_a_daemon_tells_its_life(tmp_path: Path, listener: Listener) -> None:
    environ = {"NOTIFY_SOCKET": listener.place, "WATCHDOG_USEC": "400000"}
    with TrialDaemon(tmp_path / "home", **environ) as daemon:
        eventually(lambda: "READY=1" in listener.hear())
        assert f"MAINPID={daemon.pid}" in listener.heard
        with daemon.client() as client:
            job = client.submit(trial(tmp_path / "a", at={2: "hold"}))
            eventually(lambda: "STATUS=jobs: 1 running" in listener.hear())
            (child,) = daemon.children()
            assert "NOTIFY_SOCKET" not in child.environ()
            eventually(lambda: listener.hear().count("WATCHDOG=1") > 4)
            client.cancel(job.id)
            eventually(lambda: "STATUS=jobs: 1 cancelled" in listener.hear())
        assert "STOPPING=1" not in listener.hear()
        assert daemon.terminate() == 0
        assert "STOPPING=1" in listener.hear()


def test_a_daemon_that_does_not_turn_does_not_feed_its_watchdog(tmp_path: Path, listener: Listener) -> None:
    environ = {"NOTIFY_SOCKET": listener.place, "WATCHDOG_USEC": "200000"}
    with TrialDaemon(tmp_path / "home", **environ) as daemon:
        eventually(lambda: "WATCHDOG=1" in listener.hear())
        os.kill(daemon.pid, signal.SIGSTOP)
        eventually(lambda: psutil.Process(daemon.pid).status() == psutil.STATUS_STOPPED)
        listener.hear()
        listener.socket.settimeout(1.0)
        with contextlib.suppress(TimeoutError):
            listener.socket.recv(4096)
            pytest.fail("a stopped daemon went on feeding")
        os.kill(daemon.pid, signal.SIGCONT)
        listener.socket.settimeout(PATIENCE)
        assert listener.socket.recv(4096)


def test_the_watchdog_is_fed_twice_in_its_time_and_a_status_told_once(listener: Listener) -> None:
    time = 0.0
    environ = {"NOTIFY_SOCKET": listener.place, "WATCHDOG_USEC": "30000000", "OTHER": "stays"}
    notifier = Notifier(environ, clock=lambda: time)
    assert environ == {"OTHER": "stays"}
    for time in range(61):
        notifier.turn("one" if time < 30 else "two")
    assert listener.hear() == [
        "STATUS=one",
        "WATCHDOG=1",
        "WATCHDOG=1",
        "STATUS=two",
        "WATCHDOG=1",
        "WATCHDOG=1",
    ]
    assert notifier.patience == 7.5


def test_an_abstract_socket_is_understood() -> None:
    listener = Listener("\0alloyd-test-" + str(os.getpid()))
    Notifier({"NOTIFY_SOCKET": "@alloyd-test-" + str(os.getpid())}).ready()
    assert "READY=1" in listener.hear()
    listener.socket.close()


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": "/absent/socket"}, {"NOTIFY_SOCKET": "x" * 500},
                                     {"NOTIFY_SOCKET": "/absent", "WATCHDOG_USEC": "never"}])  # fmt: skip
def test_nobody_who_listens_is_no_error(environ: dict[str, str]) -> None:
    notifier = Notifier(environ)
    notifier.ready()
    notifier.turn("well")
    notifier.stopping()
    assert notifier.patience == float("inf")


def test_a_watchdog_of_another_process_is_not_fed() -> None:
    assert Notifier({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}).patience == float("inf")
