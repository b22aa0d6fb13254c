"""The merges whose scores are reported, computed directly in float32: an independent few lines, not the
engine.

`alloy merge` reproduces them from the recipes in zoo/README.md.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save_file
from transformers import LlamaForCausalLM

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Merge:
    """`method` of the zoo's models with these weights; `density` and `normalize` only mean something to
    ties.
    """

    method: Literal["linear", "task_arithmetic", "ties"]
    weights: Mapping[str, float]
    density: float = 1.0

    @property
    def label(self) -> str:
        """A short name, such as `ties d=0.5 math 1 lang 1`."""
        weights = " ".join(f"{name} {weight:g}" for name, weight in self.weights.items())
        return f"{self.method}{f' d={self.density:g}' if self.method == 'ties' else ''} {weights}"


def read_tensors(directory: Path) -> Tensors:
    """All weights of a checkpoint folder in float32, tied ones once."""
    model = LlamaForCausalLM.from_pretrained(directory, dtype=torch.float32)
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def merged(base: Tensors, models: Mapping[str, Tensors], merge: Merge) -> Tensors:
    """The merged weights in bfloat16.

    linear: weighted mean. task_arithmetic: base + sum of weighted differences (arXiv 2212.04089). ties:
    differences trimmed to the largest `density`, sign elected by weighted sum, disjoint weighted mean (arXiv
    2306.01708).
    """
    result = {}
    for name, origin in base.items():
        weights = torch.tensor(list(merge.weights.values())).view(-1, *[1] * origin.dim())
        stack = torch.stack([models[model][name] for model in merge.weights])
        if merge.method == "linear":
            value = (weights * stack).sum(0) / weights.sum()
        elif merge.method == "task_arithmetic":
            value = origin + (weights * (stack - origin)).sum(0)
        else:
            value = origin + _ties(stack - origin, weights, merge.density)
        result[name] = value.to(torch.bfloat16)
    return result


def _ties(deltas: torch.Tensor, weights: torch.Tensor, density: float) -> torch.Tensor:
    flat = deltas.flatten(1)
    kept = torch.zeros_like(flat)
    places = flat.abs().argsort(dim=1, descending=True, stable=True)[:, : int(density * flat.shape[1])]
    kept.scatter_(1, places, flat.gather(1, places))
    weighted = weights * kept.view_as(deltas)
    elected = torch.where(weighted.sum(0) >= 0, 1.0, -1.0)
    agree = (weighted.sign() == elected) & (weighted != 0)
    divisor = (weights * agree).sum(0)
    divisor = torch.where(divisor.abs() < 1e-8, 1.0, divisor)
    return (weighted * agree).sum(0) / divisor


def write_checkpoint(tensors: Tensors, like: Path, directory: Path) -> None:
    """A checkpoint folder with `tensors` in one file, and configuration and tokenizer copied from `like`."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(like / name, directory / name)
    save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()},
        directory / "model.safetensors",
        metadata={"format": "pt"},
    )
