"""Readers of what comes with a request: specs of jobs, held to a folder and planned; keys and profiles."""

from __future__ import annotations

import copy
import json
import random
import tempfile
from pathlib import Path
from typing import Any

from alloyd import wire

from . import corpus
from .mutations import JSON, YAML, Mutator
from .target import NAME, PLACES, Target, methods


def submitted() -> Target:
    """Specs of jobs as a message holds them, read by the daemon and held to a folder."""
    from alloyd_daemon.service.roots import confine
    from alloyd_daemon.settings import Settings

    kept = tempfile.TemporaryDirectory(prefix="alloyd-fuzz-")
    root = Path(kept.name)
    (root / "model").mkdir()
    (root / "model" / "config.json").write_text("{}")
    (root / "task.jsonl").write_text('{"text": "x"}\n')
    (root / "out-link").symlink_to("/etc")
    place, task = str(root / "model"), str(root / "task.jsonl")
    search = corpus.EVERY_KNOB.replace("a.jsonl", task).replace("model: b", "model: model")
    specs = [
        {
            "kind": kind,
            "recipe": text,
            "base_dir": str(root),
            "out": str(root / "out"),
            "memory": 5,
            "lenient": True,
        }
        for kind in ("merge", "plan")
        for text in corpus.recipes()
    ]
    specs += [
        {"kind": "verify", "path": place},
        {
            "kind": "score",
            "subjects": [{"name": "a", "path": "model", "base_dir": str(root)}],
            "tasks": [task],
        },
        {
            "kind": "score",
            "subjects": [{"name": "a", "recipe": corpus.EVERY_KEY}],
            "tasks": [f"perplexity:{task}"],
        },
        {
            "kind": "score",
            "subjects": [],
            "tasks": ["lm_eval:x.yaml"],
            "options": {"imatrix": task, "x": "y"},
        },
        {"kind": "search", "spec": search, "base_dir": str(root), "name": "s.yaml", "seconds": 1.5},
        {"kind": "kinship", "base": place, "models": ["model", place], "base_dir": str(root)},
        {"kind": "rebuild", "path": place, "out": str(root / "out"), "base_dir": str(root), "imatrix": task},
        {"kind": "open_test", "search": "search-9"},
    ]
    words = corpus.words(*specs, "/etc", str(root / "out-link"), "model/../../etc", "lm_eval:", "model+model")

    def make(chance: random.Random) -> Any:
        mutator = Mutator(chance, words)
        tree = mutator.tree(mutator.pick(specs))
        if isinstance(tree, dict):
            for key in ("recipe", "spec"):
                if isinstance(tree.get(key), str) and chance.random() < 0.3:
                    tree[key] = mutator.text(tree[key], (*YAML, *words))
        return tree if isinstance(tree, dict) else {"kind": tree}

    def read(tree: dict[str, Any]) -> object:
        assert kept
        return confine(wire.read_spec(tree), [root], Settings(), root / "home")

    return Target(make, read, ("kind", "job", "folder", "recipe", "model"))


def planned() -> Target:
    """Recipes and specs that are planned over real checkpoints, whose configs and tokenizers may be damaged."""
    import msgspec

    from alloyd.jobs import PlanSpec
    from alloyd_daemon.engine.prepare import prepare
    from alloyd_daemon.settings import Settings
    from checkpoint_factory import Model, write_family

    kept = tempfile.TemporaryDirectory(prefix="alloyd-fuzz-")
    root = Path(kept.name)
    write_family(root, Model(layers=1, hidden=8, heads=2, kv_heads=1, intermediate=8, vocab=16), tunes=2)
    config = json.loads((root / "tune-0" / "config.json").read_bytes())
    tokenizer = {
        "version": "1.0",
        "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []},
        "added_tokens": [],
    }
    parameters = {"weight": [{"filter": "mlp", "value": [0, 1]}, {"value": 1}]}
    models = [
        {"model": "tune-0", "parameters": parameters},
        {"model": "tune-1", "parameters": {"weight": 0.5}},
    ]
    recipes = [
        {"merge_method": "linear", "models": models, "dtype": "bfloat16"},
        {"merge_method": "ties", "base_model": "base", "models": models, "parameters": {"density": 0.5}},
        {"merge_method": "slerp", "base_model": "base", "models": [{"model": "base"}, *models[:1]]},
        {"merge_method": "linear", "models": models, "tokenizer_source": "union", "chat_template": "chatml"},
        {
            "merge_method": "passthrough",
            "slices": [
                {"sources": [{"model": name, "layer_range": [0, 1]}]} for name in ("tune-0", "tune-1")
            ],
        },
    ]
    recipes = [{**each, "out": out} for each in recipes for out in ({"format": "safetensors"}, None)]
    words = (*corpus.words(*recipes, config, tokenizer), *methods(), "base", "tune-1")

    def make(chance: random.Random) -> dict[str, Any]:
        mutator = Mutator(chance, words)
        spec: dict[str, Any] = {
            "memory": 2**30,
            "threads": 2,
            "shard_size": 10**9,
            "reader": "auto",
            "lenient": False,
        }
        case = {"recipe": mutator.pick(recipes), "spec": spec, "config": config, "tokenizer": tokenizer}
        name = mutator.pick(("recipe", "recipe", "spec", "config", "config", "tokenizer"))
        return {**case, name: mutator.graft(copy.deepcopy(case[name]))}

    def read(case: dict[str, Any]) -> object:
        assert kept
        for name in ("config", "tokenizer"):
            (root / "tune-0" / f"{name}.json").write_text(json.dumps(case[name]))
        given = case["spec"] if isinstance(case["spec"], dict) else {}
        fields = {"kind": "plan", "recipe": json.dumps(case["recipe"]), "base_dir": str(root), **given}
        fields["recipe_name"] = NAME
        spec = wire.read_spec(json.loads(json.dumps(fields)))
        if not isinstance(spec, PlanSpec) or Path(spec.base_dir) != root:
            return None
        spec = msgspec.structs.replace(spec, out="")
        return [each.summary() for each in prepare(spec, home=root / "home", settings=Settings())]

    return Target(
        make, read, (*PLACES, "job", "reader", "threads", "config.json", "tensor", "memory", "shard")
    )


def keys() -> Target:
    """The list of keys that a daemon lets in, and a profile."""
    import os

    from alloyd import profiles
    from alloyd.authorised_keys import FILE, AuthorisedKeys

    kept = tempfile.TemporaryDirectory(prefix="alloyd-fuzz-")
    root = Path(kept.name)
    os.environ["XDG_CONFIG_HOME"] = str(root)
    folder = profiles.folder()
    folder.mkdir(parents=True)
    key = "x" * 40
    listed = {"laptop": {"key": key, "role": "read", "added": "2026-01-01T00:00:00Z"}}
    profile = {
        "requests": "tcp://box:5757",
        "events": "tcp://box:5758",
        "server_key": key,
        "key": "/k.key_secret",
    }
    words = corpus.words(listed, profile)

    def make(chance: random.Random) -> tuple[bool, bytes]:
        mutator = Mutator(chance, words)
        first = chance.random() < 0.5
        tree = listed if first else profile
        text = json.dumps(mutator.tree(tree) if chance.random() < 0.5 else tree)
        data = mutator.text(text, (*JSON, *words)).encode("utf-8", "surrogatepass")
        return first, mutator.data(data) if chance.random() < 0.3 else data

    def read(case: tuple[bool, bytes]) -> object:
        assert kept
        (root / FILE).write_bytes(case[1])
        (folder / "fuzzed.json").write_bytes(case[1])
        return AuthorisedKeys(root).names() if case[0] else profiles.read("fuzzed")

    return Target(make, read, (FILE, "fuzzed", "address", "key"))
