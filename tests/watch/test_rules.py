"""Rules through a real daemon and its real watcher: what is done with a new model, exactly once."""

from __future__ import annotations

import json
import random
import shutil
import time
from pathlib import Path

import psutil
import pytest

from alloyd.errors import AlloydError
from alloyd.jobs import JobState
from alloyd_daemon.service.child_process import CHILD
from checkpoint_factory import Model, read_checkpoint, write_family
from trial_daemon import TrialDaemon, eventually
from watch.trial_models import rule, soup_rule, write_model


@pytest.mark.parametrize("daemon", [CHILD], indirect=True)
def test_a_new_fine_tune_is_merged_by_the_rule(daemon: TrialDaemon, tmp_path: Path) -> None:
    folder, apart = tmp_path / "drop", tmp_path / "apart"
    folder.mkdir()
    write_family(apart, Model(), tunes=2)
    base, *tunes = sorted(apart.iterdir())
    mean = "".join(f"- {{model: {each}, parameters: {{weight: 0.5}}}}\n" for each in ("{base}", "{model}"))
    wanted = rule(base=str(base), template=f"merge_method: linear\ndtype: bfloat16\nmodels:\n{mean}")
    with daemon.client() as client:
        shutil.copytree(tunes[0], folder / "was-there")
        client.watch_add(folder, settle=0.1, roots=(str(apart),), rules=(wanted,))
        write_model(folder / "stranger")
        shutil.copytree(base, folder / "the-base")
        shutil.copytree(tunes[1], folder / "tune-1")
        eventually((folder / "out" / "tune-1-plain" / "model.safetensors").exists, seconds=240)
        eventually(lambda: client.watches()[0].claims == {"done": 1, "known": 1})
        (job,) = client.jobs()
        assert job.state is JobState.DONE
        assert (folder / "done").rglob("tune-1.plain.result.json")
        waiting = {each.name: each.why for each in client.watches()[0].waiting}
    assert waiting.keys() == {"stranger", "the-base"}
    assert "base itself" in waiting["the-base"]
    merged = read_checkpoint(folder / "out" / "tune-1-plain")
    assert merged.keys() == read_checkpoint(tunes[1]).keys()


def history(folder: Path) -> list[tuple[str, bool]]:
    """The candidates of a soup in their order, and whether each was kept."""
    found = sorted((folder / "soups" / "soup").glob("*.json"))
    told = [json.loads(each.read_text()) for each in found]
    return [(each["file"], each["kept"]) for each in told]


def test_a_running_soup_takes_in_what_is_better_one_at_a_time(daemon: TrialDaemon, tmp_path: Path) -> None:
    folder, start, tasks = tmp_path / "drop", write_model(tmp_path / "start", 99), tmp_path / "tasks.jsonl"
    folder.mkdir()
    tasks.write_text("{}\n")
    soup = folder / "soups" / "soup"
    names = ("a-good", "b-equal", "c-broken", "d-bad", "e-good")
    for number, name in enumerate(names):
        write_model(tmp_path / "new" / name, number)
    with daemon.client() as client:
        client.watch_add(
            folder, settle=0.1, rescan=1, roots=(str(tmp_path),), rules=(soup_rule(start, tasks),)
        )
        for name in names:
            (tmp_path / "new" / name).rename(folder / name)
        eventually(lambda: client.watches()[0].claims == {"done": 4, "failed": 1}, seconds=240)
        (running,) = client.watches()[0].soups
        assert (running.kept, running.rejected) == (2, 2)
        assert running.current == str(soup / "0005-e-good")
        merges = [job for job in client.jobs() if job.kind == "merge"]
        scores = [job for job in client.jobs() if job.kind == "score"]
    assert history(folder) == [("a-good", True), ("b-equal", False), ("d-bad", False), ("e-good", True)]
    assert (soup / "current").resolve() == soup / "0005-e-good"
    assert {each.name for each in soup.iterdir() if each.is_dir()} == {
        "0001-a-good",
        "0005-e-good",
        "current",
    }
    assert "it is broken" in (folder / "failed" / "c-broken.soup.error.txt").read_text()
    against = [score.spec["subjects"][0]["path"] for score in scores]
    assert against == [str(start), *[str(soup / "0001-a-good")] * 4]
    for job, soup_then in zip(merges, against, strict=True):
        assert soup_then in job.spec["recipe"]


def test_rules_that_cannot_be_are_refused_at_once(daemon: TrialDaemon, tmp_path: Path) -> None:
    folder, apart = tmp_path / "drop", write_model(tmp_path / "apart")
    folder.mkdir()
    tasks = tmp_path / "tasks.jsonl"
    tasks.write_text("{}\n")
    with daemon.client() as client:
        for wanted, message in (
            (rule(base=str(apart)), "outside the folders"),
            (rule(base="nowhere"), "was not found"),
            (rule(template="merge_method: linear\n"), "nowhere"),
            (soup_rule(folder, tasks), "outside the folders"),
        ):
            with pytest.raises(AlloydError, match=message):
                client.watch_add(folder, rules=(wanted,))
        assert client.watches() == []


@pytest.mark.parametrize(("models", "kills"), [(3, 8), pytest.param(40, 200, marks=pytest.mark.soak)])
def test_killed_at_any_moment_every_model_is_taken_exactly_once(
    daemon: TrialDaemon, tmp_path: Path, models: int, kills: int
) -> None:
    folder, start, tasks = tmp_path / "drop", write_model(tmp_path / "start", 9999), tmp_path / "tasks.jsonl"
    folder.mkdir()
    tasks.write_text("{}\n")
    chance = random.Random(models)
    names = [f"{number:02d}-{chance.choice(('good', 'bad', 'same'))}" for number in range(models)]
    with daemon.client() as client:
        rules = (soup_rule(start, tasks), rule())
        client.watch_add(folder, settle=0.05, rescan=1, roots=(str(tmp_path),), rules=rules)
    for number, name in enumerate(names):
        write_model(tmp_path / "new" / name, number)
        (tmp_path / "new" / name).rename(folder / name)
    for _ in range(kills):
        if len(history(folder)) == models:
            break
        time.sleep(chance.choice((0.1, 0.5, 1.0, 4.0)))  # some get something done
        if chance.random() < 0.25:
            daemon.kill_all() if chance.random() < 0.5 else daemon.kill()
            eventually(lambda: not watchers(daemon))
            daemon.start()
            continue
        for each in watchers(daemon):
            each.kill()
    with daemon.client() as client:
        eventually(lambda: client.watches()[0].claims == {"done": 2 * models}, seconds=240 + 20 * models)
        (soup,) = client.watches()[0].soups
        jobs = client.jobs()
    good = [name for name in names if name.endswith("good")]
    assert (soup.kept, soup.rejected) == (len(good), models - len(good))
    assert len(jobs) == 3 * models
    assert len({each.out for each in jobs if each.kind == "merge"}) == 2 * models
    assert [name for name, _ in history(folder)] == names
    assert [name for name, kept in history(folder) if kept] == good
    left = {
        each.name.partition("-")[2] for each in (folder / "soups" / "soup").glob("[0-9]*") if each.is_dir()
    }
    assert left == set(good)
    assert (folder / "soups" / "soup" / "current").resolve() == Path(soup.current)


def watchers(daemon: TrialDaemon) -> list[psutil.Process]:
    """The living watchers of a daemon's home."""
    found = []
    for each in psutil.process_iter(["cmdline"]):
        words = each.info["cmdline"] or []
        if "alloyd_daemon.watch" in words and str(daemon.home.root) in words:
            found.append(each)
    return found
