"""Soups: weighted averages of whole models, one weight a model (arXiv:2203.05482)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from alloyd.errors import RecipeError
from alloyd.recipe import ModelRef

from ..genome import Gene, Genome, Point, Value
from ..naming import reference, short_names
from ..space import PlainRecipe

Shares = tuple[float, ...]
"""What each model has of a soup, in their order; they add up to 1."""


class SoupSpace:
    """One gene a model: its weight from 0 to 1. Only ratios count; what has no weight is left out of the recipe.

    ``common`` stands in every recipe.
    """

    def __init__(self, models: Sequence[ModelRef], common: Mapping[str, Any] | None = None) -> None:
        self._models = tuple(models)
        self._common = dict(common or {})

    @property
    def genome(self) -> Genome:
        """A weight for each model, in their order."""
        names = short_names(self._models)
        return tuple(Gene(name=f"weight of {names[each]}", start=1.0) for each in self._models)

    def recipe(self, point: Point) -> PlainRecipe:
        """The average that ``point`` stands for.

        Raises RecipeError where every weight is 0.
        """
        shares = shares_of(self.genome, point)
        taken = [(model, share) for model, share in zip(self._models, shares, strict=True) if share]
        if len(taken) == 1:
            return {
                "merge_method": "passthrough",
                "models": [{"model": reference(taken[0][0])}],
                **self._common,
            }
        # Relative to the largest, so that equal shares are written as people write them.
        most = max(shares)
        models = [
            {"model": reference(model), "parameters": {"weight": share / most}} for model, share in taken
        ]
        return {"merge_method": "linear", "models": models, "parameters": {"normalize": True}, **self._common}


def shares_of(genome: Sequence[Gene], point: Point) -> Shares:
    """The weights of ``point``, divided by their sum.

    Raises RecipeError where every weight is 0.
    """
    weights = [float(point[gene.name]) for gene in genome]
    whole = math.fsum(weights)
    if not whole > 0.0:
        raise RecipeError("a soup needs a model with a weight above 0", key="weight")
    return tuple(each / whole for each in weights)


def point_of(genome: Sequence[Gene], shares: Sequence[float]) -> dict[str, Value]:
    """The point of a soup."""
    return {gene.name: share for gene, share in zip(genome, shares, strict=True)}
