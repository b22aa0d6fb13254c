"""What a job used over time: memory against its budget, bytes read and written a second, processors."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, Final

from ...jobs import Sample
from ...units import format_duration, format_size
from ..parts import Figure, Table
from ..plot import COLOURS, axis, layout, line, lines
from ..wording import number

SHOWN: Final = 40
"""Rows of the table; of more samples an even choice."""
NEAR: Final = 4
"""A budget is drawn that is at most so many times what was used."""
_DASHES: Final = ("solid", "dash", "dot")


def memory(samples: Sequence[Sample], budget: int | None = None) -> Figure | None:
    """Private and resident memory; ``budget``: the private memory that the job had to stay within."""
    if len(samples) < 2:
        return None
    most = max(max(each.private, each.resident) for each in samples)
    scale, unit = _unit(most)
    factor, axis_of_time = _times(samples)
    data = [
        _said(samples, [each.private for each in samples], 0, "private", format_size, scale, factor),
        _said(samples, [each.resident for each in samples], 1, "resident", format_size, scale, factor),
    ]
    peak = max(each.private for each in samples)
    said = f"At most {format_size(peak)} of private memory were in use"
    if budget:
        said += f", {100 * peak / budget:.2g} % of the budget of {format_size(budget)}"
    # Far above all else, its line would make a flat one of what happened.
    if budget and budget <= NEAR * most:
        data.append(
            line(
                [samples[0].t / factor, samples[-1].t / factor],
                [budget / scale] * 2,
                COLOURS[4],
                name=f"budget {format_size(budget)}",
                line={"dash": "dash"},
            )
        )
    plot = _plot(data, axis_of_time, axis(f"memory, {unit}", rangemode="tozero"))
    said += ". Resident memory also counts pages of sources that the system can take back."
    if samples[-1].run > 1:
        said += f" The job ran {samples[-1].run:,} times; in the gaps it was paused, or its daemon was away."
    return Figure("Memory", said, plot, _table(samples))


def throughput(samples: Sequence[Sample]) -> Figure | None:
    """Bytes from and to storage a second."""
    if len(samples) < 3:
        return None
    reads = _rates(samples, lambda each: each.read)
    writes = _rates(samples, lambda each: each.written)
    most_read, most_written = (
        max((each for each in rates if each is not None), default=0.0) for rates in (reads, writes)
    )
    scale, unit = _unit(max(most_read, most_written))
    factor, axis_of_time = _times(samples)

    def rate(value: float) -> str:
        return f"{format_size(value)}/s"

    data = [
        _said(samples, reads, 0, "read", rate, scale, factor),
        _said(samples, writes, 1, "written", rate, scale, factor),
    ]
    last = samples[-1]
    said = (
        f"{format_size(last.read)} were read from storage and {format_size(last.written)} written "
        f"in {format_duration(_worked(samples))}, at most {rate(most_read)} and {rate(most_written)}. "
        "What the page cache had already is not counted."
    )
    plot = _plot(data, axis_of_time, axis(f"{unit}/s", rangemode="tozero"))
    return Figure("Reading and writing", said, plot, half=True)


def processors(samples: Sequence[Sample]) -> Figure | None:
    """Processors that were busy."""
    if len(samples) < 3:
        return None
    busy = _rates(samples, lambda each: each.cpu)
    factor, axis_of_time = _times(samples)
    data = [_said(samples, busy, 0, "busy", lambda value: f"{number(value, 3)} processors", 1.0, factor)]
    last, worked = samples[-1], _worked(samples)
    mean = last.cpu / worked if worked > 0 else 0.0
    said = (
        f"{number(mean, 3)} processors were busy on average while it ran; "
        f"together they worked {format_duration(last.cpu)}."
    )
    plot = _plot(data, axis_of_time, axis("processors", rangemode="tozero"))
    return Figure("Processors", said, plot, half=True)


def _rates(samples: Sequence[Sample], total: Callable[[Sample], float]) -> list[float | None]:
    """What was added a second until each sample since the one before it; none for the first of each run."""
    return [
        None,
        *(
            max(0.0, total(late) - total(early)) / max(late.t - early.t, 1e-3)
            if late.run == early.run
            else None
            for early, late in itertools.pairwise(samples)
        ),
    ]


def _worked(samples: Sequence[Sample]) -> float:
    """Seconds in which it ran, as far as samples know."""
    pauses = sum(late.t - early.t for early, late in itertools.pairwise(samples) if late.run != early.run)
    return samples[-1].t - pauses


def _unit(most: float) -> tuple[float, str]:
    for factor, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if most >= factor:
            return factor, unit
    return 1.0, "B"


def _times(samples: Sequence[Sample]) -> tuple[float, dict[str, Any]]:
    """Seconds in a unit of the axis, and the axis."""
    last = samples[-1].t
    factor, unit = (
        (1.0, "seconds") if last < 300 else (60.0, "minutes") if last < 18_000 else (3600.0, "hours")
    )
    return factor, axis(f"{unit} since it began", rangemode="tozero")


def _said(
    samples: Sequence[Sample],
    values: Sequence[float | None],
    place: int,
    name: str,
    say: Callable[[float], str],
    scale: float,
    factor: float,
) -> dict[str, Any]:
    """A line that is broken between two runs."""
    x: list[float | None] = []
    y: list[float | None] = []
    says: list[str] = []
    run = samples[0].run
    for each, value in zip(samples, values, strict=True):
        if each.run != run:
            run = each.run
            x.append(None)
            y.append(None)
            says.append("")
        if value is not None:
            x.append(each.t / factor)
            y.append(value / scale)
            says.append(lines(f"{name}: {say(value)}", f"after {format_duration(each.t)}"))
    return line(
        x,
        y,
        COLOURS[place],
        name=name,
        line={"dash": _DASHES[place]},
        hoverinfo="text",
        hovertext=says,
    )


def _plot(data: list[dict[str, Any]], x: dict[str, Any], y: dict[str, Any]) -> dict[str, Any]:
    return {"data": data, "layout": layout(240, showlegend=len(data) > 1, xaxis=x, yaxis=y)}


def _table(samples: Sequence[Sample]) -> Table:
    step = max(1, -(-len(samples) // SHOWN))
    shown = [*samples[:-1:step], samples[-1]]
    rows = [
        (
            format_duration(each.t),
            format_size(each.private),
            format_size(each.resident),
            format_size(each.read),
            format_size(each.written),
            format_duration(each.cpu),
        )
        for each in shown
    ]
    head = ("after", "private", "resident", "read until then", "written until then", "processor time")
    return Table(head, rows, frozenset(range(1, 6)))
