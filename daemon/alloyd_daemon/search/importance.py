"""Which genes mattered: a forest learns losses from points, and loses skill where one gene's values are shuffled."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .genome import Gene, Point

Array = NDArray[np.float64]

FOLDS: Final = 5
REPEATS: Final = 10
SHUFFLES: Final = 300
"""Shuffles of one fold, over all genes, that are worth waiting for: of each gene 3 at least, ``REPEATS`` at most."""
TREES: Final = 100
MOST_POINTS: Final = 1000
"""More points than this make a forest slow and hardly wiser: of those, as many are drawn at random."""
LEAST_POINTS: Final = 20
"""Fewer scored points than this, or than twice the genes, teach a forest nothing that is worth telling."""
LEAST_SKILL: Final = 0.1
"""Below this R² on points that it has not seen, what a forest relies on is not what the losses follow from."""


@dataclass(frozen=True, slots=True)
class GeneImportance:
    """One gene: by how much R² on unseen points falls when its values are shuffled, mean and spread over folds."""

    gene: str
    mean: float
    spread: float


@dataclass(frozen=True, slots=True)
class Importance:
    """All genes, the most important first; none where ``why_not`` says what stands against it.

    ``skill`` is the forest's R² on points that it was not fitted to (cross-validation); 1 is perfect, 0 no better
    than the mean.
    """

    genes: tuple[GeneImportance, ...]
    points: int
    skill: float | None
    why_not: str = ""


def importance(
    genome: Sequence[Gene], points: Sequence[Point], losses: Sequence[float], *, seed: int = 0
) -> Importance:
    """The importance of each gene of ``genome`` for ``losses``, one a point.

    Permutation importance on held-out folds, which does not favour genes with many values as impurity does. Genes
    that move together share what they are worth. Texts have no place on an axis and are left out.

    Breiman, "Random forests", Machine Learning 45 (2001).
    """
    varied = [gene for gene in genome if gene.kind != "text"]
    whole = [place for place, loss in enumerate(losses) if math.isfinite(loss)]
    least = max(LEAST_POINTS, 2 * len(varied))
    if not varied:
        return Importance((), len(whole), None, "no gene is a number or a choice")
    if len(whole) < least:
        return Importance(
            (),
            len(whole),
            None,
            f"{_points(len(whole))} too few for {_genes(len(varied))}; {least} would do",
        )
    wanted = [losses[place] for place in whole]
    if min(wanted) == max(wanted):
        return Importance((), len(whole), None, "every point has the same loss")

    if len(whole) > MOST_POINTS:
        whole = sorted(random.Random(seed).sample(whole, MOST_POINTS))
        wanted = [losses[place] for place in whole]
    places = np.array(
        [[gene.unit_of(points[place][gene.name]) for gene in varied] for place in whole], np.float64
    )
    skill, falls = _falls(places, np.array(wanted, np.float64), seed)
    if skill < LEAST_SKILL:
        return Importance(
            (),
            len(whole),
            skill,
            f"a forest cannot tell the losses from the genes (R² {skill:.2f} on unseen points)",
        )
    found = [
        GeneImportance(gene.name, float(column.mean()), float(column.std(ddof=1)))
        for gene, column in zip(varied, falls.T, strict=True)
    ]
    return Importance(tuple(sorted(found, key=lambda each: -each.mean)), len(whole), skill)


def _falls(places: Array, wanted: Array, seed: int) -> tuple[float, Array]:
    """R² on unseen points, and by how much it falls for each gene: [folds, genes]."""
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance
    from sklearn.model_selection import KFold

    predicted = np.empty_like(wanted)
    falls = np.empty((FOLDS, places.shape[1]))
    # One scale for all folds: a fold whose few losses are nearly alike would else count for more than the others.
    spread = float(wanted.var())
    for fold, (seen, unseen) in enumerate(KFold(FOLDS, shuffle=True, random_state=seed).split(places)):
        forest = RandomForestRegressor(TREES, random_state=seed, n_jobs=1).fit(places[seen], wanted[seen])
        predicted[unseen] = forest.predict(places[unseen])
        shuffled = permutation_importance(
            forest,
            places[unseen],
            wanted[unseen],
            scoring="neg_mean_squared_error",
            n_repeats=max(3, min(REPEATS, SHUFFLES // places.shape[1])),
            random_state=seed,
        )
        falls[fold] = shuffled.importances_mean / spread
    return 1 - float(((predicted - wanted) ** 2).mean()) / spread, falls


def _points(count: int) -> str:
    return "1 scored point is" if count == 1 else f"{count} scored points are"


def _genes(count: int) -> str:
    return "1 gene" if count == 1 else f"{count} genes"
