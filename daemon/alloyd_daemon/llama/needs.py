"""What a candidate needs of memory in the job and in the engine: added up from shapes before work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from alloyd.errors import MemoryTooSmall

from ..candidate import Candidate
from ..engine.budget import FIXED, MIB, allot
from ..gguf.architecture import architecture_of
from ..gguf.encoder import worker_bytes
from ..gguf.hyperparameters import Hyperparameters
from ..gguf.layout import GgufLayout
from .questions import BATCH, LOGITS, Questions

LIBRARIES: Final = 448 * MIB
"""Allowed for the job's process with the kernels of merges, transformers and a tokenizer loaded."""
ENGINE: Final = 96 * MIB
"""Allowed for the engine's process with its library and no model in it."""


@dataclass(frozen=True, slots=True)
class Confined:
    """A candidate whose merge stays within what is left for it; whether its file has room in memory as well.

    A file that has none lies on disk, where llama.cpp maps it: then it takes as much of the page cache as there is.
    """

    candidate: Candidate
    in_memory: bool


def confine(
    candidate: Candidate,
    layout: GgufLayout,
    questions: Questions,
    config: Mapping[str, Any],
    *,
    memory: int,
    threads: int,
    full_cache: bool,
) -> Confined:
    """Share ``memory`` bytes out: the engine and the libraries first, merge threads next, the file last.

    Raises
    ------
    MemoryTooSmall
        Not even one merge thread fits; names the least that does.
    """
    prepared = candidate.prepared
    shape = Hyperparameters(config, architecture_of(config).defaults)
    fixed = LIBRARIES + engine_bytes(shape, questions.cells, full_cache=full_cache)
    encoding = max((worker_bytes(each) for each in layout.placements), default=0)
    for workers in range(threads, 0, -1):
        budget = allot(
            prepared.plan.tensors, memory=1 << 62, threads=workers, buffered="pread" in prepared.doors
        )
        least = fixed + budget.peak - FIXED + workers * encoding
        if least <= memory:
            plan = replace(prepared.plan, budget=budget)
            confined = replace(candidate, prepared=replace(prepared, plan=plan))
            return Confined(confined, least + layout.size <= memory)
    raise MemoryTooSmall(
        f"{candidate.name} needs {-(-least // MIB)} MiB of memory beside its file and was given {memory / MIB:.4g} MiB",
        hint=f"Give it --memory {-(-least // MIB)}MiB or more.",
        least=least,
        memory=memory,
    )


def engine_bytes(shape: Hyperparameters, cells: int, *, full_cache: bool) -> int:
    """Private bytes of the engine's process: keys and values of ``cells`` tokens, and what one call computes with."""
    cache = 2 * shape.layers * shape.kv_heads * shape.head_dim * cells * (4 if full_cache else 2)
    hidden = shape.whole("hidden_size", "n_embd")
    inner = shape.optional_whole("intermediate_size", "n_inner") or 4 * hidden
    activations = 4 * min(BATCH, cells) * (3 * inner + 8 * hidden + 2 * shape.heads * cells)
    return ENGINE + cache + activations + 2 * LOGITS
