"""Genes against scores: where in its range each gene did well."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from ..goal import Axis, Result, axes
from ..parts import Choice, Figure, Option, Table
from ..plot import COLOURS, axis, dots, layout, lines, text
from ..wording import counted, figure, finite, number, short
from .importance import order

MOST_GENES: Final = 100
MOST_CHOICES: Final = 30
"""Different texts of a gene that have a place on an axis."""
MOST_TRIALS: Final = 1000
"""Trials that are drawn: the newest."""


def genes(results: Result) -> list[Figure]:
    """A figure for each phase and objective, in which a gene can be chosen."""
    found = []
    measures = axes(results)
    phases: Sequence[Sequence[Result]] = results.get("genes") or ()
    for phase, genome in enumerate(phases):
        for objective, measure in enumerate(measures):
            made = _figure(results, phase, genome, objective, measure, alone=len(phases) == 1)
            if made is not None:
                found.append(made)
    return found


def _figure(
    results: Result, phase: int, genome: Sequence[Result], objective: int, measure: Axis, *, alone: bool
) -> Figure | None:
    trials = [
        (value, each)
        for each in results.get("trials") or ()
        if each["phase"] == phase
        and each.get("genes")
        and each["state"] in ("scored", "dropped")
        and len(each.get("losses") or ()) > objective
        and (value := measure.value(each["losses"][objective])) is not None
    ][-MOST_TRIALS:]
    if len(trials) < 3 or not genome:
        return None
    wanted = order(results, phase, objective)
    ranked = sorted(
        genome, key=lambda gene: wanted.index(gene["name"]) if gene["name"] in wanted else len(wanted)
    )
    known = [gene for gene in ranked if any(gene["name"] in each["genes"] for _, each in trials)]
    drawn = [(gene, option) for gene in known[:MOST_GENES] if (option := _gene(gene, trials)) is not None]
    if not drawn:
        return None
    shown, options = [gene for gene, _ in drawn], [option for _, option in drawn]
    exact = ["circle" if each["state"] == "scored" else "x-thin" for _, each in trials]
    trace = dots(
        [],
        [value for value, _ in trials],
        [lines(text(each["name"]), f"{text(measure.title, 50)} {figure(value)}") for value, each in trials],
        [COLOURS[0] if each["state"] == "scored" else "var(--series-6)" for _, each in trials],
        marker={
            "symbol": exact,
            "size": 9,
            "line": {
                "width": 1.5,
                "color": ["var(--card)" if each == "circle" else "var(--series-6)" for each in exact],
            },
        },
    )
    trace |= dict(options[0].trace)
    plot = {
        "data": [trace],
        "layout": layout(340, xaxis=options[0].layout["xaxis"], yaxis=axis(text(measure.title, 36))),
    }
    choose = max if measure.higher else min
    value, top = choose(trials, key=lambda one: one[0])
    gene = shown[0]["name"]
    said = (
        f"Each of {counted(len(trials), 'trial')} by one gene and {measure.title}, {measure.direction}; crosses are "
        f"estimates of trials that were dropped. The best, {short(top['name'])} ({figure(value)}), has "
        f"{short(gene, 60)} {_said(top['genes'].get(gene))}."
    )
    title = f"Genes and {measure.title}" + ("" if alone else f", phase {phase + 1}")
    return Figure(short(title, 90), said, plot, _table(shown, trials, measure), [Choice("Gene", 0, options)])


def _gene(gene: Result, trials: Sequence[tuple[float, Result]]) -> Option | None:
    """What the marks and the axis are when this gene is chosen; none of a gene with too many different texts."""
    name = gene["name"]
    values = [each["genes"].get(name) for _, each in trials]
    title = text(name, 60)
    if all(finite(value) is not None or value is None for value in values):
        places = [None if value is None else float(f"{value:.6g}") for value in values]
        kind = {"type": "log"} if gene.get("log") else {}
        trace = {"x": places, "hovertemplate": "%{hovertext}<br>at %{x:.4~g}<extra></extra>"}
        return Option(short(name, 60), trace, {"xaxis": axis(title, **kind)})
    choices = {choice: place for place, choice in enumerate(sorted({_said(value) for value in values}))}
    if len(choices) > MOST_CHOICES:
        return None
    ticks = {
        "tickmode": "array",
        "tickvals": list(range(len(choices))),
        "ticktext": [text(each, 20) for each in choices],
        "range": [-0.5, len(choices) - 0.5],
    }
    trace = {
        "x": [choices[_said(value)] for value in values],
        "hovertemplate": "%{hovertext}<extra></extra>",
    }
    return Option(short(name, 60), trace, {"xaxis": axis(title, **ticks)})


def _said(value: Any) -> str:
    return number(value) if finite(value) is not None else "–" if value is None else short(value, 30)


def _table(shown: Sequence[Result], trials: Sequence[tuple[float, Result]], measure: Axis) -> Table:
    """For each gene its range, and what the best ten trials have."""
    best = sorted(trials, key=lambda one: -one[0] if measure.higher else one[0])[:10]
    rows = []
    for gene in shown:
        values = sorted(
            known for _, each in best if (known := finite(each["genes"].get(gene["name"]))) is not None
        )
        span = f"{number(gene.get('low'))} to {number(gene.get('high'))}" if values else _choices(gene)
        found = (
            f"{number(values[0])} to {number(values[-1])}"
            if values
            else ", ".join(sorted({_said(each["genes"].get(gene["name"])) for _, each in best}))
        )
        rows.append((short(gene["name"], 60), span, short(found, 60)))
    return Table(("gene", "range", f"in the best {len(best)}"), rows)


def _choices(gene: Result) -> str:
    return short(", ".join(map(str, gene.get("choices") or ())), 60) or "–"
