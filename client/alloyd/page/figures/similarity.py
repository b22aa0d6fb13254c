"""How alike models are: the cosine of what each pair has learnt, as a whole and part by part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..goal import Result
from ..parts import Figure, Table
from ..plot import heat, layout, lines, named, rows, text
from ..wording import figure, finite, number, short, short_names

PAIRS = 60
"""Pairs that have a row of their own part by part; of more the most and the least alike."""


def similarity(
    names: Sequence[str], cosines: Sequence[Sequence[Any]], table: Table | None = None
) -> Figure | None:
    """A matrix of cosines, a row and a column for each model."""
    n = len(names)
    if n < 2:
        return None
    short_ones = short_names(names)
    grid = [[finite(cosines[i][k]) for k in range(n)] for i in range(n)]
    says = [
        [
            lines(text(short_ones[i]), text(short_ones[k]), f"cosine {figure(grid[i][k], '+')}")
            for k in range(n)
        ]
        for i in range(n)
    ]
    written = [[figure(each, "+")[:5] for each in row] for row in grid] if n <= 12 else None
    plot = {
        "data": heat(grid, says, most=1.0, written=written, title="cosine"),
        "layout": layout(100 + 34 * n, xaxis=named(short_ones, 16), yaxis=rows(short_ones, 20)),
    }
    pairs = [(value, i, k) for i in range(n) for k in range(i) if (value := grid[i][k]) is not None]
    return Figure("Task vectors beside each other", _says(short_ones, pairs), plot, table)


def _says(names: Sequence[str], pairs: Sequence[tuple[float, int, int]]) -> str:
    if not pairs:
        return "None of the models has a direction of its own: they equal their base."

    def pair(one: tuple[float, int, int]) -> str:
        value, i, k = one
        return f"{short(names[k])} and {short(names[i])} (cosine {figure(value, '+')})"

    least, most = min(pairs), max(pairs)
    if len(pairs) == 1:
        return f"{pair(most)}: 1 is the same way, 0 independent, -1 against each other."
    near = " Over 0.9 merging gains little." if most[0] > 0.9 else ""
    return f"Most alike are {pair(most)}, least alike {pair(least)}.{near}"


def kinship(result: Result) -> list[Figure]:
    """All that a kinship job found: the matrix of whole models, then every pair by layer and by component."""
    names = [str(each["name"]) for each in result.get("models") or ()]
    pairs: Sequence[Result] = result.get("pairs") or ()
    place = {name: number for number, name in enumerate(names)}
    matrix: list[list[Any]] = [
        [1.0 if i == k else None for k in range(len(names))] for i in range(len(names))
    ]
    for each in pairs:
        i, k = (place[name] for name in each["models"])
        matrix[i][k] = matrix[k][i] = each["cosine"]
    table = Table(
        ("model", "and", "cosine", "Pearson", "distance"),
        [
            (
                *map(short, each["models"]),
                figure(each["cosine"], "+"),
                figure(each["pearson"], "+"),
                number(each["euclidean"]),
            )
            for each in pairs
        ],
        frozenset({2, 3, 4}),
    )
    whole = similarity(names, matrix, table)
    parts = [
        _by_part(pairs, result.get(key) or (), name, title)
        for key, name, title in (
            ("layers", "layer", "Cosine by layer"),
            ("components", "component", "Cosine by component"),
        )
    ]
    return [each for each in (whole, *parts) if each is not None]


def _by_part(pairs: Sequence[Result], parts: Sequence[Result], name: str, title: str) -> Figure | None:
    if not parts or not pairs:
        return None
    order = sorted(range(len(pairs)), key=lambda each: -(finite(pairs[each]["cosine"]) or 0.0))
    if len(order) > PAIRS:
        order = [*order[: PAIRS // 2], *order[-PAIRS // 2 :]]
    called = [" and ".join(short_names([str(each) for each in pairs[place]["models"]])) for place in order]
    columns = [str(part[name]) for part in parts]
    grid = [[finite(part["pairs"][place]["cosine"]) for part in parts] for place in order]
    says = [
        [
            lines(text(pair, 60), f"{name} {text(column)}", f"cosine {figure(value, '+')}")
            for column, value in zip(columns, row, strict=True)
        ]
        for pair, row in zip(called, grid, strict=True)
    ]
    known = [
        (value, row, column)
        for row, values in enumerate(grid)
        for column, value in enumerate(values)
        if value is not None
    ]
    if not known:
        return None
    small = len(columns) <= 14 and len(known) <= 200
    data = heat(
        grid,
        says,
        most=max(abs(value) for value, _, _ in known) or 1.0,
        written=[[figure(value, "+")[:5] if value is not None else "" for value in row] for row in grid]
        if small
        else None,
        title="cosine",
    )
    across = named(columns, 14, title=name)
    if len(columns) > 24:
        across |= {"tickvals": list(range(0, len(columns), 10)), "ticktext": columns[::10]}
    plot = {
        "data": data,
        "layout": layout(
            90 + max(18, min(30, 900 // len(order))) * len(order), xaxis=across, yaxis=rows(called, 30)
        ),
    }
    value, row, column = max(known)
    said = (
        f"The most alike are {called[row]} in {name} {columns[column]}, with a cosine of {figure(value, '+')}"
    )
    value, row, column = min(known)
    said += f"; the least alike {called[row]} in {name} {columns[column]}, with {figure(value, '+')}."
    head = (name, *called)
    body = [(column, *(figure(row[place], "+") for row in grid)) for place, column in enumerate(columns)]
    return Figure(title, said, plot, Table(head, body, frozenset(range(1, len(head)))))
