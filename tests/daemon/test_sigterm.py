"""SIGTERM to the daemon while jobs are in every state: it stops soon and in order, and the next one loses nothing."""

from __future__ import annotations

import contextlib
import itertools
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from alloyd import Client
from alloyd.errors import ServiceError
from alloyd.jobs import JobState
from alloyd_daemon.service.store import Store
from trial_daemon import PATIENCE, TrialDaemon, eventually, let_go, lines, trial

STEPS = 8
Scene = Callable[[Client, Path], JobState]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[TrialDaemon]:
    with TrialDaemon(tmp_path / "home") as running:
        yield running


def at_work(client: Client, folder: Path, job: str, name: str = "out") -> None:
    """Wait until a job has written something."""
    staging = folder / f"{name}.partial"
    eventually(lambda: staging.exists() and staging.stat().st_size > 0)
    assert client.job(job).state is JobState.RUNNING


# Each brings about a state in which job 1 is, and returns the one that the next daemon must bring it to. Jobs that
# hold are let go when that daemon is there.


def queued(client: Client, folder: Path) -> JobState:
    client.submit(trial(folder / "out", STEPS))  # before the daemon has looked at it
    return JobState.DONE


def starting(client: Client, folder: Path) -> JobState:
    job = client.submit(trial(folder / "out", STEPS, pause=0.02))
    eventually(lambda: client.job(job.id).state is JobState.RUNNING)  # its libraries are being loaded
    return JobState.DONE


def running(client: Client, folder: Path) -> JobState:
    job = client.submit(trial(folder / "out", STEPS, at={3: "hold"}))
    at_work(client, folder, job.id)
    return JobState.DONE


def pausing(client: Client, folder: Path) -> JobState:
    job = client.submit(trial(folder / "out", STEPS, at={3: "hold"}))
    at_work(client, folder, job.id)
    client.pause(job.id)
    return JobState.PAUSED


def paused(client: Client, folder: Path) -> JobState:
    pausing(client, folder)
    eventually(lambda: client.job("1").state is JobState.PAUSED)
    return JobState.PAUSED


def resuming(client: Client, folder: Path) -> JobState:
    pausing(client, folder)
    client.resume("1")
    return JobState.DONE


def cancelling(client: Client, folder: Path) -> JobState:
    job = client.submit(trial(folder / "out", STEPS, at={3: "hold"}))
    at_work(client, folder, job.id)
    client.cancel(job.id)
    return JobState.CANCELLED


def waiting_to_be_tried_again(client: Client, folder: Path) -> JobState:
    client.submit(trial(folder / "out", STEPS, at={2: "hold", 3: "die once"}))
    eventually(lambda: client.job("1").state is JobState.RUNNING)
    other = client.submit(trial(folder / "other", 20, at={3: "hold"}), priority=9)
    let_go(folder / "out")
    at_work(client, folder, other.id, "other")
    assert client.job("1").state is JobState.QUEUED
    assert client.job("1").attempts == 1
    return JobState.DONE


def waiting_for_room(client: Client, folder: Path) -> JobState:
    (folder / "out.full").touch()
    job = client.submit(trial(folder / "out", STEPS, at={3: "full"}))
    eventually(lambda: client.job(job.id).attempts >= 1 and client.job(job.id).reason.startswith("waits"))
    return JobState.DONE


def waiting_for_another(client: Client, folder: Path) -> JobState:
    first = client.submit(trial(folder / "other", 20, at={3: "hold"}))
    client.submit(trial(folder / "out", STEPS), after=[first.id])
    at_work(client, folder, first.id, "other")
    return JobState.DONE


def publishing(client: Client, folder: Path) -> JobState:
    client.submit(trial(folder / "out", STEPS, at={STEPS: "hold"}))
    eventually((folder / "out").exists)
    assert client.job("1").state is JobState.RUNNING
    return JobState.DONE


def done(client: Client, folder: Path) -> JobState:
    client.wait(client.submit(trial(folder / "out", STEPS)).id, timeout=PATIENCE)
    return JobState.DONE


SCENES: tuple[Scene, ...] = (
    queued, starting, running, pausing, paused, resuming, cancelling, waiting_to_be_tried_again, waiting_for_room,
    waiting_for_another, publishing, done,
)  # fmt: skip


@pytest.mark.parametrize(
    ("scene", "signals"),
    [
        *(pytest.param(scene, 1, id=scene.__name__) for scene in SCENES),
        *(
            pytest.param(scene, 2, id=f"{scene.__name__}-twice")
            for scene in (running, pausing, cancelling, publishing)
        ),
    ],
)
def test_nothing_is_lost(daemon: TrialDaemon, tmp_path: Path, scene: Scene, signals: int) -> None:
    with daemon.client() as client:
        wanted = scene(client, tmp_path)
        children = daemon.children()
    assert daemon.process is not None
    for _ in range(signals):
        daemon.process.send_signal(signal.SIGTERM)
    if scene is publishing:  # its end is waited for
        let_go(tmp_path / "out")
    assert daemon.process.wait(PATIENCE) == 0
    assert not [each for each in children if each.is_running()]
    assert not daemon.home.connection.exists()
    assert not list(Path(daemon.runtime).rglob("*.*s"))
    (tmp_path / "out.full").unlink(missing_ok=True)
    out = tmp_path / "out"
    for each in (out, tmp_path / "other"):
        let_go(each)
    daemon.start()
    with daemon.client() as client:
        if wanted is JobState.PAUSED:
            eventually(lambda: client.job(name(client)).state is wanted)
            client.resume(name(client))
            wanted = JobState.DONE
        eventually(lambda: client.job(name(client)).state is wanted)
        eventually(lambda: not (tmp_path / "out.partial").exists())
        assert out.exists() == (wanted is JobState.DONE)
        assert not out.exists() or out.read_text() == lines(STEPS)
        numbers = [event.seq for event in client.events()]
        assert numbers == list(range(1, len(numbers) + 1))


def name(client: Client) -> str:
    """The job that makes ``out``."""
    return next(job.id for job in client.jobs() if Path(job.out).name == "out")


def test_an_idle_daemon_stops_at_once(daemon: TrialDaemon) -> None:
    begun = time.monotonic()
    assert daemon.terminate() == 0
    assert time.monotonic() - begun < 5
    assert not list(Path(daemon.runtime).rglob("*.*s"))


def test_what_clients_ask_at_this_moment_is_done_once_or_refused(daemon: TrialDaemon, tmp_path: Path) -> None:
    """Submissions never stop coming, under keys; what was not answered is asked again of the next daemon."""
    answered: dict[int, str] = {}
    enough = threading.Event()

    def ask(first: int) -> None:
        with daemon.client() as client, contextlib.suppress(ServiceError):
            for number in itertools.count(first, 4):
                spec = trial(tmp_path / f"out-{number}", 1)
                answered[number] = client.submit(spec, key=f"{number}", priority=-number % 7).id
                if number > 20:
                    enough.set()

    askers = [threading.Thread(target=ask, args=(first,)) for first in range(4)]
    for each in askers:
        each.start()
    assert enough.wait(PATIENCE)
    assert daemon.terminate() == 0
    for each in askers:
        each.join()
    store = Store(daemon.home.store)
    kept = {job.out for job in store.jobs()}
    store.close()
    assert kept >= {str(tmp_path / f"out-{number}") for number in answered}
    daemon.start()
    with daemon.client() as client:
        for number, job in answered.items():
            assert client.submit(trial(tmp_path / f"out-{number}", 1), key=f"{number}").id == job
        assert len(client.jobs()) == len(kept)
        first = client.jobs([JobState.QUEUED])[0].id  # the newest: it waits longest
        client.move(first, "top")
        client.wait(first, timeout=PATIENCE)
