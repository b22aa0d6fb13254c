"""Looking at what takes room and pruning it, with real daemons: what goes, what stays, and what a kill leaves."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from alloyd import cli
from alloyd.errors import DaemonUnreachable, JobNotFound, ServiceError, UsageError
from alloyd.jobs import JobState, SearchSpec
from alloyd.space_schema import Pruned
from trial_daemon import PATIENCE, TrialDaemon, eventually, trial


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[TrialDaemon]:
    with TrialDaemon(tmp_path / "home") as running:
        yield running


def leave(daemon: TrialDaemon, job: str) -> list[Path]:
    """What jobs of all kinds leave in the home, as if ``job`` were of them all."""
    home = daemon.home.root
    for folder in ("scores", f"scores/{job}.scratch", f"searches/{job}", f"searches/{job}/scratch"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    files = [
        home / f"logs/{job}.log.1",
        home / f"scores/{job}.jsonl",
        home / f"scores/{job}.journal",
        home / f"scores/{job}.scratch/0",
        home / f"searches/{job}/results.json",
        home / f"searches/{job}/scratch/activations",
    ]
    for each in files:
        each.write_bytes(b"x" * 5000)
    return [*files, home / f"logs/{job}.log"]


def left(daemon: TrialDaemon, job: str) -> list[str]:
    """Everything in the home that bears the name of ``job``."""
    root = daemon.home.root
    found = []
    for folder, folders, files in os.walk(root):  # which does not mind what vanishes meanwhile
        found += [
            os.path.relpath(os.path.join(folder, name), root) for name in (*folders, *files) if job in name
        ]
    return sorted(found)


def test_what_takes_room_is_told_by_class(daemon: TrialDaemon, tmp_path: Path) -> None:
    home = daemon.home.root
    with daemon.client() as client:
        job = client.submit(trial(tmp_path / "out", 3, at={1: "print"})).id
        client.wait(job, timeout=PATIENCE)
        before = client.space()
        leave(daemon, job)
        leave(daemon, "merge-77")
        (home / "jobs.sqlite.v1").write_bytes(b"x" * 7000)
        with open(home / "scores" / f"{job}.journal", "wb") as sparse:
            sparse.truncate(10**9)
        os.link(home / "scores" / f"{job}.jsonl", home / "scores" / f"{job}.jsonl.new")
        (tmp_path / "outside").write_bytes(b"x" * 10**6)
        (home / "searches" / job / "link").symlink_to(tmp_path / "outside")
        (home / "searches" / job / "above").symlink_to(home)
        (home / "mine").write_bytes(b"x" * 100)
        now = client.space()
    assert (now.jobs, now.events) == (1, before.events)
    parts = now.parts
    assert parts["backups"].apparent == 7000
    assert parts["scores"].files == 3
    assert parts["scores"].apparent == 5000 + 10**9 + 5000
    assert parts["scores"].real < 200_000
    assert parts["searches"].files == 4
    assert parts["searches"].apparent < 11_000
    assert parts["logs"].apparent - before.parts["logs"].apparent == 5000
    assert parts["other"].apparent - before.parts["other"].apparent == 100
    assert parts["orphans"].files == 6
    assert {each.job for each in now.orphans} == {"merge-77"}
    assert now.disks[0].free > 0
    assert sum(each.holds for each in now.disks) >= sum(each.real for each in parts.values())


def test_ended_jobs_go_with_all_they_left_and_others_stay(daemon: TrialDaemon, tmp_path: Path) -> None:
    with daemon.client() as client:
        done = client.submit(trial(tmp_path / "done", 2)).id
        client.wait(done, timeout=PATIENCE)
        first = client.submit(trial(tmp_path / "first", 2)).id
        client.wait(first, timeout=PATIENCE)
        failed = client.submit(trial(tmp_path / "failed", 2, at={1: "refuse"})).id
        eventually(lambda: client.job(failed).state is JobState.FAILED)
        running = client.submit(trial(tmp_path / "running", 2, at={1: "stick"})).id
        eventually(lambda: client.job(running).state is JobState.RUNNING)
        follows = client.submit(trial(tmp_path / "follows", 2), after=[first, running]).id
        paused = client.submit(trial(tmp_path / "paused", 2)).id
        client.pause(paused)
        everyone = (done, first, failed, running, follows, paused)
        for job in everyone:
            leave(daemon, job)
        would = client.prune(older_than=0.0, dry_run=True)
        assert would.dry_run
        assert would.jobs == (done, failed)
        assert {each.job: each.note for each in would.kept} == {first: "job 5 needs it"}
        assert would.room.files == 14 + 2  # logs of both, and their samples
        assert not [each for each in client.events() if each.kind in ("daemon", "gap")]
        assert client.prune(older_than=3600.0).jobs == ()
        assert client.prune(older_than=0.0, keep=3).jobs == ()
        assert client.prune(older_than=0.0, keep=2).jobs == (done,)
        told = client.prune(older_than=0.0)
        assert told.jobs == (failed,)
        assert not told.dry_run
        assert told.room.apparent >= 30_000
        for job in (done, failed):
            assert left(daemon, job) == []
            with pytest.raises(JobNotFound, match="was pruned"):
                client.job(job)
        for job in (first, running, follows, paused):
            assert len(left(daemon, job)) >= 5
        assert {each.id for each in client.jobs()} == {first, running, follows, paused}
        assert client.prune(older_than=0.0).jobs == ()
        assert (tmp_path / "done").exists()
        client.cancel(running)


def test_pruned_events_leave_a_gap_and_followers_go_on(daemon: TrialDaemon, tmp_path: Path) -> None:
    with daemon.client() as client, daemon.client() as other:
        first = client.submit(trial(tmp_path / "one", 2)).id
        client.wait(first, timeout=PATIENCE)
        last = client.status().last_event
        following = other.events(since=0, follow=True, timeout=PATIENCE)
        seen = [next(following).seq for _ in range(last)]
        assert seen == list(range(1, last + 1))
        client.prune(older_than=0.0)
        second = client.submit(trial(tmp_path / "two", 2)).id
        assert second == "merge-2"
        client.wait(second, timeout=PATIENCE)
        end = client.status().last_event
        stored = list(client.events())
        assert (stored[0].seq, stored[0].kind) == (last, "gap")
        assert stored[0].body == {"first": 1, "last": last}
        assert stored[1].body["what"] == "pruned"
        assert [each.seq for each in stored] == list(range(last, end + 1))
        more: list[int] = []
        while not more or more[-1] < end:
            event = next(following)
            more += [event.seq] if event.kind != "progress" else []
        assert more == list(range(last + 1, end + 1))
        with pytest.raises(JobNotFound, match="was pruned"):
            client.wait(first)


@pytest.mark.parametrize("point", ["store-forget", "prune-cleared"])
def test_a_daemon_that_is_killed_while_it_prunes_leaves_nothing_half(tmp_path: Path, point: str) -> None:
    with TrialDaemon(tmp_path / "home") as daemon:
        with daemon.client() as client:
            jobs = [client.submit(trial(tmp_path / f"{n}", 1)).id for n in range(3)]
            for each in jobs:
                client.wait(each, timeout=PATIENCE)
                leave(daemon, each)
        daemon.kill()
        daemon.start(ALLOYD_FAULT=point)
        with daemon.client() as client, pytest.raises(DaemonUnreachable):
            client.prune(older_than=0.0)
        assert daemon.process is not None
        daemon.process.wait(PATIENCE)
        daemon.start()
        with daemon.client() as client:
            assert client.jobs() == []
            # The next daemon removes the rest by itself.
            eventually(lambda: not any(left(daemon, each) for each in jobs))
            assert client.prune(older_than=0.0).jobs == ()
            assert client.space().parts["orphans"].files == 0
        with sqlite3.connect(daemon.home.store) as db:
            assert db.execute("SELECT COUNT(*) FROM removals").fetchone() == (0,)
        db.close()


@pytest.mark.parametrize("point", ["prune-renamed:3", "prune-removed:2"])
def test_a_second_pruning_ends_what_a_killed_process_began(tmp_path: Path, point: str) -> None:
    with TrialDaemon(tmp_path / "home", ALLOYD_FAULT=point) as daemon, daemon.client() as client:
        jobs = [client.submit(trial(tmp_path / f"{n}", 1)).id for n in range(3)]
        for each in jobs:
            client.wait(each, timeout=PATIENCE)
            leave(daemon, each)
        with pytest.raises(ServiceError, match="ended with status -9"):
            client.prune(older_than=0.0)
        assert client.jobs() == []
        # What is not gone has its own name and is whole, or one that nobody takes for it.
        for each in jobs:
            folder = daemon.home.root / "searches" / each
            assert not folder.exists() or (folder / "scratch" / "activations").exists()
        daemon.kill()
        daemon.start(ALLOYD_FAULT="")
        with daemon.client() as again:
            again.prune(older_than=0.0)
            assert not any(left(daemon, each) for each in jobs)


def test_orphans_go_when_they_are_old_and_their_numbers_are_not_given(
    daemon: TrialDaemon, tmp_path: Path
) -> None:
    home = daemon.home.root
    with daemon.client() as client:
        job = client.submit(trial(tmp_path / "out", 1)).id
        client.wait(job, timeout=PATIENCE)
        old, new = leave(daemon, "search-40"), leave(daemon, "merge-41")
        for each in home.rglob("*search-40*"):
            for path in (each, *each.rglob("*")):
                os.utime(path, (10**9, 10**9))
        (home / "logs" / "notes.txt").write_text("mine")
        (home / "searches" / "by-hand").mkdir()
        told = client.prune()
        assert told.orphans == ()
        assert {each.job for each in told.kept} == {"search-40"}
        assert "old by the clock alone" in told.kept[0].note
        told = client.prune(trust_clock=True)
        assert told.jobs == ()
        assert {each.job for each in told.orphans} == {"search-40"}
        assert left(daemon, "search-40") == []
        assert all(each.exists() for each in new[:-1])
        assert not old[0].exists()
        told = client.prune(older_than=0.0)
        assert {each.job for each in told.orphans} == {"merge-41"}
        assert left(daemon, "merge-41") == []
        assert (home / "logs" / "notes.txt").exists()
        assert (home / "searches" / "by-hand").exists()
        assert (home / "logs" / "daemon.log").exists()
        assert client.submit(trial(tmp_path / "next", 1)).id == "merge-42"


def test_links_are_never_followed(daemon: TrialDaemon, tmp_path: Path) -> None:
    home = daemon.home.root
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    with daemon.client() as client:
        one, two = (client.submit(trial(tmp_path / f"{n}", 1)).id for n in range(2))
        for each in (one, two):
            client.wait(each, timeout=PATIENCE)
        (home / "searches").mkdir()
        (home / "searches" / one).symlink_to(outside)
        (home / "searches" / two).mkdir()
        (home / "searches" / two / "link").symlink_to(outside)
        elsewhere = tmp_path / "scores"
        elsewhere.mkdir()
        (elsewhere / f"{one}.jsonl").write_text("x")
        (home / "scores").symlink_to(elsewhere)
        assert set(client.prune(older_than=0.0).jobs) == {one, two}
        assert left(daemon, one) == left(daemon, two) == []
        assert (outside / "precious").read_text() == "x"
        assert (elsewhere / f"{one}.jsonl").exists()


def test_what_lies_in_the_way_of_the_renaming_goes_too(daemon: TrialDaemon, tmp_path: Path) -> None:
    with daemon.client() as client:
        job = client.submit(trial(tmp_path / "out", 1)).id
        client.wait(job, timeout=PATIENCE)
        blocked = daemon.home.root / "searches" / f".{job}.pruned"
        leave(daemon, job)
        blocked.write_text("in the way")
        told = client.prune(older_than=0.0)
        assert left(daemon, job) == []
        assert told.kept == ()


def test_a_hook_that_is_still_to_run_keeps_its_job(tmp_path: Path) -> None:
    script = tmp_path / "hook"
    script.write_text(
        f"#!/bin/sh\nwhile [ ! -e {tmp_path}/go ]; do sleep 0.05; done\necho $ALLOYD_JOB >> {tmp_path}/told\n"
    )
    script.chmod(0o755)
    with (
        TrialDaemon(tmp_path / "home", ALLOYD_HOOKS_ON_DONE=str(script)) as daemon,
        daemon.client() as client,
    ):
        jobs = [client.submit(trial(tmp_path / f"{n}", 1)).id for n in range(6)]
        for each in jobs:
            client.wait(each, timeout=PATIENCE)
        told = client.prune(older_than=0.0)
        assert told.jobs == tuple(jobs[:4])  # so many hooks run at a time, and have been told
        assert {each.job for each in told.kept} == set(jobs[4:])
        (tmp_path / "go").touch()
        eventually(lambda: (tmp_path / "told").exists() and len((tmp_path / "told").read_text().split()) == 6)
        eventually(lambda: client.prune(older_than=0.0, dry_run=True).jobs == tuple(jobs[4:]))


def test_requests_are_answered_while_the_disk_is_looked_at(daemon: TrialDaemon, tmp_path: Path) -> None:
    for number in range(300):
        (daemon.home.root / "searches" / f"search-{number + 1}").mkdir(parents=True)
    with daemon.client() as client, daemon.client() as other:
        found: list[Pruned] = []
        thread = threading.Thread(target=lambda: found.append(client.prune(older_than=0.0)))
        thread.start()
        count = 0
        while thread.is_alive():
            other.hello()
            count += 1
        thread.join()
        assert count > 10
        assert len(found[0].orphans) == 300
        assert client.prune(older_than=0.0).orphans == ()


def test_orders_that_make_no_sense_are_refused(daemon: TrialDaemon) -> None:
    with daemon.client() as client:
        for order in ({"older_than": -1.0}, {"older_than": 1e300}, {"keep": -1}):
            with pytest.raises(UsageError):
                client.prune(**order)


def test_a_daemon_that_is_told_to_stop_meanwhile_says_so(daemon: TrialDaemon, tmp_path: Path) -> None:
    with daemon.client() as client:
        client.space()
        client.shutdown()
    assert daemon.process is not None
    assert daemon.process.wait(PATIENCE) == 0


def test_the_command_asks_or_is_told(
    daemon: TrialDaemon,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("ALLOYD_HOME", str(daemon.home.root))
    with daemon.client() as client:
        client.wait(client.submit(trial(tmp_path / "out", 1)).id, timeout=PATIENCE)
        assert cli.main(["prune"]) == 2
        assert "--dry-run" in capsys.readouterr().err
        assert cli.main(["prune", "--older-than", "soon", "--yes"]) == 2
        assert cli.main(["prune", "--keep", "-1", "--yes"]) == 2
        capsys.readouterr()
        assert cli.main(["prune", "--dry-run", "--keep", "0", "--json"]) == 0
        told = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert told["value"]["jobs"] == ["merge-1"]
        assert cli.main(["df", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["value"]["jobs"] == 1

        class Terminal:
            def __init__(self, answer: str) -> None:
                self.answer = answer

            def isatty(self) -> bool:
                return True

            def readline(self) -> str:
                return self.answer

        monkeypatch.setattr(sys, "stdin", Terminal("\n"))
        assert cli.main(["prune", "--keep", "0"]) == 1
        assert len(client.jobs()) == 1
        monkeypatch.setattr(sys, "stdin", Terminal("yes\n"))
        assert cli.main(["prune", "--keep", "0"]) == 0
        assert client.jobs() == []
        assert "1 job forgotten" in capsys.readouterr().out


def test_a_search_that_is_still_named_stays(daemon: TrialDaemon, tmp_path: Path) -> None:
    with daemon.client() as client:
        client.wait(client.submit(trial(tmp_path / "blocker", 1)).id, timeout=PATIENCE)
        blocker = client.submit(trial(tmp_path / "long", 2, at={1: "stick"})).id
        eventually(lambda: client.job(blocker).state is JobState.RUNNING)
        client.submit(SearchSpec("previous: [merge-1]", str(tmp_path)))
        assert client.prune(older_than=0.0).jobs == ()
        client.cancel(blocker)


def test_a_moment_is_the_same_in_every_time_zone_and_none_without_one(
    daemon: TrialDaemon, tmp_path: Path
) -> None:
    with daemon.client() as client:
        job = client.wait(client.submit(trial(tmp_path / "out", 1)).id)
        assert job.ended is not None
        for hours in (-12, 5, 14):
            there = timezone(timedelta(hours=hours))
            earlier, later = ((job.ended + timedelta(minutes=each)).astimezone(there) for each in (-1, 1))
            assert client.prune(before=earlier, dry_run=True).jobs == ()
            assert client.prune(before=later, dry_run=True).jobs == (job.id,)
        for moment in (datetime(2026, 1, 1), datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))):
            with pytest.raises(UsageError, match="is no moment"):
                client.prune(before=moment)
