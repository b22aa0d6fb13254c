"""What a streamed run needs of memory: added up from shapes before work, so that too small a budget is told at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

from alloyd.errors import MemoryTooSmall

from ..candidate import Candidate
from ..checkpoints.config import TORCH_NAMES
from ..engine.budget import FIXED, MIB, allot
from ..engine.in_memory import Weights
from .answers import LOGITS
from .groups import Group
from .schedule import Part, Schedule

LIBRARIES: Final = 640 * MIB
"""Allowed for the process with torch, transformers and the kernels of merges loaded, and no model in it."""

ARGUMENTS: Final = 64 * MIB
"""Masks and rotary embeddings of batches that are kept from one layer to the next."""


@dataclass(frozen=True, slots=True)
class Needs:
    """Bytes of a run. ``merging`` is for blocks in flight while tensors are merged, ``weights`` for the parts that are
    held at once, ``workspace`` for computing one batch, ``activations`` for all of them at their most; of these
    ``in_memory`` stay in memory. ``ahead`` says whether the next part is merged beside the present one's forward."""

    merging: int
    weights: int
    workspace: int
    activations: int
    in_memory: int
    ahead: bool

    @property
    def peak(self) -> int:
        """Private bytes at the worst moment."""
        return LIBRARIES + ARGUMENTS + self.merging + self.weights + self.workspace + self.in_memory

    @property
    def spilled(self) -> int:
        """Bytes of activations that go to scratch."""
        return self.activations - self.in_memory


def needs_of(
    plan: Schedule, groups: Sequence[Group], weights: Sequence[Weights], *, memory: int, threads: int
) -> Needs:
    """How a run uses ``memory`` bytes: everything beside activations first, these with what is left.

    Raises
    ------
    MemoryTooSmall
        Not even one part at a time with all activations in scratch fits; names the least that does.
    """
    sizes = [_part_bytes(part, groups[part.group], weights[part.candidate]) for part in plan.parts]
    workspace = max((_workspace(group) for group in groups), default=0)
    activations = plan.most_keys * max(
        (sum(batch.tokens for batch in each.batches) * _per_token(each) for each in groups), default=0
    )
    for ahead in (True, False):
        held = max(map(sum, pairwise([*sizes, 0]))) if ahead else max(sizes)
        for workers in range(threads if ahead else 1, 0, -1):
            merging = max(_merging_bytes(each.candidate, workers) for each in weights)
            bare = Needs(merging, held, workspace, activations, 0, ahead)
            if bare.peak <= memory:
                return replace(bare, in_memory=min(activations, memory - bare.peak))
    least = bare.peak
    raise MemoryTooSmall(
        f"scoring {len(weights)} candidates needs {-(-least // MIB)} MiB of memory and was given"
        f" {memory / MIB:.4g} MiB",
        hint=f"Give it --memory {-(-least // MIB)}MiB or more.",
        least=least,
        memory=memory,
    )


def confined(candidate: Candidate, merging: int, threads: int) -> Candidate:
    """The candidate with a plan that merges within ``merging`` bytes."""
    prepared = candidate.prepared
    plan = prepared.plan
    budget = allot(plan.tensors, memory=FIXED + merging, threads=threads, buffered="pread" in prepared.doors)
    return replace(candidate, prepared=replace(prepared, plan=replace(plan, budget=budget)))


def _merging_bytes(candidate: Candidate, workers: int) -> int:
    plan, doors = candidate.prepared.plan, candidate.prepared.doors
    granted = allot(plan.tensors, memory=1 << 62, threads=workers, buffered="pread" in doors)
    return granted.peak - FIXED


def _part_bytes(part: Part, group: Group, weights: Weights) -> int:
    """Bytes of a part's tensors: merged, cast to the model's type beside that where it is another, and quantised."""
    plans = {place: weights.plan_of(name) for place, name in part.tensors.items()}
    merged = sum(each.nbytes for each in {each.name: each for each in plans.values()}.values())
    cast = sum(
        each.elements * group.anatomy.dtype_of(place).itemsize
        for place, each in plans.items()
        if TORCH_NAMES.get(each.dtype) != str(group.anatomy.dtype_of(place)).removeprefix("torch.")
    )
    quantised = sum(each.elements for place, each in plans.items() if group.anatomy.quantises(place))
    return merged + cast + quantised


def _per_token(group: Group) -> int:
    return group.anatomy.hidden_size * group.anatomy.dtype.itemsize


def _workspace(group: Group) -> int:
    anatomy = group.anatomy
    largest = max((anatomy.workspace(each.rows, each.width) for each in group.batches), default=0)
    return max(largest, LOGITS)
