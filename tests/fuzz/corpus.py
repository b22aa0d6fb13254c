"""Good input to begin with: every recipe and spec of configs/ and the documentation, and small files of each format."""

from __future__ import annotations

import json
import struct
from functools import cache
from typing import Any

import yaml

from alloyd.recipe_schema import Recipe
from alloyd.search_schema import SearchFile
from house.tree import ROOT
from pages.page import blocks

EVERY_KEY = """
name: all
merge_method: ties
base_model: {model: {path: a, revision: main}}
slices:
  - sources:
      - {model: a, layer_range: [0, 2], parameters: {weight: 0.5}}
      - {model: b+lora@main, layer_range: [0, 2], parameters: {weight: [0, 0.5, 1]}}
    base_model: a
    parameters: {density: [{filter: mlp, value: [0.1, 0.9]}, {filter: self_attn, value: 0.5}, 0.7]}
parameters: {normalize: true, int8_mask: false, lambda: 1.0}
dtype: bfloat16
out_dtype: float16
tokenizer:
  source: union
  tokens:
    <s>: {source: a, force: true}
    x: {source: {kind: model_token, model: b, token: y}}
    z: {source: {kind: zero}}
  pad_to_multiple_of: 8
chat_template: chatml
seed: 7
out: {format: gguf, type: Q4_K_M, imatrix: m.gguf}
"""
MODULES = """
merge_method: linear
modules:
  text_decoder:
    models: [{model: a, parameters: {weight: 1}}, {model: b, parameters: {weight: 2}}]
  vision_tower:
    slices: [{sources: [{model: a, layer_range: [0, 1]}]}]
tokenizer_source: base
---
name: second
merge_method: slerp
base_model: a
models: [{model: a}, {model: b}]
parameters: {t: [{filter: mlp, value: [0, 1]}, {value: 0.5}]}
out: {format: bitsandbytes, type: nf4, double: true}
"""
EVERY_KNOB = """
name: whole
recipe:
  merge_method: {choices: [task_arithmetic, ties]}
  base_model: a
  models:
    - {model: b, parameters: {weight: {low: -1, high: 1, layers: 2, components: [attention, mlp], name: w, start: 0.5}}}
    - {model: c, parameters: {weight: [{low: 1.0e-3, high: 1, log: true}, 0.5], density: {low: 0.1, high: 1}}}
  parameters: {normalize: {choices: [true, false]}, lambda: {low: 0.1, high: 2, sign: true}}
path: {models: [b, c], repeat: 2, first: 1, last: 1, scale: [0.5, 1.5], sign: true, longest: 40, share: 0.1}
tasks: {search: [a.jsonl], validation: [b.jsonl], test: [c.jsonl]}
objectives: [{task: 1, metric: acc, weight: 2}, {task: 1, metric: acc_norm}]
goal: pareto
optimiser: {name: cma, options: {sigma: 0.3}, batch: 8}
screen: {norm_ratio: 10}
rungs: [{items: 20, quantise: Q4_0}, {items: 200, race: true, block: 25}]
budget: {candidates: 100, items: 5000}
previous: [search-1]
finalists: 4
confidence: 0.9
mode: deterministic
timeout: 60
seed: 3
runner: auto
batch_size: 4
options: {tokenizer: t, delimiter: " "}
most_failed: 20
"""
RULES = """
on_model:
  - {name: mean, match: ["*-ft", tune-*], base: org/base, recipe: template.yaml}
  - match: "*"
    recipe: soup.yaml
    soup: {start: org/base, score: [a.jsonl], keep: better}
  - {match: x, search: search.yaml}
"""
TASK = (
    {"id": "1", "context": "2 + 2 =", "choices": ["3", "4"], "answer": 1},
    {"prompt": "2 + 2 :", "answer": "4"},
    {"text": "The quick brown fox."},
    {
        "question": "Where?",
        "choices": ["here", "there"],
        "gold": "here",
        "category": {"a": [1, 2.5, None, True]},
    },
)


@cache
def _documented() -> tuple[str, ...]:
    """Every YAML text of the repository that a person may take as an example."""
    files = sorted((ROOT / "configs").rglob("*.yaml"))
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    shown = [
        block.text for page in pages for block in blocks(page.read_text("utf-8")) if block.language == "yaml"
    ]
    return (*(each.read_text("utf-8") for each in files), *shown)


def recipes() -> tuple[str, ...]:
    """Texts of recipes."""
    return (
        EVERY_KEY,
        MODULES,
        *(each for each in _documented() if "merge_method" in each and "tasks:" not in each),
    )


def searches() -> tuple[str, ...]:
    """Texts of search specs."""
    return (EVERY_KNOB, *(each for each in _documented() if "tasks:" in each and "budget" in each))


def trees(texts: tuple[str, ...]) -> tuple[Any, ...]:
    """The first document of each as plain values."""
    return tuple(next(iter(yaml.safe_load_all(each))) for each in texts)


def words(*trees: Any) -> tuple[str, ...]:
    """Every key and short text of the trees, and the keys that their readers know."""
    found = {*Recipe.__struct_fields__, *SearchFile.__struct_fields__}
    waiting = list(trees)
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            found.update(map(str, each))
            waiting += each.values()
        elif isinstance(each, list | tuple):
            waiting += each
        elif isinstance(each, str) and len(each) < 30:
            found.add(each)
    return tuple(sorted(found))


def as_yaml(tree: Any, flow: bool) -> str:
    """A tree as text, as JSON or as PyYAML writes it."""
    if flow:
        return json.dumps(tree)
    try:
        return str(yaml.dump(tree, Dumper=yaml.SafeDumper, sort_keys=False))
    except (yaml.YAMLError, ValueError):
        return json.dumps(tree)


def gguf() -> tuple[bytes, ...]:
    """A GGUF file with a key of each type, and an importance matrix."""

    def text(value: bytes) -> bytes:
        return struct.pack("<Q", len(value)) + value

    def key(name: str, kind: int, value: bytes) -> bytes:
        return text(name.encode()) + struct.pack("<I", kind) + value

    def tensor(name: str, shape: tuple[int, ...], code: int, offset: int) -> bytes:
        return text(name.encode()) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, code, offset)

    def file(keys: list[bytes], tensors: list[bytes], data: bytes) -> bytes:
        head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys)) + b"".join(keys) + b"".join(tensors)
        return head + bytes(-len(head) % 32) + data

    sizes = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
    keys = [key(f"a.{kind}", kind, struct.pack("<" + letter, 1)) for kind, letter in sizes.items()]
    keys += [
        key("general.architecture", 8, text(b"llama")),
        key("general.alignment", 4, struct.pack("<I", 32)),
        key("a.words", 9, struct.pack("<IQ", 8, 2) + text(b"one") + text(b"\xff")),
        key("a.numbers", 9, struct.pack("<IQ3i", 5, 3, 1, -2, 3)),
    ]
    whole = file(keys, [tensor("a", (32, 2), 8, 0), tensor("b", (3,), 0, 96)], bytes(96 + 32))
    sums = struct.pack("<4f", 1, 2, 3, 4) + bytes(16)
    matrix = file(
        [key("general.type", 8, text(b"imatrix"))],
        [tensor("w.in_sum2", (4, 1), 0, 0), tensor("w.counts", (1, 1), 0, 32)],
        sums + struct.pack("<f", 2) + bytes(28),
    )
    old = struct.pack("<ii", 1, 1) + b"w" + struct.pack("<ii4f", 1, 4, 1, 2, 3, 4)
    return whole, matrix, old
