"""What a recipe comes to in each layer: every number that it gives a model there, as few rows for people to look at."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from ..architecture import Architecture
from ..search.model_shape import component
from .outline import Assignment, Outline

COPY: Final = "copy"
"""Stands for a parameter where a tensor is taken from one model as it is."""
MOST: Final = 4000
"""Rows, of the components of layers; where there would be more, of whole layers. A plan travels in one message."""

Values = dict[str, list[float]]
"""The numbers of a layer's tensors, by component."""
Row = tuple[int | None, int | None, str, float]


def by_layer(outline: Outline, table: Architecture) -> dict[str, Any] | None:
    """The numbers of every parameter, model and layer of ``outline`` as plain data; docs/protocol.md names the keys.

    ``None`` where even whole layers would be more rows than ``MOST``.
    """
    found = _gathered(outline, table)
    for whole in (False, True):
        rows = {key: _rows(layers, whole=whole) for key, layers in found.items()}
        if sum(map(len, rows.values())) <= MOST:
            return {
                "stacks": [{"prefix": each.prefix, "layers": len(each.origins)} for each in outline.stacks],
                "columns": [
                    {
                        "parameter": parameter,
                        "model": None if model is None else outline.models[model].name,
                        "stack": stack,
                        "rows": each,
                    }
                    for (parameter, model, stack), each in rows.items()
                ],
            }
    return None


def _gathered(
    outline: Outline, table: Architecture
) -> dict[tuple[str, int | None, int | None], dict[int | None, Values]]:
    """By parameter, model (``None``: all together) and stack (``None``: outside of all): layer, component, numbers."""
    places = [re.compile(re.escape(each.prefix) + r"\.(\d+)\.") for each in outline.stacks]
    found: dict[tuple[str, int | None, int | None], dict[int | None, Values]] = {}
    for each in outline.assignments:
        stack, layer = _place(each.name, places)
        part = component(each.name, table)
        for parameter, model, value in _numbers(each):
            layers = found.setdefault((parameter, model, stack), {})
            layers.setdefault(layer, {}).setdefault(part, []).append(value)
    return found


def _place(name: str, places: Sequence[re.Pattern[str]]) -> tuple[int | None, int | None]:
    for number, place in enumerate(places):
        if match := place.match(name):
            return number, int(match[1])
    return None, None


def _numbers(assignment: Assignment) -> Iterator[tuple[str, int | None, float]]:
    """Each number that a tensor is made with, and whose it is."""
    if len(assignment.inputs) == 1:
        yield COPY, assignment.inputs[0].model, 1.0
    given: list[tuple[int | None, Mapping[str, Any]]] = [(None, assignment.shared)]
    given += [(each.model, each.parameters) for each in assignment.inputs]
    for model, parameters in given:
        for name, value in parameters.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                yield name, model, float(value)


def _rows(layers: Mapping[int | None, Values], *, whole: bool) -> list[Row]:
    """Rows of neighbouring layers that have the same number: (first, last, component, number)."""
    rows: list[Row] = []
    open_rows: dict[str, int] = {}
    for layer in sorted(layers, key=lambda each: -1 if each is None else each):
        for part, value in _summed_up(layers[layer], whole=whole).items():
            place = open_rows.get(part)
            if place is not None and layer is not None:
                first, last, _, before = rows[place]
                if last == layer - 1 and before == value:
                    rows[place] = (first, layer, part, value)
                    continue
            open_rows[part] = len(rows)
            rows.append((layer, layer, part, value))
    return rows


def _summed_up(values: Values, *, whole: bool) -> dict[str, float]:
    """One number for each component, the mean where its tensors differ; one for all (``""``) where they agree."""
    every = [value for part in values.values() for value in part]
    if whole or len(set(every)) == 1:
        return {"": _mean(every)}
    return {part: _mean(numbers) for part, numbers in values.items()}


def _mean(values: Sequence[float]) -> float:
    return float(f"{sum(values) / len(values):.6g}")
