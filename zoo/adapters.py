"""Write what `math` and `lang` learned as LoRA adapters of `base`: the largest singular directions of each change.

    python -m zoo.adapters    # writes zoo/adapters/NAME

Norms, which no product of two matrices can change, are stored whole, as PEFT's modules_to_save are.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

HERE = Path(__file__).parent
NAMES = ("math", "lang")
RANK = 16
PREFIX = "base_model.model."


def weights(name: str) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for file in sorted((HERE / "models" / name).glob("*.safetensors")):
        found |= load_file(file)
    return found


def adapter(name: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors and config of the adapter that leads from `base` to the model ``name``, as far as its rank goes."""
    base, tuned = weights("base"), weights(name)
    tensors: dict[str, torch.Tensor] = {}
    modules: set[str] = set()
    whole: set[str] = set()
    for key in sorted(base):
        change = tuned[key].double() - base[key].double()
        module = key.removesuffix(".weight")
        if not change.any():
            continue
        if change.ndim == 1:
            tensors[PREFIX + key] = tuned[key]
            whole.add(module.rpartition(".")[2])
            continue
        embedding = module.endswith("embed_tokens")
        left, size, right = torch.linalg.svd(change.T if embedding else change, full_matrices=False)
        root = size[:RANK].sqrt()
        a, b = root[:, None] * right[:RANK], left[:, :RANK] * root
        names = ("lora_embedding_A", "lora_embedding_B") if embedding else ("lora_A.weight", "lora_B.weight")
        for half, factor in zip(names, (a, b), strict=True):
            tensors[f"{PREFIX}{module}.{half}"] = factor.to(torch.bfloat16).contiguous()
        modules.add(module.rpartition(".")[2])
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "zoo/models/base",
        "r": RANK,
        "lora_alpha": RANK,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "target_modules": sorted(modules),
        "modules_to_save": sorted(whole),
        "inference_mode": True,
    }
    return tensors, config


def main() -> None:
    for name in NAMES:
        tensors, config = adapter(name)
        folder = HERE / "adapters" / name
        folder.mkdir(parents=True, exist_ok=True)
        save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
        (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")


if __name__ == "__main__":
    main()
