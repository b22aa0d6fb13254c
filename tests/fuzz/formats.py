"""Readers of files that programs write: headers, checkpoints, GGUF, manifests, adapters."""

from __future__ import annotations

import io
import json
import random
import tempfile
from pathlib import Path
from typing import Any

from alloyd.errors import SourceError
from alloyd.recipe import ModelRef

from . import corpus
from .mutations import JSON, Mutator
from .target import Target, binary


def header() -> Target:
    from alloyd_daemon.checkpoints.header import DTYPES, parse

    words = (*DTYPES, "dtype", "shape", "data_offsets", "__metadata__", "a.weight", "format", "pt")

    def read(case: tuple[bytes, int]) -> object:
        prefix, size = case
        return parse(prefix, size, file="fuzzed.safetensors")

    return Target(lambda chance: safetensors(Mutator(chance, words)), read, ("fuzzed.safetensors",))


def safetensors(mutator: Mutator) -> tuple[bytes, int]:
    """The prefix of a damaged file, and the size of the file."""
    chance = mutator.chance
    tree: dict[str, Any] = {"__metadata__": {"format": "pt"}} if chance.random() < 0.5 else {}
    end = 0
    for number in range(chance.randrange(5)):
        shape = [chance.randrange(5) for _ in range(chance.randrange(4))]
        size = 2
        for each in shape:
            size *= each
        tree[f"layer.{number}.weight"] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    way = chance.randrange(3)
    text = json.dumps(mutator.tree(tree) if way == 0 else tree, ensure_ascii=chance.random() < 0.5)
    data = (mutator.text(text, (*JSON, *mutator.words)) if way == 1 else text).encode(
        "utf-8", "surrogatepass"
    )
    prefix = len(data).to_bytes(8, "little") + data
    size = len(prefix) + end
    if way == 2:
        prefix = mutator.data(prefix)
        size = mutator.pick((size, len(prefix) + end, len(prefix)))
    return prefix, size


def checkpoint() -> Target:
    """Folders with two shards, their index and config.json, one file of which is damaged."""
    from alloyd_daemon.checkpoints.checkpoint import open_checkpoint

    kept = tempfile.TemporaryDirectory(prefix="alloyd-fuzz-")
    folder = Path(kept.name) / "fuzzed"
    folder.mkdir()
    names = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    index = {"metadata": {"total_size": 16}, "weight_map": {"a": names[0], "b": names[0], "c": names[1]}}
    config = {"architectures": ["LlamaForCausalLM"], "num_hidden_layers": 2, "model_type": "llama"}

    def shard(*tensors: str) -> bytes:
        text = json.dumps(
            {
                name: {"dtype": "F32", "shape": [2], "data_offsets": [8 * at, 8 * at + 8]}
                for at, name in enumerate(tensors)
            }
        ).encode()
        return len(text).to_bytes(8, "little") + text + bytes(8 * len(tensors))

    good = {names[0]: shard("a", "b"), names[1]: shard("c")}
    words = ("a", "b", "c", *names, "weight_map", "metadata", "/etc/passwd", "sub/../x", ".")

    def make(chance: random.Random) -> dict[str, bytes | None]:
        mutator = Mutator(chance, words)
        files: dict[str, bytes | None] = dict(good)
        trees = {"model.safetensors.index.json": index, "config.json": config}
        files |= {name: json.dumps(tree).encode() for name, tree in trees.items()}
        way = chance.randrange(6)
        name = mutator.pick(sorted(files)) if way else "model.safetensors.index.json"
        data = files[name]
        assert data is not None
        if way == 5:
            files[name] = None
        elif name in trees and way < 3:
            files[name] = json.dumps(mutator.tree(trees[name])).encode()
        elif name in trees and way == 3:
            files[name] = mutator.text(data.decode(), (*JSON, *words)).encode("utf-8", "surrogatepass")
        else:
            files[name] = mutator.data(data)
        if name not in trees and chance.random() < 0.3:
            files["model.safetensors.index.json"] = None
        return files

    def read(files: dict[str, bytes | None]) -> object:
        assert kept
        for name, data in files.items():
            (folder / name).unlink(missing_ok=True)
            if data is not None:
                (folder / name).write_bytes(data)
        return open_checkpoint(folder)

    return Target(make, read, ("fuzzed",))


def gguf() -> Target:
    from alloyd_daemon.gguf.reader import parse

    return Target(
        lambda chance: binary(chance, corpus.gguf()),
        lambda data: parse(io.BytesIO(data), len(data), file="fuzzed.gguf"),
        ("fuzzed.gguf",),
    )


def imatrix() -> Target:
    from alloyd_daemon.gguf.imatrix import read_imatrix

    kept = tempfile.TemporaryDirectory(prefix="alloyd-fuzz-")
    file = Path(kept.name) / "fuzzed.gguf"

    def read(data: bytes) -> object:
        assert kept
        file.write_bytes(data)
        return read_imatrix(file)

    return Target(lambda chance: binary(chance, corpus.gguf()), read, ("fuzzed.gguf",))


def manifest() -> Target:
    from alloyd_daemon.checkpoints.digest import model_digest
    from alloyd_daemon.checkpoints.manifest import Manifest, parse_manifest

    digest = "01" * 32
    tree = {
        "recipe": "merge_method: linear\n",
        "seed": 0,
        "arithmetic": "1",
        "digest": model_digest({"a": digest}),
        "sources": [{"model": "a", "digest": "cd" * 32, "tensors": 1}],
        "files": {"config.json": "ef" * 32},
        "tensors": {"a": {"dtype": "BF16", "shape": [2, 2], "digest": digest}},
        "piece": 4194304,
        "version": 1,
        "form": {"format": "gguf", "type": "Q4_K_M"},
        "shard_size": 5,
    }
    words = (*Manifest.__struct_fields__, "dtype", "shape", "model")

    def make(chance: random.Random) -> bytes:
        mutator = Mutator(chance, words)
        text = json.dumps(mutator.tree(tree) if chance.random() < 0.6 else tree)
        data = mutator.text(text, (*JSON, *words)).encode("utf-8", "surrogatepass")
        return mutator.data(data) if chance.random() < 0.2 else data

    return Target(make, lambda data: parse_manifest(data, file="fuzzed.json"), ("fuzzed.json",))


def adapter() -> Target:
    """Models and adapters that come into a watched folder: whole or not, and of which base."""
    from alloyd_daemon.recipes.models import resolve
    from alloyd_daemon.watch.complete import Incomplete, examine, identity
    from alloyd_daemon.watch.fine_tune import why_not
    from checkpoint_factory import Model, write_family

    kept = tempfile.TemporaryDirectory(prefix="alloyd-fuzz-")
    root = Path(kept.name)
    shape = Model(layers=1, hidden=8, heads=2, kv_heads=1, intermediate=8, vocab=16)
    base, tune = write_family(root, shape, tunes=1)
    whole = examine(base)
    adapter = {
        "base_model_name_or_path": "org/base",
        "peft_type": "LORA",
        "r": 8,
        "lora_alpha": 16,
        "target_modules": ["q_proj", "v_proj"],
    }
    config = json.loads((tune / "config.json").read_bytes())
    weights = (tune / "model.safetensors").read_bytes()
    words = corpus.words(adapter, config, "../base", str(base), "~nobody/x", "adapter_model.safetensors")
    kinds = (
        (adapter, "adapter_config.json", "adapter_model.safetensors"),
        (config, "config.json", "model.safetensors"),
    )

    def make(chance: random.Random) -> dict[str, bytes]:
        mutator = Mutator(chance, words)
        tree, name, other = mutator.pick(kinds)
        text = json.dumps(mutator.tree(tree) if chance.random() < 0.6 else tree)
        data = mutator.text(text, (*JSON, *words)) if chance.random() < 0.3 else text
        damaged = mutator.data(weights) if chance.random() < 0.3 else weights
        return {name: data.encode("utf-8", "surrogatepass"), other: damaged}

    def find(ref: ModelRef, *, base_dir: Path) -> Path:
        return resolve(ref, base_dir=base_dir, roots=(root,), hf_home=root)

    def read(files: dict[str, bytes]) -> object:
        assert kept
        for _, *names in kinds:
            for name in names:
                (tune / name).unlink(missing_ok=True)
        for name, data in files.items():
            (tune / name).write_bytes(data)
        try:
            found = examine(tune)
        except Incomplete as wrong:
            raise SourceError(wrong.why, hint="It waits.", path=str(tune)) from None
        return identity(found), why_not(found, whole, base, "org/base", find)

    return Target(make, read, ())
