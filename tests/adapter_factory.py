"""Small LoRA adapters on disk, named and configured as PEFT writes them; what they come to is told by plain numpy."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from checkpoint_factory import Tensors, write_safetensors

LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
PREFIX = "base_model.model."


def write_adapter(
    folder: Path,
    weights: Tensors,
    *,
    rank: int = 4,
    alpha: float = 8,
    modules: Iterable[str] = LINEAR,
    turned: bool = False,
    dtype: Any = np.float32,
    seed: int = 0,
    step: float = 0.02,
    extra: Mapping[str, NDArray[Any]] | None = None,
    **config: Any,
) -> Path:
    """An adapter of every matrix of ``weights`` whose module is one of ``modules``.

    ``turned``: the matrices are stored as [in, out]. ``extra`` are more tensors of the file, ``config`` more keys
    of its config. Ranks follow ``rank_pattern``, which has whole names of modules here.
    """
    folder.mkdir(parents=True, exist_ok=True)
    chance = np.random.default_rng(seed)
    pattern = config.get("rank_pattern", {})
    found: Tensors = {}
    for name, weight in weights.items():
        module = name.removesuffix(".weight")
        if weight.ndim != 2 or module.rpartition(".")[2] not in modules:
            continue
        r = pattern.get(module, rank)
        rows, columns = weight.shape[::-1] if turned else weight.shape
        found[f"{PREFIX}{module}.lora_A.weight"] = _random(chance, (r, columns), step, dtype)
        found[f"{PREFIX}{module}.lora_B.weight"] = _random(chance, (rows, r), step, dtype)
    write_safetensors(folder / "adapter_model.safetensors", found | dict(extra or {}))
    whole = {
        "peft_type": "LORA",
        "base_model_name_or_path": "org/base",
        "r": rank,
        "lora_alpha": alpha,
        "target_modules": sorted(modules),
        "fan_in_fan_out": turned,
        "bias": "none",
        "use_rslora": False,
        "use_dora": False,
        "init_lora_weights": True,
        "modules_to_save": None,
    }
    (folder / "adapter_config.json").write_text(json.dumps(whole | config))
    return folder


def _random(chance: np.random.Generator, shape: tuple[int, int], step: float, dtype: Any) -> NDArray[Any]:
    return (chance.standard_normal(shape) * math.sqrt(step)).astype(dtype)


def merged(weights: Tensors, factors: Tensors, scale: float, *, turned: bool = False) -> Tensors:
    """``weights`` as float64 with every pair of ``factors`` (an adapter's tensors) merged into them."""
    found = {name: each.astype(np.float64) for name, each in weights.items()}
    for name, a in factors.items():
        if name.endswith(".lora_A.weight"):
            b = factors[name.replace("lora_A", "lora_B")]
            product = scale * (b.astype(np.float64) @ a.astype(np.float64))
            found[name.removeprefix(PREFIX).replace("lora_A.", "")] += product.T if turned else product
    return found
