"""The readers of what strangers write: how a case of each is made from a seed, and what reads it."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import random
import struct
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from alloyd import recipe, search_reader, task_file, wire
from alloyd.errors import AlloydError, SourceError
from alloyd.recipe import ModelRef

from . import corpus
from .mutations import JSON, YAML, Mutator

NAME = "fuzzed.yaml"
PLACES = ("recipe", "models", "slices", "modules", "base_model", "method", "parameters", "tokenizer", "layer")
"""What messages name that know a recipe, and not its file any more."""


@dataclass(frozen=True)
class Target:
    """``make`` gives a case, ``read`` gives it to the product; ``named``: one of these stands in every message."""

    make: Callable[[random.Random], Any]
    read: Callable[[Any], object]
    named: tuple[str, ...]


def _yaml_cases(
    texts: tuple[str, ...],
) -> tuple[Callable[[random.Random], str], Callable[[random.Random], str]]:
    trees = corpus.trees(texts)
    words = corpus.words(*trees)

    def scrawled(chance: random.Random) -> str:
        mutator = Mutator(chance, words)
        text: str = mutator.pick(texts)
        return mutator.text(text, (*YAML, *words))

    def grafted(chance: random.Random) -> str:
        mutator = Mutator(chance, words)
        tree = mutator.tree(mutator.pick(trees))
        return corpus.as_yaml(tree, flow=chance.random() < 0.8)

    return scrawled, grafted


def _recipe_text() -> Target:
    return Target(_yaml_cases(corpus.recipes())[0], _read_recipe, (NAME,))


def _recipe_tree() -> Target:
    return Target(_yaml_cases(corpus.recipes())[1], _read_recipe, (NAME,))


def _read_recipe(text: str) -> object:
    read = recipe.load(text, name=NAME, lenient=len(text) % 2 == 0)
    return recipe.in_order(read, name=NAME)


def _search_text() -> Target:
    return Target(_yaml_cases(corpus.searches())[0], _read_search, (NAME,))


def _search_tree() -> Target:
    return Target(_yaml_cases(corpus.searches())[1], _read_search, (NAME,))


def _read_search(text: str) -> object:
    return search_reader.absolute(search_reader.read(text, name=NAME), Path("/folder"))


def _outline() -> Target:
    """Recipes that are laid over models that exist as names, shapes and configs."""
    from alloyd_daemon.recipes.assign import assign
    from alloyd_daemon.recipes.outline import Model
    from outlines import family

    held = {"a": family(), "b": family(vocab=98), "c": family("mistral")}
    trees = [
        {
            "merge_method": method,
            "base_model": "a",
            "models": [{"model": name, "parameters": {"weight": [0.5, 1]}}, {"model": "e"}],
            "parameters": parameters,
        }
        for method in _methods()
        for name in ("d", "b", "c")
        for parameters in (
            {},
            {"weight": [{"filter": "mlp", "value": [0, 1]}, {"value": 1}], "density": 0.5},
            {"t": 0.5},
        )
    ]
    trees += corpus.trees(corpus.recipes())
    words = (*corpus.words(*trees), *_methods())

    def make(chance: random.Random) -> str:
        mutator = Mutator(chance, words)
        return json.dumps(mutator.graft(copy.deepcopy(mutator.pick(sound))))

    def read(text: str) -> object:
        lenient = len(text) % 2 == 0
        found = []
        for each in recipe.load(text, name=NAME, lenient=lenient):
            refs = each.referenced_models()
            models = [held.get(ref.path, held["a"]) for ref in refs]
            found.append(
                assign(
                    each,
                    [Model(str(ref), Path("/models") / f"{place}") for place, ref in enumerate(refs)],
                    [model.tensors for model in models],
                    [model.config for model in models],
                    vocabularies=[ref.path for ref in refs] if len(text) % 3 else [],
                    lenient=lenient,
                )
            )
        return found

    sound = []
    for tree in trees:
        with contextlib.suppress(AlloydError):
            read(json.dumps(tree))
            sound.append(tree)
    return Target(make, read, PLACES)


@cache
def _methods() -> tuple[str, ...]:
    from alloyd_daemon.merge_method import METHODS

    return tuple(METHODS.names())


def _header() -> Target:
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


def _checkpoint() -> Target:
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


def _task() -> Target:
    words = (
        "id",
        "prompt",
        "context",
        "question",
        "text",
        "choices",
        "answer",
        "gold",
        "category",
        "here",
        "1",
    )

    def make(chance: random.Random) -> bytes:
        mutator = Mutator(chance, words)
        way = chance.randrange(3)
        kinds = [mutator.pick(corpus.TASK)] if chance.random() < 0.7 else corpus.TASK
        items = [{**mutator.pick(kinds), "id": str(number)} for number in range(chance.randrange(4))]
        if way == 0:
            items = [mutator.tree(each) for each in items]
        text = "".join(json.dumps(each, ensure_ascii=chance.random() < 0.5) + "\n" for each in items)
        if way == 1:
            text = mutator.text(text, (*JSON, *words))
        data = text.encode("utf-8", "surrogatepass")
        return mutator.data(data) if way == 2 else data

    return Target(make, lambda data: task_file.parse(data, "fuzzed.jsonl"), ("fuzzed.jsonl",))


def _evaluated_task() -> Target:
    """Task files read to the end by whatever evaluator their keys tell, or one that is named."""
    from alloyd_daemon import tasks
    from alloyd_daemon.evaluator import Choices

    kept = tempfile.TemporaryDirectory(prefix="alloyd-fuzz-")
    file = Path(kept.name) / "fuzzed.jsonl"
    make = _task().make
    names = ("", "", "", "multiple_choice:", "perplexity:", "gold_answer:", "exact_match:")

    def read(data: bytes) -> object:
        assert kept
        file.write_bytes(data)
        return tasks.resolve([f"{names[len(data) % len(names)]}{file}"], Choices())

    return Target(make, read, ("fuzzed.jsonl",))


def _gguf() -> Target:
    from alloyd_daemon.gguf.reader import parse

    return Target(
        lambda chance: _binary(chance, corpus.gguf()),
        lambda data: parse(io.BytesIO(data), len(data), file="fuzzed.gguf"),
        ("fuzzed.gguf",),
    )


def _imatrix() -> Target:
    from alloyd_daemon.gguf.imatrix import read_imatrix

    kept = tempfile.TemporaryDirectory(prefix="alloyd-fuzz-")
    file = Path(kept.name) / "fuzzed.gguf"

    def read(data: bytes) -> object:
        assert kept
        file.write_bytes(data)
        return read_imatrix(file)

    return Target(lambda chance: _binary(chance, corpus.gguf()), read, ("fuzzed.gguf",))


def _binary(chance: random.Random, whole: tuple[bytes, ...]) -> bytes:
    mutator = Mutator(chance)
    data: bytes = mutator.pick(whole)
    if chance.random() < 0.5:
        at = chance.randrange(len(data))
        number = mutator.pick((0, 1, 2, 9, 2**31 - 1, 2**31, 2**32 - 1))
        data = data[:at] + struct.pack("<I", number) + data[at + 4 :]
    return mutator.data(data) if chance.random() < 0.7 else data


def _settings() -> Target:
    """A configuration file, and variables beside it."""
    import msgspec

    from alloyd_daemon.settings import Settings, load
    from house.tree import ROOT

    kept = tempfile.TemporaryDirectory(prefix="alloyd-fuzz-")
    file = Path(kept.name) / "fuzzed.toml"
    text = (ROOT / "configs" / "alloyd.toml").read_text("utf-8").replace("# ", "")
    sections = msgspec.to_builtins(Settings())
    keys = [(section, key) for section, values in sections.items() for key in values]
    words = (
        *sections,
        *(key for _, key in keys),
        "25%",
        "1GB",
        "tcp://0.0.0.0:5757",
        "[",
        "]",
        "=",
        "''",
        '"',
        "[[a]]",
    )
    bare = "\n".join(
        f"[{section}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
        for section, values in sections.items()
    )

    def make(chance: random.Random) -> tuple[bytes, dict[str, str]]:
        mutator = Mutator(chance, words)
        written = mutator.text(mutator.pick((bare, text)), (*words, *JSON)).encode("utf-8", "surrogatepass")
        if chance.random() < 0.1:
            written = mutator.data(written)
        environ = {}
        if chance.random() < 0.5:
            written = b""
            for section, key in chance.sample(keys, 3):
                value = mutator.strange()
                said = value if isinstance(value, str) else json.dumps(value)
                environ[f"ALLOYD_{section}_{key}".upper()] = said.replace("\0", "")
        return written, environ

    def read(case: tuple[bytes, dict[str, str]]) -> object:
        assert kept
        file.write_bytes(case[0])
        settings = load(config=file, environ=case[1]).settings
        return (
            settings.memory_bytes(),
            settings.cache_bytes(),
            settings.model_roots(),
            settings.remote_roots(),
        )

    return Target(make, read, ("fuzzed.toml",))


def _dropped() -> Target:
    """What lies in a watched folder: recipes and specs, told apart and held to its roots."""
    from alloyd_daemon.watch.dropped import Dropped, confine, kind_of

    texts = (*corpus.recipes(), *corpus.searches())
    scrawled, grafted = _yaml_cases(texts)

    def make(chance: random.Random) -> bytes:
        text = (scrawled if chance.random() < 0.5 else grafted)(chance)
        data = text.encode("utf-8", "surrogatepass")
        return Mutator(chance).data(data) if chance.random() < 0.2 else data

    def read(data: bytes) -> object:
        _, text = kind_of(Dropped(NAME, data))
        confine(text, NAME, Path("/tmp"), [Path("/tmp")])
        return text

    return Target(make, read, (NAME,))


def _manifest() -> Target:
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


def _submitted() -> Target:
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


def _planned() -> Target:
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
    words = (*corpus.words(*recipes, config, tokenizer), *_methods(), "base", "tune-1")

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


def _keys() -> Target:
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


def _rules() -> Target:
    """Rules of a watched folder, and the templates that they name."""
    from alloyd import watch_rules

    kept = tempfile.TemporaryDirectory(prefix="alloyd-fuzz-")
    root = Path(kept.name)
    recipe_text = "merge_method: linear\nmodels: [{model: '{model}'}, {model: '{base}'}]\n"
    (root / "soup.yaml").write_text(recipe_text.replace("base", "soup"))
    (root / "search.yaml").write_text(corpus.EVERY_KNOB.replace("model: b", "model: '{model}'"))
    scrawled, grafted = _yaml_cases((corpus.RULES,))
    templates = _yaml_cases((recipe_text, corpus.RULES))[0]

    def make(chance: random.Random) -> tuple[str, str]:
        text = (scrawled if chance.random() < 0.4 else grafted)(chance)
        return (corpus.RULES, templates(chance)) if chance.random() < 0.3 else (text, recipe_text)

    def read(case: tuple[str, str]) -> object:
        assert kept
        (root / "template.yaml").write_bytes(case[1].encode("utf-8", "surrogatepass"))
        return watch_rules.read(case[0], name=NAME, folder=root)

    return Target(make, read, (NAME, "rule", "template"))


def _adapter() -> Target:
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


TARGETS: dict[str, Callable[[], Target]] = {
    "header": _header,
    "checkpoint": _checkpoint,
    "recipe_text": _recipe_text,
    "recipe_tree": _recipe_tree,
    "outline": _outline,
    "search_text": _search_text,
    "search_tree": _search_tree,
    "dropped": _dropped,
    "task": _task,
    "evaluated_task": _evaluated_task,
    "gguf": _gguf,
    "imatrix": _imatrix,
    "settings": _settings,
    "manifest": _manifest,
    "submitted": _submitted,
    "planned": _planned,
    "keys": _keys,
    "rules": _rules,
    "adapter": _adapter,
}
