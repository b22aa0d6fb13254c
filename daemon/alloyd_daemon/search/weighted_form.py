"""A merge as a weighted sum of its sources, tensor by tensor, where its method is one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from alloyd import recipe as recipes
from alloyd.errors import RecipeError
from alloyd.recipe import ModelRef

from ..architecture import named_in, table_for
from ..checkpoints.checkpoint import Checkpoint
from ..recipes.assign import assign
from ..recipes.layers import find_layout
from ..recipes.outline import Assignment, Model
from .space import PlainRecipe

METHODS: Final = ("linear", "task_arithmetic", "passthrough")
"""Methods whose result is a sum of the sources with weights that the recipe alone gives."""


@dataclass(frozen=True, slots=True)
class Sum:
    """sum of weight * source + offset, over places of sources."""

    weights: Mapping[int, float]
    offset: float = 0.0


@dataclass(frozen=True, slots=True)
class WeightedForm:
    """The sources of a merge in its order, the place of its donor, and every output tensor as a sum of them.

    ``sums`` goes by canonical name; a tensor that is copied because it is derived from the config is not in it.
    """

    sources: tuple[Checkpoint, ...]
    donor: int
    sums: Mapping[str, Sum]


def weighted_form(merge: PlainRecipe, open_model: Callable[[ModelRef], Checkpoint]) -> WeightedForm:
    """What ``merge``, a recipe over whole models, adds up.

    Raises
    ------
    RecipeError
        The recipe is wrong, takes slices, or its method is no weighted sum.
    PlanError, ShapeMismatch, Problems
        Its models do not fit each other.
    """
    text = json.dumps(merge)
    (recipe,) = recipes.load(text, name="recipe")
    if recipe.merge_method not in METHODS:
        raise not_a_sum(recipe.merge_method)
    if not recipe.models:
        raise RecipeError(
            "a recipe of slices cannot be searched together with a path",
            hint="List whole models, or say path: {after: true}.",
            key="slices",
        )
    refs = recipe.referenced_models()
    opened = [open_model(ref) for ref in refs]
    outline = assign(
        recipe,
        [Model(str(ref), each.path, each.adapter) for ref, each in zip(refs, opened, strict=True)],
        [each.tensors for each in opened],
        [each.config for each in opened],
    )
    donor = opened[outline.donor]
    layout = find_layout(donor.tensors, table_for(named_in(donor.config)), donor.config)
    canonical = {stored: name for name, stored in layout.stored.items()}
    sums = {
        canonical.get(each.name, each.name): found
        for each in outline.assignments
        if each.method == recipe.merge_method and (found := sum_of(each)) is not None
    }
    return WeightedForm(tuple(opened), outline.donor, sums)


def sum_of(each: Assignment) -> Sum | None:
    """What one output tensor adds up; ``None`` where its method is no weighted sum. Its models must be distinct.

    Raises RecipeError where weights that are divided by their sum add up to 0.
    """
    form = _SUMS.get(each.method)
    return None if form is None else form(each)


def not_a_sum(method: str) -> RecipeError:
    """The error for a merge whose layers cannot be taken by a path in the same candidate."""
    return RecipeError(
        f"the layers of a {method} merge cannot be hops of a path in the same candidate: "
        f"only {', '.join(METHODS)} are weighted sums",
        hint="Say path: {after: true}: the best merge is then made once, and its layers join the path's models.",
        key="merge_method",
    )


def _linear(each: Assignment) -> Sum:
    weights = [_number(one.parameters["weight"]) for one in each.inputs]
    # The divisor is the method's own: added up in float32.
    whole = sum(map(np.float32, weights), np.float32(0.0)) if each.shared["normalize"] else np.float32(1.0)
    if not whole:
        raise RecipeError(
            f"the weights of {each.name} add up to 0, and normalize divides by that", key="weight"
        )
    found = _added(each, (weight / float(whole) for weight in weights))
    return Sum(found.weights, _number(each.shared.get("offset") or 0.0))


def _task_arithmetic(each: Assignment) -> Sum:
    weights = [
        0.0 if place == each.base else _number(one.parameters["weight"])
        for place, one in enumerate(each.inputs)
    ]
    whole = sum(weights) if each.shared["normalize"] else 1.0
    factor = _number(each.shared["lambda"]) / (1.0 if abs(whole) < 1e-8 else whole)
    scaled = [weight * factor for weight in weights]
    assert each.base is not None
    scaled[each.base] = 1.0 - sum(scaled)
    return _added(each, scaled)


def _passthrough(each: Assignment) -> Sum:
    scale, offset = (each.inputs[0].parameters.get(name) for name in ("scale", "offset"))
    return Sum({each.inputs[0].model: 1.0 if scale is None else _number(scale)}, _number(offset or 0.0))


def _added(each: Assignment, weights: Any) -> Sum:
    return Sum({one.model: weight for one, weight in zip(each.inputs, weights, strict=True)})


def _number(value: Any) -> float:
    return float(value)


_SUMS: Final[Mapping[str, Callable[[Assignment], Sum]]] = {
    "linear": _linear,
    "task_arithmetic": _task_arithmetic,
    "passthrough": _passthrough,
}
