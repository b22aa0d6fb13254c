"""A streamed run made ready: models taken apart, batches composed, parts in order, memory added up, nothing read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import transformers
from blake3 import blake3

from alloyd.jobs import Note
from alloyd.units import format_size

from ..candidate import Candidate
from ..causal_lm.loading import device
from ..engine.in_memory import Weights
from ..runner import RunOptions
from ..scoring.requests import Request
from .groups import Group, group
from .needs import Needs, needs_of
from .schedule import Schedule, schedule


@dataclass(frozen=True, slots=True)
class Ready:
    """All that is known of a run before a tensor is read.

    ``unknown`` are the requests of each candidate that no earlier run answered, and ``batches`` those of its group
    that hold them. ``identity`` names all that activations and scores follow from.
    """

    candidates: tuple[Candidate, ...]
    options: RunOptions
    device: torch.device
    groups: tuple[Group, ...]
    schedule: Schedule
    needs: Needs
    unknown: tuple[frozenset[int], ...]
    batches: Mapping[int, frozenset[int]]
    identity: str

    def notes(self) -> tuple[Note, ...]:
        """What the run holds in memory and in scratch, and what cannot be quantised."""
        asked = sum(len(span.ids) - 1 for each in self.groups for span in each.encoded.spans)
        computed = sum(sum(batch.lengths) for each in self.groups for batch in each.batches)
        needs = self.needs
        text = (
            f"streamed forward of {_candidates(len(self.candidates))} in one pass over the sources: {computed:,} tokens"
            f"{f' of {asked:,} (what items begin with in common is computed once)' if computed < asked else ''},"
            f" {format_size(needs.activations)} of activations, {format_size(needs.spilled)} of them in scratch;"
            f" at most {format_size(needs.peak)} of memory"
        )
        warnings = dict.fromkeys(each for one in self.groups for each in one.warnings)
        return (Note("info", text), *(Note("warning", each) for each in warnings))


def _candidates(number: int) -> str:
    return f"{number} candidate{'s' * (number != 1)}"


def make_ready(candidates: Sequence[Candidate], requests: Sequence[Request], options: RunOptions) -> Ready:
    """Prepare a run; its batches, and so its scores, depend on the requests alone.

    Raises what :func:`.groups.group` and :func:`.needs.needs_of` raise.
    """
    chosen: torch.device = device()
    groups = group(
        candidates,
        requests,
        batch_size=options.batch_size,
        where=options.where,
        quantise=options.quantise,
        device=chosen,
    )
    weights = [Weights(each, ()) for each in candidates]
    plan = schedule(groups, weights, quantise=options.quantise)
    unknown = tuple(
        frozenset(request for request in range(len(requests)) if (number, request) not in options.known)
        for number in range(len(candidates))
    )
    # Rounding can depend on the libraries, the device and the number of threads.
    versions = f"{torch.__version__} {transformers.__version__} {chosen.type} {options.threads}"
    finals = [plan.finals[number] for number in range(len(candidates))]
    return Ready(
        candidates=tuple(candidates),
        options=options,
        device=chosen,
        groups=groups,
        schedule=plan,
        needs=needs_of(plan, groups, weights, memory=options.memory, threads=options.threads),
        unknown=unknown,
        batches={number: each.holding(unknown[number]) for each in groups for number in each.members},
        identity=blake3(f"{versions} {finals}".encode()).hexdigest(),
    )
