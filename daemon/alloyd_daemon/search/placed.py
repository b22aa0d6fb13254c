"""Which point of a search's own space a baseline is, if it is one: optimisers may learn from it then."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from alloyd.recipe import ModelRef

from .genome import Genome, Point, Value, first_point
from .naming import referred
from .space import PlainRecipe, Space

METHOD: Final = "task_arithmetic"


def weights_of(
    recipe: PlainRecipe, sources: Mapping[ModelRef, object], base: ModelRef
) -> dict[ModelRef, float] | None:
    """The weights of task vectors, by source, whose task arithmetic over ``base`` has the weights of ``recipe``.

    A source is its own task vector at weight 1, the base is all of them at 0, and an average is each at its share.
    ``None`` for whatever is no such sum.
    """
    given: dict[ModelRef, float] = {}
    for entry in recipe["models"]:
        model, found = referred(entry["model"]), dict(entry.get("parameters", {}))
        weight = found.pop("weight", 1.0)
        if found or not isinstance(weight, int | float) or model in given:
            return None
        given[model] = float(weight)
    if not set(given) <= {*sources, base}:
        return None
    method = recipe["merge_method"]
    if method == "linear":
        total = sum(given.values())
        given = {name: weight / total for name, weight in given.items()} if total else {}
    elif method == "passthrough":
        given = dict.fromkeys(given, 1.0)
    elif method != METHOD:
        return None
    return {name: given.get(name, 0.0) for name in sources} if given else None


def place_of(space: Space, weights: Mapping[ModelRef, float]) -> Point | None:
    """The point whose recipe is task arithmetic with ``weights`` in every tensor; ``None`` where there is none."""
    point = _with_method(space)
    if point is None:
        return None
    start = dict(point)
    for gene in space.genome:
        if gene.kind != "real":
            continue
        low, high = (
            dict(_weights(space.recipe({**start, gene.name: value})))
            for value in (gene.of_unit(0.3), gene.of_unit(0.7))
        )
        moved = {weights.get(name) for name in low if low[name] != high.get(name)}
        if not moved:
            continue
        wanted = moved.pop()
        if moved or wanted is None or not gene.holds(wanted):
            return None
        point[gene.name] = wanted
    recipe = space.recipe(point)
    found = dict(_weights(recipe))
    same = set(found) == set(weights) and all(set(found[each]) == {weights[each]} for each in found)
    return point if same and "parameters" not in recipe else None


def _with_method(space: Space) -> dict[str, Value] | None:
    """Where the search begins, by task arithmetic of models."""
    genome: Genome = space.genome
    start = first_point(genome)
    choices = [(gene.name, each) for gene in genome if gene.kind == "category" for each in gene.choices]
    for change in ({}, *({name: each} for name, each in choices)):
        recipe = space.recipe({**start, **change})
        if recipe.get("merge_method") == METHOD and "models" in recipe:
            return {**start, **change}
    return None


def _weights(recipe: PlainRecipe) -> Iterator[tuple[ModelRef, tuple[float, ...]]]:
    """All weights that a recipe gives each of its models; nothing of a model with another parameter."""
    for entry in recipe.get("models", ()):
        parameters = entry.get("parameters", {})
        if set(parameters) == {"weight"}:
            yield referred(entry["model"]), tuple(_numbers(parameters["weight"]))


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, Mapping):
        yield from _numbers(value.get("value"))
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _numbers(each)
    elif isinstance(value, int | float):
        yield float(value)
    else:
        yield float("nan")
