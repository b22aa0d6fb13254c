"""What losses are likely to be where nothing was scored: a Gaussian process for each objective."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .genome import Gene
from .libraries import global_luck_kept, one_thread

Array = NDArray[np.float64]

STEPS: Final = 60
"""Steps of the search for the lengths and the noise of one process: the last ones change little, and cost as much."""


class Surrogate:
    """Gaussian processes over the unit cube of ``genes``: Matern 5/2, a length for each coordinate, and noise.

    A category of three choices or more is as many coordinates of 0 and 1. Losses far above the rest (over the third
    quartile by more than three halves of what lies between it and the first) count as that bound: how bad a broken
    model is should not be learnt.

    ``units``: float64 [points, genes]; ``losses``: float64 [points, objectives], finite.
    """

    def __init__(self, genes: Sequence[Gene], units: Array, losses: Array, seed: int) -> None:
        self._genes = tuple(genes)
        lower, upper = np.quantile(losses, (0.25, 0.75), axis=0)
        counted = np.minimum(losses, upper + 1.5 * (upper - lower))
        places = coordinates(self._genes, units)
        with one_thread(), global_luck_kept(), warnings.catch_warnings():
            # It warns of lengths at their bounds: a gene without effect has the longest.
            warnings.simplefilter("ignore")
            self._models = [_fitted(places, column, seed) for column in counted.T]

    def predict(self, units: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of the losses without their noise, each float64 [points, objectives]."""
        places = coordinates(self._genes, units)
        with one_thread():
            found = [model.predict(places, return_std=True) for model in self._models]
        means, deviations = (np.stack(each, axis=1) for each in zip(*found, strict=True))
        return means, deviations


def coordinates(genes: Sequence[Gene], units: Array) -> Array:
    """What a process sees of ``units``, float64 [points, coordinates]."""
    columns: list[Array] = []
    for gene, column in zip(genes, units.T, strict=True):
        if gene.kind == "category" and len(gene.choices) > 2:
            count = len(gene.choices)
            chosen = np.minimum((column * count).astype(np.intp), count - 1)
            columns += list(np.eye(count)[chosen].T)
        else:
            columns.append(column)
    return np.stack(columns, axis=1)


def _fitted(places: Array, losses: Array, seed: int) -> Any:
    from scipy.optimize import minimize
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    def steps(objective: Any, start: Array, bounds: Array) -> tuple[Array, float]:
        found = minimize(
            objective, start, method="L-BFGS-B", jac=True, bounds=bounds, options={"maxiter": STEPS}
        )
        return found.x, float(found.fun)

    width = places.shape[1]
    kernel = ConstantKernel(1.0, (1e-2, 1e2)) * Matern(
        np.full(width, np.sqrt(width) / 2), (5e-2, 5e1), nu=2.5
    ) + WhiteKernel(0.05, (1e-6, 1.0))
    model = GaussianProcessRegressor(kernel, alpha=1e-9, optimizer=steps, normalize_y=True, random_state=seed)
    model.fit(places, losses)
    # The noise is of the scores, not of what the losses follow from.
    model.kernel_ = model.kernel_.k1
    return model
