"""From the last layer's outputs to log-probabilities of spans; logits are made only where they are asked for."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import torch

from ..scoring.encoding import SpanScore
from ..scoring.packing import Batch

LOGITS: Final = 64 * 1024 * 1024
"""Bytes that the logits of one chunk take with all that is computed from them."""

PER_LOGIT: Final = 16
"""Bytes for one logit: its own type, float32, and the temporaries of soft caps and sums."""


def scores_of(
    batch: Batch,
    hidden: torch.Tensor,
    logits_of: Callable[[torch.Tensor], torch.Tensor],
    vocabulary: int,
) -> dict[int, SpanScore]:
    """The scores of a batch's spans by their place among all; NaN where the logits are.

    ``hidden`` [rows, width, hidden] are the last layer's outputs; ``logits_of`` makes [n, vocabulary] of [n, hidden].
    Log-probabilities are computed in float32 and added in float64.
    """
    places: dict[tuple[int, int], int] = {}
    targets: list[list[tuple[int, int, int]]] = []
    for number, wanted in enumerate(batch.wanted):
        for order, (position, token) in enumerate(zip(wanted.positions, wanted.targets, strict=True)):
            place = places.setdefault((wanted.row, position), len(places))
            if place == len(targets):
                targets.append([])
            targets[place].append((number, order, token))
    rows, columns = (torch.tensor(each) for each in zip(*places, strict=True))
    gathered = hidden[rows.to(hidden.device), columns.to(hidden.device)]
    found = [[(math.nan, False)] * len(each.targets) for each in batch.wanted]
    chunk = max(2, LOGITS // (vocabulary * PER_LOGIT))
    for start in range(0, len(gathered), chunk):
        logits = logits_of(gathered[start : start + chunk]).float()
        here = [(place, *each) for place in range(len(logits)) for each in targets[start + place]]
        at = torch.tensor([each[0] for each in here], device=logits.device)
        tokens = torch.tensor([each[3] for each in here], device=logits.device)
        logprobs = (logits[at, tokens] - logits.logsumexp(-1)[at]).tolist()
        best = (logits.argmax(-1)[at] == tokens).tolist()
        for (_, number, order, _), logprob, is_best in zip(here, logprobs, best, strict=True):
            found[number][order] = (logprob, is_best)
    return {
        wanted.span: SpanScore(sum(logprob for logprob, _ in each), all(is_best for _, is_best in each))
        for wanted, each in zip(batch.wanted, found, strict=True)
    }
