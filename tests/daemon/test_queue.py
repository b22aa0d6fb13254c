"""The queue of a real daemon: order, dependencies, keys, a full disk, quarantine; and stores of an earlier version."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from alloyd.errors import (
    ChildDied,
    DependencyFailed,
    JobError,
    JobNotFound,
    Quarantined,
    RecipeError,
    UsageError,
)
from alloyd.jobs import JobState
from alloyd_daemon.service.store import Store
from alloyd_daemon.service.store_schema import MIGRATIONS
from trial_daemon import PATIENCE, TrialDaemon, eventually, let_go, lines, trial


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[TrialDaemon]:
    with TrialDaemon(tmp_path / "home") as running:
        yield running


def test_the_higher_priority_goes_first_and_jobs_can_be_moved(daemon: TrialDaemon, tmp_path: Path) -> None:
    with daemon.client() as client:
        blocker = client.submit(trial(tmp_path / "blocker", at={2: "hold"}))
        eventually(lambda: client.job(blocker.id).state is JobState.RUNNING)
        low, usual, high, last = (
            client.submit(trial(tmp_path / name, 1), priority=priority).id
            for name, priority in (("low", -5), ("usual", 0), ("high", 7), ("last", 0))
        )
        client.move(low, "top")
        client.move(usual, "bottom")
        eventually(lambda: client.job(last).reason == f"waits for {blocker.id}")
        client.cancel(blocker.id)
        for each in (low, usual, high, last):
            client.wait(each, timeout=PATIENCE)
        started = {each: client.job(each).started for each in (low, usual, high, last)}
        assert sorted(started, key=lambda each: str(started[each])) == [low, high, last, usual]
        with pytest.raises(JobError, match="done"):
            client.move(low, "top")
        with pytest.raises(UsageError, match="priority"):
            client.submit(trial(tmp_path / "x", 1), priority=101)


def test_a_job_follows_others_and_fails_with_them(daemon: TrialDaemon, tmp_path: Path) -> None:
    with daemon.client() as client:
        first = client.submit(trial(tmp_path / "first", 10, pause=0.05))
        second = client.submit(trial(tmp_path / "second", 1), after=[first.id])
        ended = client.wait(second.id, timeout=PATIENCE)
        assert ended.started is not None
        assert ended.started >= (client.job(first.id).ended or ended.started)
        bad = client.submit(trial(tmp_path / "bad", 10, pause=0.05, at={5: "refuse"}))
        never = client.submit(trial(tmp_path / "never", 1), after=[first.id, bad.id])
        with pytest.raises(DependencyFailed, match=bad.id):
            client.wait(never.id, timeout=PATIENCE)
        assert not (tmp_path / "never").exists()
        with pytest.raises(DependencyFailed, match=bad.id):
            client.submit(trial(tmp_path / "late", 1), after=[bad.id])
        with pytest.raises(JobNotFound):
            client.submit(trial(tmp_path / "late", 1), after=["merge-99"])


def test_the_same_key_is_the_same_job_for_good(daemon: TrialDaemon, tmp_path: Path) -> None:
    with daemon.client() as client:
        job = client.submit(trial(tmp_path / "out", 1), key="nightly")
        client.wait(job.id, timeout=PATIENCE)
        assert client.submit(trial(tmp_path / "out", 1), key="nightly").id == job.id
        with pytest.raises(UsageError, match="another job"):
            client.submit(trial(tmp_path / "other", 1), key="nightly")
        assert client.submit(trial(tmp_path / "out", 1)).id != job.id


def test_a_full_disk_is_waited_for_across_a_death_of_the_daemon(daemon: TrialDaemon, tmp_path: Path) -> None:
    out, full = tmp_path / "out", tmp_path / "out.full"
    full.touch()
    with daemon.client() as client:
        job = client.submit(trial(out, 6, at={3: "full"}))
        eventually(lambda: client.job(job.id).attempts >= 1 and client.job(job.id).reason.startswith("waits"))
        assert (tmp_path / "out.partial").read_text() == lines(3)  # what it staged is kept
        assert client.job(job.id).state in (JobState.QUEUED, JobState.RUNNING)
    daemon.kill()
    daemon.start()
    with daemon.client() as client:
        full.unlink()
        done = client.wait(job.id, timeout=PATIENCE)
        assert done.attempts >= 2
    assert out.read_text() == lines(6)


def test_what_crashes_too_often_is_refused_until_it_is_retried(daemon: TrialDaemon, tmp_path: Path) -> None:
    spec = trial(tmp_path / "out", 3, at={1: "SIGSEGV"})
    with daemon.client() as client:
        job = client.submit(spec)
        with pytest.raises(ChildDied):
            client.wait(job.id, timeout=PATIENCE)
        assert client.job(job.id).quarantined
        with pytest.raises(Quarantined, match=job.id) as caught:
            client.submit(spec)
        assert f"alloy retry {job.id}" in caught.value.hint
        assert client.retry(job.id).state is JobState.QUEUED
        with pytest.raises(ChildDied):
            client.wait(job.id, timeout=PATIENCE)


def test_a_cancelled_job_can_be_retried(daemon: TrialDaemon, tmp_path: Path) -> None:
    with daemon.client() as client:
        job = client.submit(trial(tmp_path / "out", 60, at={20: "hold"}))
        eventually(lambda: client.job(job.id).state is JobState.RUNNING)
        client.cancel(job.id)
        eventually(lambda: client.job(job.id).state is JobState.CANCELLED)
        let_go(tmp_path / "out")
        client.retry(job.id)
        client.wait(job.id, timeout=PATIENCE)
        assert (tmp_path / "out").read_text() == lines(60)


def test_a_recipe_that_is_wrong_is_not_tried_again(daemon: TrialDaemon, tmp_path: Path) -> None:
    with daemon.client() as client:
        job = client.submit(trial(tmp_path / "out", 3, at={1: "refuse"}))
        with pytest.raises(RecipeError):
            client.wait(job.id, timeout=PATIENCE)
        assert client.job(job.id).attempts == 1


def test_a_store_of_the_first_version_is_brought_to_this_one(tmp_path: Path) -> None:
    file = tmp_path / "jobs.sqlite"
    Store(file, migrations=MIGRATIONS[:1]).close()
    db = sqlite3.connect(file)
    spec = '{"kind":"merge","recipe":"r","base_dir":"/","out":"/out","memory":5}'
    at = "2026-01-01T00:00:00+00:00"
    for number, state in ((1, "done"), (2, "queued")):
        db.execute(
            "INSERT INTO jobs (number, kind, state, token, spec, out, created) VALUES (?, 'merge', ?, ?, ?, '/out', ?)",
            (number, state, f"t{number}", spec, at),
        )
        db.execute("INSERT INTO events (job, kind, at, body) VALUES (?, 'state', ?, '{}')", (number, at))
    db.commit()
    db.close()
    store = Store(file)
    assert file.with_name("jobs.sqlite.v1").exists()
    assert [(each.id, each.memory) for each in store.queue()] == [("merge-2", 5)]
    assert [(event.seq, event.job) for event in store.events(0)] == [(1, "merge-1"), (2, "merge-2")]
    store.tell("watch", {"what": "seen"})
    assert store.events(2)[0].job == ""
    assert store.last_event() == 3
    assert (store.job("1").owner, store.job("1").priority, store.job("1").after) == ("local", 0, ())
    store.close()


def test_a_job_that_is_being_paused_goes_on_when_it_is_asked_for_again(
    daemon: TrialDaemon, tmp_path: Path
) -> None:
    with daemon.client() as client:
        spec = trial(tmp_path / "out", 12, pause=0.2)
        job = client.submit(spec)
        eventually(lambda: client.job(job.id).progress is not None)
        assert client.pause(job.id).state is JobState.RUNNING
        assert client.submit(spec, priority=3).id == job.id
        assert client.wait(job.id, timeout=20).state is JobState.DONE
        assert (tmp_path / "out").read_text() == lines(12)
        told = [each.body for each in client.events(job.id) if each.kind == "state"]
        assert "paused" not in [each["state"] for each in told]
        assert {"state": "running", "reason": "has priority 3", "priority": 3} in told
