"""The family of the winner, or of the best so far: its ancestors, when they came and how good they were."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..goal import Result, axes
from ..parts import Figure, Table
from ..plot import COLOURS, axis, dots, layout, line, lines, text
from ..wording import counted, figure, short

MOST: Final = 200
"""Ancestors that are drawn: the nearest."""


def lineage(results: Result) -> Figure | None:
    """The tree of ancestors; none where there are no parents."""
    winner = results.get("winner") or results.get("leader")
    role = "winner" if results.get("winner") else "best so far"
    ancestors = (results.get("lineage") or {}).get("ancestors") or ()
    measures = axes(results)
    family = {each["trial"]: each for each in ancestors}
    if not winner or not measures or winner["trial"] not in family or len(family) < 2:
        return None
    steps = _steps(family, winner["trial"])
    near = sorted(family, key=lambda each: (steps.get(each, len(family)), -each))[:MOST]
    measure = measures[0]
    values = {each: measure.value((family[each].get("losses") or [None])[0]) for each in near}
    drawn = [each for each in near if values[each] is not None]
    xs: list[Any] = []
    ys: list[Any] = []
    for child in drawn:
        # A duplicate is the trial whose weights it has.
        for parent in (*(family[child].get("parents") or ()), family[child].get("of")):
            if parent in drawn:
                xs += [parent, child, None]
                ys += [values[parent], values[child], None]
    data = [line(xs, ys, "var(--soft)", line={"width": 1.2}, opacity=0.5, showlegend=False)]
    ours = [each for each in drawn if family[each]["origin"] == "optimiser" and each != winner["trial"]]
    estimated = [each for each in ours if family[each]["state"] == "dropped"]
    rivals = [each for each in drawn if family[each]["origin"] != "optimiser" and each != winner["trial"]]
    groups = (
        (role, COLOURS[2], "star", 15, [each for each in drawn if each == winner["trial"]]),
        ("ancestors", COLOURS[0], "circle", 9, [each for each in ours if each not in estimated]),
        ("ancestors, estimated", COLOURS[5], "circle-open", 9, estimated),
        ("baselines", COLOURS[1], "diamond", 10, rivals),
    )
    for name, colour, symbol, size, members in groups:
        if members:
            data.append(
                dots(
                    members,
                    [values[each] for each in members],
                    [_hover(family[each], values[each], measure.title) for each in members],
                    colour,
                    name=name,
                    marker={"symbol": symbol, "size": size},
                )
            )
    plot = {
        "data": data,
        "layout": layout(
            360,
            showlegend=True,
            xaxis=axis("number of the trial"),
            yaxis=axis(f"{text(measure.title, 36)}, search split"),
        ),
    }
    depth = max((steps[each] for each in near if each in steps), default=0)
    said = (
        f"The {role}, {short(winner['name'])}, descends from {counted(len(family) - 1, 'trial')} in "
        f"{counted(depth, 'generation')}. Lines lead from parents to children."
    )
    if len(family) > MOST:
        said += f" The nearest {MOST} are drawn."
    return Figure(f"Lineage of the {role}", said, plot, _table(family, near, values, measure.title))


def _steps(family: Mapping[Any, Result], winner: Any) -> dict[Any, int]:
    """How many generations each ancestor is away, by its shortest way."""
    steps = {winner: 0}
    level = [winner]
    while level:
        level = [
            parent
            for child in level
            for parent in dict.fromkeys(family[child].get("parents") or ())
            if parent in family and steps.setdefault(parent, steps[child] + 1) == steps[child] + 1
        ]
        level = list(dict.fromkeys(level))
    return steps


def _hover(trial: Result, value: float | None, measure: str) -> str:
    parents = ", ".join(map(str, trial.get("parents") or ()))
    return lines(
        text(trial["name"]),
        f"{text(measure)} {figure(value)}",
        text(trial.get("how") or "", 60),
        f"parents: {text(parents, 60)}" if parents else "",
    )


def _table(family: Mapping[Any, Result], near: list[Any], values: Mapping[Any, Any], measure: str) -> Table:
    rows = [
        (
            short(family[each]["name"]),
            figure(values[each]),
            str(family[each]["state"]),
            short(family[each].get("how") or "–", 60),
            ", ".join(map(str, family[each].get("parents") or ())) or "–",
        )
        for each in near
    ]
    return Table(
        ("trial", measure, "state", "how it was made", "parents"),
        rows,
        frozenset({1}),
        len(family) - len(near),
    )
