"""Descents as a space: every point is a line of text that says how a model came from the sources, step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from alloyd.recipe import ModelRef

from ...recipes.descent import read
from ..genome import Gene, Genome, Point
from ..naming import reference
from ..space import PlainRecipe

DESCENT: Final = "descent"


class DescentSpace:
    """One text gene. A recipe lists only the models that its descent needs; ``common`` stands in every one."""

    def __init__(self, models: Sequence[ModelRef], common: Mapping[str, Any] | None = None) -> None:
        self._models = tuple(models)
        self._common = dict(common or {})

    @property
    def genome(self) -> Genome:
        """The descent, which begins as the first model itself."""
        return (Gene(name=DESCENT, kind="text", start="m1"),)

    def recipe(self, point: Point) -> PlainRecipe:
        """The recipe of a descent.

        Raises RecipeError where the text is none over these models.
        """
        descent = read(str(point[DESCENT]), len(self._models))
        models = [{"model": reference(self._models[each])} for each in descent.models]
        if not descent.steps:
            return {"merge_method": "passthrough", "models": models, **self._common}
        return {
            "merge_method": "evolver",
            "models": models,
            "parameters": {DESCENT: str(descent.among(descent.models))},
            **self._common,
        }
