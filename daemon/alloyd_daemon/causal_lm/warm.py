"""A model in memory that becomes one candidate after another: only tensors that differ are merged and written."""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import Any, Final

from alloyd.errors import MemoryTooSmall

from ..candidate import Candidate
from ..engine.in_memory import Weights
from ..quantiser import Quantiser, quantiser
from ..resident import Resident
from ..skeleton import Skeleton
from ..torch_bytes import torch_tensor
from . import generation, loading

TOGETHER: Final = 64 * 1024 * 1024
"""Bytes of tensors that are merged at a time; one larger tensor is merged by itself."""

ALLOWED: Final = 640 * 1024 * 1024
"""Private bytes of the process with torch and transformers loaded, and of a batch's activations and logits."""


class WarmModel:
    """One resident model. ``quantise`` names the type of its linear modules, ``writes`` says that text is asked of it.

    ``model`` is transformers' module, in evaluation mode on :func:`loading.device`; ``None`` before it is anything.
    """

    def __init__(self, quantise: str | None, *, writes: bool) -> None:
        self.model: Any = None
        self._quantise = quantise
        self._writes = writes
        self._resident: Resident | None = None
        self._own_settings: Any = None
        self._shape: tuple[str, tuple[str, ...]] = ("", ())
        self._digests: dict[str, str] = {}

    def forget(self) -> None:
        """Drop the model, of which nobody knows what it holds."""
        self.model = self._resident = self._own_settings = None
        self._digests = {}

    def become(self, candidate: Candidate, weights: Weights, tokenizer: Any) -> tuple[str, ...]:
        """Become ``candidate``; returns what people should know of it.

        A checkpoint as it stands is loaded by transformers. Anything else is built on the meta device and filled as it
        is merged, or, if the model is of its shape already, given the tensors in which it differs.

        Raises
        ------
        AlloydError
            The candidate cannot be merged or run; the model must be forgotten then.
        """
        if candidate.checkpoint is not None and self._quantise is None:
            self.forget()
            self.model = loading.load_model(candidate.checkpoint)
            self._prepare_to_write(candidate, tokenizer)
            return ()
        shape = (json.dumps(candidate.config, sort_keys=True), weights.names)
        if self._resident is not None and shape == self._shape:
            self._resident.update(self._changed(weights))
            self._prepare_to_write(candidate, tokenizer)
            return ()
        self.forget()
        self._resident = Resident(
            candidate.config,
            quantiser=quantiser(self._quantise) if self._quantise else None,
            device=loading.device().type,
        )
        self._shape = shape
        self._resident.fill(self._changed(weights))
        self.model = self._resident.model
        self._own_settings = self.model.generation_config
        self._prepare_to_write(candidate, tokenizer)
        return self._resident.warnings

    def _prepare_to_write(self, candidate: Candidate, tokenizer: Any) -> None:
        if not self._writes:
            return
        if self._own_settings is not None:
            self.model.generation_config = self._own_settings
            if (candidate.folder / "generation_config.json").is_file():
                self.model.generation_config = loading.load_generation_config(candidate.folder)
        self.model.generation_config = generation.greedy(self.model, tokenizer)

    def _changed(self, weights: Weights) -> Generator[tuple[str, Any], None, None]:
        """The tensors in which the candidate differs from what is held, a few at a time."""
        some: list[str] = []
        size = 0
        for name in weights.names:
            if self._digests.get(name) == weights.digest(name):
                continue
            nbytes = weights.plan_of(name).nbytes
            if some and size + nbytes > TOGETHER:
                yield from self._merged(weights, some)
                some, size = [], 0
            some.append(name)
            size += nbytes
        yield from self._merged(weights, some)

    def _merged(self, weights: Weights, names: list[str]) -> Generator[tuple[str, Any], None, None]:
        for name, merged in weights.of(names).items():
            yield name, torch_tensor(merged.data, merged.dtype, merged.shape)
            self._digests[name] = weights.digest(name)


def check_memory(candidate: Candidate, quantise: str | None, memory: int) -> int:
    """The private bytes that running the candidate takes; on a GPU its weights take none.

    Raises MemoryTooSmall where the budget ``memory`` is less.
    """
    held = 0
    if loading.device().type == "cpu":
        held = _weight_bytes(candidate, quantiser(quantise) if quantise else None)
    merging = 0
    if candidate.checkpoint is None or quantise is not None:
        tensors = candidate.prepared.plan.tensors
        merging = max(TOGETHER, *(each.nbytes for each in tensors)) + candidate.prepared.plan.budget.peak
    least = ALLOWED + held + merging
    if least > memory:
        raise MemoryTooSmall(
            f"{candidate.name} needs {least:,} bytes of memory to be held whole; the budget is {memory:,}",
            hint="Give more with --memory, quantise it, or use --runner stream.",
            least=least,
        )
    return least


def _weight_bytes(candidate: Candidate, kept: Quantiser | None) -> int:
    tensors = candidate.prepared.plan.tensors
    if kept is None:
        return sum(each.nbytes for each in tensors)
    skeleton = Skeleton(candidate.config)
    taken = skeleton.select(kept).linears
    return sum(
        sum(part.nbytes for part in kept.stored(each.name, each.dtype, each.shape))
        if skeleton.place(each.name) in taken
        else each.nbytes
        for each in tensors
    )
