"""Samples of what jobs use: taken, thinned, gone on with, and read from files that lie."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from alloyd.errors import JobNotFound
from alloyd.jobs import Job, JobState, Sample
from alloyd.paths import Home
from alloyd_daemon.service.processes import Usage, usage
from alloyd_daemon.service.resources import MOST, Sampler, read_samples
from trial_daemon import TrialDaemon, eventually, let_go, trial


class Ground:
    """A sampler with a clock and processes that a test moves."""

    def __init__(self, root: Path) -> None:
        self.home = Home(root)
        self.home.create()
        self.time = 100.0
        self.seen: Usage | None = Usage(10, 5, 0, 0, 0.0)
        self.sampler = self.fresh()
        self.job = Job("merge-1", "merge", JobState.RUNNING, datetime.now(UTC), started=datetime.now(UTC))

    def fresh(self) -> Sampler:
        return Sampler(self.home, clock=lambda: self.time, look=lambda _: self.seen)

    def run(self, seconds: int, process: int = 7) -> None:
        for _ in range(seconds):
            self.sampler.step([(self.job, process)])
            self.time += 1
            if self.seen is not None:
                self.seen = self.seen._replace(read=self.seen.read + 3, cpu=self.seen.cpu + 0.5)

    def samples(self) -> list[Sample]:
        return self.sampler.samples("merge-1")


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


def test_a_sample_a_second_with_sums_that_rise(ground: Ground) -> None:
    ground.run(3)
    ground.sampler.step([(ground.job, 7)])
    ground.sampler.step([(ground.job, 7)])  # the loop turns more often than once a second
    samples = ground.samples()
    assert [round(each.t - samples[0].t) for each in samples] == [0, 1, 2, 3]
    assert [each.read for each in samples] == [0, 3, 6, 9]
    assert samples[-1].cpu == 1.5
    assert ground.sampler.totals.read == 9
    assert ground.sampler.now().resident == 10
    ground.sampler.step([])
    assert ground.sampler.now() == Usage()


def test_a_long_job_keeps_its_whole_course_in_a_bounded_file(ground: Ground) -> None:
    ground.run(3 * MOST)
    samples = ground.samples()
    assert MOST / 2 <= len(samples) <= MOST
    assert samples[0].read == 0
    assert samples[-1].t >= 3 * MOST - 5
    gaps = {round(after.t - before.t) for before, after in pairwise(samples)}
    assert gaps == {4}
    assert oct(ground.home.resources("merge-1").stat().st_mode & 0o777) == "0o600"


def test_a_job_that_is_started_again_goes_on_in_its_file(ground: Ground) -> None:
    ground.run(MOST + 10)
    before = ground.samples()
    with open(ground.home.resources("merge-1"), "ab") as file:
        file.write(b'{"t": 99999, "resident":')  # the daemon was killed in mid-write
    ground.sampler, ground.seen = ground.fresh(), Usage(20, 9, 0, 0, 0.0)
    ground.run(9, process=8)
    after = ground.samples()
    assert after[: len(before)] == before
    added = after[len(before) :]
    assert 4 <= len(added) <= 6, "it goes on at the pace it had, of one sample in two seconds"
    assert added[0].t >= before[-1].t
    assert added[0].read == before[-1].read
    assert added[-1].read > before[-1].read
    assert {each.run for each in before} == {1}
    assert {each.run for each in added} == {2}


def test_a_wait_between_two_attempts_is_in_the_times(ground: Ground) -> None:
    ground.run(2)
    ground.sampler = ground.fresh()
    ground.job = msgspec.structs.replace(ground.job, started=datetime.now(UTC) - timedelta(hours=1))
    ground.run(1)
    assert 3600 <= ground.samples()[-1].t < 3700


def test_a_process_that_cannot_be_looked_at_costs_samples_only(ground: Ground) -> None:
    ground.seen = None
    ground.run(2)
    assert ground.samples() == []


def test_a_folder_that_cannot_be_written_costs_samples_only(
    ground: Ground, caplog: pytest.LogCaptureFixture
) -> None:
    ground.home.resources("merge-1").parent.rmdir()
    ground.home.resources("merge-1").parent.write_text("in the way")
    ground.run(3)
    assert len([each for each in caplog.messages if "cannot be written down" in each]) == 1


def test_lines_that_lie_are_passed_over(tmp_path: Path) -> None:
    good = b'{"t":1.0,"resident":1,"private":1,"read":0,"written":0,"cpu":0.1}'
    later = good.replace(b'"t":1.0', b'"t":2.0')
    file = tmp_path / "lies.jsonl"
    lies = [b"", b"null", b"[]", b"\xff\xfe", b"{}", b'{"t":"x"}', good.replace(b"0.1", b'"a"'), b"[" * 9999]
    file.write_bytes(b"\n".join([good, *lies, good.replace(b'"t":1.0', b'"t":0.5'), later, later[:20]]))
    assert [each.t for each in read_samples(file)] == [1.0, 2.0]
    assert read_samples(tmp_path / "absent") == []


def test_a_process_is_seen_with_what_it_started() -> None:
    inner = "x = bytearray(60_000_000); print(len(x), flush=True); input()"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    with subprocess.Popen(
        [sys.executable, "-c", outer], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        seen = usage(process.pid)
        assert seen is not None
        assert seen.private > 60_000_000
        assert seen.resident >= seen.private
        assert seen.cpu > 0
        process.communicate(b"\n")
    assert usage(process.pid) is None
    assert usage(os.getpid()) is not None


def test_a_client_asks_for_samples_while_a_job_runs_and_after(tmp_path: Path) -> None:
    with TrialDaemon(tmp_path / "home") as daemon, daemon.client() as client:
        job = client.submit(trial(tmp_path / "out", at={2: "hold"}))
        eventually(lambda: len(client.resources(job.id)) >= 2)
        let_go(tmp_path / "out")
        client.wait(job.id)
        samples = client.resources(job.id)
        assert 0 <= samples[0].t < 60, "seconds since it began"
        assert max(each.resident for each in samples) > 5_000_000
        assert samples[-1].cpu >= samples[0].cpu
        with pytest.raises(JobNotFound):
            client.resources("merge-99")
