"""Small checkpoints on disk, named and shaped as real models are: a base and its fine-tunes, from a seed.

Names, shapes and config.json are those transformers writes for each architecture, so that any tool that
reads real checkpoints reads these. Fine-tunes differ from their base by deltas of about one bf16 step, which
gives the many exactly equal magnitudes and zeros that real fine-tunes have. Only numpy, ml_dtypes and json
are used: nothing here shares code with the reader and the sink it tests.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

Architecture = Literal["llama", "mistral", "qwen2", "qwen3", "gemma2", "phi3", "gpt2"]
ARCHITECTURES: tuple[Architecture, ...] = ("llama", "mistral", "qwen2", "qwen3", "gemma2", "phi3", "gpt2")

NUMPY_DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}
SAFETENSORS_CODES: dict[np.dtype[Any], str] = {dtype: code for code, dtype in NUMPY_DTYPES.items()}
CONFIG_DTYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}
TIED_BY_DEFAULT = {"qwen2", "gemma2", "gpt2"}
CLASSES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "gemma2": "Gemma2ForCausalLM",
    "phi3": "Phi3ForCausalLM",
    "gpt2": "GPT2LMHeadModel",
}

Tensors = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """The shape of a model. ``tied=None``: as the architecture usually is; ``dtype``: a safetensors code."""

    architecture: Architecture = "llama"
    layers: int = 2
    hidden: int = 32
    heads: int = 4
    kv_heads: int = 2
    intermediate: int = 64
    vocab: int = 96
    dtype: str = "BF16"
    tied: bool | None = None

    @property
    def is_tied(self) -> bool:
        return self.architecture in TIED_BY_DEFAULT if self.tied is None else self.tied

    @property
    def head_dim(self) -> int:
        return self.hidden // self.heads


def shapes(model: Model) -> dict[str, tuple[int, ...]]:
    """Tensor name -> shape, in the order of the modules."""
    return _gpt2_shapes(model) if model.architecture == "gpt2" else _decoder_shapes(model)


def _decoder_shapes(model: Model) -> dict[str, tuple[int, ...]]:
    hidden, inner, kind = model.hidden, model.intermediate, model.architecture
    queries, keys = model.heads * model.head_dim, model.kv_heads * model.head_dim
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (model.vocab, hidden)}
    for layer in range(model.layers):
        at = f"model.layers.{layer}."
        if kind == "phi3":
            found[at + "self_attn.qkv_proj.weight"] = (queries + 2 * keys, hidden)
            found[at + "mlp.gate_up_proj.weight"] = (2 * inner, hidden)
        else:
            for name, rows in (("q", queries), ("k", keys), ("v", keys)):
                found[at + f"self_attn.{name}_proj.weight"] = (rows, hidden)
                if kind == "qwen2":
                    found[at + f"self_attn.{name}_proj.bias"] = (rows,)
            found[at + "mlp.gate_proj.weight"] = (inner, hidden)
            found[at + "mlp.up_proj.weight"] = (inner, hidden)
        if kind == "qwen3":
            found[at + "self_attn.q_norm.weight"] = (model.head_dim,)
            found[at + "self_attn.k_norm.weight"] = (model.head_dim,)
        found[at + "self_attn.o_proj.weight"] = (hidden, queries)
        found[at + "mlp.down_proj.weight"] = (hidden, inner)
        found[at + "input_layernorm.weight"] = (hidden,)
        found[at + "post_attention_layernorm.weight"] = (hidden,)
        if kind == "gemma2":
            found[at + "pre_feedforward_layernorm.weight"] = (hidden,)
            found[at + "post_feedforward_layernorm.weight"] = (hidden,)
    found["model.norm.weight"] = (hidden,)
    if not model.is_tied:
        found["lm_head.weight"] = (model.vocab, hidden)
    return found


def _gpt2_shapes(model: Model) -> dict[str, tuple[int, ...]]:
    hidden, inner = model.hidden, model.intermediate
    found: dict[str, tuple[int, ...]] = {
        "transformer.wte.weight": (model.vocab, hidden),
        "transformer.wpe.weight": (64, hidden),
    }
    for layer in range(model.layers):
        at = f"transformer.h.{layer}."
        for norm in ("ln_1", "ln_2"):
            found[at + norm + ".weight"] = (hidden,)
            found[at + norm + ".bias"] = (hidden,)
        # GPT-2 keeps its projections as Conv1D: inputs first.
        for name, rows, columns in (
            ("attn.c_attn", hidden, 3 * hidden),
            ("attn.c_proj", hidden, hidden),
            ("mlp.c_fc", hidden, inner),
            ("mlp.c_proj", inner, hidden),
        ):
            found[at + name + ".weight"] = (rows, columns)
            found[at + name + ".bias"] = (columns,)
    found["transformer.ln_f.weight"] = (hidden,)
    found["transformer.ln_f.bias"] = (hidden,)
    if not model.is_tied:
        found["lm_head.weight"] = (model.vocab, hidden)
    return found


def config(model: Model) -> dict[str, Any]:
    """config.json as a mapping."""
    kind = model.architecture
    shared: dict[str, Any] = {
        "architectures": [CLASSES[kind]],
        "model_type": kind,
        "torch_dtype": CONFIG_DTYPES.get(model.dtype, "float32"),
        "vocab_size": model.vocab,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "tie_word_embeddings": model.is_tied,
    }
    if kind == "gpt2":
        return shared | {
            "n_embd": model.hidden,
            "n_head": model.heads,
            "n_layer": model.layers,
            "n_inner": model.intermediate,
            "n_positions": 64,
            "activation_function": "gelu_new",
        }
    shared |= {
        "hidden_size": model.hidden,
        "intermediate_size": model.intermediate,
        "num_attention_heads": model.heads,
        "num_hidden_layers": model.layers,
        "num_key_value_heads": model.kv_heads,
        "head_dim": model.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": 64,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
    }
    if kind == "gemma2":
        shared |= {"hidden_activation": "gelu_pytorch_tanh", "query_pre_attn_scalar": model.head_dim}
        shared |= {"sliding_window": 16, "pad_token_id": 0}
    if kind in ("mistral", "qwen2", "phi3"):
        del shared["head_dim"]
    if kind == "phi3":
        shared |= {"pad_token_id": 0, "rope_scaling": None, "original_max_position_embeddings": 64}
    if kind in ("qwen2", "qwen3"):
        shared |= {"use_sliding_window": False}
    if kind in ("gemma2", "qwen3"):
        kinds = ("sliding_attention", "full_attention") if kind == "gemma2" else ("full_attention",) * 2
        shared["layer_types"] = [kinds[layer % 2] for layer in range(model.layers)]
    return shared


def tensors(model: Model, *, seed: int = 0, tune: int | None = None, step: float = 0.01) -> Tensors:
    """The weights: the base of ``seed``, or with ``tune`` the fine-tune of that number over it.

    ``step`` is the standard deviation of a fine-tune's delta relative to the tensor's own; 0.01 is a few bf16
    steps.
    """
    dtype = NUMPY_DTYPES[model.dtype]
    found: Tensors = {}
    for name, shape in shapes(model).items():
        centre, spread = _statistics(model, name)
        values = centre + spread * _normal(seed, name, shape)
        values = values.astype(dtype).astype(np.float32)
        if tune is not None:
            values = values + spread * step * _normal((seed + 1) * 1000 + tune, name, shape)
        found[name] = values.astype(dtype)
    return found


def _statistics(model: Model, name: str) -> tuple[float, float]:
    is_norm = "norm" in name or ".ln_" in name
    if is_norm and name.endswith(".weight"):
        return (0.0 if model.architecture == "gemma2" else 1.0), 0.1
    return 0.0, 0.02


def _normal(seed: int, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    draws = np.random.Generator(np.random.Philox([seed, zlib.crc32(name.encode())]))
    return draws.standard_normal(shape, dtype=np.float32)


def write_checkpoint(
    folder: Path,
    model: Model,
    *,
    seed: int = 0,
    tune: int | None = None,
    step: float = 0.01,
    shards: int = 1,
    tokenizer: bool = True,
    weights: Tensors | None = None,
) -> Path:
    """Write one checkpoint folder and return it; ``weights`` replaces the generated tensors."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = tensors(model, seed=seed, tune=tune, step=step) if weights is None else weights
    write_weights(folder, weights, shards=shards)
    _write_json(folder / "config.json", config(model))
    _write_json(folder / "generation_config.json", {"bos_token_id": 1, "eos_token_id": 2})
    if tokenizer:
        _write_json(folder / "tokenizer.json", _word_level(model.vocab))
        _write_json(
            folder / "tokenizer_config.json",
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "unk_token": "<unk>",
                "bos_token": "<s>",
                "eos_token": "</s>",
            },
        )
    return folder


def write_family(
    folder: Path, model: Model, *, tunes: int = 2, seed: int = 0, step: float = 0.01, shards: int = 1
) -> list[Path]:
    """Write ``base`` and ``tune-0``, ``tune-1``... below ``folder``; return their folders, the base first."""
    base = write_checkpoint(folder / "base", model, seed=seed, shards=shards)
    rest = (
        write_checkpoint(folder / f"tune-{n}", model, seed=seed, tune=n, step=step, shards=shards)
        for n in range(tunes)
    )
    return [base, *rest]


def write_weights(folder: Path, weights: Tensors, *, shards: int = 1) -> None:
    """Write ``model.safetensors``, or that many shards and their index; sorted by name as real files are."""
    names = sorted(weights)
    if shards == 1:
        write_safetensors(folder / "model.safetensors", {name: weights[name] for name in names})
        return
    places: dict[str, str] = {}
    for shard in range(shards):
        filename = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        mine = names[shard * len(names) // shards : (shard + 1) * len(names) // shards]
        write_safetensors(folder / filename, {name: weights[name] for name in mine})
        places |= dict.fromkeys(mine, filename)
    total = sum(each.nbytes for each in weights.values())
    index = {"metadata": {"total_size": total}, "weight_map": places}
    _write_json(folder / "model.safetensors.index.json", index)


def write_safetensors(path: Path, weights: Mapping[str, NDArray[Any]], *, metadata: bool = True) -> None:
    """Write one safetensors file, tensors contiguous in the order of the mapping."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}} if metadata else {}
    offset = 0
    for name, values in weights.items():
        header[name] = {
            "dtype": SAFETENSORS_CODES[values.dtype],
            "shape": list(values.shape),
            "data_offsets": [offset, offset + values.nbytes],
        }
        offset += values.nbytes
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little"))
        file.write(encoded)
        for values in weights.values():
            file.write(np.ascontiguousarray(values).tobytes())


def read_safetensors(path: Path) -> Tensors:
    """Read one safetensors file that is known to be sound."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    found: Tensors = {}
    for name, info in header.items():
        first, last = info["data_offsets"]
        raw = np.frombuffer(data[start + first : start + last], dtype=NUMPY_DTYPES[info["dtype"]])
        found[name] = raw.reshape(info["shape"])
    return found


def read_checkpoint(folder: Path) -> Tensors:
    """Every tensor of a checkpoint folder."""
    found: Tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        found |= read_safetensors(path)
    return found


def _word_level(vocab: int) -> dict[str, Any]:
    words = ["<unk>", "<s>", "</s>", *(f"word{n}" for n in range(vocab - 3))]
    special = [
        {
            "id": place,
            "content": words[place],
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for place in range(3)
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "WordLevel",
            "vocab": {word: place for place, word in enumerate(words)},
            "unk_token": "<unk>",
        },
    }


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
