"""How a search got better: each exact score, the best so far with its interval, and what it is held against."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from ..goal import Axis, Result, axes
from ..parts import Figure, Table, Toggle
from ..plot import COLOURS, axis, dots, layout, line, lines, text
from ..wording import counted, figure, interval, short, with_interval

LINES: Final = 3
"""As many baselines as are drawn through the whole search; all of them have a mark of their own."""
MOST: Final = 3000
"""Marks of a kind; of more the newest are drawn."""

Counted = tuple[int, Result]
"""A trial, and the number of candidates until then."""


def convergence(results: Result) -> Figure | None:
    """The course of a search with one loss; of a front see `hypervolume.py`."""
    if results.get("pareto") is not None or not results.get("objectives"):
        return None
    (measure,) = axes(results)
    trials = _counted(results.get("trials") or ())
    exact = [each for each in trials if each[1]["state"] == "scored" and _value(measure, each[1]) is not None]
    if not exact:
        return None
    steps = results.get("convergence") or []
    ours = [each for each in exact if each[1]["origin"] == "optimiser"]
    rivals = [each for each in exact if each[1]["origin"] != "optimiser"]
    dropped = [
        each for each in trials if each[1]["state"] == "dropped" and _value(measure, each[1]) is not None
    ]
    last = max(count for count, _ in trials)
    data: list[dict[str, Any]] = [*_best(measure, steps, last), *_lines(measure, rivals, last)]
    estimates = len(data)
    data += [
        _marks(
            measure,
            dropped,
            "dropped, an estimate",
            "var(--soft)",
            symbol="x-thin",
            name="dropped (estimates)",
        ),
        _marks(measure, rivals, "a baseline", COLOURS[1], symbol="diamond", name="baselines"),
        _marks(measure, ours, "scored", COLOURS[0], symbol="circle", name="candidates"),
    ]
    data[estimates]["visible"] = False
    plot = {
        "data": data,
        "layout": layout(
            380,
            showlegend=True,
            xaxis=axis("trials so far", rangemode="tozero"),
            yaxis=axis(f"{text(measure.title, 36)}, search split"),
        ),
    }
    controls = (
        [Toggle(f"also the {counted(len(dropped), 'dropped trial')} (estimates)", [estimates])]
        if dropped
        else []
    )
    return Figure(
        "Convergence", _says(measure, steps, exact, last), plot, _table(measure, steps, exact), controls
    )


def _counted(trials: Sequence[Result]) -> list[Counted]:
    counts: list[Counted] = []
    count = 0
    for each in trials:
        count += each["state"] not in ("asked", "duplicate")
        counts.append((count, each))
    return counts


def _value(measure: Axis, trial: Result) -> float | None:
    return measure.value((trial.get("losses") or [None])[0])


def _best(measure: Axis, steps: Sequence[Result], last: int) -> list[dict[str, Any]]:
    """The best so far as a staircase, and the band of its interval."""
    if not steps:
        return []
    places = [each["candidates"] for each in steps] + [last]
    values = [measure.value(each["loss"]) for each in steps]
    bounds = [measure.interval(each.get("low"), each.get("high")) for each in steps]
    lows, highs = [low for low, _ in bounds], [high for _, high in bounds]
    stairs = {"line": {"shape": "hv", "width": 0}}
    best = line(places, values + values[-1:], COLOURS[0], name="best so far", line={"shape": "hv"})
    if all(each is None for each in lows):
        return [best]
    return [
        line(places, lows + lows[-1:], COLOURS[0], showlegend=False, **stairs),
        line(
            places,
            highs + highs[-1:],
            COLOURS[0],
            name="its 95 % interval",
            fill="tonexty",
            fillcolor="var(--band)",
            **stairs,
        ),
        best,
    ]


def _lines(measure: Axis, rivals: Sequence[Counted], last: int) -> list[dict[str, Any]]:
    drawn = []
    for place, (_, trial) in enumerate(_ranked(measure, rivals)[:LINES]):
        value = _value(measure, trial)
        drawn.append(
            line(
                [0, last],
                [value, value],
                "var(--soft)",
                name=f"{text(trial['name'], 24)} {figure(value)}",
                line={"dash": ("dash", "dot", "dashdot")[place], "width": 1.5},
            )
        )
    return drawn


def _ranked(measure: Axis, trials: Sequence[Counted]) -> list[Counted]:
    return sorted(trials, key=lambda each: (_value(measure, each[1]) or 0.0) * (-1 if measure.higher else 1))


def _marks(
    measure: Axis, trials: Sequence[Counted], how: str, colour: str, *, symbol: str, name: str
) -> dict[str, Any]:
    shown = trials[-MOST:]
    values = [_value(measure, trial) for _, trial in shown]
    return dots(
        [count for count, _ in shown],
        values,
        [
            lines(text(trial["name"]), f"{figure(value)} {how}")
            for (_, trial), value in zip(shown, values, strict=True)
        ],
        colour,
        name=name,
        marker={
            "symbol": symbol,
            **({"line": {"width": 1.5, "color": colour}} if symbol == "x-thin" else {}),
        },
    )


def _says(measure: Axis, steps: Sequence[Result], exact: Sequence[Counted], last: int) -> str:
    (_, best), *_ = _ranked(measure, exact)
    step = next((each for each in reversed(steps) if each["trial"] == best["trial"]), None)
    low, high = measure.interval(step.get("low"), step.get("high")) if step else (None, None)
    said = (
        f"After {counted(last, 'trial')} the best on the search split is {short(best['name'])}: "
        f"{measure.title} {with_interval(_value(measure, best), low, high)}, {measure.direction}. "
        "These scores choose candidates, and so flatter them."
    )
    if best["origin"] != "optimiser":
        return f"{said} It is a baseline, which no candidate has beaten there."
    if step:
        said += f" It was found as trial {step['candidates']:,}."
    rivals = [each for each in exact if each[1]["origin"] != "optimiser"]
    if rivals:
        (_, rival), *_ = _ranked(measure, rivals)
        said += f" The best baseline there is {short(rival['name'])} with {figure(_value(measure, rival))}."
    return said


def _table(measure: Axis, steps: Sequence[Result], exact: Sequence[Counted]) -> Table:
    names = {trial["trial"]: trial["name"] for _, trial in exact}
    rows = [
        (
            short(names.get(each["trial"], f"trial {each['trial']}")),
            figure(measure.value(each["loss"])),
            interval(*measure.interval(each.get("low"), each.get("high"))),
            f"{each['candidates']:,}",
            f"{each['items']:,}",
        )
        for each in steps
    ]
    return Table(
        ("best so far", measure.title, "95 % interval", "trials until then", "items until then"),
        rows,
        frozenset({1, 2, 3, 4}),
    )
