"""Racing: a candidate is asked item by item and dropped as soon as it is surely worse than the incumbent.

Pure functions of score tables, so that a stored table can be replayed. A *gain* is what one item adds to a candidate's
lead over the incumbent (:meth:`alloyd_daemon.search.objective.Goal.gains`); the same items are put to both.

Maron and Moore, "Hoeffding races", NIPS 6 (1993); Lopez-Ibanez and others, "The irace package", Operations Research
Perspectives 3 (2016), whose elimination by paired tests this is, with a level that pays for looking again and again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

FEWEST: Final = 5
"""Items that must tell two candidates apart before anything is decided by the spread of their gains."""


def level(confidence: float, look: int) -> float:
    """The chance of a wrong drop that look number ``look`` (from 1) may take: (1 - confidence) / (look (look + 1)).

    Over any number of looks these sum to less than ``1 - confidence`` (a union bound), however long the race is; half
    of it is spent at the first look, where most candidates fall.
    """
    return (1 - confidence) / (look * (look + 1))


def surely_worse(gains: Array, alpha: float) -> bool:
    """Whether ``gains`` (float64 [items]) show a candidate that is worse, with at most the chance ``alpha`` of error.

    One-sided. Where all gains that are not 0 are as large as each other (right or wrong answers that count alike), the
    exact sign test of losses against wins (McNemar 1947); else Student's t of the mean gain.
    """
    telling = gains[gains != 0]
    if not len(telling):
        return False
    wins, losses = int((telling > 0).sum()), int((telling < 0).sum())
    if losses <= wins and float(gains.sum()) >= 0:
        return False
    sizes = np.abs(telling)
    if np.allclose(sizes, sizes[0], rtol=1e-9, atol=0):
        return _tail(wins, losses) <= alpha
    if len(telling) < FEWEST:
        return False
    return upper_bound(gains, alpha) < 0


def upper_bound(gains: Array, alpha: float) -> float:
    """Above what the sum of such gains lies with the chance ``alpha``, by Student's t."""
    from scipy.special import stdtrit  # slow to load, and a merge does without

    n = len(gains)
    spread = float(gains.std(ddof=1)) if n > 1 else float("inf")
    return float(gains.sum()) + float(stdtrit(n - 1, 1 - alpha)) * spread * float(np.sqrt(n))


def _tail(wins: int, losses: int) -> float:
    """The chance of at most ``wins`` wins if either were as likely: in whole numbers, exactly."""
    n, term, total = wins + losses, 1, 0
    for k in range(wins + 1):
        total += term
        term = term * (n - k) // (k + 1)
    return total / (1 << n)


def disagreement(table: Array) -> Array:
    """How much candidates disagreed on each item, as shares of the whole: float64 [items], summing to 1.

    ``table``: values of candidates that have answered everything, float64 [candidates, items] (several objectives:
    [objectives, candidates, items], each counted by its share of its own variance). It is the variance over the
    candidates, shrunk towards that of a mean item as one candidate more would, for few candidates prove little.
    """
    layers = table if table.ndim == 3 else table[None]
    _, candidates, items = layers.shape
    variance = layers.var(axis=1) if candidates else np.zeros((len(layers), items))
    whole = variance.sum(axis=1, keepdims=True)
    shares = np.divide(variance, whole, out=np.full_like(variance, 1 / items), where=whole > 0).mean(axis=0)
    # Rounded, so that a sum made in another order does not change the order of items.
    return np.asarray(np.round((candidates * shares + 1 / items) / (candidates + 1), 12), np.float64)


def disagreement_order(shares: Array, ties: Sequence[int]) -> NDArray[np.int64]:
    """Items in the order in which they are asked: the largest of ``shares`` first, among equal ones by ``ties``."""
    return np.lexsort((np.asarray(ties), -shares))


def estimate(incumbent: float, gains: Array, share: float) -> float:
    """The loss that a dropped candidate is told to have: the incumbent's over all items, less the gains to expect.

    ``share`` is that of the seen items in all disagreement: unseen ones are expected to set the two apart as seen ones
    did, in proportion to how much candidates disagree on them (a ratio estimate). It is a figure over all items, so it
    compares with those of candidates that were not dropped, whenever these were dropped.
    """
    return incumbent - float(gains.sum()) / share


@dataclass(frozen=True, slots=True)
class Replay:
    """What racing makes of a stored table: each candidate's estimate and the items it was asked, and the winner."""

    estimates: tuple[float, ...]
    asked: tuple[int, ...]
    winner: int


def replay(
    losses: Array, *, block: int, confidence: float, first: int = 4, ties: Sequence[int] | None = None
) -> Replay:
    """Race the candidates of a stored table one after the other, as a search does with one loss.

    ``losses``: what each item adds to the loss of each candidate, float64 [candidates, items], complete. The ``first``
    candidates answer everything. Returns the candidate of the lowest loss among those that were not dropped.
    """
    count, items = losses.shape
    rank = range(items) if ties is None else ties
    whole: list[int] = []
    estimates: list[float] = []
    asked: list[int] = []
    best: int | None = None
    for number in range(count):
        seen = items
        dropped = False
        if best is not None and number >= first:
            shares = disagreement(losses[whole])
            order = disagreement_order(shares, list(rank))
            for look, stop in enumerate(range(block, items + block, block), start=1):
                seen = min(stop, items)
                gains = losses[best, order[:seen]] - losses[number, order[:seen]]
                if seen < items and surely_worse(gains, level(confidence, look)):
                    share = float(shares[order[:seen]].sum())
                    estimates.append(estimate(float(losses[best].sum()), gains, share))
                    dropped = True
                    break
        asked.append(seen)
        if dropped:
            continue
        estimates.append(float(losses[number].sum()))
        whole.append(number)
        if best is None or estimates[number] < estimates[best]:
            best = number
    if best is None:
        raise ValueError("a table of no candidates")
    return Replay(tuple(estimates), tuple(asked), best)
