"""What a recipe comes to: every number that it gives each model in each layer, a picture for each parameter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ..goal import Result
from ..parts import Figure, Table
from ..plot import heat, layout, lines, named, rows, text
from ..wording import counted, finite, listed, number, short, short_names

COMPONENTS: Final = ("attention", "mlp", "norms", "embeddings", "other")
ALL: Final = ""
"""The component of a number that holds for all of a layer's tensors."""
OUTSIDE: Final = -1
"""The place of what lies outside of the layers."""
ROWS: Final = 300
"""Rows of the table; of more the first."""

Cells = dict[tuple[int, str], float]
"""Numbers by layer and component."""


@dataclass(frozen=True, slots=True)
class _Part:
    """One parameter in one stack of layers: what each model has, ``""`` standing for all of them together."""

    parameter: str
    stack: str
    layers: int
    models: Mapping[str, Cells]


def by_layer(found: Result | None) -> list[Figure]:
    """A heatmap for each parameter and stack of layers; of ones that are the same all over, none."""
    return [_figure(each) for each in _parts(found or {}) if not _says_nothing(each)]


def _parts(found: Result) -> Iterator[_Part]:
    columns: Sequence[Result] = found.get("columns") or ()
    names = {each["model"] for each in columns if each["model"] is not None}
    called = dict(zip(sorted(names), short_names(sorted(names)), strict=True))
    several = len(found.get("stacks") or ()) > 1
    for place, stack in enumerate(found.get("stacks") or [{"prefix": "", "layers": 0}]):
        for parameter in dict.fromkeys(each["parameter"] for each in columns):
            models: dict[str, Cells] = {}
            for each in columns:
                if each["parameter"] == parameter and each["stack"] in (place, None):
                    cells = models.setdefault(called.get(each["model"], ""), {})
                    cells |= _cells(each["rows"], stack["layers"])
            if models:
                yield _Part(parameter, str(stack["prefix"]) if several else "", stack["layers"], models)


def _cells(rows: Sequence[Sequence[Any]], layers: int) -> Cells:
    cells: Cells = {}
    for first, last, component, value in rows:
        known = finite(value)
        if known is None:
            continue
        places = [OUTSIDE] if first is None else range(first, min(last, layers - 1) + 1)
        cells |= {(place, component): known for place in places}
    return cells


def _says_nothing(part: _Part) -> bool:
    """Whether it is one number for all models, all over: a default, or a fact that the recipe tells as well."""
    values = {value for cells in part.models.values() for value in cells.values()}
    return "" in part.models and len(values) == 1


def _components(part: _Part) -> list[str]:
    found = {component for cells in part.models.values() for _, component in cells}
    if found == {ALL}:
        return [ALL]
    known: list[str] = [each for each in COMPONENTS if each in found]
    outside = any((OUTSIDE, ALL) in cells for cells in part.models.values())
    return known if not outside or "embeddings" in known else [*known, "embeddings"]


def _cell(cells: Cells, place: int, component: str) -> float | None:
    if (place, component) in cells:
        return cells[place, component]
    # What holds for all of a layer holds for each of its components, but embeddings lie outside of the layers.
    fits = component == "embeddings" if place == OUTSIDE else component != "embeddings"
    return cells.get((place, ALL)) if fits or component == ALL else None


def _figure(part: _Part) -> Figure:
    components = _components(part)
    places = [OUTSIDE, *range(part.layers)]
    if not any(place == OUTSIDE for cells in part.models.values() for place, _ in cells):
        places = places[1:]
    row_names, grid, says = [], [], []
    for model, cells in part.models.items():
        for component in components:
            row_names.append(" · ".join(filter(None, (short(model, 22), component))) or "all models")
            row = [_cell(cells, place, component) for place in places]
            grid.append(row)
            says.append(
                [
                    lines(
                        text(model) if model else "all models",
                        text(" · ".join(filter(None, (_place(place), component)))),
                        f"{text(part.parameter)} {number(value)}",
                    )
                    for place, value in zip(places, row, strict=True)
                ]
            )
    known = [value for row in grid for value in row if value is not None]
    small = len(places) <= 14 and len(known) <= 200
    data = heat(
        grid,
        says,
        most=max(map(abs, known)) or 1.0,
        signed=min(known) < 0,
        written=[["" if value is None else f"{value:.2g}" for value in row] for row in grid]
        if small
        else None,
        title="" if part.parameter == "copy" else text(part.parameter),
    )
    ticks = [f"{place}" if place != OUTSIDE else "outside" for place in places]
    across = named(ticks, title="layer")
    if len(places) > 24:
        shown = [place for place, layer in enumerate(places) if layer == OUTSIDE or layer % 10 == 0]
        across |= {"tickvals": shown, "ticktext": [ticks[place] for place in shown]}
    if part.parameter == "copy":
        data[0]["showscale"] = False
    height = 90 + max(16, min(30, 900 // len(grid))) * len(grid)
    plot = {"data": data, "layout": layout(height, xaxis=across, yaxis=rows(row_names, 36))}
    where = f" in {short(part.stack)}" if part.stack else ""
    title = (
        "Which model each layer is taken from" if part.parameter == "copy" else f"{part.parameter} by layer"
    )
    return Figure(f"{short(title)}{where}", _says(part), plot, _table(part))


def _place(place: int) -> str:
    return "outside of the layers" if place == OUTSIDE else f"layer {place}"


def _says(part: _Part) -> str:
    said = []
    for model, cells in part.models.items():
        values = [value for (place, _), value in cells.items() if place != OUTSIDE] or list(cells.values())
        if part.parameter == "copy":
            layers = len({place for place, _ in cells if place != OUTSIDE})
            said.append(f"{short(model)} gives {counted(layers, 'layer')}")
            continue
        low, high = min(values), max(values)
        same = number(low) if low == high else f"{number(low)} to {number(high)}"
        said.append(f"{short(model)} {same}" if model else same)
    if part.parameter == "copy":
        return f"{listed(said)}, as they are."
    end = ". Where a component's tensors differ it is their mean." if _components(part) != [ALL] else "."
    return f"{part.parameter} in the layers: {listed(said)}{end}"


def _table(part: _Part) -> Table:
    found = []
    for model, cells in part.models.items():
        for component in (ALL, *COMPONENTS):
            layers = sorted(place for place, each in cells if each == component)
            for first, last in _runs(layers, cells, component):
                where = _place(first) if first == last else f"layers {first} to {last}"
                found.append(
                    (short(model) or "all", where, component or "all", number(cells[first, component]))
                )
    head = ("model", "where", "component", part.parameter)
    return Table(head, found[:ROWS], frozenset({3}), max(0, len(found) - ROWS))


def _runs(layers: Sequence[int], cells: Cells, component: str) -> Iterator[tuple[int, int]]:
    """First and last of neighbouring layers that have the same number."""
    start = None
    for place, layer in enumerate(layers):
        start = layer if start is None else start
        following = layers[place + 1] if place + 1 < len(layers) else None
        goes_on = (
            layer != OUTSIDE
            and following == layer + 1
            and cells[following, component] == cells[layer, component]
        )
        if not goes_on:
            yield start, layer
            start = None
