"""The wall clock jumps, a day back or ten years ahead: order, waits, durations and watched folders do not mind."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import trial_clock
import trial_daemon
from alloyd.errors import WaitTimedOut
from alloyd.jobs import JobState
from trial_daemon import PATIENCE, TrialDaemon, eventually, let_go, lines, trial

DAY = 86_400.0
LONG = 3600.0
"""Seconds: longer than any test, and nothing beside the jumps."""
JUMPS = pytest.mark.parametrize("jump", [-DAY, 3652 * DAY], ids=["a-day-back", "ten-years-ahead"])


@pytest.fixture
def clock(tmp_path: Path) -> Path:
    return tmp_path / "clock"


@pytest.fixture
def daemon(tmp_path: Path, clock: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TrialDaemon]:
    monkeypatch.setattr(trial_daemon, "DAEMON", trial_clock.DAEMON)
    with TrialDaemon(tmp_path / "home", CLOCK=str(clock)) as running:
        yield running


@JUMPS
def test_jobs_go_on_in_their_order_and_nothing_takes_days(
    daemon: TrialDaemon, tmp_path: Path, clock: Path, jump: float
) -> None:
    with daemon.client() as client:
        names = ("running", "full", "second", "third")
        (tmp_path / "full.full").touch()
        running = client.submit(trial(tmp_path / "running", 40, pause=0.05, at={2: "hold"})).id
        eventually(lambda: client.job(running).progress is not None)
        full = client.submit(trial(tmp_path / "full", 3, at={1: "full"})).id
        second = client.submit(trial(tmp_path / "second", 3)).id
        trial_clock.turn(clock, jump)
        third = client.submit(trial(tmp_path / "third", 3)).id
        created = client.job(third).created
        assert abs(created - datetime.now(UTC) - timedelta(seconds=jump)) < timedelta(minutes=5)

        with pytest.raises(WaitTimedOut):
            client.wait(running, timeout=0.3)
        let_go(tmp_path / "running")
        for event in client.events(running, follow=True, timeout=PATIENCE):
            if event.kind == "progress" and event.body["rate"]:
                assert 40 / LONG < event.body["rate"] < 40
                assert 0 <= event.body["eta"] < LONG
        assert client.job(running).attempts == 1
        eventually(lambda: client.job(full).reason.startswith("waits"))
        for each in (second, third):
            client.wait(each, timeout=PATIENCE)
        (tmp_path / "full.full").unlink()
        client.wait(full, timeout=PATIENCE)

        began = [event.job for event in client.events() if event.body.get("state") == "running"]
        assert list(dict.fromkeys(began)) == [running, full, second, third]
        assert [job.id for job in client.jobs()] == [running, full, second, third]
        times = [sample.t for sample in client.resources(running)]
        assert times == sorted(times)
        assert times[-1] - times[0] < LONG
        assert client.status().uptime < LONG
        uptime = next(line for line in client.metrics().splitlines() if line.startswith("alloyd_uptime"))
        assert 0 < float(uptime.split()[-1]) < LONG
    for name in names:
        assert (tmp_path / name).read_text() == lines(40 if name == "running" else 3)


@JUMPS
def test_the_next_daemon_goes_on_in_another_time(
    daemon: TrialDaemon, tmp_path: Path, clock: Path, jump: float
) -> None:
    spec = trial(tmp_path / "out", 30, at={10: "hold"})
    with daemon.client() as client:
        job = client.submit(spec).id
        after = client.submit(trial(tmp_path / "after", 2), after=[job]).id
        eventually(lambda: client.job(job).progress is not None)
        trial_clock.turn(clock, jump)
    daemon.kill_all()
    let_go(tmp_path / "out")
    daemon.start()
    with daemon.client() as client:
        assert client.wait(after, timeout=PATIENCE).attempts == 1
        assert client.job(job).state is JobState.DONE
        numbers = [event.seq for event in client.events()]
        assert numbers == list(range(1, len(numbers) + 1))
        times = [sample.t for sample in client.resources(job)]
        assert times == sorted(times)
        assert client.submit(spec, key="k").id not in (job, after)
    assert (tmp_path / "out").read_text() == lines(30)


@pytest.mark.parametrize("written", [-400 * DAY, 3652 * DAY], ids=["long-ago", "in-the-future"])
def test_a_dropped_file_settles_whenever_it_says_it_was_written(
    daemon: TrialDaemon, tmp_path: Path, written: float
) -> None:
    folder = tmp_path / "drop"
    folder.mkdir()
    file = folder / "wrong.yaml"
    file.write_text("merge_method: linear\nmodells: []\n")
    os.utime(file, (time.time() + written, time.time() + written))
    with daemon.client() as client:
        client.watch_add(folder, settle=0.2)
        eventually(lambda: (folder / "failed" / "wrong.yaml.error.json").exists())
        eventually(lambda: client.watches()[0].claims == {"failed": 1})
