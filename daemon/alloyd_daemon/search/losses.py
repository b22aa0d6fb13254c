"""Losses as optimisers take them in: one finite number a point, and what a failed point counts as."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from ..optimiser import Told


def loss_of(told: Told) -> float | None:
    """The first loss; ``None`` where the point failed or its loss is no finite number."""
    losses = losses_of(told)
    return None if losses is None else losses[0]


def losses_of(told: Told) -> tuple[float, ...] | None:
    """All losses; ``None`` where the point failed or one of them is no finite number."""
    if told.losses is None or not all(map(math.isfinite, told.losses)):
        return None
    return told.losses


def worse_than(losses: Iterable[float]) -> float:
    """A loss worse than all of ``losses`` by as much as they spread, so that it does not dwarf their differences."""
    each = list(losses)
    if not each:
        return 1.0
    spread = max(each) - min(each)
    return max(each) + (spread if spread > 0 else 1.0)


def ranks(losses: Sequence[float | None]) -> list[float]:
    """The place of each loss among all, from 0, failed ones last; ties keep their order, so no two are equal."""
    order = sorted(range(len(losses)), key=lambda at: (losses[at] is None, losses[at] or 0.0, at))
    places = [0.0] * len(losses)
    for place, at in enumerate(order):
        places[at] = float(place)
    return places
