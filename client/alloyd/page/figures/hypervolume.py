"""How a front grew: the share of the objectives' space that it beats, trial by trial."""

from __future__ import annotations

from ..goal import Result
from ..parts import Figure, Table
from ..plot import COLOURS, axis, dots, layout, line, lines
from ..wording import counted, finite, number


def hypervolume(results: Result) -> Figure | None:
    """The course of a search with several losses; of one loss see `convergence.py`."""
    pareto = results.get("pareto") or {}
    steps = [each for each in pareto.get("convergence") or () if finite(each.get("hypervolume")) is not None]
    if not steps:
        return None
    last = sum(each["state"] not in ("asked", "duplicate") for each in results.get("trials") or ())
    places = [each["candidates"] for each in steps]
    values = [each["hypervolume"] for each in steps]
    data = [
        line([*places, last], [*values, values[-1]], COLOURS[0], line={"shape": "hv"}),
        dots(
            places,
            values,
            [lines(f"trial {each['trial']}", f"hypervolume {number(each['hypervolume'])}") for each in steps],
            COLOURS[0],
        ),
    ]
    plot = {
        "data": data,
        "layout": layout(
            280,
            xaxis=axis("trials so far", rangemode="tozero"),
            yaxis=axis("hypervolume", rangemode="tozero"),
        ),
    }
    said = (
        f"The front grew {counted(len(steps), 'time')} in {counted(last, 'trial')}, last with trial "
        f"{steps[-1]['trial']}; it dominates a hypervolume of {number(values[-1])}."
    )
    table = Table(
        ("trial", "hypervolume", "trials until then", "items until then"),
        [
            (str(each["trial"]), number(each["hypervolume"]), f"{each['candidates']:,}", f"{each['items']:,}")
            for each in steps
        ],
        frozenset({1, 2, 3}),
    )
    return Figure("Growth of the front", said, plot, table)
