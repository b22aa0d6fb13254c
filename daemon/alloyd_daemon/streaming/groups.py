"""Candidates that are the same model but for their weights: one anatomy, one tokenisation, one set of batches."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from blake3 import blake3

from alloyd.errors import SourceError, UsageError

from ..candidate import Candidate
from ..causal_lm.loading import load_tokenizer
from ..quantiser import quantiser
from ..scoring.encoding import Encoded, context_length, encode
from ..scoring.packing import Batch, compose
from ..scoring.requests import Request
from .anatomy import Anatomy
from .rounding import Rounding, is_llama_cpp_type


@dataclass(frozen=True, slots=True)
class Group:
    """``members`` are numbers of candidates; ``digest`` stands for everything else here. ``rounding`` is applied to
    merged tensors."""

    digest: str
    anatomy: Anatomy
    encoded: Encoded
    batches: tuple[Batch, ...]
    members: tuple[int, ...]
    rounding: Rounding | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """Tensors that are not quantised as asked, and why."""
        return self.anatomy.warnings + (self.rounding.warnings if self.rounding is not None else ())

    def holding(self, requests: frozenset[int]) -> frozenset[int]:
        """The batches that hold a span of one of ``requests``."""
        spans = self.encoded.spans
        return frozenset(
            number
            for number, batch in enumerate(self.batches)
            if any(spans[each.span].request in requests for each in batch.wanted)
        )


def group(
    candidates: Sequence[Candidate],
    requests: Sequence[Request],
    *,
    batch_size: int | None,
    where: Callable[[int], str],
    quantise: str | None,
    device: torch.device,
) -> tuple[Group, ...]:
    """Sort ``candidates`` into groups, in the order of their first members.

    Raises
    ------
    PlanError, ShapeMismatch
        A model that cannot be taken apart, as :class:`Anatomy` says.
    SourceError
        A candidate without a config.json, or whose tokenizer does not load.
    TaskError
        A request that does not fit into the context.
    UsageError
        A request for generated text.
    RecipeError
        An unknown type to quantise to, or one whose library is not installed.
    """
    tokens: dict[tuple[Path, int | None], Encoded] = {}
    alike: dict[str, list[int]] = {}
    parts: dict[str, tuple[Mapping[str, Any], dict[str, tuple[int, ...]], Encoded]] = {}
    for number, candidate in enumerate(candidates):
        config = candidate.config
        if not config:
            raise SourceError(
                f"{candidate.folder} has no config.json, without which a model cannot be run",
                hint="Put the model's config.json beside its weights.",
                path=str(candidate.folder),
            )
        room = context_length(config)
        if (candidate.folder, room) not in tokens:
            found = encode(requests, load_tokenizer(candidate.folder), room, where=where)
            if found.prompts:
                raise UsageError(
                    f"{where(found.prompts[0].request)}: the runner 'stream' does not generate text",
                    hint="Use --runner resident or gguf.",
                )
            tokens[candidate.folder, room] = found
        encoded = tokens[candidate.folder, room]
        shapes = {each.name: each.shape for each in candidate.prepared.plan.tensors}
        text = json.dumps(
            [config, sorted(shapes.items()), [(span.ids, span.first) for span in encoded.spans]],
            sort_keys=True,
        )
        digest = blake3(text.encode()).hexdigest()
        alike.setdefault(digest, []).append(number)
        parts.setdefault(digest, (config, shapes, encoded))
    rounds = quantise is not None and is_llama_cpp_type(quantise)
    kept = None if quantise is None or rounds else quantiser(quantise)
    groups = []
    for digest, members in alike.items():
        config, shapes, encoded = parts[digest]
        anatomy = Anatomy(config, shapes, quantiser=kept, device=device)
        batches = compose(encoded.spans, share=anatomy.shares, window=anatomy.window, batch_size=batch_size)
        whole = blake3(digest.encode())
        for batch in batches:
            whole.update(repr((batch.ids.shape, batch.wanted)).encode())
        rounding = Rounding(candidates[members[0]], str(quantise)) if rounds else None
        groups.append(Group(whole.hexdigest(), anatomy, encoded, batches, tuple(members), rounding))
    return tuple(groups)
