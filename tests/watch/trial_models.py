"""Small models for the tests of watched folders, and what a rule of them says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from alloyd.watch_schema import Rule, Soup
from checkpoint_factory import write_weights

RECIPE = "merge_method: linear\nmodels:\n- {model: {model}, parameters: {weight: 1}}\n"
SOUP = RECIPE + "- {model: {soup}, parameters: {weight: 1}}\n"


def write_model(
    folder: Path, seed: int = 0, *, shards: int = 1, architecture: str = "LlamaForCausalLM"
) -> Path:
    """A model of a few small tensors; those of another seed differ in their values alone."""
    folder.mkdir(parents=True)
    chance = np.random.default_rng(seed)
    names = ["model.embed_tokens.weight", "model.norm.weight"]
    names += [f"model.layers.0.mlp.{each}_proj.weight" for each in ("down", "gate", "up")]
    names += ["model.layers.0.self_attn.q_proj.weight"]
    weights = {name: chance.standard_normal((4, 8)).astype(np.float32) for name in names}
    write_weights(folder, weights, shards=shards)
    (folder / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    (folder / "tokenizer.json").write_text('{"version": "1.0"}')
    return folder


def write_adapter(folder: Path, base: str) -> Path:
    """An adapter of one small tensor."""
    write_model(folder)
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    (folder / "config.json").unlink()
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    return folder


def rule(name: str = "plain", match: str = "*", *, base: str = "", template: str = RECIPE) -> Rule:
    return Rule(name, (match,), "recipe", template, base)


def soup_rule(start: Path, tasks: Path, *, name: str = "soup", match: str = "*") -> Rule:
    return Rule(name, (match,), "recipe", SOUP, soup=Soup(str(start), (str(tasks),)))
