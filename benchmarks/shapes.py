"""Write Llama-shaped checkpoints of any size: dense random bf16, or sparse files of the same shape.

    python benchmarks/shapes.py FOLDER --size 0.85B --models 3
    python benchmarks/shapes.py FOLDER --size 70B --models 3 --sparse

FOLDER gets base, tune-0, tune-1... Everything follows from the seed. A fine-tune moves each weight of the
base by a few bf16 steps, most by none or one, so equal magnitudes are as common as in real fine-tunes. A
sparse checkpoint has real headers and holes for data: it takes no room and reads as zeros, for plans and
memory. Existing models are kept.
"""

from __future__ import annotations

import argparse
import json
import math
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

BLOCK = 1 << 22
SHARD = 5_000_000_000
DEVIATION = 0.02
HEAD = 128


@dataclass(frozen=True, slots=True)
class Llama:
    """The numbers that make a Llama's tensors."""

    hidden: int
    intermediate: int
    layers: int
    kv_heads: int
    vocab: int
    tied: bool = False

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Tensor name -> shape, in the order of the modules."""
        hidden, inner, keys = self.hidden, self.intermediate, self.kv_heads * HEAD
        found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (self.vocab, hidden)}
        for layer in range(self.layers):
            at = f"model.layers.{layer}."
            found |= {
                at + "input_layernorm.weight": (hidden,),
                at + "self_attn.q_proj.weight": (hidden, hidden),
                at + "self_attn.k_proj.weight": (keys, hidden),
                at + "self_attn.v_proj.weight": (keys, hidden),
                at + "self_attn.o_proj.weight": (hidden, hidden),
                at + "post_attention_layernorm.weight": (hidden,),
                at + "mlp.gate_proj.weight": (inner, hidden),
                at + "mlp.up_proj.weight": (inner, hidden),
                at + "mlp.down_proj.weight": (hidden, inner),
            }
        found["model.norm.weight"] = (hidden,)
        if not self.tied:
            found["lm_head.weight"] = (self.vocab, hidden)
        return found

    def parameters(self) -> int:
        return sum(math.prod(shape) for shape in self.tensors().values())

    def config(self) -> dict[str, object]:
        """config.json as a mapping."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "torch_dtype": "bfloat16",
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.hidden // HEAD,
            "num_key_value_heads": self.kv_heads,
            "head_dim": HEAD,
            "vocab_size": self.vocab,
            "tie_word_embeddings": self.tied,
            "hidden_act": "silu",
            "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-5,
            "rope_theta": 500000.0,
            "bos_token_id": 1,
            "eos_token_id": 2,
        }


PRESETS = {
    "0.85B": Llama(hidden=2048, intermediate=5632, layers=16, kv_heads=4, vocab=32000),
    "8B": Llama(hidden=4096, intermediate=14336, layers=32, kv_heads=8, vocab=128256),
    "70B": Llama(hidden=8192, intermediate=28672, layers=80, kv_heads=8, vocab=128256),
    # One tensor of 2.4 GB: beyond what one read call of Linux returns.
    "giant-tensor": Llama(hidden=1024, intermediate=2048, layers=1, kv_heads=2, vocab=1_180_000, tied=True),
}


def of_size(size: str) -> Llama:
    """The preset ``size``, or the Llama nearest to a number of parameters such as ``3M``, ``1.5B``."""
    if size in PRESETS:
        return PRESETS[size]
    try:
        wanted = float(size[:-1]) * {"M": 1e6, "B": 1e9}[size[-1]]
    except (KeyError, ValueError, IndexError):
        raise SystemExit(f"unknown size '{size}'; write 250M, 1.5B or one of {', '.join(PRESETS)}") from None
    candidates = (
        Llama(hidden, round(hidden * 2.75 / 256) * 256, layers, max(1, hidden // HEAD // 4), vocab)
        for hidden in range(256, 8193, 256)
        for layers in {max(1, round(hidden / 128)), max(1, round(hidden / 160)), max(1, round(hidden / 96))}
        for vocab in (4096, 32000)
    )
    return min(candidates, key=lambda shape: abs(shape.parameters() - wanted))


def write(folder: Path, shape: Llama, *, models: int, seed: int = 0, sparse: bool = False) -> list[Path]:
    """Write ``models`` checkpoints, the base first, and return their folders; those already there are kept."""
    found = []
    for number in range(models):
        name = "base" if number == 0 else f"tune-{number - 1}"
        target = folder / name
        _write_model(target, shape, seed=seed, tune=number, sparse=sparse)
        found.append(target)
    return found


def _write_model(target: Path, shape: Llama, *, seed: int, tune: int, sparse: bool) -> None:
    mark = json.dumps({"shape": asdict(shape), "seed": seed, "tune": tune, "sparse": sparse})
    note = target / "shape.json"
    if note.exists() and note.read_text() == mark:
        return
    target.mkdir(parents=True, exist_ok=True)
    for old in target.iterdir():
        old.unlink()
    shards = _shards(shape.tensors())
    places: dict[str, str] = {}
    for place, names in enumerate(shards, 1):
        single = len(shards) == 1
        filename = "model.safetensors" if single else f"model-{place:05d}-of-{len(shards):05d}.safetensors"
        _write_shard(target / filename, names, seed=seed, tune=tune, sparse=sparse)
        places |= dict.fromkeys(names, filename)
    if len(shards) > 1:
        index = {"metadata": {"total_size": 2 * shape.parameters()}, "weight_map": places}
        (target / "model.safetensors.index.json").write_text(json.dumps(index))
    (target / "config.json").write_text(json.dumps(shape.config(), indent=2))
    note.write_text(mark)


def _shards(tensors: dict[str, tuple[int, ...]]) -> list[dict[str, tuple[int, ...]]]:
    """Tensors in order, cut where the next one would lift a file above 5 GB."""
    found: list[dict[str, tuple[int, ...]]] = [{}]
    room = SHARD
    for name, shape in tensors.items():
        size = 2 * math.prod(shape)
        if size > room and found[-1]:
            found.append({})
            room = SHARD
        found[-1][name] = shape
        room -= size
    return found


def _write_shard(
    path: Path, tensors: dict[str, tuple[int, ...]], *, seed: int, tune: int, sparse: bool
) -> None:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, shape in tensors.items():
        size = 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        if sparse:
            file.truncate(8 + len(encoded) + offset)
            return
        for name, shape in tensors.items():
            for block in _blocks(name, math.prod(shape), seed, tune):
                block.tofile(file)


def _blocks(name: str, count: int, seed: int, tune: int) -> Iterator[NDArray[np.uint16]]:
    """The bf16 bits of one tensor, a few MiB at a time."""
    values, steps = _normal_bits(), _steps()
    key = zlib.crc32(name.encode())
    base = np.random.Generator(np.random.SFC64([seed, key]))
    change = np.random.Generator(np.random.SFC64([seed, key, tune]))
    for start in range(0, count, BLOCK):
        size = min(BLOCK, count - start)
        bits = values[base.integers(0, 1 << 16, size, dtype=np.uint16)]
        if tune:
            bits += steps[change.integers(0, 1 << 16, size, dtype=np.uint16)]
        yield bits


@cache
def _normal_bits() -> NDArray[np.uint16]:
    """65,536 quantiles of a normal distribution as bf16 bits: a random 16-bit number picks one."""
    normal = NormalDist(0, DEVIATION)
    quantiles = np.array([normal.inv_cdf((n + 0.5) / (1 << 16)) for n in range(1 << 16)], dtype=np.float32)
    return (quantiles.view(np.uint32) >> 16).astype(np.uint16)


@cache
def _steps() -> NDArray[np.uint16]:
    """65,536 quantiles of a rounded normal of deviation 1.5: how many bf16 steps a fine-tune moves a weight."""
    normal = NormalDist(0, 1.5)
    quantiles = [round(normal.inv_cdf((n + 0.5) / (1 << 16))) for n in range(1 << 16)]
    return np.array(quantiles, dtype=np.int16).view(np.uint16)


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", default="0.85B", help=f"250M, 1.5B... or {', '.join(PRESETS)}")
    parser.add_argument("--models", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sparse", action="store_true")
    options = parser.parse_args()
    shape = of_size(options.size)
    print(
        f"{shape.parameters() / 1e9:.3f} B parameters, {2 * shape.parameters() / 1e9:.2f} GB a model: {shape}"
    )
    for path in write(options.folder, shape, models=options.models, seed=options.seed, sparse=options.sparse):
        print(path)


if __name__ == "__main__":
    main()
