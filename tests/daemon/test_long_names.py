"""Whatever a reader quotes of what others wrote, its message stays short, in one line, and harmless to a terminal."""

from __future__ import annotations

import io
import json
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from adapter_factory import write_adapter
from alloyd import profiles, recipe, search_reader, task_file, units, watch_rules, wire
from alloyd.console import Console
from alloyd.errors import AlloydError, Problems
from alloyd.foreign import LONGEST, LONGEST_NAME
from alloyd.jobs import PlanSpec
from alloyd_daemon import tasks
from alloyd_daemon.adapters.apply import with_adapter
from alloyd_daemon.candidate import from_recipe
from alloyd_daemon.checkpoints.checkpoint import open_checkpoint
from alloyd_daemon.checkpoints.header import parse as parse_header
from alloyd_daemon.checkpoints.manifest import parse_manifest
from alloyd_daemon.evaluator import Choices
from alloyd_daemon.gguf.reader import parse as parse_gguf
from alloyd_daemon.merge_method import METHODS
from alloyd_daemon.recipes import descent
from alloyd_daemon.search.history_file import record_of
from alloyd_daemon.settings import Settings, load
from alloyd_daemon.watch.dropped import Dropped, kind_of
from checkpoint_factory import Model, read_checkpoint, write_checkpoint, write_weights

NAMES: Final = {
    "one word": "x" * 100_000,
    "many words": "two words " * 10_000,
    "escapes": "\x1b[2J\x1b]0;title\x07\u202e'\n\t" * 8_000,
}
Reading = Callable[[str, Path], object]


def header(tensors: dict[str, Any]) -> bytes:
    text = json.dumps(tensors).encode()
    return len(text).to_bytes(8, "little") + text


def of_header(tensors: dict[str, Any]) -> object:
    prefix = header(tensors)
    return parse_header(prefix, len(prefix) + 8, file="a.safetensors")


def tensor(**changes: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}


def index(name: str, folder: Path, shard: str | None = None) -> object:
    """A checkpoint whose index names a tensor that is in no shard, or a shard that is not there."""
    (folder / "m.safetensors").write_bytes(header({"a": tensor()}) + bytes(8))
    weights = {name: "m.safetensors"} if shard is None else {"a": shard}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weights}))
    return open_checkpoint(folder)


def adapted(folder: Path, extra: dict[str, Any] | None = None, **config: Any) -> object:
    base = write_checkpoint(folder / "base", Model())
    adapter = write_adapter(folder / "adapter", read_checkpoint(base), extra=extra, rank=2)
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    return with_adapter(open_checkpoint(base), adapter)


def laid(folder: Path, name: str) -> object:
    """A merge of two models, a tensor of which has two shapes."""
    for place, width in (("one", 3), ("other", 4)):
        (folder / place).mkdir()
        write_weights(folder / place, {name: np.zeros((2, width), np.float32)})
    return planned(folder, {"merge_method": "linear", "models": [one("one"), one("other")]})


def one(model: str) -> dict[str, Any]:
    return {"model": {"model": {"path": model}}, "parameters": {"weight": 1}}


def planned(folder: Path, tree: dict[str, Any]) -> object:
    spec = PlanSpec(json.dumps(tree), str(folder), recipe_name="r.yaml")
    return from_recipe(spec, name="it", home=folder / "home", settings=Settings())


def of_recipe(**tree: Any) -> object:
    return recipe.load(json.dumps({"merge_method": "linear", "models": [{"model": "a"}], **tree}))


def of_search(**tree: Any) -> object:
    whole = {
        "recipe": {"merge_method": "linear", "models": [{"model": "a"}]},
        "tasks": {"search": ["a"], "validation": ["b"]},
        "budget": {"candidates": 2},
    }
    return search_reader.read(json.dumps(whole | tree))


def of_gguf(name: str, kind: int) -> object:
    """A GGUF file with one tensor of a type that there is not, or one key of metadata that is."""

    def text(said: str) -> bytes:
        data = said.encode()
        return struct.pack("<Q", len(data)) + data

    head = struct.pack("<4sIQQ", b"GGUF", 3, 1 if kind < 0 else 0, 0 if kind < 0 else 1)
    body = text(name) + (struct.pack("<IQIQ", 1, 2, 999, 0) if kind < 0 else struct.pack("<I", kind))
    return parse_gguf(io.BytesIO(head + body), len(head + body), file="m.gguf")


def of_settings(text: str, folder: Path) -> object:
    (folder / "config.toml").write_text(text)
    return load(config=folder / "config.toml", environ={})


def of_task(folder: Path, **item: Any) -> object:
    (folder / "t.jsonl").write_text(json.dumps(item) + "\n")
    return tasks.resolve([str(folder / "t.jsonl")], Choices())


READERS: Final[dict[str, Reading]] = {
    "key of a recipe": lambda name, _: of_recipe(**{name: 1}),
    "method": lambda name, _: METHODS.get(name),
    "dtype of a recipe": lambda name, _: of_recipe(dtype=name),
    "parameter": lambda name, _: of_recipe(parameters={"weight": {name: 1}}),
    "seed": lambda name, _: of_recipe(seed=name),
    "format": lambda name, _: of_recipe(out={"format": name}),
    "YAML": lambda name, _: recipe.load(f"{{{name}"),
    "model": lambda name, at: planned(at, {"merge_method": "linear", "models": [one(name)]}),
    "unknown parameter": lambda name, at: planned(
        at, {"merge_method": "linear", "models": [one("a")], "parameters": {name: 1}}
    ),
    "key of a search": lambda name, _: of_search(**{name: 1}),
    "mode of a search": lambda name, _: of_search(mode=name),
    "objective": lambda name, _: of_search(objectives=[{"metric": 1, name: 2}]),
    "knob": lambda name, _: of_search(recipe={"models": [{"model": "a", "parameters": {"t": {name: 1}}}]}),
    "job": lambda name, at: record_of(at, name),
    "key of a task": lambda name, at: of_task(at, **{name: 1}),
    "value of a task": lambda name, at: of_task(at, prompt=["a"], answer=name, id="1"),
    "task": lambda name, _: tasks.resolve([name], Choices()),
    "line of a task": lambda name, _: task_file.parse(f"{name}\n".encode(), "t.jsonl"),
    "tensor": lambda name, _: of_header({name: tensor(dtype="F33")}),
    "dtype": lambda name, _: of_header({"a": tensor(dtype=name)}),
    "shape": lambda name, _: of_header({"a": tensor(shape=name)}),
    "index": index,
    "shard": lambda name, at: index("a", at, shard=name),
    "two shapes": lambda name, at: laid(at, name),
    "kind of adapter": lambda name, at: adapted(at, peft_type=name),
    "key of an adapter": lambda name, at: adapted(at, **{f"use_{name}": True}),
    "value of an adapter": lambda name, at: adapted(at, lora_alpha=name),
    "pattern of an adapter": lambda name, at: adapted(at, rank_pattern={name: -1}),
    "tensor of an adapter": lambda name, at: adapted(at, {name: np.zeros((1, 1), np.float32)}),
    "tensor of GGUF": lambda name, _: of_gguf(name, -1),
    "key of GGUF": lambda name, _: of_gguf(name, 99),
    "manifest": lambda name, _: parse_manifest(json.dumps({name: 1}).encode(), file="m.json"),
    "key of settings": lambda name, at: of_settings(f"[jobs]\n{json.dumps(name)} = 1\n", at),
    "value of settings": lambda name, at: of_settings(f"[jobs]\nmemory = {json.dumps(name)}\n", at),
    "rule": lambda name, at: watch_rules.read(json.dumps({"on_model": [{name: 1}]}), name="r", folder=at),
    "dropped": lambda name, _: kind_of(Dropped("d.yaml", json.dumps({name: 1}).encode())),
    "kind of job": lambda name, _: wire.read_spec({"kind": name}),
    "key of a job": lambda name, _: wire.read_spec({"kind": "plan", "recipe": "", "base_dir": "/", name: 1}),
    "size": lambda name, _: units.parse_size(name),
    "age": lambda name, _: units.parse_age(name),
    "descent": lambda name, _: descent.read(name, 2),
    "profile": lambda name, _: profiles.read(name),
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_a_message_stays_short_whatever_it_quotes(
    read: Reading, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = time.monotonic()
    with pytest.raises(AlloydError) as raised:
        read(name, tmp_path)
    assert time.monotonic() - begun < 20, "it is quoted, not searched through"
    error = raised.value
    for each in error.problems if isinstance(error, Problems) else (error,):
        for text in (each.message, each.hint):
            assert len(text) <= LONGEST
            assert text.isprintable()
            assert all(len(word) <= 2 * LONGEST_NAME for word in text.split(" "))
    Console().fail(error)
    Console(json=True).fail(error)
    for text in capsys.readouterr():
        assert text.replace("\n", "").isprintable()
