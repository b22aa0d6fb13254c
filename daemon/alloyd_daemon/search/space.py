"""What a space is: genes, and the recipe that each point stands for."""

from __future__ import annotations

from typing import Any, Protocol

from .genome import Genome, Point

PlainRecipe = dict[str, Any]
"""A recipe as plain data, as its YAML would be read; paths of models are absolute."""


class Space(Protocol):
    """One search space. The same point gives the same recipe, always."""

    @property
    def genome(self) -> Genome:
        """The genes, in a fixed order."""

    def recipe(self, point: Point) -> PlainRecipe:
        """The recipe that ``point`` stands for.

        Raises
        ------
        RecipeError
            The point stands for none, such as a path without a layer; the trial fails with it.
        """
