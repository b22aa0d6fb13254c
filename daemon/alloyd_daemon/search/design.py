"""Points to begin with: spread over the unit cube."""

from __future__ import annotations

import random


def latin_hypercube(count: int, genes: int, dice: random.Random) -> list[list[float]]:
    """``count`` points of ``genes`` coordinates, every coordinate in another ``count``-th of the range at each point
    (McKay, Beckman and Conover 1979).
    """
    columns = []
    for _ in range(genes):
        strata = list(range(count))
        dice.shuffle(strata)
        columns.append([(stratum + dice.random()) / count for stratum in strata])
    return [[column[row] for column in columns] for row in range(count)]
