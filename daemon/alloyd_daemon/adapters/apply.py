"""Lays an adapter over a checkpoint: the same checkpoint, whose tensors are read with the adapter merged into them.

Pure but for the adapter's own header and config: nothing is computed before a block is read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

from alloyd.errors import AlloydError, PlanError, ShapeMismatch, raise_all
from alloyd_kernels.dtypes import CODES, ITEMSIZE

from ..architecture import Architecture, named_in, table_for
from ..checkpoints.checkpoint import Checkpoint, LowRank, Tensor
from ..recipes.layers import canonical_names
from .config import CONFIG, AdapterConfig, read_adapter_config
from .tensors import AdapterTensors, Pair, read_adapter_tensors

_SOME: Final = 3


def with_adapter(checkpoint: Checkpoint, folder: Path, *, architecture: str | None = None) -> Checkpoint:
    """``checkpoint`` with the adapter in ``folder``; ``architecture`` replaces what its config.json declares.

    Raises
    ------
    SourceNotFound, SourceError, HeaderError
        The adapter is not there, or its files lie.
    PlanError, ShapeMismatch, Problems
        It is not an adapter of this model, or does what cannot be merged.
    """
    config, seen = read_adapter_config(folder)
    found = read_adapter_tensors(folder)
    if (checkpoint.config or {}).get("quantization_config"):
        raise PlanError(
            f"{checkpoint.path} is quantised, and no adapter can be merged into quantised weights",
            hint="Name the checkpoint that it was quantised from.",
            path=str(checkpoint.path),
        )
    laid = _Laid(checkpoint, folder, config, found, table_for(named_in(checkpoint.config, architecture)))
    files = (*checkpoint.files, *found.checkpoint.files, folder / CONFIG)
    prints = (*checkpoint.prints, *found.checkpoint.prints, seen) if checkpoint.prints else ()
    return replace(
        checkpoint, tensors=MappingProxyType(laid.tensors()), files=files, prints=prints, adapter=folder
    )


class _Laid:
    """One adapter over one model."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        folder: Path,
        config: AdapterConfig,
        found: AdapterTensors,
        table: Architecture,
    ) -> None:
        self._checkpoint = checkpoint
        self._folder = folder
        self._config = config
        self._found = found
        self._table = table
        self._stored = canonical_names(checkpoint.tensors, table.prefix)

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the model, those that the adapter changes with what it makes of them."""
        tensors = dict(self._checkpoint.tensors)
        changes: list[tuple[str, Tensor | Pair]] = list(self._found.whole.items())
        changes += [(f"{module}.weight", pair) for module, pair in self._found.pairs.items()]
        strangers: list[str] = []
        problems: list[AlloydError] = []
        for name, change in changes:
            stored = self._stored.get(name)
            if stored is None and name in self._table.tied:
                problems.append(self._tied(name))
            elif stored is None:
                strangers.append(change.name if isinstance(change, Tensor) else change.a.name)
            else:
                try:
                    tensors[stored] = self._changed(tensors[stored], name, change)
                except AlloydError as problem:
                    problems.append(problem)
        if strangers:
            problems.append(self._not_of_this_model(strangers))
        raise_all(problems)
        return tensors

    def _changed(self, old: Tensor, name: str, change: Tensor | Pair) -> Tensor:
        if isinstance(change, Tensor):
            return self._replaced(old, change)
        return self._adapted(old, name.removesuffix(".weight"), change)

    def _replaced(self, old: Tensor, new: Tensor) -> Tensor:
        """A tensor that the adapter has whole (PEFT's modules_to_save, biases, resized embeddings)."""
        if old.shape != new.shape:
            raise self._other_shape(old, new.name, f"is of the shape {list(new.shape)}")
        if (old.dtype in CODES) is not (new.dtype in CODES):
            raise PlanError(
                f"{self._folder}: '{new.name}' is of the type {new.dtype}, and the model's of {old.dtype}",
                tensor=new.name,
            )
        return replace(self._mine(new), name=old.name, like=old.dtype)

    def _adapted(self, old: Tensor, module: str, pair: Pair) -> Tensor:
        """A tensor that a pair of factors adds to."""
        a, b = pair.a, pair.b
        rank = self._config.rank_of(module)
        if not a.shape[0] == b.shape[1] == rank:
            raise PlanError(
                f"{self._folder}: the factors of {module} are of the shapes {list(a.shape)} and {list(b.shape)}, "
                f"and its config gives them the rank {rank}",
                hint="Config and weights do not belong together; download the adapter again.",
                tensor=old.name,
            )
        if old.dtype not in CODES:
            raise PlanError(
                f"{self._folder}: '{old.name}' of the model is of the type {old.dtype}, to which nothing can be added",
                tensor=old.name,
            )
        straight, turned = (b.shape[0], a.shape[1]), (a.shape[1], b.shape[0])
        if old.shape not in ((turned,) if pair.embedding else (straight, turned)):
            product = turned if pair.embedding else straight
            raise self._other_shape(old, f"the factors of {module}", f"make {list(product)}")
        transposed = old.shape == turned and (straight != turned or self._lies_turned(old.name, pair))
        low_rank = LowRank(old, self._mine(a), self._mine(b), self._config.scale_of(module), transposed)
        nbytes = math.prod(old.shape) * ITEMSIZE["F32"]
        return replace(old, dtype="F32", nbytes=nbytes, low_rank=low_rank, like=old.like or old.dtype)

    def _lies_turned(self, name: str, pair: Pair) -> bool:
        """Whether a square weight is stored as [in, out]: PEFT's config has one word for all layers, and the last one
        that PEFT came by has the say."""
        if pair.embedding:
            return True
        return name.endswith(self._table.input_first) if self._table.names else self._config.fan_in_fan_out

    def _mine(self, tensor: Tensor) -> Tensor:
        """A tensor of the adapter's file, as one of all files."""
        return replace(tensor, file=len(self._checkpoint.files) + tensor.file)

    def _tied(self, name: str) -> PlanError:
        return PlanError(
            f"{self._folder} changes '{name}', which {self._checkpoint.path} does not store: it is tied to "
            f"'{self._table.tied[name]}', and a change of one of the two would be one of both",
            hint="Untie the model first: save it with its own output head, and tie_word_embeddings: false.",
            tensor=name,
        )

    def _other_shape(self, old: Tensor, what: str, found: str) -> ShapeMismatch:
        axis = old.name in self._table.vocabulary
        return ShapeMismatch(
            f"{self._folder}: {what} {found}, and '{old.name}' of {self._checkpoint.path} is {list(old.shape)}",
            hint="Was the vocabulary resized when the adapter was trained? That cannot be merged."
            if axis
            else "The adapter belongs to a model of another shape.",
            tensor=old.name,
        )

    def _not_of_this_model(self, names: Sequence[str]) -> PlanError:
        listed = ", ".join(f"'{each}'" for each in names[:_SOME])
        more = f" and {len(names) - _SOME} more" if len(names) > _SOME else ""
        return PlanError(
            f"{self._folder}: {self._checkpoint.path} has no tensor that {listed}{more} could change",
            hint="Is the adapter of another model? Its adapter_config.json names the one it was trained on.",
            tensor=names[0],
        )
