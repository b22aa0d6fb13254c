"""A model that is copied, moved, fetched or taken away in any way sets off its rule once, whole, or not at all."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from alloyd import recipe, search_reader
from alloyd.jobs import JobState, SearchSpec
from alloyd.watch_rules import check
from alloyd.watch_schema import Rule
from alloyd_daemon.watch import newcomers
from alloyd_daemon.watch.newcomers import LONG
from watch.trial_models import rule, write_adapter, write_model
from watch.trial_watch import SETTLE, Desk

SHARDS = [f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]
INDEX = "model.safetensors.index.json"
SMALL = ["config.json", "tokenizer.json"]
ORDERS = {
    "index-first": ["tokenizer.json", INDEX, *SHARDS, "config.json"],
    "index-last": [*SMALL, *SHARDS, INDEX],
    "config-last": ["tokenizer.json", *SHARDS, INDEX, "config.json"],
    "a-shard-last": [*SMALL, INDEX, *SHARDS[1:], SHARDS[0]],
}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    found = Desk(tmp_path)
    yield found
    found.ledger.close()


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders whose headers were read, in order."""
    found: list[str] = []
    read = newcomers.examine

    def counted(folder: Path) -> object:
        found.append(folder.name)
        return read(folder)

    monkeypatch.setattr(newcomers, "examine", counted)
    return found


def boundaries(path: Path) -> dict[str, int]:
    """Lengths at which a copy of a safetensors file may have stopped."""
    data = path.read_bytes()
    header = 8 + int.from_bytes(data[:8], "little")
    infos = json.loads(data[8:header])
    ends = sorted(header + each["data_offsets"][1] for name, each in infos.items() if name != "__metadata__")
    return {
        "empty": 0,
        "inside the length": 5,
        "before the header": 8,
        "inside the header": header // 2,
        "after the header": header,
        "inside a tensor": header + 1,
        "between tensors": ends[0],
        "before the last byte": len(data) - 1,
    }


@pytest.mark.parametrize("shards", [1, 3])
def test_a_file_that_stops_anywhere_waits_however_long(desk: Desk, tmp_path: Path, shards: int) -> None:
    source = write_model(tmp_path / "source", shards=shards)
    name = SHARDS[1] if shards == 3 else "model.safetensors"
    whole = (source / name).read_bytes()
    for number, (stop, length) in enumerate(boundaries(source / name).items()):
        model = tmp_path / "making"
        shutil.copytree(source, model)
        (model / "config.json").write_text(f'{{"architectures": ["A"], "number": {number}}}')
        (model / name).write_bytes(whole[:length])
        model = model.rename(desk.folder / f"model-{number}")
        desk.look(2 * LONG)
        assert len(desk.triggered) == number, stop
        assert desk.waiting.keys() == {model.name}, stop
        (model / name).write_bytes(whole)
        desk.look(3 * SETTLE)
        assert len(desk.triggered) == number + 1, stop
    desk.look(2 * LONG)
    assert desk.triggered == [f"model-{number}-plain" for number in range(8)]


@pytest.mark.parametrize("order", ORDERS)
def test_files_in_any_order_set_it_off_when_the_last_is_there(desk: Desk, tmp_path: Path, order: str) -> None:
    source = write_model(tmp_path / "source", shards=3)
    model = desk.folder / "model"
    model.mkdir()
    assert sorted(ORDERS[order]) == sorted(each.name for each in source.iterdir())
    for name in ORDERS[order]:
        desk.look(LONG)
        assert desk.triggered == []
        shutil.copy(source / name, model / name)
    desk.look(10 * SETTLE)
    assert desk.triggered == ["model-plain"]


@pytest.mark.parametrize("pause", [SETTLE / 2, 3 * SETTLE])
@pytest.mark.parametrize("seed", range(3))
def test_slow_copies(desk: Desk, tmp_path: Path, pause: float, seed: int) -> None:
    """Whether a writer pauses for less than it takes to settle, or for longer."""
    chance = random.Random(seed)
    source = write_model(tmp_path / "source", shards=3)
    model = desk.folder / "model"
    model.mkdir()
    names = [*SHARDS, INDEX, "config.json"]
    chance.shuffle(names)
    shutil.copy(source / "tokenizer.json", model)
    for name in names:
        data = (source / name).read_bytes()
        with open(model / name, "wb", buffering=0) as file:
            for start in range(0, len(data), max(1, len(data) // 4)):
                desk.look(pause)
                assert desk.triggered == []
                file.write(data[start : start + max(1, len(data) // 4)])
    desk.look(5 * SETTLE)
    assert desk.triggered == ["model-plain"]


@pytest.mark.parametrize(
    "unfinished",
    ["model.safetensors.part", "model.safetensors.aria2", ".model.safetensors.Xy12Ab", "x.crdownload", "y.tmp",
     ".syncthing.model.safetensors.tmp", "z.incomplete"],
)  # fmt: skip
def test_what_a_copying_program_has_not_finished_is_waited_for(desk: Desk, unfinished: str) -> None:
    model = write_model(desk.folder / "model")
    (model / unfinished).write_bytes(b"half")
    desk.look(2 * LONG)
    assert desk.triggered == []
    assert unfinished in desk.waiting["model"]
    (model / unfinished).unlink()
    desk.look(3 * SETTLE)
    assert desk.triggered == ["model-plain"]


def test_an_empty_folder_is_looked_into_again_soon(desk: Desk) -> None:
    """What happens inside it does not ring."""
    (desk.folder / "model").mkdir()
    desk.look(3 * SETTLE)
    assert desk.waiting == {}
    assert desk.watcher.step() <= newcomers.POLL
    desk.look(2 * LONG)
    assert desk.watcher.step() > newcomers.POLL
    (desk.folder / "model").rmdir()
    write_model(desk.folder / "model")
    desk.look(3 * SETTLE)
    assert desk.triggered == ["model-plain"]


def test_what_belongs_to_a_repository_is_not_waited_for(desk: Desk) -> None:
    model = write_model(desk.folder / "model")
    (model / ".gitattributes").write_text("*.safetensors filter=lfs\n")
    (model / ".git").mkdir()
    desk.look(3 * SETTLE)
    assert desk.triggered == ["model-plain"]


def test_renames_into_place(desk: Desk, tmp_path: Path) -> None:
    for number, hidden in enumerate((".model-0", "model-1.part", "../model-2")):
        write_model(desk.folder / hidden, number)
    desk.look(LONG)
    assert desk.triggered == []
    for number, hidden in enumerate((".model-0", "model-1.part", "../model-2")):
        (desk.folder / hidden).rename(desk.folder / f"model-{number}")
    desk.look(3 * SETTLE)
    assert sorted(desk.triggered) == [f"model-{number}-plain" for number in range(3)]


def test_a_snapshot_of_a_cache_waits_for_its_blobs(desk: Desk, tmp_path: Path) -> None:
    source = write_model(tmp_path / "source")
    repository = desk.folder / "models--org--name"
    snapshot, blobs = repository / "snapshots" / "abc123", repository / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, name in enumerate(("model.safetensors", *SMALL)):
        (snapshot / name).symlink_to(blobs / str(number))
        shutil.copy(source / name, blobs / (f"{number}.incomplete" if not number else str(number)))
        desk.look(LONG)
        assert desk.triggered == []
    assert "0.incomplete" in desk.waiting["org/name"]
    (blobs / "0.incomplete").rename(blobs / "0")
    desk.look(3 * SETTLE)
    assert desk.triggered == ["org--name-plain"]
    # A download into a folder of its own keeps what it has not finished in a hidden one.
    model = write_model(desk.folder / "org2" / "name", 1)
    half = model / ".cache" / "huggingface" / "download" / "x.incomplete"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"half")
    desk.look(LONG)
    assert len(desk.triggered) == 1
    half.unlink()
    desk.look(3 * SETTLE)
    assert desk.triggered[1:] == ["org2--name-plain"]


def test_a_model_that_changes_while_it_is_read_is_read_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_model(desk.folder / "model")
    read = newcomers.examine

    def meanwhile(folder: Path) -> object:
        whole = read(folder)
        with open(folder / "config.json", "a") as file:
            file.write("half")
        return whole

    monkeypatch.setattr(newcomers, "examine", meanwhile)
    desk.look(SETTLE + 1)
    monkeypatch.setattr(newcomers, "examine", read)
    desk.look(LONG)
    assert desk.triggered == []
    (model / "config.json").write_text("{}")
    desk.look(3 * SETTLE)
    assert desk.triggered == ["model-plain"]


def test_a_thousand_models_at_once(tmp_path: Path, reads: list[str]) -> None:
    desk = Desk(tmp_path, in_flight=1000)
    desk.daemon.state = JobState.RUNNING
    for number in range(1000):
        write_model(tmp_path / "new" / f"m{number:03d}", number)
    for each in sorted((tmp_path / "new").iterdir()):
        each.rename(desk.folder / each.name)
    desk.look(2 * SETTLE, times=2)
    assert sorted(desk.triggered) == [f"m{number:03d}-plain" for number in range(1000)]
    desk.look(LONG, times=2)
    desk.begin()
    desk.look(LONG, times=2)
    assert len(desk.daemon.jobs) == 1000
    assert len(reads) == 1000  # of a model that has not changed nothing is read again, by no watcher
    assert desk.status.claims == {"submitted": 1000}
    desk.ledger.close()


def test_no_more_models_are_taken_than_may_be_in_flight(tmp_path: Path) -> None:
    desk = Desk(tmp_path, in_flight=2)
    for number in range(5):
        write_model(desk.folder / f"m{number}", number)
    desk.daemon.state = JobState.RUNNING
    desk.look(LONG)
    assert desk.triggered == ["m0-plain", "m1-plain"]
    assert desk.waiting["m4"] == "2 of this folder's jobs are in flight"
    desk.daemon.state = JobState.DONE
    desk.look(LONG)
    assert desk.triggered == [f"m{number}-plain" for number in range(5)]
    desk.ledger.close()


def test_a_folder_that_disappears_while_a_model_is_copied(desk: Desk, tmp_path: Path) -> None:
    source = write_model(tmp_path / "source")
    data = (source / "model.safetensors").read_bytes()
    model, away = desk.folder / "model", tmp_path / "away"
    shutil.copytree(source, model)
    with open(model / "model.safetensors", "wb", buffering=0) as file:
        file.write(data[:100])
        desk.look(1)
        desk.folder.rename(away)
        desk.look(1)
        assert desk.status.state == "unknown"
        desk.folder.mkdir()  # what is left where a share was mounted
        write_model(desk.folder / "stray", 7)
        desk.look(LONG)
        assert desk.status.state == "unknown"
        file.write(data[100:-1])
        shutil.rmtree(desk.folder)
        away.rename(desk.folder)
        desk.look(LONG)
        assert desk.status.state == "ok"
        assert desk.triggered == []
        file.write(data[-1:])
    desk.look(3 * SETTLE)
    assert desk.triggered == ["model-plain"]
    desk.folder.rename(away)
    desk.look(LONG)
    away.rename(desk.folder)
    desk.look(LONG)
    assert desk.triggered == ["model-plain"]


def test_a_copy_or_another_name_is_no_new_model_and_other_weights_are(desk: Desk) -> None:
    model = write_model(desk.folder / "model")
    desk.look(3 * SETTLE)
    shutil.copytree(model, desk.folder / "copy")
    model = model.rename(desk.folder / "renamed")
    desk.look(3 * SETTLE)
    os.utime(model / "model.safetensors")
    desk.look(3 * SETTLE)
    assert desk.triggered == ["model-plain"]
    # Of the same size, with the same header.
    data = bytearray((model / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (model / "model.safetensors").write_bytes(data)
    desk.look(3 * SETTLE)
    assert desk.triggered == ["model-plain", "renamed-plain"]


def test_models_that_are_there_are_known_until_existing_ones_are_asked_for(tmp_path: Path) -> None:
    (tmp_path / "drop").mkdir()
    write_model(tmp_path / "drop" / "old", 1)
    half = write_model(tmp_path / "drop" / "half", 2)
    data = (half / "model.safetensors").read_bytes()
    (half / "model.safetensors").write_bytes(data[:-1])
    desk = Desk(tmp_path)
    (desk.folder / "old").rename(desk.folder / "old-renamed")
    (half / "model.safetensors").write_bytes(data)
    desk.look(3 * SETTLE)
    assert desk.triggered == ["half-plain"]  # it was not whole when the folder was added
    assert desk.status.claims == {"done": 1, "known": 1}
    desk.settings = type(desk.settings)(settle=SETTLE, rules=(rule(), rule("other")), roots=(str(tmp_path),))
    desk.add()
    desk.look(3 * SETTLE)
    assert len(desk.triggered) == 1
    desk.add(existing=True)
    desk.look(3 * SETTLE)
    assert sorted(desk.triggered[1:]) == ["half-other", "old-renamed-other", "old-renamed-plain"]
    desk.ledger.close()


def test_what_can_never_become_complete_is_said_and_not_read_again(desk: Desk, reads: list[str]) -> None:
    model = write_model(desk.folder / "model")
    with open(model / "model.safetensors", "ab") as file:
        file.write(b"more")
    desk.look(3 * SETTLE)
    assert desk.waiting["model"] == "model.safetensors has 4 bytes after its last tensor"
    desk.look(2 * LONG)
    assert desk.waiting["model"].startswith("cannot become complete: ")
    desk.look(10 * LONG)
    assert reads == ["model"]


def test_a_rule_takes_fine_tunes_and_adapters_of_its_base_alone(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", 1)
    desk = Desk(tmp_path, rule(match="*-ft", base="../base"))
    write_model(desk.folder / "one-ft", 2)
    write_model(desk.folder / "two", 3)
    write_model(desk.folder / "three-ft", 4, architecture="OtherForCausalLM")
    write_adapter(desk.folder / "four-ft", str(base))
    write_adapter(desk.folder / "five-ft", "some/other")
    shutil.copytree(base, desk.folder / "six-ft")
    desk.look(3 * SETTLE)
    assert sorted(desk.triggered) == ["four-ft-plain", "one-ft-plain"]
    assert desk.waiting == {
        "three-ft": "not for the rule plain: it is a OtherForCausalLM, and the base is a LlamaForCausalLM",
        "five-ft": "not for the rule plain: it is an adapter of some/other",
        "six-ft": "not for the rule plain: it is the base itself",
    }
    desk.ledger.close()


def test_a_base_that_is_not_whole_is_waited_for_at_no_cost(tmp_path: Path, reads: list[str]) -> None:
    base = write_model(tmp_path / "base", 1)
    (base / "config.json").rename(tmp_path / "aside.json")
    desk = Desk(tmp_path, rule(base="../base"))
    write_model(desk.folder / "model", 2)
    desk.look(LONG)
    assert "the base ../base of its rule is not complete" in desk.waiting["model"]
    assert "model" not in reads
    (tmp_path / "aside.json").rename(base / "config.json")
    desk.look(3 * SETTLE)
    assert desk.triggered == ["model-plain"]
    desk.ledger.close()


def test_a_search_is_run_with_the_model(tmp_path: Path) -> None:
    spec = "recipe: {merge_method: linear, models: [{model: {model}, parameters: {weight: {low: 0, high: 1}}}]}\n"
    spec += "tasks: {search: [a.jsonl], validation: [b.jsonl]}\nbudget: {candidates: 2}\n"
    wanted = Rule("find", ("*",), "search", spec)
    check([wanted])
    desk = Desk(tmp_path, wanted)
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "winner.yaml").write_text("a winner\n")
    desk.daemon.result = lambda spec: {"folder": str(tmp_path / "job")}
    model = write_model(desk.folder / "model")
    desk.look(3 * SETTLE)
    (asked,) = desk.daemon.specs
    assert isinstance(asked, SearchSpec)
    template = search_reader.read(asked.spec).recipe
    assert template is not None
    assert template["models"][0]["model"] == str(model)  # type: ignore[index,call-overload]
    assert (desk.folder / "out" / "model-find" / "winner.yaml").read_text() == "a winner\n"
    desk.ledger.close()


def test_a_model_that_failed_is_tried_again_when_asked_for(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.daemon.state = JobState.FAILED
    write_model(desk.folder / "model")
    desk.look(LONG)
    desk.begin()
    desk.look(LONG)
    assert desk.status.claims == {"failed": 1}
    assert len(desk.daemon.jobs) == 1
    assert "--existing" in (desk.folder / "failed" / "model.plain.error.txt").read_text()
    desk.daemon.state = JobState.DONE
    desk.add(existing=True)
    desk.look(3 * SETTLE)
    assert desk.status.claims == {"done": 1}
    assert len(desk.daemon.jobs) == 2
    assert not list((desk.folder / "failed").iterdir())
    desk.ledger.close()


def test_a_rule_is_held_to_the_folders_of_its_watch(tmp_path: Path) -> None:
    outside = write_model(tmp_path.parent / f"{tmp_path.name}-outside")
    desk = Desk(tmp_path, rule(base=str(outside)))
    write_model(desk.folder / "model", 1)
    (desk.folder / "link").symlink_to(outside)
    desk.look(LONG)
    assert desk.triggered == []
    assert "outside the folders" in desk.waiting["model"]
    assert "outside the folders" in desk.waiting["link"]
    desk.ledger.close()


def test_outputs_of_a_folder_set_nothing_off(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.daemon.result = lambda spec: (write_model(Path(spec.out) / "x", 9), {})[1]  # type: ignore[union-attr]
    write_model(desk.folder / "model")
    desk.look(LONG)
    assert desk.triggered == ["model-plain"]
    desk.ledger.close()


def test_names_that_are_no_text_wait(desk: Desk) -> None:
    model = write_model(desk.folder / "model")
    os.rename(model, os.fsencode(desk.folder) + b"/\xff")
    Path(os.fsdecode(os.fsencode(desk.folder) + b"/\xfe.yaml")).write_text("merge_method: linear\n")
    desk.look(3 * SETTLE)
    assert desk.waiting == dict.fromkeys(("\\xff", "\\xfe.yaml"), "its name is not UTF-8; rename it")


@pytest.mark.parametrize("name", ["a: {b}, c", "a #b", "- x", "[y]", "a+b", "a@b", "{model}", 'q"q'])
def test_the_name_of_a_folder_is_never_read_as_a_recipe(desk: Desk, name: str) -> None:
    model = write_model(desk.folder / name)
    desk.look(3 * SETTLE)
    (spec,) = desk.daemon.specs
    (read,) = recipe.load(spec.recipe)  # type: ignore[union-attr]
    assert [each.path for each in read.referenced_models()] == [str(model)]


def test_another_folder_with_the_mark_of_the_first_is_listened_to_anew(desk: Desk) -> None:
    left: list[str] = []
    desk.watcher._bell.leave = left.append  # type: ignore[method-assign]
    desk.look()
    away = desk.folder.with_name("away")
    desk.folder.rename(away)
    shutil.copytree(away, desk.folder)  # as a mount gives the same folder other numbers
    assert left == []
    desk.look()
    assert desk.status.state == "ok"
    assert left == [desk.ledger.folders()[0].id]
