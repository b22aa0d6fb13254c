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
    times, axis_of_time = _times(samples)
    data = [
        _said(times, samples, [each.private for each in samples], 0, "private", format_size, scale),
        _said(times, samples, [each.resident for each in samples], 1, "resident", format_size, scale),
    ]
    peak = max(each.private for each in samples)
    said = f"At most {format_size(peak)} of private memory were in use"
    if budget:
        said += f", {100 * peak / budget:.2g} % of the budget of {format_size(budget)}"
    # Far above all else, its line would make a flat one of what happened.
    if budget and budget <= NEAR * most:
        data.append(
            line(
                [times[0], times[-1]],
                [budget / scale] * 2,
                COLOURS[4],
                name=f"budget {format_size(budget)}",
                line={"dash": "dash"},
            )
        )
    plot = _plot(data, axis_of_time, axis(f"memory, {unit}", rangemode="tozero"))
    said += ". Resident memory also counts pages of sources that the system can take back."
    return Figure("Memory", said, plot, _table(samples))


def throughput(samples: Sequence[Sample]) -> Figure | None:
    """Bytes from and to storage a second."""
    if len(samples) < 3:
        return None
    reads = _rates(samples, lambda each: each.read)
    writes = _rates(samples, lambda each: each.written)
    scale, unit = _unit(max([*reads, *writes]))
    times, axis_of_time = _times(samples)

    def rate(value: float) -> str:
        return f"{format_size(value)}/s"

    data = [
        _said(times[1:], samples[1:], reads, 0, "read", rate, scale),
        _said(times[1:], samples[1:], writes, 1, "written", rate, scale),
    ]
    last = samples[-1]
    said = (
        f"{format_size(last.read)} were read from storage and {format_size(last.written)} written "
        f"in {format_duration(last.t)}, at most {rate(max(reads))} and {rate(max(writes))}. "
        "What the page cache had already is not counted."
    )
    plot = _plot(data, axis_of_time, axis(f"{unit}/s", rangemode="tozero"))
    return Figure("Reading and writing", said, plot, half=True)


def processors(samples: Sequence[Sample]) -> Figure | None:
    """Processors that were busy."""
    if len(samples) < 3:
        return None
    busy = _rates(samples, lambda each: each.cpu)
    times, axis_of_time = _times(samples)
    data = [
        _said(times[1:], samples[1:], busy, 0, "busy", lambda value: f"{number(value, 3)} processors", 1.0)
    ]
    last = samples[-1]
    mean = last.cpu / last.t if last.t > 0 else 0.0
    said = f"{number(mean, 3)} processors were busy on average, {format_duration(last.cpu)} in all."
    plot = _plot(data, axis_of_time, axis("processors", rangemode="tozero"))
    return Figure("Processors", said, plot, half=True)


def _rates(samples: Sequence[Sample], total: Callable[[Sample], float]) -> list[float]:
    """What was added a second between neighbouring samples; a job's second attempt never counts backwards."""
    return [
        max(0.0, total(late) - total(early)) / max(late.t - early.t, 1e-3)
        for early, late in itertools.pairwise(samples)
    ]


def _unit(most: float) -> tuple[float, str]:
    for factor, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if most >= factor:
            return factor, unit
    return 1.0, "B"


def _times(samples: Sequence[Sample]) -> tuple[list[float], dict[str, Any]]:
    last = samples[-1].t
    factor, unit = (
        (1.0, "seconds") if last < 300 else (60.0, "minutes") if last < 18_000 else (3600.0, "hours")
    )
    return [each.t / factor for each in samples], axis(f"{unit} since it began", rangemode="tozero")


def _said(
    times: Sequence[float],
    samples: Sequence[Sample],
    values: Sequence[float],
    place: int,
    name: str,
    say: Callable[[float], str],
    scale: float,
) -> dict[str, Any]:
    says = [
        lines(f"{name}: {say(value)}", f"after {format_duration(each.t)}")
        for each, value in zip(samples, values, strict=True)
    ]
    return line(
        times,
        [value / scale for value in values],
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
