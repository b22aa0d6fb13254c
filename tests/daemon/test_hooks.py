"""Hooks: run once for each end of a job, told what ended, bounded in time and words, and gone with the daemon."""

from __future__ import annotations

import json
from pathlib import Path

import psutil
import pytest

from alloyd.jobs import JobState
from alloyd.paths import Home
from alloyd_daemon.service.hooks import Hooks
from alloyd_daemon.service.store import Store
from alloyd_daemon.service.store_prune import Removal
from alloyd_daemon.settings import HookSettings
from trial_daemon import PATIENCE, TrialDaemon, eventually, trial


def script(folder: Path, body: str) -> str:
    """A hook that appends what it is told to ``told`` and then does ``body``."""
    file = folder / "hook"
    file.write_text(
        f'#!/bin/sh\necho "$ALLOYD_JOB $ALLOYD_STATE $1 $ALLOYD_OUT $ALLOYD_ERROR_CODE" >> {folder}/told\n{body}\n'
    )
    file.chmod(0o755)
    return str(file)


def settings(folder: Path, hook: str, *states: str, time_limit: float = 20.0) -> dict[str, str]:
    """A configuration file with ``hook`` on ``states``, as the variable that names it."""
    lines = [
        "[hooks]",
        f"time_limit = {time_limit}",
        *(f'on_{state} = ["{hook}", "{state}!"]' for state in states),
    ]
    (folder / "config.toml").write_text("\n".join(lines))
    return {"ALLOYD_CONFIG": str(folder / "config.toml")}


def told(folder: Path) -> list[str]:
    file = folder / "told"
    return file.read_text().splitlines() if file.exists() else []


def test_each_end_is_told_once_and_says_what_ended(tmp_path: Path) -> None:
    environ = settings(tmp_path, script(tmp_path, "echo spoken"), "done", "failed", "cancelled")
    with TrialDaemon(tmp_path / "home", **environ) as daemon:
        with daemon.client() as client:
            client.wait(client.submit(trial(tmp_path / "a", 2)).id)
            failed = client.submit(trial(tmp_path / "b", 3, at={1: "refuse"}))
            eventually(lambda: client.job(failed.id).state is JobState.FAILED)
            client.resume(failed.id)
            eventually(lambda: len(told(tmp_path)) == 3)
            job = client.submit(trial(tmp_path / "c", at={2: "hold"}))
            eventually(lambda: client.job(job.id).state is JobState.RUNNING)
            client.cancel(job.id)
            eventually(lambda: len(told(tmp_path)) == 4)
            eventually(lambda: 'alloyd_hooks_total{hook="on_done",result="well"} 1' in client.metrics())
        assert sorted(told(tmp_path)) == [
            f"merge-1 done done! {tmp_path}/a ",
            f"merge-2 failed failed! {tmp_path}/b E_RECIPE",
            f"merge-2 failed failed! {tmp_path}/b E_RECIPE",
            f"merge-3 cancelled cancelled! {tmp_path}/c E_CANCELLED",
        ]
        daemon.terminate()
        daemon.start()
        with daemon.client() as client:
            client.wait(client.submit(trial(tmp_path / "d", 2)).id)
            eventually(lambda: len(told(tmp_path)) == 5)


def test_a_hook_that_hangs_holds_nothing_and_is_ended_in_time(tmp_path: Path) -> None:
    environ = settings(tmp_path, script(tmp_path, "sleep 600 & sleep 600"), "done", time_limit=1.0)
    with TrialDaemon(tmp_path / "home", **environ) as daemon, daemon.client() as client:
        for name in "abcdef":
            client.wait(client.submit(trial(tmp_path / name, 2)).id)
        eventually(lambda: len(told(tmp_path)) == 6)
        eventually(lambda: 'result="badly"} 6' in client.metrics())
        eventually(lambda: not psutil.Process(daemon.pid).children(recursive=True))


def test_a_hook_ends_with_a_daemon_that_is_killed_and_is_not_run_again(tmp_path: Path) -> None:
    environ = settings(tmp_path, script(tmp_path, "sleep 600"), "done")
    with TrialDaemon(tmp_path / "home", **environ) as daemon:
        with daemon.client() as client:
            client.wait(client.submit(trial(tmp_path / "a", 2)).id)
            eventually(lambda: len(told(tmp_path)) == 1)
        hooks = psutil.Process(daemon.pid).children(recursive=True)
        assert len(hooks) >= 2
        daemon.kill()
        eventually(lambda: not any(each.is_running() and each.status() != "zombie" for each in hooks))
        (tmp_path / "hook").write_text(f'#!/bin/sh\necho "$ALLOYD_JOB" >> {tmp_path}/told\n')
        daemon.start()
        with daemon.client() as client:
            client.wait(client.submit(trial(tmp_path / "b", 2)).id)
            eventually(lambda: "merge-2" in told(tmp_path))
        assert len(told(tmp_path)) == 2


def test_what_ended_under_a_daemon_that_died_first_is_told_by_the_next(tmp_path: Path) -> None:
    environ = settings(tmp_path, script(tmp_path, ""), "done")
    with TrialDaemon(tmp_path / "home", ALLOYD_FAULT="store-done", **environ) as daemon:
        with daemon.client() as client:
            client.submit(trial(tmp_path / "a", 2))
        assert daemon.process is not None
        daemon.process.wait(PATIENCE)
        assert told(tmp_path) == []
        daemon.start(ALLOYD_FAULT="")
        eventually(lambda: told(tmp_path) == [f"merge-1 done done! {tmp_path}/a "])


def test_a_daemon_that_dies_between_the_mark_and_the_start_runs_no_hook_twice(tmp_path: Path) -> None:
    environ = settings(tmp_path, script(tmp_path, ""), "done")
    with TrialDaemon(tmp_path / "home", ALLOYD_FAULT="hook", **environ) as daemon:
        with daemon.client() as client:
            client.submit(trial(tmp_path / "a", 2))
        assert daemon.process is not None
        daemon.process.wait(PATIENCE)
        daemon.start(ALLOYD_FAULT="")
        with daemon.client() as client:
            client.wait(client.submit(trial(tmp_path / "b", 2)).id)
        eventually(lambda: told(tmp_path) == [f"merge-2 done done! {tmp_path}/b "])


def test_ends_before_hooks_were_set_are_nobodys_news(tmp_path: Path) -> None:
    hook = script(tmp_path, "")
    with TrialDaemon(tmp_path / "home") as daemon:
        with daemon.client() as client:
            client.wait(client.submit(trial(tmp_path / "a", 2)).id)
        daemon.terminate()
        daemon.start(**settings(tmp_path, hook, "done"))
        with daemon.client() as client:
            client.wait(client.submit(trial(tmp_path / "b", 2)).id)
        eventually(lambda: told(tmp_path) == [f"merge-2 done done! {tmp_path}/b "])


@pytest.mark.parametrize("hook", ["/absent/hook", "/etc/passwd"])
def test_a_hook_that_cannot_be_run_is_told_in_the_log_only(tmp_path: Path, hook: str) -> None:
    with (
        TrialDaemon(tmp_path / "home", **settings(tmp_path, hook, "done")) as daemon,
        daemon.client() as client,
    ):
        assert client.wait(client.submit(trial(tmp_path / "a", 2)).id).state is JobState.DONE
        eventually(lambda: 'result="badly"} 1' in client.metrics())
        log = [json.loads(line) for line in daemon.home.log("daemon").read_text().splitlines()]
        (said,) = [each for each in log if each.get("status") == 127]
        assert (said["job"], said["level"]) == ("merge-1", "warning")
        assert "it cannot be run" in said["output"]


def test_what_a_hook_says_is_bounded(tmp_path: Path) -> None:
    environ = settings(tmp_path, script(tmp_path, "yes | head -c 50000000; echo the end"), "done")
    with TrialDaemon(tmp_path / "home", **environ) as daemon, daemon.client() as client:
        client.wait(client.submit(trial(tmp_path / "a", 2)).id)
        eventually(lambda: 'result="well"} 1' in client.metrics())
        text = daemon.home.log("daemon").read_text()
        assert "the end" in text
        assert len(text) < 60_000


def test_a_hook_without_a_place_for_what_it_says_is_not_run(tmp_path: Path) -> None:
    environ = settings(tmp_path, script(tmp_path, "echo spoken"), "done")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with TrialDaemon(tmp_path / "home", TMPDIR=str(scratch), **environ) as daemon, daemon.client() as client:
        client.wait(client.submit(trial(tmp_path / "a", 2)).id)
        eventually(lambda: len(told(tmp_path)) == 1)
        scratch.rmdir()
        client.wait(client.submit(trial(tmp_path / "b", 2)).id)
        eventually(lambda: 'result="not started"} 1' in client.metrics())
        scratch.mkdir()
        client.wait(client.submit(trial(tmp_path / "c", 2)).id)
        eventually(lambda: len(told(tmp_path)) == 2)


def test_an_end_whose_job_is_known_no_more_stops_nothing(tmp_path: Path) -> None:
    command = script(tmp_path, "")
    (tmp_path / "home").mkdir()
    store = Store(tmp_path / "jobs.sqlite")
    hooks = Hooks(store, Home(tmp_path / "home"), HookSettings(on_cancelled=(command,)))
    for number in (1, 2):
        name = store.submit(trial(tmp_path / f"out{number}", 1), f"t{number}", at_most=9).id
        store.move(name, JobState.CANCELLED)
    for event in store.events(0):
        hooks.hear(event)
    store.pruning.forget([Removal("merge-1")], reason="asked")
    hooks.step()
    eventually(lambda: (hooks.step(), len(told(tmp_path)))[1] == 1)
    assert told(tmp_path)[0].startswith("merge-2 ")
    hooks.kill()
    store.close()
