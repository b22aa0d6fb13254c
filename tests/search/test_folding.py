"""A folded path is the scaled path: transformers' layers run hop by hop, the stream multiplied before each."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers")

import torch
import transformers

from alloyd.search_schema import DataFlow
from alloyd_daemon.architecture import ARCHITECTURES
from alloyd_daemon.checkpoints.checkpoint import open_checkpoint
from alloyd_daemon.search.genome import Point, check, first_point
from alloyd_daemon.search.row import Hop
from alloyd_daemon.search.spaces.data_flow import DataFlowSpace
from zoo_candidates import written

DEPTH = 3
EPS = ("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_epsilon")
FLOW = DataFlow(repeat=2, scale=(0.05, 3.0), sign=True)

_DECODER: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
_GPT: dict[str, Any] = {"n_embd": 32, "n_layer": DEPTH, "n_head": 4, "n_positions": 64}
_EXPERTS: dict[str, Any] = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
_ROPE: dict[str, Any] = {"rope_type": "default", "rope_theta": 10000.0}
_GEMMA: dict[str, Any] = {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 4}

# Class, and what its config says beside the vocabulary and the numbers of special tokens.
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", _DECODER | {"attention_bias": True, "mlp_bias": True}),
    "mistral": ("MistralForCausalLM", _DECODER),
    "ministral": ("MinistralForCausalLM", _DECODER | {"head_dim": 8, "rope_parameters": _ROPE}),
    "qwen2": ("Qwen2ForCausalLM", _DECODER),
    "qwen3": ("Qwen3ForCausalLM", _DECODER | {"head_dim": 8, "attention_bias": True}),
    "phi3": ("Phi3ForCausalLM", _DECODER),
    "arcee": ("ArceeForCausalLM", _DECODER),
    "smollm3": ("SmolLM3ForCausalLM", _DECODER),
    "granite": (
        "GraniteForCausalLM",
        _DECODER | {"residual_multiplier": 0.3, "embedding_multiplier": 5.0, "logits_scaling": 2.0},
    ),
    "stablelm": ("StableLmForCausalLM", _DECODER | {"use_qkv_bias": True}),
    "stablelm, side by side": ("StableLmForCausalLM", _DECODER | {"use_parallel_residual": True}),
    "stablelm, normed heads": ("StableLmForCausalLM", _DECODER | {"qk_layernorm": True}),
    "gemma": ("GemmaForCausalLM", _DECODER | {"head_dim": 8}),
    "gemma2": ("Gemma2ForCausalLM", _DECODER | _GEMMA),
    "gemma3": ("Gemma3ForCausalLM", _DECODER | _GEMMA | {"sliding_window_pattern": 2}),
    "glm4": ("Glm4ForCausalLM", _DECODER | {"head_dim": 8}),
    "olmo2": ("Olmo2ForCausalLM", _DECODER),
    "olmo3": ("Olmo3ForCausalLM", _DECODER | {"sliding_window": 4}),
    "cohere": ("CohereForCausalLM", _DECODER | {"use_qk_norm": True}),
    "cohere2": ("Cohere2ForCausalLM", _DECODER | {"sliding_window": 4}),
    "starcoder2": ("Starcoder2ForCausalLM", _DECODER | {"use_bias": True}),
    "apertus": ("ApertusForCausalLM", _DECODER),
    "phi": ("PhiForCausalLM", _DECODER | {"qk_layernorm": True}),
    "mixtral": ("MixtralForCausalLM", _DECODER | {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "qwen2moe": ("Qwen2MoeForCausalLM", _DECODER | _EXPERTS | {"shared_expert_intermediate_size": 40}),
    "qwen2moe, a dense layer": (
        "Qwen2MoeForCausalLM",
        _DECODER | _EXPERTS | {"shared_expert_intermediate_size": 40, "mlp_only_layers": [1]},
    ),
    "qwen3moe": ("Qwen3MoeForCausalLM", _DECODER | _EXPERTS | {"head_dim": 8}),
    "gpt2": ("GPT2LMHeadModel", _GPT),
    "bigcode": ("GPTBigCodeForCausalLM", _GPT),
    "neox": ("GPTNeoXForCausalLM", _DECODER),
    "neox, one after another": ("GPTNeoXForCausalLM", _DECODER | {"use_parallel_residual": False}),
    "falcon": ("FalconForCausalLM", _DECODER | {"bias": True, "new_decoder_architecture": True}),
    "falcon, one after another": ("FalconForCausalLM", _DECODER | {"parallel_attn": False}),
}


def layers_of(model: Any) -> Any:
    """The list of layers, and the module that owns it under its name."""
    for owner, name in (("model", "layers"), ("transformer", "h"), ("gpt_neox", "layers")):
        if hasattr(model, owner):
            return getattr(model, owner), name
    raise AssertionError(f"where are the layers of {type(model).__name__}?")


def make(folder: Path, kind: str, seed: int, eps: float = 0.0) -> Any:
    """A random model of ``kind``, biases and gains random too, saved in ``folder``; float32."""
    name, changes = MODELS[kind]
    model_class = getattr(transformers, name)
    said = {"vocab_size": 64, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, **changes}
    config = model_class.config_class(**said)
    for key in EPS:
        if hasattr(config, key):
            setattr(config, key, eps)
    torch.manual_seed(seed)
    model = model_class(config).eval()
    with torch.no_grad():
        for values in model.parameters():
            values += 0.15 * torch.randn_like(values)
    model.save_pretrained(folder)
    return precise(model)


def precise(model: Any) -> Any:
    """``model`` in float64; experts one after another, for transformers' grouped products know no such type."""
    model.config._experts_implementation = "eager"
    return model.double()


def unfolded(models: Sequence[Any], hops: Sequence[tuple[int, int, float]]) -> Any:
    """The path as it is defined: each hop's layer as it stands, and what enters it multiplied by the hop's scale."""
    whole = copy.deepcopy(models[0])
    owner, name = layers_of(whole)
    layers = []
    for model, layer, scale in hops:
        source, its_name = layers_of(models[model])
        hop = copy.deepcopy(getattr(source, its_name)[layer])
        hop.register_forward_pre_hook(_multiply(scale), with_kwargs=True)
        layers.append(hop)
    setattr(owner, name, torch.nn.ModuleList(layers))
    config = whole.config
    types = [getattr(models[model].config, "layer_types", None) for model, _, _ in hops]
    if types[0] is not None:
        config.layer_types = [its[layer] for its, (_, layer, _) in zip(types, hops, strict=True)]
    config.num_hidden_layers = len(layers)
    return whole


def _multiply(scale: float) -> Any:
    def hook(module: Any, args: Any, kwargs: Any) -> Any:
        if args:
            return (args[0] * scale, *args[1:]), kwargs
        return args, kwargs | {"hidden_states": kwargs["hidden_states"] * scale}

    return hook


def logits(model: Any, seed: int = 0) -> Any:
    ids = torch.randint(3, 64, (2, 12), generator=torch.Generator().manual_seed(seed))
    with torch.inference_mode():
        return model(ids, use_cache=False).logits


def point_of(space: DataFlowSpace, hops: Sequence[tuple[str, float]]) -> Point:
    """The point that takes the hops called by ``hops`` (names of places in the row), at these scales."""
    point = dict.fromkeys(first_point(space.genome), 0) | {
        gene.name: 1.0 for gene in space.genome if gene.name.startswith("scale.")
    }
    for name, scale in hops:
        point[f"scale.{name}"] = scale
        if f"take.{name}" in point:
            point[f"take.{name}"] = 1
    check(space.genome, point)
    return point


PATH = (
    ("a.0.r1", 0.8),
    ("b.0.r1", -0.7),
    ("b.1.r1", 1.0),
    ("a.1.r2", 1.9),
    ("a.1.r1", 1.0),
    ("b.2.r2", -0.4),
    ("a.2.r1", -1.3),
)
"""Layers of two models, one of them twice, scales of both signs; the last S is negative."""


def steps(space: DataFlowSpace, point: Point) -> list[tuple[int, int, float]]:
    """The hops of a point with the scale of each by itself, read off the genes and not off the products."""
    names = [gene.name.removeprefix("scale.") for gene in space.genome if gene.name.startswith("scale.")]
    taken = [name for name in names if point.get(f"take.{name}", 1)]
    found = []
    for name in taken:
        model, layer, _ = name.split(".")
        found.append((("a", "b").index(model), int(layer), float(point[f"scale.{name}"])))
    return found


def fold(kind: str, tmp_path: Path, eps: float = 0.0) -> tuple[Any, Any, Any]:
    """The unfolded reference, the folded checkpoint as transformers loads it, the path without scales; in float64."""
    models = [make(tmp_path / name, kind, seed, eps) for seed, name in enumerate("ab")]
    space = DataFlowSpace(FLOW, [open_checkpoint(tmp_path / name) for name in "ab"])
    point = point_of(space, PATH)
    hops = steps(space, point)
    reference = unfolded(models, hops)
    unscaled = unfolded(models, [(model, layer, 1.0) for model, layer, _ in hops])
    folder = written(json.dumps(space.recipe(point)), tmp_path, tmp_path / "folded")
    folded = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return reference, precise(folded), unscaled


def test_every_architecture_that_declares_a_fold_is_here() -> None:
    declared = {name for name, each in ARCHITECTURES.items() if each.fold is not None}
    assert declared - {"LLaMaForCausalLM"} == {name for name, _ in MODELS.values()}


@pytest.mark.parametrize("kind", MODELS)
def test_a_folded_path_is_the_scaled_path(kind: str, tmp_path: Path) -> None:
    reference, folded, unscaled = fold(kind, tmp_path)
    expected, found = logits(reference), logits(folded)
    spread = float(expected.std())
    assert float((logits(unscaled) - expected).abs().max()) > 0.1 * spread
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * spread)
    assert folded.config.num_hidden_layers == len(PATH)


def test_hops_carry_the_product_of_the_scales(tmp_path: Path) -> None:
    for name in "ab":
        make(tmp_path / name, "llama", 0)
    space = DataFlowSpace(FLOW, [open_checkpoint(tmp_path / name) for name in "ab"])
    hops = space.path(point_of(space, [("a.0.r1", 2.0), ("b.1.r1", -0.25), ("a.2.r1", -2.0)]))
    assert hops == (Hop(0, 0, 2.0), Hop(1, 1, -0.5), Hop(0, 2, 1.0))


def test_dividing_by_the_magnitude_is_another_model(tmp_path: Path) -> None:
    reference, _, _ = fold("llama", tmp_path)
    space = DataFlowSpace(FLOW, [open_checkpoint(tmp_path / name) for name in "ab"])
    recipe = space.recipe(point_of(space, PATH))
    flipped = 0
    for each in recipe["slices"]:
        for change in each["sources"][0].get("parameters", {}).get("scale", ()):
            if change["filter"] in ("o_proj", "down_proj") and change["value"] < 0:
                change["value"] = -change["value"]
                flipped += 1
    assert flipped
    folder = written(json.dumps(recipe), tmp_path, tmp_path / "magnitude")
    other = precise(transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval())
    expected = logits(reference)
    assert float((logits(other) - expected).abs().max()) > float(expected.std())
