"""The Pareto front of a search with several objectives: what no other trial beats in all, and whence it came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, Final

from ..goal import Axis, Result, axes
from ..parts import Choice, Figure, Option, Plot, Table, Toggle
from ..plot import COLOURS, axis, dots, layout, line, lines, text
from ..wording import counted, figure, short

MOST: Final = 2000
"""Dominated trials that are drawn; of more the newest."""
FAMILIES: Final = 300
"""Trials whose parents can be shown: those of the front, then the newest."""
PAIRS: Final = 3
"""Pictures, one for each pair of objectives."""

Point = tuple[float, ...]


def front(results: Result) -> list[Figure]:
    """A figure for each pair of objectives."""
    pareto = results.get("pareto")
    if pareto is None:
        return []
    measures = axes(results)
    trials: Mapping[Any, Result] = {each["trial"]: each for each in results.get("trials") or ()}
    points = {
        number: point for number, each in trials.items() if (point := _point(measures, each)) is not None
    }
    if not any(trials[number]["state"] == "scored" for number in points):
        return []
    found = []
    for x, y in list(combinations(range(len(measures)), 2))[:PAIRS]:
        found.append(_figure(results, pareto, measures, (x, y), trials, points))
    return found


def _point(measures: Sequence[Axis], trial: Result) -> Point | None:
    losses = trial.get("losses") or ()
    if len(losses) != len(measures) or trial["state"] not in ("scored", "dropped"):
        return None
    values = [each.value(loss) for each, loss in zip(measures, losses, strict=True)]
    known = [each for each in values if each is not None]
    return tuple(known) if len(known) == len(values) else None


def _figure(
    results: Result,
    pareto: Result,
    measures: Sequence[Axis],
    which: tuple[int, int],
    trials: Mapping[Any, Result],
    points: Mapping[Any, Point],
) -> Figure:
    x, y = which
    best = [number for number in pareto.get("front") or () if number in points]
    rivals = [number for number in points if trials[number]["origin"] != "optimiser" and number not in best]
    rest = [number for number in points if number not in best and number not in rivals][-MOST:]
    related = [
        *best,
        *sorted((each for each in [*rivals, *rest] if trials[each].get("parents")), reverse=True),
    ]
    families = [each for each in related if any(one in points for one in trials[each].get("parents") or ())]
    places = {number: place for place, number in enumerate(families[:FAMILIES], start=1)}

    def marks(numbers: Sequence[Any], colour: str, name: str, symbol: str, size: int) -> dict[str, Any]:
        return dots(
            [points[each][x] for each in numbers],
            [points[each][y] for each in numbers],
            [_hover(trials[each], points[each], measures) for each in numbers],
            colour,
            name=name,
            customdata=[places.get(each) for each in numbers],
            marker={"symbol": symbol, "size": size},
        )

    ordered = sorted(best, key=lambda each: points[each][x])
    data = [
        marks(rest, "var(--series-6)", "dominated", "circle-open", 7),
        line([], [], COLOURS[3], name="parents", showlegend=False, line={"width": 1.5}),
        line(
            [points[each][x] for each in ordered],
            [points[each][y] for each in ordered],
            COLOURS[0],
            showlegend=False,
            # The edge of what the front beats; of three objectives a picture of two has none.
            visible=len(measures) == 2,
            line={"width": 1, "dash": "dot", "shape": "vh" if measures[x].higher else "hv"},
        ),
        marks(rivals, COLOURS[1], "baselines", "diamond", 9),
        marks(ordered, COLOURS[0], "front", "circle", 10),
    ]
    winner = (results.get("winner") or {}).get("trial")
    if winner in points:
        data.append(marks([winner], COLOURS[2], "winner", "star", 15))
    plot: Plot = {
        "data": data,
        "layout": layout(
            440,
            showlegend=True,
            xaxis=axis(f"{text(measures[x].title, 50)}, {measures[x].direction}"),
            yaxis=axis(f"{text(measures[y].title, 36)}, {measures[y].direction}"),
        ),
    }
    controls: list[Toggle | Choice] = []
    if rest:
        controls.append(Toggle(f"{counted(len(rest), 'dominated trial')}", [0], on=True))
    if places:
        options = [Option("of no trial", {"x": [], "y": []})]
        options += [_family(trials, points, each, which) for each in places]
        controls.append(Choice("Parents", 1, options))
    title = (
        "Pareto front" if len(measures) == 2 else f"Pareto front: {measures[x].title} and {measures[y].title}"
    )
    return Figure(
        short(title, 90),
        _says(pareto, measures, best, rest, points, trials),
        plot,
        _table(measures, ordered, points, trials),
        controls,
    )


def _hover(trial: Result, point: Point, measures: Sequence[Axis]) -> str:
    figures = [f"{text(each.title)} {figure(value)}" for each, value in zip(measures, point, strict=True)]
    how = text(trial.get("how") or "", 60)
    return lines(
        text(trial["name"]), *figures, how, "an estimate: dropped" if trial["state"] == "dropped" else ""
    )


def _family(
    trials: Mapping[Any, Result], points: Mapping[Any, Point], child: Any, which: tuple[int, int]
) -> Option:
    """Lines from each parent to its child."""
    x, y = which
    xs: list[float | None] = []
    ys: list[float | None] = []
    known = [each for each in trials[child]["parents"] if each in points]
    for parent in known:
        xs += [points[parent][x], points[child][x], None]
        ys += [points[parent][y], points[child][y], None]
    names = ", ".join(short(trials[each]["name"], 20) for each in known)
    return Option(f"of {short(trials[child]['name'], 24)}: {short(names, 60)}", {"x": xs, "y": ys})


def _says(
    pareto: Result,
    measures: Sequence[Axis],
    best: Sequence[Any],
    rest: Sequence[Any],
    points: Mapping[Any, Point],
    trials: Mapping[Any, Result],
) -> str:
    ours = sum(trials[each]["origin"] == "optimiser" for each in best)
    said = (
        f"On the search split no trial beats any of these {counted(len(best), 'trial')} in all objectives; "
        f"{ours:,} of them came from the search, the others are baselines."
    )
    for place, measure in enumerate(measures):
        if best:
            choose = max if measure.higher else min
            top = choose(best, key=lambda each: points[each][place])
            said += (
                f" Best in {measure.title} is {short(trials[top]['name'])} with {figure(points[top][place])}."
            )
    return said


def _table(
    measures: Sequence[Axis],
    ordered: Sequence[Any],
    points: Mapping[Any, Point],
    trials: Mapping[Any, Result],
) -> Table:
    rows = [
        (
            short(trials[each]["name"]),
            *(figure(value) for value in points[each]),
            ", ".join(
                short(trials[one]["name"], 20) for one in trials[each].get("parents") or () if one in trials
            )
            or "–",
        )
        for each in ordered
    ]
    head = ("on the front", *(each.title for each in measures), "parents")
    return Table(head, rows, frozenset(range(1, len(measures) + 1)))
