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

from ..checkpoints.checkpoint import Checkpoint, open_checkpoint
from ..recipes.models import resolve
from ..settings import Settings
from .slices import reference

Template = Mapping[str, Any]
"""A recipe as plain data with a :class:`~alloyd.search_schema.Knob` wherever a value is searched."""


def opened(
    template: Template, *, base_dir: Path, settings: Settings
) -> tuple[dict[str, Any], dict[str, Checkpoint]]:
    """``template`` with absolute paths of its models, and their checkpoints by that path, in the recipe's order.

    Raises
    ------
    SourceNotFound, SourceError, PlanError, Problems
        Models that are nowhere, or whose headers lie; all of them together.
    """
    found: dict[ModelRef, str] = {}
    checkpoints: dict[str, Checkpoint] = {}
    problems: list[AlloydError] = []
    for ref in at_start(template).referenced_models():
        try:
            path = resolve(ref, base_dir=base_dir, roots=settings.model_roots(), hf_home=settings.hub())
            if str(path) not in checkpoints:
                checkpoints[str(path)] = open_checkpoint(path)
            found[ref] = str(path)
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


def with_models(template: Template, place_of: Callable[[ModelRef], str | None]) -> dict[str, Any]:
    """``template`` with each model at the path that ``place_of`` gives for it, or as it stands for ``None``."""

    def model(value: Any) -> Any:
        ref = reference_of(value)
        path = place_of(ref)
        if path is None:
            return value
        if ref.override_architecture is not None:
            return {"model": {"path": path}, "override_architecture": ref.override_architecture}
        return reference(Path(path))

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
