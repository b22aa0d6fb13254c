"""Racing: a candidate is asked item by item and dropped as soon as it is surely worse than the incumbent.

Pure functions of score tables, so that a stored table can be replayed. A *gain* is what one item adds to a candidate's
lead over the incumbent (:meth:`alloyd_daemon.search.objective.Goal.gains`); the same items are put to both.

Items come in one random order, the same for all. Those first on which earlier candidates disagreed would be a biased
sample: where the incumbent is the odd one out among bad ones, these are what it alone has right, on which a newcomer
can only lose. (Measured: benchmarks/RESULTS.md.)

Maron and Moore, "Hoeffding races", NIPS 6 (1993); Lopez-Ibanez and others, "The irace package", Operations Research
Perspectives 3 (2016), whose elimination by paired tests this is, with a level that pays for looking again and again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
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


def surely_worse(gains: Array, alpha: float, items: int | None) -> bool:
    """Whether ``gains`` (float64 [seen]) of some of ``items`` show a candidate that all of them would find worse.

    One-sided, with at most about the chance ``alpha`` of error. What is asked is what scoring all ``items`` would say
    (``None``: endlessly many), and the seen ones are a random part of them, so the tests are those of sampling without
    replacement. Where all
    gains that are not 0 are as large as each other (right or wrong answers that count alike), the sign test of losses
    against wins (McNemar 1947), hypergeometric; else Student's t of the mean gain with the correction for a finite
    population (Cochran, Sampling Techniques, 1977, section 2.6).
    """
    if len(gains) == items:
        return float(gains.sum()) < 0
    telling = gains[gains != 0]
    if not len(telling):
        return False
    wins, losses = int((telling > 0).sum()), int((telling < 0).sum())
    if losses <= wins and float(gains.sum()) >= 0:
        return False
    sizes = np.abs(telling)
    if np.allclose(sizes, sizes[0], rtol=1e-9, atol=0):
        return _chance(wins, losses, seen=len(gains), items=items) <= alpha
    if len(telling) < FEWEST:
        return False
    return upper_bound(gains, alpha, items) < 0


def upper_bound(gains: Array, alpha: float, items: int | None) -> float:
    """Above what the mean gain of all ``items`` lies with the chance ``alpha``, by Student's t."""
    from scipy.special import stdtrit  # slow to load, and a merge does without

    n = len(gains)
    if n < 2:
        return float("inf")
    spread = float(gains.std(ddof=1)) * float(np.sqrt((1 - (n / items if items else 0)) / n))
    return float(gains.mean()) + float(stdtrit(n - 1, 1 - alpha)) * spread


def _chance(wins: int, losses: int, *, seen: int, items: int | None) -> float:
    """The chance of at most ``wins`` wins among the telling items seen, if all items held as many wins as losses.

    How many of all items would tell is taken from the share of those that do, and rounded up.
    """
    telling = wins + losses
    if items is None:
        return float(sum(comb(telling, won) for won in range(wins + 1)) / (1 << telling))
    half = max(losses, -(-telling * items // (2 * seen)))
    ways = sum(comb(half, won) * comb(half, telling - won) for won in range(wins + 1))
    # Whole numbers divide to the nearest float, however large they are.
    return ways / comb(2 * half, telling)


def estimate(incumbent: float, gains: Array, share: float) -> float:
    """The loss that a dropped candidate is told to have: the incumbent's over all items, less the gains to expect.

    ``share`` is that of the seen items in all: unseen ones are expected to set the two apart as seen ones did, which
    holds because the items are in random order. It is a figure over all items, so it compares with those of candidates
    that were not dropped, whenever these were dropped.
    """
    return incumbent - float(gains.sum()) / share


@dataclass(frozen=True, slots=True)
class Replay:
    """What racing makes of a stored table: each candidate's estimate and the items it was asked, and the winner."""

    estimates: tuple[float, ...]
    asked: tuple[int, ...]
    winner: int


def replay(
    losses: Array, *, block: int, confidence: float, first: int = 4, order: Sequence[int] | None = None
) -> Replay:
    """Race the candidates of a stored table one after the other, as a search does with one loss.

    ``losses``: what each item adds to the loss of each candidate, float64 [candidates, items], complete. Items are
    asked in ``order``, as they stand if it is ``None``. The ``first`` candidates answer everything. Returns the
    candidate of the lowest loss among those that were not dropped.
    """
    count, items = losses.shape
    asking = np.arange(items) if order is None else np.asarray(order)
    estimates: list[float] = []
    asked: list[int] = []
    best: int | None = None
    for number in range(count):
        seen = items
        dropped = False
        if best is not None and number >= first:
            for look, stop in enumerate(range(block, items + block, block), start=1):
                seen = min(stop, items)
                gains = (losses[best] - losses[number])[asking[:seen]]
                if seen < items and surely_worse(gains, level(confidence, look), items):
                    estimates.append(estimate(float(losses[best].sum()), gains, seen / items))
                    dropped = True
                    break
        asked.append(seen)
        if dropped:
            continue
        estimates.append(float(losses[number].sum()))
        if best is None or estimates[number] < estimates[best]:
            best = number
    if best is None:
        raise ValueError("a table of no candidates")
    return Replay(tuple(estimates), tuple(asked), best)


def replay_together(
    losses: Array, *, block: int, confidence: float, order: Sequence[int] | None = None
) -> Replay:
    """Race all candidates of a stored table side by side, as a search does with a population that is run at once.

    Each is held against the one that is ahead on the items so far. Parameters as of :func:`replay`; the estimates of
    dropped candidates are of what the seen items say.
    """
    count, items = losses.shape
    if not count:
        raise ValueError("a table of no candidates")
    asking = np.arange(items) if order is None else np.asarray(order)
    asked = [items] * count
    estimates = [float(each) for each in losses.sum(axis=1)]
    alive = list(range(count))
    for look, seen in enumerate(range(block, items, block), start=1):
        so_far = losses[:, asking[:seen]]
        ahead = min(alive, key=lambda each: float(so_far[each].sum()))
        behind = {
            each
            for each in alive
            if surely_worse(so_far[ahead] - so_far[each], level(confidence, look), items)
        }
        for each in behind:
            asked[each] = seen
            estimates[each] = float(so_far[each].sum()) * items / seen
        alive = [each for each in alive if each not in behind]
    return Replay(tuple(estimates), tuple(asked), min(alive, key=estimates.__getitem__))
