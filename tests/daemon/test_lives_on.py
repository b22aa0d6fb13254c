"""What costs one job, one hook or a while, and never the daemon."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import sqlite3
from pathlib import Path

import pytest

from alloyd.errors import StoreError
from alloyd.jobs import JobState
from mounted import tmpfs
from trial_daemon import PATIENCE, TrialDaemon, eventually, let_go, trial


def fill(disk: Path) -> Path:
    """Fill ``disk`` to its last byte; the file that holds its room."""
    ballast = disk / "ballast"
    with contextlib.suppress(OSError), open(ballast, "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    assert os.statvfs(disk).f_bavail == 0
    return ballast


def test_a_stored_job_that_no_pipe_can_carry_fails_alone(tmp_path: Path) -> None:
    with TrialDaemon(tmp_path / "home") as daemon:
        with daemon.client() as client:
            job = client.submit(trial(tmp_path / "a", at={2: "hold"})).id
            eventually(lambda: client.job(job).state is JobState.RUNNING)
        daemon.kill_all()
        with sqlite3.connect(daemon.home.store) as store:
            ((text,),) = store.execute("SELECT spec FROM jobs")
            spec = json.dumps({**json.loads(text), "threads": 10**30})
            store.execute("UPDATE jobs SET spec = ?", (spec,))
        store.close()
        daemon.start()
        with daemon.client() as client:
            eventually(lambda: client.job(job).state is JobState.FAILED)
            assert client.wait(client.submit(trial(tmp_path / "b", 2)).id).state is JobState.DONE
            client.cancel(job)  # and what it staged is not removed, which is said
            eventually(lambda: any("could not be removed" in str(each.body) for each in client.events(job)))
            client.status()


def test_an_end_that_cannot_be_written_down_is_written_down_later(tmp_path: Path) -> None:
    with (
        tmpfs(tmp_path / "disk", "size=12m") as disk,
        TrialDaemon(disk / "home") as daemon,
        daemon.client() as client,
    ):
        steps = {0: "note", 10: "hold", 20: "note", 21: "print"}
        first = client.submit(trial(tmp_path / "a", 40, at=steps)).id
        second = client.submit(trial(tmp_path / "b", 2)).id
        eventually(lambda: client.job(first).state is JobState.RUNNING)
        ballast = fill(disk)
        let_go(tmp_path / "a")
        eventually((tmp_path / "a").exists)
        eventually(lambda: "cannot be written" in client.job(second).reason)
        assert client.job(first).state is JobState.RUNNING
        with pytest.raises(StoreError, match="full"):
            client.submit(trial(tmp_path / "c", 2))
        ballast.unlink()
        assert client.wait(first, timeout=PATIENCE).state is JobState.DONE
        assert client.wait(second, timeout=PATIENCE).state is JobState.DONE
        assert client.job(first).attempts == 1


def test_it_stops_though_an_end_cannot_be_written_down(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "disk", "size=12m") as disk, TrialDaemon(disk / "home") as daemon:
        with daemon.client() as client:
            job = client.submit(trial(tmp_path / "a", at={2: "hold"})).id
            eventually(lambda: client.job(job).state is JobState.RUNNING)
            ballast = fill(disk)
        assert daemon.terminate() == 0
        ballast.unlink()
        daemon.start()
        with daemon.client() as client:
            eventually(lambda: client.job(job).state is JobState.RUNNING)


def test_a_log_that_cannot_be_opened_costs_no_job(tmp_path: Path) -> None:
    with TrialDaemon(tmp_path / "home") as daemon, daemon.client() as client:
        shutil.rmtree(daemon.home.logs)
        job = client.submit(trial(tmp_path / "a", 3, at={1: "print"})).id
        assert client.wait(job, timeout=PATIENCE).state is JobState.DONE


def test_a_machine_that_has_no_process_to_give_costs_time_and_no_job(tmp_path: Path) -> None:
    with TrialDaemon(tmp_path / "home") as daemon:
        daemon.kill()
        child = tmp_path / "child"
        daemon.child = (str(child),)
        daemon.start()
        with daemon.client() as client:
            job = client.submit(trial(tmp_path / "a", 3)).id
            eventually(lambda: "no process can be started" in client.job(job).reason)
            assert client.job(job).state is JobState.QUEUED
            words = " ".join(f"'{each}'" for each in TrialDaemon.child)
            (tmp_path / "new").write_text(f"#!/bin/sh\nexec {words}\n")
            (tmp_path / "new").chmod(0o755)
            (tmp_path / "new").rename(child)
            assert client.wait(job, timeout=PATIENCE).state is JobState.DONE
            assert client.job(job).attempts == 1


def test_samples_that_cannot_be_read_cost_no_job(tmp_path: Path) -> None:
    with TrialDaemon(tmp_path / "home") as daemon, daemon.client() as client:
        (daemon.home.root / "resources" / "merge-1.jsonl").mkdir()
        assert (
            client.wait(client.submit(trial(tmp_path / "a", 3)).id, timeout=PATIENCE).state is JobState.DONE
        )


def test_more_clients_than_files_are_usually_open(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert hard >= 1024
    daemon = TrialDaemon(tmp_path / "home")
    few = len(os.listdir("/proc/self/fd")) + 30
    resource.setrlimit(resource.RLIMIT_NOFILE, (few, hard))
    try:
        daemon.start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with contextlib.ExitStack() as stack:
        stack.push(daemon)
        for _ in range(few):
            stack.enter_context(daemon.client()).status()
        client = daemon.client()
        job = stack.enter_context(client).submit(trial(tmp_path / "a", 2)).id
        assert client.wait(job, timeout=PATIENCE).state is JobState.DONE
