"""Which genes mattered: what a model of the search's losses loses when it may not see one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ..goal import Result, axes
from ..parts import Figure, Table, Words
from ..plot import COLOURS, axis, dots, layout, lines, rows, text
from ..wording import counted, figure, finite, short

MOST: Final = 20
"""Genes that are drawn; the table has five times as many."""


def importance(results: Result) -> Iterator[Figure | Words]:
    """A figure for each phase and objective, or a sentence on why nothing can be said."""
    found = results.get("importance") or ()
    measures = axes(results)
    phases = len({each["phase"] for each in found})
    for each in found:
        of = measures[each["objective"]].title if each["objective"] < len(measures) else "the loss"
        named = f"for {short(of, 60)}" + (f", phase {each['phase'] + 1}" if phases > 1 else "")
        genes = [one for one in each.get("genes") or () if finite(one.get("mean")) is not None]
        if each.get("why_not") or not genes:
            yield Words(
                [f"Which genes mattered {named} cannot be said: {each.get('why_not') or 'no genes'}."], "info"
            )
            continue
        shown = genes[:MOST]
        means = [one["mean"] for one in shown]
        trace = dots(
            means,
            list(range(len(shown))),
            [
                lines(
                    text(one["gene"], 60),
                    f"R² lost without it {figure(one['mean'])}, spread {figure(one['spread'])}",
                )
                for one in shown
            ],
            COLOURS[0],
            marker={"size": 10},
            error_x={
                "type": "data",
                "array": [finite(one["spread"]) or 0 for one in shown],
                "thickness": 1.5,
                "width": 3,
                "color": COLOURS[0],
            },
        )
        plot = {
            "data": [trace],
            "layout": layout(
                80 + 26 * len(shown),
                xaxis=axis(
                    "R² lost without the gene, ± its spread",
                    zeroline=True,
                    zerolinecolor="var(--line)",
                ),
                yaxis=rows([one["gene"] for one in shown], 34),
            ),
        }
        top = shown[0]
        said = (
            f"Most mattered {short(top['gene'], 60)} {named}: a forest that explains R² {figure(each.get('skill'))} "
            f"of {counted(each.get('points') or 0, 'point')} loses {figure(top['mean'])} without it."
        )
        clear = sum(one["mean"] > (finite(one["spread"]) or 0) for one in genes)
        said += f" {counted(clear, 'gene')} of {len(genes)} lie more than their spread above 0."
        body = [
            (short(one["gene"], 60), figure(one["mean"]), figure(one["spread"])) for one in genes[: 5 * MOST]
        ]
        yield Figure(
            f"What mattered {named}",
            said,
            plot,
            Table(("gene", "R² lost", "spread"), body, frozenset({1, 2}), max(0, len(genes) - 5 * MOST)),
            half=len(found) > 1,
        )


def order(results: Result, phase: int, objective: int) -> list[str]:
    """The genes of a phase, those that mattered first."""
    for each in results.get("importance") or ():
        if (each["phase"], each["objective"]) == (phase, objective):
            return [str(one["gene"]) for one in each.get("genes") or ()]
    return []
