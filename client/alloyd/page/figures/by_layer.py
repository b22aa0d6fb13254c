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
COPY: Final = "copy"
"""Stands for a parameter where tensors are taken from one model as they are."""
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
    """A heatmap for each parameter and stack of layers; where several are told, none of what is the same all over."""
    parts = list(_parts(found or {}))
    telling = [each for each in parts if _different(each) > 1]
    # Without any difference the first still shows which models there are; one number for all shows nothing.
    return [_figure(each) for each in telling or [each for each in parts if "" not in each.models][:1]]


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
            known = {name: cells for name, cells in models.items() if cells}
            if known:
                yield _Part(parameter, str(stack["prefix"]) if several else "", stack["layers"], known)


def _cells(rows: Sequence[Sequence[Any]], layers: int) -> Cells:
    cells: Cells = {}
    for first, last, component, value in rows:
        known = finite(value)
        if known is None:
            continue
        places = [OUTSIDE] if first is None else range(first, min(last, layers - 1) + 1)
        cells |= {(place, component): known for place in places}
    return cells


def _different(part: _Part) -> int:
    """How many different numbers there are; of layers that are taken as they are, how many models give some."""
    if part.parameter == COPY:
        return len(part.models)
    return len({value for cells in part.models.values() for value in cells.values()})


def _components(part: _Part) -> list[str]:
    """The rows of each model: one where every layer has one number, else one for each component."""
    inside = {component for cells in part.models.values() for place, component in cells if place != OUTSIDE}
    if inside <= {ALL}:
        return [ALL]
    found = {component for cells in part.models.values() for _, component in cells}
    known: list[str] = [each for each in COMPONENTS if each in found]
    outside = any((OUTSIDE, ALL) in cells for cells in part.models.values())
    return known if not outside or "embeddings" in known else [*known, "embeddings"]


def _columns(part: _Part, components: Sequence[str]) -> list[tuple[int, str]]:
    """Places and, of what lies outside of the layers, components that have a column each: norms come after them."""
    outside = {component for cells in part.models.values() for place, component in cells if place == OUTSIDE}
    if components != [ALL] and outside:
        outside = {ALL}
    elif len(outside) > 1:
        outside -= {ALL}  # what holds for all stands in the column of each component
    before = [each for each in (ALL, *COMPONENTS) if each in outside and each != "norms"]
    after = [each for each in ("norms",) if each in outside]
    layers = [(place, ALL) for place in range(part.layers)]
    return [*((OUTSIDE, each) for each in before), *layers, *((OUTSIDE, each) for each in after)]


def _cell(cells: Cells, place: int, column: str, row: str) -> float | None:
    component = row or column
    if (place, component) in cells:
        return cells[place, component]
    # What holds for all of a layer holds for each of its components, but embeddings lie outside of the layers.
    fits = component == "embeddings" if place == OUTSIDE and row else component != "embeddings"
    return cells.get((place, ALL)) if fits or not row else None


def _figure(part: _Part) -> Figure:
    components = _components(part)
    columns = _columns(part, components)
    names, grid, says = [], [], []
    for model, cells in part.models.items():
        for component in components:
            names.append(" · ".join(filter(None, (short(model, 22), component))) or "all models")
            row = [_cell(cells, place, column, component) for place, column in columns]
            grid.append(row)
            says.append(
                [
                    lines(
                        text(model) if model else "all models",
                        text(" · ".join(filter(None, (_place(place), component or column)))),
                        f"{text(part.parameter)} {number(value)}",
                    )
                    for (place, column), value in zip(columns, row, strict=True)
                ]
            )
    known = [value for row in grid for value in row if value is not None]
    small = len(columns) <= 14 and len(known) <= 200
    data = heat(
        grid,
        says,
        most=max(map(abs, known)) or 1.0,
        signed=min(known) < 0,
        written=[["" if value is None else f"{value:.2g}" for value in row] for row in grid]
        if small
        else None,
        title="" if part.parameter == COPY else text(part.parameter),
    )
    if part.parameter == COPY:
        data[0]["showscale"] = False
    height = 90 + max(16, min(30, 900 // len(grid))) * len(grid)
    plot = {"data": data, "layout": layout(height, xaxis=_across(columns), yaxis=rows(names, 36))}
    where = f" in {short(part.stack)}" if part.stack else ""
    title = (
        "Which model each layer is taken from"
        if part.parameter == COPY
        else f"{part.parameter}, layer by layer"
    )
    return Figure(f"{short(title)}{where}", _says(part), plot, _table(part))


def _across(columns: Sequence[tuple[int, str]]) -> dict[str, Any]:
    """The axis of layers; of many every tenth is named."""
    ticks = [str(place) if place != OUTSIDE else column or "outside" for place, column in columns]
    across = named(ticks, title="layer")
    if len(columns) > 24:
        shown = [at for at, (place, _) in enumerate(columns) if place != OUTSIDE and place % 10 == 0]
        across |= {"tickvals": shown, "ticktext": [ticks[at] for at in shown], "tickangle": 0}
    return across


def _place(place: int) -> str:
    return "outside of the layers" if place == OUTSIDE else f"layer {place}"


def _says(part: _Part) -> str:
    said = []
    for model, cells in part.models.items():
        values = [value for (place, _), value in cells.items() if place != OUTSIDE] or list(cells.values())
        if part.parameter == COPY:
            layers = len({place for place, _ in cells if place != OUTSIDE})
            said.append(f"{short(model)} gives {counted(layers, 'layer')}")
            continue
        low, high = min(values), max(values)
        same = number(low, 3) if low == high else f"{number(low, 3)} to {number(high, 3)}"
        said.append(f"{short(model)} {same}" if model else same)
    if part.parameter == COPY:
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
