"""Kinship figures from moments: signed cosine, Pearson correlation and distance of task vectors; pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from .measure import Measured, TensorMoments

SATURATED: Final = 0.9
"""Kinship from which merging models gained nothing more in arXiv:2410.12613, section 4."""


@dataclass(frozen=True, slots=True)
class Kinship:
    """Of two task vectors. ``None`` where a figure does not exist: a model that equals its base has no direction."""

    cosine: float | None
    pearson: float | None
    euclidean: float

    def plain(self) -> dict[str, float | None]:
        return {"cosine": self.cosine, "pearson": self.pearson, "euclidean": self.euclidean}


@dataclass(frozen=True, slots=True)
class Total:
    """Moments over several tensors: ``elements`` int64 [n, n] that both models of a pair have, ``values`` [n, n + 1].

    ``sums`` float64 [n, n]: the sum of task vector i over the tensors that k has too.
    """

    elements: npt.NDArray[np.int64]
    sums: npt.NDArray[np.float64]
    products: npt.NDArray[np.float64]
    squares: npt.NDArray[np.float64]

    def of(self, i: int, k: int) -> Kinship:
        """The figures of models ``i`` and ``k``, over the tensors that both have."""
        n = int(self.elements[i, k])
        if not n:
            return Kinship(None, None, 0.0)
        xy = float(self.products[i, k])
        xx, yy = float(self.squares[i, k]), float(self.squares[k, i])
        x, y = float(self.sums[i, k]), float(self.sums[k, i])
        return Kinship(
            _ratio(xy, xx, yy),
            _ratio(xy - x * y / n, xx - x * x / n, yy - y * y / n),
            math.sqrt(max(0.0, xx + yy - 2 * xy)),
        )


def total(models: int, tensors: Iterable[TensorMoments]) -> Total:
    """Add up tensors; the order does not change the result, for every sum is exact and rounded once."""
    cells: dict[tuple[int, int], list[tuple[int, float, float, float]]] = {}
    for each in tensors:
        for row, i in enumerate(each.models):
            for column, k in enumerate(each.models):
                values = each.values
                cells.setdefault((i, k), []).append(
                    (
                        each.elements,
                        float(values[row, 0]),
                        float(values[row, 1 + column]),
                        float(values[row, 1 + row]),
                    )
                )
    shape = (models, models)
    found = Total(np.zeros(shape, np.int64), np.zeros(shape), np.zeros(shape), np.zeros(shape))
    for (i, k), parts in cells.items():
        found.elements[i, k] = sum(part[0] for part in parts)
        found.sums[i, k] = math.fsum(part[1] for part in parts)
        found.products[i, k] = math.fsum(part[2] for part in parts)
        found.squares[i, k] = math.fsum(part[3] for part in parts)
    return found


def figures(measured: Measured) -> dict[str, Any]:
    """All figures as plain data, for people, scripts and report pages (docs/kinship.md names the keys)."""
    n = len(measured.models)
    whole = total(n, measured.tensors)
    pairs = [(i, k) for i in range(n) for k in range(i + 1, n)]
    found = [whole.of(i, k) for i, k in pairs]
    return {
        "base": measured.base,
        "models": [
            {
                "name": name,
                "norm": math.sqrt(whole.squares[place, place]),
                "mean": float(whole.sums[place, place] / max(1, whole.elements[place, place])),
            }
            for place, name in enumerate(measured.models)
        ],
        "tensors": len(measured.tensors),
        "parameters": sum(each.elements for each in measured.tensors),
        "pairs": [
            {"models": [measured.models[i], measured.models[k]], **each.plain()}
            for (i, k), each in zip(pairs, found, strict=True)
        ],
        "mean": {
            "cosine": _mean([each.cosine for each in found]),
            "pearson": _mean([each.pearson for each in found]),
            "euclidean": _mean([each.euclidean for each in found]),
        },
        "layers": _parts(measured, pairs, "layer", lambda each: each.layer),
        "components": _parts(measured, pairs, "component", lambda each: each.component),
        "saturated": [
            [measured.models[i], measured.models[k]]
            for (i, k), each in zip(pairs, found, strict=True)
            if each.cosine is not None and each.cosine > SATURATED
        ],
    }


def _parts(
    measured: Measured,
    pairs: Sequence[tuple[int, int]],
    name: str,
    key: Callable[[TensorMoments], int | str | None],
) -> list[dict[str, Any]]:
    """The figures of each group of tensors; what lies outside the layers is in none of them."""
    groups: dict[int | str, list[TensorMoments]] = {}
    for each in measured.tensors:
        group = key(each)
        if group is not None:
            groups.setdefault(group, []).append(each)
    parts = []
    for group in sorted(groups, key=lambda one: (isinstance(one, str), one)):
        moments = total(len(measured.models), groups[group])
        parts.append(
            {
                name: group,
                "parameters": sum(each.elements for each in groups[group]),
                "pairs": [moments.of(i, k).plain() for i, k in pairs],
            }
        )
    return parts


def _ratio(product: float, left: float, right: float) -> float | None:
    if not (left > 0.0 and right > 0.0):
        return None
    return max(-1.0, min(1.0, product / (math.sqrt(left) * math.sqrt(right))))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [each for each in values if each is not None]
    return math.fsum(known) / len(known) if known else None
