"""A recipe with knobs as plain data: where its models stand, found and opened, and made absolute."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from alloyd import recipe as recipes
from alloyd.errors import AlloydError, raise_all
from alloyd.knob_reader import beginning
from alloyd.recipe import ModelRef, Recipe
from alloyd.search_schema import Knob

from ..adapters.opening import open_model
from ..checkpoints.checkpoint import Checkpoint
from ..settings import Settings
from .naming import placed, reference

Template = Mapping[str, Any]
"""A recipe as plain data with a :class:`~alloyd.search_schema.Knob` wherever a value is searched."""


def opened(
    template: Template, *, base_dir: Path, settings: Settings
) -> tuple[dict[str, Any], dict[ModelRef, Checkpoint]]:
    """``template`` with absolute paths of its models, and their checkpoints by where they lie, in the recipe's order.

    Raises
    ------
    SourceNotFound, SourceError, PlanError, Problems
        Models that are nowhere, or whose headers lie; all of them together.
    """
    found: dict[ModelRef, ModelRef] = {}
    checkpoints: dict[ModelRef, Checkpoint] = {}
    problems: list[AlloydError] = []
    for ref in at_start(template).referenced_models():
        try:
            checkpoint = open_model(ref, base_dir=base_dir, settings=settings)
            found[ref] = placed(checkpoint, ref.override_architecture)
            checkpoints.setdefault(found[ref], checkpoint)
        except AlloydError as problem:
            problems.append(problem)
    raise_all(problems)
    return with_models(template, lambda ref: found.get(ref)), checkpoints


def at_start(template: Template) -> Recipe:
    """The recipe with every knob where it begins. Raises RecipeError where it is none."""
    return as_recipe(_plain(template))


def as_recipe(plain: Mapping[str, Any]) -> Recipe:
    """A plain recipe, read. Raises RecipeError, Problems."""
    return recipes.load(json.dumps(plain))[-1]


def _plain(value: Any) -> Any:
    if isinstance(value, Knob):
        return beginning(value)
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def reference_of(value: Any) -> ModelRef:
    """The model that a recipe names by ``value``: text, or a mapping. Raises RecipeError where it is none."""
    return as_recipe({"merge_method": "linear", "models": [{"model": value}]}).models[0].model


def merged(template: Template) -> tuple[ModelRef, ...]:
    """Every model that is merged, once, in the order of the recipe; a base only where it is one of them."""
    recipe = at_start(template)
    parts = tuple(recipe.modules.values())
    refs = [each.model for models in (recipe.models, *(part.models for part in parts)) for each in models]
    slices = [each for run in (recipe.slices, *(part.slices for part in parts)) for each in run]
    refs += [source.model for each in slices for source in each.sources]
    return tuple(dict.fromkeys(refs))


def with_models(template: Template, place_of: Callable[[ModelRef], ModelRef | None]) -> dict[str, Any]:
    """``template`` with each model where ``place_of`` says that it lies, or as it stands for ``None``."""

    def model(value: Any) -> Any:
        place = place_of(reference_of(value))
        return value if place is None else reference(place)

    def walk(value: Any) -> Any:
        if isinstance(value, list):
            return [walk(each) for each in value]
        if not isinstance(value, Mapping):
            return value
        changed = {}
        for key, each in value.items():
            if each is None or key == "parameters":
                changed[key] = each
            elif key in ("model", "base_model"):
                changed[key] = model(each)
            elif key in ("tokenizer_source", "source") and each not in ("union", "base"):
                changed[key] = walk(each) if isinstance(each, Mapping) and "kind" in each else model(each)
            else:
                changed[key] = walk(each)
        return changed

    return dict(walk(template))
