"""Several objectives at once: which points no other beats, and the volume that they dominate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

Losses = Sequence[float]

MARGIN: Final = 0.1
"""How far beyond the worst point the reference of a hypervolume lies, as a part of the objective's range."""


def front(losses: Sequence[Losses]) -> tuple[int, ...]:
    """The places of the points that no other dominates (one is nowhere worse and somewhere better), in their order.

    ``losses``: one point a row, lower is better. Of equal points all stay. A point with a loss that is no number, or
    infinite, is never on the front.

    Deb, Pratap, Agarwal and Meyarivan, "A fast and elitist multiobjective genetic algorithm: NSGA-II", 2002.
    """
    whole = [place for place, each in enumerate(losses) if all(map(math.isfinite, each))]
    if not whole:
        return ()
    import numpy as np
    from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

    points = np.array([losses[place] for place in whole], np.float64)
    first = NonDominatedSorting().do(points, only_non_dominated_front=True)
    return tuple(sorted(whole[int(place)] for place in first))


def reference_point(losses: Sequence[Losses]) -> tuple[float, ...]:
    """A point that every finite one of ``losses`` dominates: the worst of each objective, and a little beyond.

    Raises ValueError where no point is finite.
    """
    whole = [each for each in losses if all(map(math.isfinite, each))]
    if not whole:
        raise ValueError("no reference without a finite point")
    ranges = [(min(column), max(column)) for column in zip(*whole, strict=True)]
    return tuple(high + MARGIN * ((high - low) or abs(high) or 1.0) for low, high in ranges)


def hypervolume(losses: Sequence[Losses], reference: Losses) -> float:
    """The volume between ``losses`` and ``reference`` (lower is better): larger is better, 0 where none is below it.

    Zitzler and Thiele, "Multiobjective evolutionary algorithms", IEEE Trans. Evolutionary Computation 3 (1999).
    """
    below = [each for each in losses if all(loss < most for loss, most in zip(each, reference, strict=True))]
    if not below:
        return 0.0
    import numpy as np
    from pymoo.indicators.hv import Hypervolume

    return float(Hypervolume(ref_point=np.array(reference, np.float64)).do(np.array(below, np.float64)))
