"""The pieces that plots are made of, in one look. A plot names colours by their role; the theme says what they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from .wording import short

COLOURS: Final = tuple(f"var(--series-{place})" for place in range(1, 7))
SIGNED: Final = [[0.0, "var(--below)"], [0.5, "var(--middle)"], [1.0, "var(--above)"]]
"""A scale of colours around zero."""
GAP: Final = 1
"""Pixels between cells; the page leaves them out where cells are small."""
STRONG: Final = 0.62
"""The share of a scale from which on what is written in a cell has the other colour."""
RISING: Final = [[0.0, "var(--middle)"], [1.0, "var(--above)"]]
"""A scale of colours from nothing upwards."""


def text(name: Any, longest: int = 40) -> str:
    """A name for a plot, in which plotly finds no markup."""
    escaped = short(name, longest).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return escaped.replace("$", "&#36;")  # between two of which plotly looks for a formula


def lines(*parts: str) -> str:
    """What a mark says when it is pointed at, a line each."""
    return "<br>".join(each for each in parts if each)


def layout(height: int, **more: Any) -> dict[str, Any]:
    """The frame of every plot."""
    return {
        "height": height,
        "margin": {"l": 8, "r": 12, "t": 8, "b": 8},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {
            "family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif",
            "size": 12,
            "color": "var(--soft)",
        },
        "hovermode": "closest",
        "hoverlabel": {
            "bgcolor": "var(--card)",
            "bordercolor": "var(--line)",
            "font": {"color": "var(--ink)", "size": 12},
            "align": "left",
        },
        "showlegend": False,
        "legend": {"orientation": "h", "x": 0, "y": 1, "xanchor": "left", "yanchor": "bottom"},
        **more,
    }


def axis(title: str = "", **more: Any) -> dict[str, Any]:
    """One axis; it makes room for its ticks."""
    return {
        "title": {"text": title, "standoff": 8, "font": {"size": 12}},
        "automargin": True,
        "gridcolor": "var(--grid)",
        "linecolor": "var(--line)",
        "zeroline": False,
        "ticks": "",
        "separatethousands": True,
        **more,
    }


def named(names: Sequence[Any], longest: int = 24, **more: Any) -> dict[str, Any]:
    """An axis whose places 0, 1, 2... are called ``names``. Never categories, which plotly would guess dates from."""
    return axis(
        tickmode="array",
        tickvals=list(range(len(names))),
        ticktext=[text(each, longest) for each in names],
        showgrid=False,
        **more,
    )


def rows(names: Sequence[Any], longest: int = 24, **more: Any) -> dict[str, Any]:
    """A vertical axis of ``names``, the first on top."""
    return named(names, longest, range=[len(names) - 0.5, -0.5], **more)


def dots(
    x: Sequence[Any],
    y: Sequence[Any],
    says: Sequence[str],
    colour: str | Sequence[str],
    **more: Any,
) -> dict[str, Any]:
    """Marks that say something when they are pointed at."""
    marker: Mapping[str, Any] = more.pop("marker", {})
    return {
        "type": "scatter",
        "mode": "markers",
        "x": list(x),
        "y": list(y),
        "hovertext": list(says),
        "hoverinfo": "text",
        "marker": {"color": colour, "size": 8, "line": {"width": 1, "color": "var(--card)"}, **marker},
        **more,
    }


def line(x: Sequence[Any], y: Sequence[Any], colour: str, **more: Any) -> dict[str, Any]:
    """A line without marks, which says nothing of its own."""
    style: Mapping[str, Any] = more.pop("line", {})
    return {
        "type": "scatter",
        "mode": "lines",
        "x": list(x),
        "y": list(y),
        "hoverinfo": "skip",
        "line": {"color": colour, "width": 2, **style},
        **more,
    }


def whiskers(values: Sequence[float], lows: Sequence[Any], highs: Sequence[Any]) -> dict[str, Any]:
    """Intervals around values, as error bars; where one is missing there is none."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [
            0 if high is None else max(0.0, high - value) for value, high in zip(values, highs, strict=True)
        ],
        "arrayminus": [
            0 if low is None else max(0.0, value - low) for value, low in zip(values, lows, strict=True)
        ],
        "thickness": 1.5,
        "width": 3,
    }


def heat(
    cells: Sequence[Sequence[float | None]],
    says: Sequence[Sequence[str]],
    *,
    most: float,
    signed: bool = True,
    written: Sequence[Sequence[str]] | None = None,
    title: str = "",
) -> list[dict[str, Any]]:
    """A heatmap of ``cells``, rows of columns, from ``-most`` (or 0) to ``most``; ``written``: what stands in each."""
    trace: dict[str, Any] = {
        "type": "heatmap",
        "z": [list(row) for row in cells],
        "zmin": -most if signed else 0.0,
        "zmax": most,
        "colorscale": SIGNED if signed else RISING,
        "hovertext": [list(row) for row in says],
        "hoverinfo": "text",
        "hoverongaps": False,
        "xgap": GAP,
        "ygap": GAP,
        "colorbar": {
            "thickness": 10,
            "outlinewidth": 0,
            "title": {"text": title, "side": "right"},
            "tickformat": ".2~g",
        },
    }
    if written is None:
        return [trace]
    places = [
        (row, column)
        for row, each in enumerate(cells)
        for column, value in enumerate(each)
        if value is not None
    ]
    strong = [abs(cells[row][column] or 0.0) > STRONG * most for row, column in places]
    words = {
        "type": "scatter",
        "mode": "text",
        "x": [column for _, column in places],
        "y": [row for row, _ in places],
        "text": [written[row][column] for row, column in places],
        "textfont": {"size": 11, "color": ["var(--on-strong)" if each else "var(--ink)" for each in strong]},
        "hoverinfo": "skip",
    }
    return [trace, words]
