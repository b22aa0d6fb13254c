"""The whole service, daemon and children as real processes: jobs run, and survive whatever is killed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from alloyd import spawn
from alloyd.errors import (
    AlloydError,
    ChildDied,
    DaemonUnreachable,
    JobCancelled,
    JobError,
    JobNotFound,
    RecipeError,
    ServiceError,
    SourceChanged,
    WaitTimedOut,
)
from alloyd.jobs import JobState, VerifySpec
from alloyd.paths import Home, lock_holder
from trial_daemon import PATIENCE, TrialDaemon, eventually, let_go, lines, trial


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[TrialDaemon]:
    with TrialDaemon(tmp_path / "home") as running:
        yield running


def test_a_job_runs_and_its_events_tell_its_story(daemon: TrialDaemon, tmp_path: Path) -> None:
    with daemon.client() as client:
        job = client.submit(trial(tmp_path / "out", 5, at={2: "note"}))
        assert (job.id, job.kind, job.state) == ("merge-1", "merge", JobState.QUEUED)
        done = client.wait("1")
        assert done.result is not None
        assert done.result["bytes_written"] == 5
        assert done.attempts == 1
        assert (tmp_path / "out").read_text() == lines(5)
        told = [(event.kind, event.body.get("state")) for event in client.events("merge-1")]
        assert told == [
            ("state", "queued"),
            ("state", "running"),
            ("planned", None),
            ("note", None),
            ("state", "done"),
        ]
        assert [event.seq for event in client.events()] == [1, 2, 3, 4, 5]
        assert [event.seq for event in client.events(since=3)] == [4, 5]


def test_following_yields_every_stored_event_once_and_progress_between(
    daemon: TrialDaemon, tmp_path: Path
) -> None:
    with daemon.client() as client:
        job = client.submit(trial(tmp_path / "out", 30, pause=0.05, at={5: "hold"}))
        begun = time.monotonic()
        events = []
        for event in client.events(job.id, follow=True):
            events.append(event)
            if event.kind == "progress":
                let_go(tmp_path / "out")
        least = 30 / (time.monotonic() - begun)  # a second; the job waits before it begins
    stored = [event.seq for event in events if event.seq]
    assert stored == sorted(set(stored))
    assert events[-1].body["state"] == "done"
    ticks = [event.body for event in events if event.kind == "progress"]
    assert len(ticks) >= 3
    assert [tick["done"] for tick in ticks] == sorted(tick["done"] for tick in ticks)
    assert any(tick["rate"] and least / 2 < tick["rate"] < 40 and tick["eta"] is not None for tick in ticks)


def test_an_error_arrives_as_the_class_that_was_raised(daemon: TrialDaemon, tmp_path: Path) -> None:
    with daemon.client() as client:
        job = client.submit(trial(tmp_path / "out", 5, at={1: "refuse"}))
        with pytest.raises(RecipeError, match="the recipe is wrong") as caught:
            client.wait(job.id)
        assert caught.value.hint == "Write another."
        assert caught.value.facts == {"key": "steps"}
        bug = client.submit(trial(tmp_path / "out2", 5, at={1: "bug"}))
        with pytest.raises(AlloydError, match="internal error: ZeroDivisionError: a bug"):
            client.wait(bug.id)
        assert "ZeroDivisionError" in client.log(bug.id).text


def test_what_libraries_print_goes_to_the_log_and_not_into_the_reports(
    daemon: TrialDaemon, tmp_path: Path
) -> None:
    with daemon.client() as client:
        job = client.submit(trial(tmp_path / "out", 3, at={1: "print"}))
        client.wait(job.id)
        piece = client.log(job.id)
        assert sorted(piece.text.splitlines()) == ["a library talks on stdout", "and on stderr"]
        assert piece.end


@pytest.mark.parametrize("stage", ["queued", "running", "paused"])
def test_cancelling_removes_what_was_staged(daemon: TrialDaemon, tmp_path: Path, stage: str) -> None:
    staging = tmp_path / "out.partial"
    with daemon.client() as client:
        if stage == "queued":
            client.submit(trial(tmp_path / "other", at={2: "hold"}))
        job = client.submit(trial(tmp_path / "out", 500, at={20: "hold"}))
        if stage != "queued":
            eventually(lambda: staging.exists() and staging.stat().st_size > 20)
        if stage == "paused":
            client.pause(job.id)
            eventually(lambda: client.job(job.id).state is JobState.PAUSED)
            assert staging.exists()
        client.cancel(job.id)
        with pytest.raises(JobCancelled) as caught:
            client.wait(job.id, timeout=PATIENCE)
        assert caught.value.status == 130
        eventually(lambda: not staging.exists())
        with pytest.raises(JobError, match="cancelled already"):
            client.cancel(job.id)
        with pytest.raises(JobError, match="cannot be resumed"):
            client.resume(job.id)


def test_a_killed_removal_of_what_was_staged_is_done_again(daemon: TrialDaemon, tmp_path: Path) -> None:
    with daemon.client() as client:
        job = client.submit(trial(tmp_path / "out", at={2: "hold", -1: "die once"}))
        eventually((tmp_path / "out.partial").exists)
        client.pause(job.id)
        eventually(lambda: client.job(job.id).state is JobState.PAUSED)
        client.cancel(job.id)
        eventually(lambda: not (tmp_path / "out.partial").exists())
    assert (tmp_path / "out.died").exists()


def test_a_crowd_of_cancelled_jobs_is_tidied_up_few_at_a_time(daemon: TrialDaemon, tmp_path: Path) -> None:
    with daemon.client() as client:
        names = [str(number) for number in range(12)]
        for name in names:
            job = client.submit(trial(tmp_path / name, 2, at={1: "refuse"})).id
            eventually(lambda job=job: client.job(job).state is JobState.FAILED)
        for job in client.jobs():
            client.cancel(job.id)
        while any((tmp_path / f"{name}.partial").exists() for name in names):
            assert len(psutil.Process(daemon.pid).children()) <= 4


def test_pausing_keeps_what_was_staged_and_resuming_goes_on_there(
    daemon: TrialDaemon, tmp_path: Path
) -> None:
    staging = tmp_path / "out.partial"
    with daemon.client() as client:
        job = client.submit(trial(tmp_path / "out", 60, at={20: "hold"}))
        eventually(lambda: staging.exists() and staging.stat().st_size > 20)
        client.pause(job.id)
        eventually(lambda: client.job(job.id).state is JobState.PAUSED)
        kept = staging.stat().st_size
        time.sleep(0.2)
        assert staging.stat().st_size == kept
        assert daemon.children() == []
        let_go(tmp_path / "out")
        client.resume(job.id)
        assert client.wait(job.id).attempts == 2
        assert (tmp_path / "out").read_text() == lines(60)


def test_resuming_before_the_pause_took_hold_goes_on(daemon: TrialDaemon, tmp_path: Path) -> None:
    with daemon.client() as client:
        job = client.submit(trial(tmp_path / "out", 10, pause=0.3))
        eventually(lambda: client.job(job.id).progress is not None)
        client.pause(job.id)
        client.resume(job.id)
        client.wait(job.id, timeout=PATIENCE)
    assert (tmp_path / "out").read_text() == lines(10)


def test_one_merge_at_a_time_while_a_check_does_not_wait(daemon: TrialDaemon, tmp_path: Path) -> None:
    with daemon.client() as client:
        first = client.submit(trial(tmp_path / "a", at={2: "hold"}))
        second = client.submit(trial(tmp_path / "b", 1))
        assert client.verify(tmp_path)["path"] == str(tmp_path)
        assert client.job(second.id).state is JobState.QUEUED
        client.cancel(first.id)
        client.wait(second.id, timeout=PATIENCE)


def test_the_same_merge_is_not_done_twice(daemon: TrialDaemon, tmp_path: Path) -> None:
    spec = trial(tmp_path / "out", at={2: "hold"})
    with daemon.client() as client:
        first = client.submit(spec)
        assert client.submit(spec).id == first.id
        eventually(lambda: client.job(first.id).progress is not None)
        client.pause(first.id)
        eventually(lambda: client.job(first.id).state is JobState.PAUSED)
        again = client.submit(spec)
        assert (again.id, again.state) == (first.id, JobState.QUEUED)
        client.cancel(first.id)
        eventually(lambda: client.job(first.id).state is JobState.CANCELLED)
        third = client.submit(spec)
        assert third.id != first.id
        client.cancel(third.id)


def test_a_terminated_daemon_lets_jobs_finish_a_block_and_the_next_one_goes_on(tmp_path: Path) -> None:
    with TrialDaemon(tmp_path / "home") as daemon:
        with daemon.client() as client:
            job = client.submit(trial(tmp_path / "out", 80, at={40: "hold"}))
            eventually(
                lambda: (client.job(job.id).progress or False) and client.job(job.id).progress.done > 3
            )
        assert daemon.terminate() == 0
        kept = (tmp_path / "out.partial").read_text()
        assert kept == lines(len(kept.splitlines()))
        assert not daemon.home.connection.exists()
        let_go(tmp_path / "out")
        daemon.start()
        with daemon.client() as client:
            assert client.wait(job.id).attempts == 2
    assert (tmp_path / "out").read_text() == lines(80)


def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    with TrialDaemon(tmp_path / "home") as daemon:
        with daemon.client() as client:
            client.submit(trial(tmp_path / "out", 5, at={2: "stick"}))
            eventually((tmp_path / "out.stuck").exists)
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGTERM)
        with daemon.client() as client:
            eventually(lambda: client.status().stopping)  # two signals that wait to be seen are one
        assert daemon.process.poll() is None
        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.process.wait(PATIENCE) == 0


def test_a_child_that_is_terminated_from_outside_goes_on_later(daemon: TrialDaemon, tmp_path: Path) -> None:
    with daemon.client() as client:
        job = client.submit(trial(tmp_path / "out", 60, at={20: "hold"}))
        eventually(lambda: client.job(job.id).progress is not None)
        (child,) = daemon.children()
        child.terminate()
        eventually(lambda: not child.is_running())
        let_go(tmp_path / "out")
        assert client.wait(job.id, timeout=PATIENCE).attempts == 2
        reasons = [event.body.get("reason") for event in client.events(job.id)]
        assert "its process was asked to stop from outside" in reasons
    assert (tmp_path / "out").read_text() == lines(60)


@pytest.mark.parametrize("alone", [True, False], ids=["daemon alone", "daemon and child"])
def test_after_a_kill_the_next_daemon_goes_on_by_itself(tmp_path: Path, alone: bool) -> None:
    with TrialDaemon(tmp_path / "home") as daemon:
        with daemon.client() as client:
            job = client.submit(trial(tmp_path / "out", 100, at={20: "hold"}))
            eventually(
                lambda: (client.job(job.id).progress or False) and client.job(job.id).progress.done > 3
            )
        children = daemon.children()
        assert len(children) == 1
        if alone:
            daemon.kill()
            eventually(lambda: not children[0].is_running())
        else:
            daemon.kill_all()
        assert not (tmp_path / "out").exists()
        let_go(tmp_path / "out")
        daemon.start()
        with daemon.client() as client:
            assert client.wait(job.id).state is JobState.DONE
            reasons = [event.body.get("reason") for event in client.events(job.id)]
            assert "the daemon stopped while it ran" in reasons
    assert (tmp_path / "out").read_text() == lines(100)


def test_a_wish_outlives_the_daemon(tmp_path: Path) -> None:
    with TrialDaemon(tmp_path / "home") as daemon:
        with daemon.client() as client:
            job = client.submit(trial(tmp_path / "out", 5, at={2: "stick"}))
            eventually((tmp_path / "out.stuck").exists)
            client.cancel(job.id)
        daemon.kill_all()
        assert (tmp_path / "out.partial").exists()
        daemon.start()
        with daemon.client() as client:
            assert client.job(job.id).state is JobState.CANCELLED
            eventually(lambda: not (tmp_path / "out.partial").exists())


def test_a_child_that_keeps_dying_is_given_up_after_four_times(daemon: TrialDaemon, tmp_path: Path) -> None:
    with daemon.client() as client:
        job = client.submit(trial(tmp_path / "out", 5, at={2: "SIGKILL"}))
        with pytest.raises(ChildDied, match=r"killed .*SIGKILL"):
            client.wait(job.id)
        # The first one got to step 2; four more got no further.
        assert client.job(job.id).attempts in (4, 5)
        job = client.submit(trial(tmp_path / "out2", 5, at={2: "exit"}))
        with pytest.raises(ChildDied, match="ended with status 3"):
            client.wait(job.id)
        job = client.submit(trial(tmp_path / "out3", 5, at={2: "SIGSEGV"}))
        with pytest.raises(ChildDied, match="SIGSEGV"):
            client.wait(job.id)
        assert "Fatal Python error: Segmentation fault" in client.log(job.id).text


def test_a_failed_job_can_be_tried_again(daemon: TrialDaemon, tmp_path: Path) -> None:
    with daemon.client() as client:
        job = client.submit(trial(tmp_path / "out", 5, at={2: "exit"}))
        with pytest.raises(ChildDied):
            client.wait(job.id)
        with open(tmp_path / "out.partial", "a") as staging:
            staging.write("2\n")
        client.resume(job.id)
        assert client.wait(job.id).state is JobState.DONE
    assert (tmp_path / "out").read_text() == lines(5)


def test_sigbus_is_told_as_a_source_that_changed(daemon: TrialDaemon, tmp_path: Path) -> None:
    with daemon.client() as client:
        job = client.submit(trial(tmp_path / "out", 5, at={2: "SIGBUS"}))
        with pytest.raises(SourceChanged, match="source changed or unreadable"):
            client.wait(job.id)
        assert client.job(job.id).attempts == 1


def test_a_child_that_does_not_stop_is_cut_off(tmp_path: Path) -> None:
    with TrialDaemon(tmp_path / "home", ALLOYD_JOBS_STOP_GRACE="0.5") as daemon, daemon.client() as client:
        job = client.submit(trial(tmp_path / "out", 5, at={2: "stick"}))
        eventually((tmp_path / "out.stuck").exists)
        client.pause(job.id)
        eventually(lambda: client.job(job.id).state is JobState.PAUSED)
        (tmp_path / "out.stuck").unlink()
        client.resume(job.id)
        eventually((tmp_path / "out.stuck").exists)
        client.cancel(job.id)
        eventually(lambda: client.job(job.id).state is JobState.CANCELLED)
        eventually(lambda: not (tmp_path / "out.partial").exists())


def test_a_full_queue_says_busy(tmp_path: Path) -> None:
    with TrialDaemon(tmp_path / "home", ALLOYD_JOBS_QUEUE="2") as daemon, daemon.client() as client:
        client.submit(trial(tmp_path / "a", at={2: "hold"}))
        eventually(lambda: client.job("1").state is JobState.RUNNING)
        client.submit(trial(tmp_path / "b"))
        client.submit(trial(tmp_path / "c"))
        with pytest.raises(ServiceError, match="busy: 2 jobs wait"):
            client.submit(trial(tmp_path / "d"))


def test_a_wait_can_be_too_short(daemon: TrialDaemon, tmp_path: Path) -> None:
    with daemon.client() as client:
        job = client.submit(trial(tmp_path / "out", at={2: "hold"}))
        begun = time.monotonic()
        with pytest.raises(WaitTimedOut) as caught:
            client.wait(job.id, timeout=0.4)
        assert time.monotonic() - begun > 0.3
        assert caught.value.status == 124
        with pytest.raises(JobNotFound, match="merge-77"):
            client.wait("merge-77")


def test_the_daemon_stays_light(daemon: TrialDaemon) -> None:
    maps = Path(f"/proc/{daemon.pid}/maps").read_text()
    for library in ("numpy", "numba", "llvmlite", "torch", "rich"):
        assert f"/{library}/" not in maps
    with daemon.client() as client:
        assert client.status().resident < 80e6


def test_nobody_there_is_told(tmp_path: Path) -> None:
    with TrialDaemon(tmp_path / "home") as daemon:
        client = daemon.client()
        assert client.status().pid == daemon.pid
        daemon.kill()
        with pytest.raises(DaemonUnreachable):
            client.status()
        with pytest.raises(DaemonUnreachable, match="no daemon runs"):
            client.status()
        client.close()


def test_a_second_daemon_on_one_home_refuses(daemon: TrialDaemon, capfd: pytest.CaptureFixture[str]) -> None:
    from alloyd_daemon.main import main

    assert main(["--home", str(daemon.home.root)]) == 9
    said = capfd.readouterr().err
    assert f"belongs to a running daemon (process {daemon.pid})" in said
    assert "hint:" in said


@pytest.mark.parametrize("name", ["daemon.lock", "start.lock", "jobs.sqlite", "connection.json"])
def test_a_folder_where_a_file_of_the_home_should_be_is_one_error(name: str, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    (home.root / name).mkdir(parents=True)
    with pytest.raises(ServiceError, match=name) as caught:
        spawn.start(home)
    assert caught.value.hint
    assert not list(home.root.glob(".*"))
    assert lock_holder(home) is None


def test_no_process_or_lock_remains(tmp_path: Path) -> None:
    with TrialDaemon(tmp_path / "home") as daemon:
        with daemon.client() as client:
            client.wait(client.submit(trial(tmp_path / "out", 3)).id)
            client.submit(VerifySpec(str(tmp_path)))
        children = daemon.children()
        assert daemon.terminate() == 0
        assert all(not psutil.pid_exists(child.pid) for child in children)
    left = sorted(os.listdir(tmp_path / "home"))
    assert left == ["daemon.lock", "jobs.sqlite", "logs", "resources"]


@pytest.mark.parametrize("point", ["submit", "running", "plan", "note", "done"])
def test_a_daemon_killed_after_any_commit_finishes_the_job_once(tmp_path: Path, point: str) -> None:
    with TrialDaemon(tmp_path / "home", ALLOYD_FAULT=f"store-{point}") as daemon:
        with daemon.client() as client:
            spec = trial(tmp_path / "out", 4, at={1: "note"})
            if point == "submit":
                with pytest.raises(DaemonUnreachable):
                    client.submit(spec)
            else:
                client.submit(spec)
            assert daemon.process is not None
            assert daemon.process.wait(PATIENCE) == -signal.SIGKILL
        daemon.start(ALLOYD_FAULT="")
        with daemon.client() as client:
            assert client.wait("1", timeout=PATIENCE).state is JobState.DONE
            events = list(client.events())
            assert [event.seq for event in events] == list(range(1, len(events) + 1))
            assert [event.body.get("state") for event in events].count("done") == 1
    assert (tmp_path / "out").read_text() == lines(4)
