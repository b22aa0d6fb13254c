"""What the worker computes by itself: speed, the names of deaths, and which files changed."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloyd.jobs import Job, JobState, Note, Progress
from alloyd.paths import Home
from alloyd_daemon.service.deaths import Death, _changed, cause
from alloyd_daemon.service.pace import PaceMeter
from alloyd_daemon.service.pipe import LARGEST, Begin, Frames, Halt, Halted, frame
from alloyd_daemon.service.store import Store
from alloyd_daemon.service.store_rows import Waiting
from alloyd_daemon.service.worker import LOOK, REST, Worker
from alloyd_daemon.settings import Settings
from trial_daemon import trial


def test_speed_is_that_of_the_last_seconds() -> None:
    meter = PaceMeter()
    assert meter.take(Progress(1000, 9000), 0.0).rate is None
    assert meter.take(Progress(1000, 9000), 0.1).rate is None
    pace = meter.take(Progress(2000, 9000), 1.0)
    assert (pace.rate, pace.eta) == (1000, 7)
    for second in range(2, 61):
        pace = meter.take(Progress(2000 + 10 * second, 9000), float(second))
    assert pace.rate == pytest.approx(10)


def test_another_piece_of_work_has_its_own_speed() -> None:
    meter = PaceMeter()
    for second in range(5):
        meter.take(Progress(second * 10, 100), float(second))
    assert meter.take(Progress(0, 7, "items"), 5.0).rate is None
    assert meter.take(Progress(2, 7, "items"), 6.0).rate == 2
    assert meter.take(Progress(1, 7, "items"), 7.0).rate is None


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100), st.floats(0, 10)), max_size=30))
def test_speed_never_fails(reports: list[tuple[int, int, float]]) -> None:
    meter, at = PaceMeter(), 0.0
    for done, total, after in reports:
        at += after
        pace = meter.take(Progress(done, total), at)
        assert pace.rate is None or pace.rate >= 0


def test_changed_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"xyz")
    when = time.time() + 5
    assert not _changed(tmp_path, when, 3)
    assert _changed(tmp_path, when, 4)
    assert _changed(tmp_path, when - 60, 3)
    assert _changed(tmp_path / "absent", when, 0)
    os.utime(tmp_path / "model.safetensors", (when + 1, when + 1))
    assert _changed(tmp_path, when, 0)
    assert _changed(tmp_path / "model.safetensors", when, 0)


def test_a_job_that_lost_its_mapped_bytes_blames_the_adapter_or_its_model(tmp_path: Path) -> None:
    models = []
    for name, adapter in (("base", None), ("base", "adapter")):
        places = {"path": str(tmp_path / name), "adapter": adapter and str(tmp_path / adapter)}
        models.append(places | {"name": name, "bytes": 12 if adapter else 8})
    for name, size in (("base", 8), ("adapter", 4)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"x" * size)
    named = f"{tmp_path / 'base'}+{tmp_path / 'adapter'}"
    job = Job(
        "score-1", "score", JobState.RUNNING, datetime.now(UTC),
        spec={"subjects": [{"path": named}, {"path": "org/base"}]}, summary={"models": models},
    )  # fmt: skip
    death = Death(job, -signal.SIGBUS, time.time() + 5, 0, False)
    assert f"one of {tmp_path / 'base'}, {tmp_path / 'adapter'}" in cause(death).message
    for name in ("adapter", "base"):
        file = tmp_path / name / "model.safetensors"
        whole = file.read_bytes()
        file.write_bytes(b"")
        os.utime(file, (death.begun + 1, death.begun + 1))
        assert cause(death).facts["path"] == str(tmp_path / name)
        file.write_bytes(whole)
        os.utime(file, (1, 1))
        death = replace(death, begun=time.time() + 5)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=50))
def test_frames_are_cut_wherever_the_pipe_splits_them(cuts: list[int]) -> None:
    messages = [
        Begin("run", "merge", {"a": 1}, "/h", "merge-1", {}, "/h/logs/merge-1.log"),
        Halt("pause"),
        Note("info", "x"),
        Halted("pause"),
    ]
    data = b"".join(frame(message) for message in messages)
    frames, bodies, place, turn = Frames(), [], 0, 0
    while place < len(data):
        step = cuts[turn % len(cuts)]
        bodies += list(frames.feed(data[place : place + step]))
        place, turn = place + step, turn + 1
    assert bodies == [frame(message)[4:] for message in messages]


def test_a_length_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="a message of"):
        list(Frames().feed((LARGEST + 1).to_bytes(4, "big")))


def test_the_queue_is_looked_at_when_something_has_happened_and_once_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, takes, looks = 100.0, 0.0, 0
    store = Store(tmp_path / "jobs.sqlite")
    first = store.submit(trial(tmp_path / "first", 1), "t0", at_most=9).id
    store.move(first, JobState.PAUSED)
    read = store.queue

    def queue() -> list[Waiting]:
        nonlocal now, looks
        now, looks = now + takes, looks + 1
        return read()

    def submit(token: str) -> None:
        store.submit(trial(tmp_path / token, 1), token, at_most=9, after=[first])

    monkeypatch.setattr(store, "queue", queue)
    worker = Worker(store, Home(tmp_path), Settings(), clock=lambda: now)
    submit("t1")
    for _ in range(5):
        wait = worker.step()
    assert (looks, wait) == (1, LOOK)
    submit("t2")
    assert (worker.step(), looks) == (LOOK, 2)
    now += LOOK
    takes = 0.1  # a long queue
    assert (worker.step(), looks) == (LOOK, 3)
    submit("t3")
    assert (worker.step(), looks) == (pytest.approx(REST * takes), 3), "it leaves the loop its time"
    now += REST * takes
    assert (worker.step(), looks) == (LOOK, 4)
    assert worker.waits_for(store.job("4")) == f"waits for {first}"
    store.close()
