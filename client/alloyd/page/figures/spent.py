"""What a search has spent: items by rung, and what became of its trials."""

from __future__ import annotations

from typing import Any, Final

from ...units import format_duration
from ..goal import Result
from ..parts import Figure, Table
from ..plot import COLOURS, axis, layout, lines, rows
from ..wording import counted, finite, listed, number

_NAMES: Final = {"-1": "validation", "-2": "locked test"}


def spent(results: Result) -> Figure | None:
    """Items that were asked, by where."""
    found = results.get("spent") or {}
    items = {str(rung): count for rung, count in (found.get("items") or {}).items() if count}
    if not items:
        return None
    order = sorted(items, key=lambda rung: (int(rung) < 0, abs(int(rung))))
    names = [_NAMES.get(rung) or f"rung {int(rung) + 1}" for rung in order]
    counts = [items[rung] for rung in order]
    trace: dict[str, Any] = {
        "type": "bar",
        "orientation": "h",
        "x": counts,
        "y": list(range(len(names))),
        "hovertext": [lines(name, f"{count:,} items") for name, count in zip(names, counts, strict=True)],
        "hoverinfo": "text",
        "text": [f"{count:,}" for count in counts],
        "textposition": "auto",
        "marker": {"color": [COLOURS[0] if int(rung) >= 0 else COLOURS[1] for rung in order]},
    }
    plot = {
        "data": [trace],
        "layout": layout(
            80 + 30 * len(names),
            xaxis=axis("items answered", rangemode="tozero"),
            yaxis=rows(names),
            bargap=0.35,
        ),
    }
    states = [f"{count:,} {state}" for state, count in (found.get("states") or {}).items()]
    said = f"{counted(found.get('candidates') or 0, 'trial')} ({listed(states, 6)})"
    seconds = finite(found.get("seconds"))
    # The time of the trials; that of validation and test is not among it.
    within = sum(count for rung, count in items.items() if int(rung) >= 0)
    said += f" answered {within:,} items" + (f" in {format_duration(seconds)}" if seconds else "")
    beside = sum(counts) - within
    said += f"; {beside:,} more were answered for figures that count." if beside else "."
    budget = (results.get("spec") or {}).get("budget") or {}
    limits = [f"{number(value)} {name}" for name, value in budget.items() if finite(value) is not None]
    if limits:
        said += f" The budget is {listed(limits)}."
    table = Table(
        ("where", "items"),
        [(name, f"{count:,}") for name, count in zip(names, counts, strict=True)],
        frozenset({1}),
    )
    return Figure("What was spent", said, plot, table, half=True)
