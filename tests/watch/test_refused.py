"""A dropped file that names what is not its folder's, or code, is refused, and the log says which file and why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from alloyd.errors import UsageError
from alloyd.watch_schema import Rule
from trial_daemon import TrialDaemon, eventually

from .test_service import drop

LINEAR = "merge_method: linear\nmodels:\n- {{model: {}, parameters: {{weight: 1}}}}\n"
SEARCH = """\
recipe: {{merge_method: linear, models: [{{model: a, parameters: {{weight: {{low: 0, high: 1}}}}}}]}}
tasks: {{search: ["{}"], validation: [other.jsonl]}}
budget: {{candidates: 2}}
"""


def test_what_a_dropped_file_may_not_name(daemon: TrialDaemon, tmp_path: Path) -> None:
    folder, outside, ran = tmp_path / "drop", tmp_path / "outside", tmp_path / "drop" / "ran"
    for each in (folder, outside):
        each.mkdir()
    (folder / "link").symlink_to(outside)
    (outside / "linked.yaml").write_text(LINEAR.format("a"))
    dropped = {
        "path.yaml": (LINEAR.format(outside), "lies outside the folders"),
        "up.yaml": (LINEAR.format("../outside"), "lies outside the folders"),
        "link.yaml": (LINEAR.format("link"), "lies outside the folders"),
        "code.yaml": (f"merge_method: !!python/object/apply:os.system ['touch {ran}']\n", "is not allowed"),
    }
    with daemon.client() as client:
        client.watch_add(folder, settle=0.1)
        for name, (text, _) in dropped.items():
            drop(folder, name, text)
        (folder / "linked.yaml").symlink_to(outside / "linked.yaml")
        dropped["linked.yaml"] = ("", "is a link")
        failed = folder / "failed"
        eventually(lambda: len(list(failed.glob("*.error.json"))) == len(dropped), seconds=240)
        dropped["task.yaml"] = (SEARCH.format("lm_eval:./code.yaml"), "can hold code")
        drop(folder, "task.yaml", dropped["task.yaml"][0])
        eventually((failed / "task.yaml.error.json").exists, seconds=240)
        assert client.jobs() == []
    log = daemon.home.log("watch").read_text().splitlines()
    messages = [json.loads(line)["message"] for line in log]
    for name, (_, why) in dropped.items():
        assert why in json.loads((failed / f"{name}.error.json").read_text())["message"], name
        assert any(f"refused {name} in {folder}" in each and why in each for each in messages), name
    assert not ran.exists()
    assert sorted(each.name for each in outside.iterdir()) == ["linked.yaml"]


def test_folders_that_belong_to_somebody_are_not_watched(daemon: TrialDaemon, tmp_path: Path) -> None:
    folder, link, home = tmp_path / "drop", tmp_path / "link", daemon.home.root
    for each in (folder / "done", folder / ".work" / "x", folder / "mine"):
        each.mkdir(parents=True)
    link.symlink_to(folder)
    (tmp_path / "way").symlink_to(home)
    with daemon.client() as client:
        client.watch_add(folder, settle=0.1)
        for path, why in (
            (home, "the daemon's own folder"),
            (home / "logs", "the daemon's own folder"),
            (tmp_path / "way", "the daemon's own folder"),
            (link, "is watched already, as"),
            (folder / "done", "keeps what it has taken"),
            (link / ".work" / "x", "keeps what it has taken"),
        ):
            with pytest.raises(UsageError, match=why):
                client.watch_add(path)
        client.watch_add(folder / "mine")
        client.watch_add(folder, settle=0.2)
        client.watch_remove(folder)
        client.watch_add(link)
        assert daemon.home.connection.exists()


def test_outputs_do_not_go_round_for_ever(daemon: TrialDaemon, tmp_path: Path) -> None:
    rule = Rule(name="r", match=("*",), kind="recipe", template=LINEAR.format("'{model}'"))
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    for each in (one, two, three):
        each.mkdir()
    with daemon.client() as client:
        client.watch_add(one, out=str(two), rules=(rule,))
        client.watch_add(two, out=str(three / "models"), rules=(rule,))
        with pytest.raises(UsageError, match=r"round for ever: from .*three, to .*one, to .*two, to .*three"):
            client.watch_add(three, out=str(one), rules=(rule,))
        client.watch_add(three, out=str(one))
        client.watch_add(three, rules=(rule,))
        client.watch_add(one, out=str(one), rules=(rule,))
