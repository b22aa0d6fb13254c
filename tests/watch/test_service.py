"""Watched folders through a real daemon and its real watcher: dropped, merged, put away, each exactly once."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path

import psutil
import pytest

import trial_daemon
from alloyd.errors import StoreError
from alloyd.jobs import JobState
from alloyd_daemon.service.child_process import CHILD
from checkpoint_factory import Model, write_family
from trial_daemon import TrialDaemon, eventually


def recipe(number: int = 0) -> str:
    return f"# {number}\nmerge_method: linear\nmodels:\n- {{model: a, parameters: {{weight: 1}}}}\n"


def drop(folder: Path, name: str, text: str) -> None:
    """Put a file there the way careful programs do."""
    fresh = folder / f".{name}.new"
    fresh.write_text(text)
    fresh.rename(folder / name)


def put_away(folder: Path, where: str) -> set[str]:
    return {each.name for each in (folder / where).rglob("*.yaml")}


@pytest.mark.parametrize("daemon", [CHILD], indirect=True)
def test_a_dropped_recipe_becomes_a_model(daemon: TrialDaemon, tmp_path: Path) -> None:
    folder = tmp_path / "drop"
    folder.mkdir()
    write_family(folder / "models", Model(), tunes=2)
    names = sorted(each.name for each in (folder / "models").iterdir())[:2]
    models = "".join(f"- {{model: models/{name}, parameters: {{weight: 0.5}}}}\n" for name in names)
    with daemon.client() as client:
        client.watch_add(folder, settle=0.1)
        drop(folder, "mean.yaml", f"merge_method: linear\ndtype: bfloat16\nmodels:\n{models}")
        eventually(lambda: put_away(folder, "done") | put_away(folder, "failed"), seconds=240)
        told = json.loads(next((folder / "done").rglob("*.result.json")).read_text())
        assert told["out"] == str(folder / "out" / "mean")
        assert (folder / "out" / "mean" / "model.safetensors").exists()
        assert client.job(told["job"]).state is JobState.DONE
        eventually(lambda: client.watches()[0].claims == {"done": 1})
    assert sorted(each.name for each in folder.iterdir()) == [".work", "done", "models", "out"]


def test_what_is_no_recipe_fails_with_its_line_and_moving_it_back_tries_again(
    daemon: TrialDaemon, tmp_path: Path
) -> None:
    folder = tmp_path / "drop"
    folder.mkdir()
    with daemon.client() as client:
        client.watch_add(folder, settle=0.1)
        drop(folder, "wrong.yaml", "merge_method: linear\nmodells: []\n")
        drop(folder, "other.yaml", "colour: red\n")
        eventually(lambda: len(list((folder / "failed").glob("*.error.json"))) == 2)
        told = json.loads((folder / "failed" / "other.yaml.error.json").read_text())
        assert told["code"] == "E_RECIPE"
        assert "neither" in told["message"]
        drop(folder, "typo.yaml", "merge_methd: linear\n")
        eventually((folder / "failed" / "typo.yaml.error.json").exists)
        told = json.loads((folder / "failed" / "typo.yaml.error.json").read_text())
        assert told["hint"] == "Did you mean 'merge_method' by 'merge_methd'?"
        eventually(lambda: client.watches()[0].claims == {"failed": 3})
        assert client.jobs() == []
        (folder / "failed" / "wrong.yaml").write_text(recipe())
        (folder / "failed" / "wrong.yaml").rename(folder / "wrong.yaml")
        eventually(lambda: put_away(folder, "done") == {"wrong.yaml"})
        assert not (folder / "failed" / "wrong.yaml.error.json").exists()


def test_the_same_content_is_done_once_and_an_edited_recipe_is_new(
    daemon: TrialDaemon, tmp_path: Path
) -> None:
    folder = tmp_path / "drop"
    folder.mkdir()
    with daemon.client() as client:
        client.watch_add(folder, settle=0.1)
        for name, text, jobs in (
            ("a.yaml", recipe(1), 1),
            ("b.yaml", recipe(1), 1),
            ("a.yaml", recipe(2), 2),
        ):
            drop(folder, name, text)
            eventually(lambda name=name: not (folder / name).exists())
            eventually(lambda: not client.watches()[0].claims.get("submitted"))
            eventually(lambda: not list((folder / ".work").glob("*/*.yaml")))
            assert len(client.jobs()) == jobs
        outs = {job.out for job in client.jobs()}
    assert outs == {str(folder / "out" / "a"), str(folder / "out" / "a-2")}


def test_a_recipe_cannot_name_what_lies_outside(daemon: TrialDaemon, tmp_path: Path) -> None:
    folder, outside = tmp_path / "drop", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    (folder / "link").symlink_to(outside)
    with daemon.client() as client:
        client.watch_add(folder, settle=0.1)
        for number, model in enumerate((str(outside), "../outside", "link")):
            drop(folder, f"{number}.yaml", recipe(number).replace("model: a", f'model: "{model}"'))
        eventually(lambda: len(put_away(folder, "failed")) == 3)
        assert client.jobs() == []
        client.watch_add(folder, settle=0.1, roots=(str(outside),))
        for number in range(3):
            (folder / "failed" / f"{number}.yaml").rename(folder / f"{number}.yaml")
        eventually(lambda: len(put_away(folder, "done")) == 3)


def test_a_folder_that_is_not_there_is_unknown_and_goes_on_when_it_comes_back(
    daemon: TrialDaemon, tmp_path: Path
) -> None:
    folder, away = tmp_path / "drop", tmp_path / "away"
    folder.mkdir()
    with daemon.client() as client:
        client.watch_add(folder, settle=0.1, rescan=1)
        eventually(lambda: client.watches()[0].state == "ok")
        folder.rename(away)
        folder.mkdir()  # what an unmounted folder looks like
        drop(folder, "stray.yaml", recipe(1))
        eventually(lambda: client.watches()[0].state == "unknown")
        drop(away, "ours.yaml", recipe(2))
        time.sleep(1.5)
        assert client.jobs() == []
        (folder / "stray.yaml").unlink()
        folder.rmdir()
        away.rename(folder)
        eventually(lambda: put_away(folder, "done") == {"ours.yaml"})
        assert len(client.jobs()) == 1


def test_two_daemons_on_one_folder_share_the_work(daemon: TrialDaemon, tmp_path: Path) -> None:
    folder = tmp_path / "drop"
    folder.mkdir()
    with TrialDaemon(tmp_path / "other") as second, daemon.client() as one, second.client() as other:
        one.watch_add(folder, settle=0.1)
        other.watch_add(folder, settle=0.1)
        for number in range(30):
            drop(folder, f"{number}.yaml", recipe(number))
        eventually(lambda: len(put_away(folder, "done")) == 30, seconds=240)
        assert len(one.jobs()) + len(other.jobs()) == 30
    assert len((folder / "out" / "ran").read_text().splitlines()) == 30


@pytest.mark.parametrize(("files", "kills"), [(12, 12), pytest.param(200, 300, marks=pytest.mark.soak)])
def test_killed_at_any_moment_every_file_is_done_exactly_once(
    daemon: TrialDaemon, tmp_path: Path, files: int, kills: int
) -> None:
    folder = tmp_path / "drop"
    folder.mkdir()
    chance = random.Random(20)
    with daemon.client() as client:
        client.watch_add(folder, settle=0.05, rescan=1)
    for number in range(files):
        drop(folder, f"{number}.yaml", recipe(number))
    for _ in range(kills):
        if len(put_away(folder, "done")) == files:
            break
        time.sleep(chance.choice((0.1, 0.5, 1.0, 4.0)))  # some get something done
        if chance.random() < 0.3:
            daemon.kill_all() if chance.random() < 0.5 else daemon.kill()
            eventually(lambda: not _watchers(daemon))
            daemon.start()
            continue
        for each in _watchers(daemon):
            each.kill()
    eventually(lambda: len(put_away(folder, "done")) == files, seconds=240 + 5 * files)
    with daemon.client() as client:
        eventually(lambda: client.watches()[0].claims == {"done": files}, seconds=240)
        assert len(client.jobs()) == files
        assert {job.out for job in client.jobs()} == {
            str(folder / "out" / str(each)) for each in range(files)
        }
    assert not list((folder / ".work").glob("*/*.yaml"))


def _watchers(daemon: TrialDaemon) -> list[psutil.Process]:
    found = []
    for each in psutil.process_iter(["cmdline"]):
        words = each.info["cmdline"] or []
        if "alloyd_daemon.watch" in words and str(daemon.home.root) in words:
            found.append(each)
    return found


def test_the_watcher_ends_with_its_daemon(daemon: TrialDaemon, tmp_path: Path) -> None:
    with daemon.client() as client:
        client.watch_add(tmp_path, settle=0.1)
    eventually(lambda: len(_watchers(daemon)) == 1)
    os.kill(daemon.pid, signal.SIGKILL)
    eventually(lambda: not _watchers(daemon))


def test_a_damaged_record_of_folders_costs_the_watching_and_nothing_else(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    (home / "watch.sqlite").write_bytes(b"no database" * 1000)
    with TrialDaemon(home) as daemon, daemon.client() as client:
        assert client.wait(client.submit(trial_daemon.trial(tmp_path / "out", 1)).id, timeout=20)
        with pytest.raises(StoreError, match=r"watch\.sqlite"):
            client.watches()
        assert "alloyd_jobs" in client.metrics()
