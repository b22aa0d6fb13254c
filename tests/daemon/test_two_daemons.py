"""A second daemon on one home, or on another's socket, refuses with one error; what a killed one left stops nobody."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import trial_daemon
from alloyd import AsyncClient, Client
from alloyd.jobs import JobState
from alloyd.paths import Home, lock_holder
from alloyd_daemon.main import take_lock
from trial_daemon import PATIENCE, TrialDaemon, eventually, lines, trial


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[TrialDaemon]:
    with TrialDaemon(tmp_path / "home") as running:
        yield running


def alloyd(daemon: TrialDaemon, *words: str, **environ: str) -> subprocess.Popen[str]:
    path = os.pathsep.join(part for part in sys.path if part)
    return subprocess.Popen(
        [sys.executable, "-m", "alloyd_daemon", *words],
        env={**os.environ, "PYTHONPATH": path, **daemon.environ, **environ},
        stderr=subprocess.PIPE,
        text=True,
    )


def refused(process: subprocess.Popen[str]) -> list[str]:
    """The lines that a daemon said which did not start."""
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode not in (0, None)
    lines = said.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["error", "hint"], said
    return lines


@pytest.mark.parametrize("how", ["plain", "by a link", "--detach", "--once"])
def test_a_second_one_refuses_and_the_first_goes_on(daemon: TrialDaemon, tmp_path: Path, how: str) -> None:
    with daemon.client() as client:
        job = client.submit(trial(tmp_path / "out", 20, pause=0.1))
        eventually(lambda: client.job(job.id).state is JobState.RUNNING)
        known = daemon.home.connection.read_bytes()
        home = daemon.home.root
        if how == "by a link":
            home = tmp_path / "link"
            home.symlink_to(daemon.home.root)
        second = alloyd(daemon, "--home", str(home), *([how] if how.startswith("--") else []))
        if how == "--detach":
            second.communicate(timeout=PATIENCE)
            eventually(lambda: "belongs to a running daemon" in daemon.home.stray.read_text())
        else:
            assert f"belongs to a running daemon (process {daemon.pid})" in refused(second)[0]
            assert second.returncode == 9
        assert daemon.home.connection.read_bytes() == known
        assert client.wait(job.id, timeout=PATIENCE).attempts == 1
    assert (tmp_path / "out").read_text() == lines(20)


def test_of_many_that_start_at_once_one_lives(daemon: TrialDaemon) -> None:
    daemon.kill()
    others = [alloyd(daemon, "--home", str(daemon.home.root)) for _ in range(4)]
    eventually(lambda: sum(each.poll() is not None for each in others) == 3)
    (living,) = [each for each in others if each.poll() is None]
    try:
        for each in others:
            if each is not living:
                assert f"(process {living.pid})" in refused(each)[0]
        with daemon.client() as client:
            eventually(daemon.home.connection.exists)
            assert client.status().pid == living.pid
    finally:
        living.terminate()
        living.communicate(timeout=PATIENCE)
    assert living.returncode == 0


def test_what_a_killed_one_left_stops_nobody(daemon: TrialDaemon, tmp_path: Path) -> None:
    """Its lock file names a process that lives, its sockets and files are there: none of it counts without a lock."""
    with daemon.client() as client:
        client.submit(trial(tmp_path / "out", 40, pause=0.05))
        eventually((tmp_path / "out.partial").exists)
    daemon.kill_all()
    daemon.home.lock.write_text(f"{os.getpid()}\n")
    torn = daemon.home.root / f".connection.json.{daemon.pid}"
    torn.write_text('{"pid":')
    assert len(list(Path(daemon.runtime).rglob("*.*s"))) == 2
    assert lock_holder(daemon.home) is None
    daemon.start()
    with daemon.client() as client:
        assert client.wait("1", timeout=PATIENCE).state is JobState.DONE
    assert not torn.exists()
    assert daemon.terminate() == 0
    assert not list(Path(daemon.runtime).rglob("*.*s"))


def test_a_socket_that_another_home_uses_is_not_taken_from_it(daemon: TrialDaemon, tmp_path: Path) -> None:
    """One configuration with an endpoint of its own, and two homes."""
    daemon.terminate()
    place = Path(daemon.runtime) / "mine"
    daemon.start(ALLOYD_DAEMON_ENDPOINT=f"ipc://{place}")
    second = alloyd(daemon, "--home", str(tmp_path / "other"), ALLOYD_DAEMON_ENDPOINT=f"ipc://{place}")
    assert str(place) in refused(second)[0]
    with daemon.client() as client:
        assert client.status().pid == daemon.pid
    daemon.kill_all()
    with socket.socket(socket.AF_UNIX) as probe, pytest.raises(ConnectionRefusedError):
        probe.connect(f"{place}.requests")
    daemon.start(ALLOYD_DAEMON_ENDPOINT=f"ipc://{place}")


@pytest.mark.parametrize("kind", ["Client", "AsyncClient"])
def test_what_the_next_daemon_is_slow_to_answer_is_not_asked_of_it_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A cancel that is done twice is an error the second time."""
    slow = "from alloyd_daemon.service.worker import Worker; import os, time; step = Worker.step\n"
    slow += "def slowly(self):\n    time.sleep(float(os.environ.get('SLOW', 0)))\n    return step(self)\n"
    monkeypatch.setattr(trial_daemon, "DAEMON", f"{slow}Worker.step = slowly\n{trial_daemon.DAEMON}")
    first, second = trial(tmp_path / "first", 99, pause=0.1), trial(tmp_path / "second", 1)

    async def cancel() -> None:
        async with AsyncClient(home=tmp_path / "home") as client:
            await client.submit(first)
            job = await client.submit(second)
            daemon.kill()
            daemon.start(SLOW="1.5")
            assert (await client.cancel(job.id)).state is JobState.CANCELLED

    with TrialDaemon(tmp_path / "home") as daemon:
        if kind == "AsyncClient":
            asyncio.run(cancel())
            return
        with Client(home=tmp_path / "home") as client:
            client.submit(first)
            job = client.submit(second)
            daemon.kill()
            daemon.start(SLOW="1.5")
            assert client.cancel(job.id).state is JobState.CANCELLED


def test_a_client_that_looks_who_owns_a_home_keeps_no_daemon_from_it(tmp_path: Path) -> None:
    home = Home(tmp_path)
    looking = os.open(home.lock, os.O_RDWR | os.O_CREAT)
    fcntl.flock(looking, fcntl.LOCK_SH)
    threading.Timer(0.1, os.close, [looking]).start()
    os.close(take_lock(home))
