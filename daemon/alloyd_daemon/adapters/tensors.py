"""The tensors of an adapter's file by what they are: pairs of factors, and whole tensors that take a model's place."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from alloyd.errors import AlloydError, PlanError, SourceError, SourceNotFound, raise_all
from alloyd_kernels.dtypes import CODES

from ..checkpoints.checkpoint import Checkpoint, Tensor, open_checkpoint

WEIGHTS: Final = "adapter_model.safetensors"
_PICKLE: Final = "adapter_model.bin"
_PREFIX: Final = "base_model.model."
_FACTOR: Final = re.compile(r"(?P<module>.+)\.lora_(?:(?P<of>[AB])\.weight|embedding_(?P<of_embedding>[AB]))")
_WRAPPED: Final = re.compile(r"\.(?:base_layer|modules_to_save(?:\.default)?)(?=\.[^.]+$)")
_STRANGE: Final[Mapping[str, str]] = {
    "lora_magnitude_vector": "DoRA scales each row by a norm of the merged weight",
    "lora_A.bias": "its factors have biases",
    "lora_B.bias": "its factors have biases",
    "trainable_tokens_delta": "it changes rows of the embedding by their numbers",
}


@dataclass(frozen=True, slots=True)
class Pair:
    """The factors of one module: ``a`` [rank, in] and ``b`` [out, rank]."""

    a: Tensor
    b: Tensor
    embedding: bool


@dataclass(frozen=True, slots=True)
class AdapterTensors:
    """Modules with their factors, and names of tensors with what replaces them; both without PEFT's prefix."""

    checkpoint: Checkpoint
    pairs: Mapping[str, Pair]
    whole: Mapping[str, Tensor]


@dataclass(slots=True)
class _Halves:
    found: dict[str, Tensor] = field(default_factory=dict)
    embedding: bool = False


def read_adapter_tensors(folder: Path) -> AdapterTensors:
    """Sort the tensors of the adapter in ``folder``, as its header tells.

    Raises
    ------
    SourceNotFound, HeaderError, SourceError
        There is no safetensors file, or its header lies; a factor without its other half, or of no floating type.
    PlanError
        Tensors that mean something else than W + scale * (B @ A).
    """
    path = folder / WEIGHTS
    if not path.exists():
        if (folder / _PICKLE).exists():
            raise SourceError(
                f"{folder / _PICKLE} is a PyTorch pickle, which can hold code",
                hint=f"Convert it to {WEIGHTS}.",
                path=str(folder),
            )
        raise SourceNotFound(
            f"{path} does not exist",
            hint="Give the folder of a LoRA adapter as PEFT writes it.",
            path=str(path),
        )
    checkpoint = open_checkpoint(path)
    problems: list[AlloydError] = []
    halves: dict[str, _Halves] = {}
    whole: dict[str, Tensor] = {}
    for tensor in checkpoint.tensors.values():
        name = tensor.name.removeprefix(_PREFIX)
        why = next((why for ending, why in _STRANGE.items() if name.endswith(ending)), None)
        if why is not None:
            problems.append(
                PlanError(
                    f"{path} has a tensor '{tensor.name}', which cannot be merged: {why}",
                    hint="Merge it with PEFT, and name the result.",
                    tensor=tensor.name,
                )
            )
        elif factor := _FACTOR.fullmatch(name):
            half = halves.setdefault(factor["module"], _Halves())
            half.embedding |= factor["of_embedding"] is not None
            half.found[factor["of"] or factor["of_embedding"]] = tensor
            problems += _problem_of(tensor, path)
        else:
            whole[_WRAPPED.sub("", name)] = tensor
    for module, half in halves.items():
        if len(half.found) == 1:
            (one,) = half.found.values()
            other = "B" if "A" in half.found else "A"
            problems.append(_damaged(path, f"has '{one.name}' without the factor {other} of {module}", one))
    if not checkpoint.tensors:
        problems.append(SourceError(f"{path} holds no tensors", path=str(path)))
    raise_all(_few(problems))
    pairs = {
        module: Pair(half.found["A"], half.found["B"], half.embedding) for module, half in halves.items()
    }
    return AdapterTensors(checkpoint, pairs, whole)


def _problem_of(tensor: Tensor, path: Path) -> list[AlloydError]:
    if tensor.dtype not in CODES:
        return [_damaged(path, f"has a factor '{tensor.name}' of the type {tensor.dtype}", tensor)]
    if len(tensor.shape) != 2 or 0 in tensor.shape:
        return [
            _damaged(
                path, f"has a factor '{tensor.name}' of the shape {list(tensor.shape)}, no matrix", tensor
            )
        ]
    return []


def _damaged(path: Path, found: str, tensor: Tensor) -> SourceError:
    return SourceError(
        f"{path} {found}",
        hint="Factors are matrices of a floating type, in pairs: those of linear layers and of embeddings.",
        path=str(path),
        tensor=tensor.name,
    )


def _few(problems: list[AlloydError]) -> list[AlloydError]:
    """The first of each kind: what is wrong with one tensor is usually wrong with all."""
    kinds: dict[type[AlloydError], AlloydError] = {}
    for each in problems:
        kinds.setdefault(type(each), each)
    return list(kinds.values())
