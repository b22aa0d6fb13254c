"""Whether a few items order candidates as many do: rank correlations between rungs, and of search with validation."""

from __future__ import annotations

from ..goal import Result
from ..parts import Figure, Table
from ..plot import COLOURS, axis, dots, layout, lines, rows, text, whiskers
from ..wording import counted, figure, finite, interval, short, with_interval


def rungs(results: Result) -> Figure | None:
    """Kendall's tau of each pair, with its interval; Spearman's rho is in the table."""
    found = [(f"rung {each['rung'] + 1} and {each['next'] + 1}", each) for each in results.get("rungs") or ()]
    if results.get("agreement"):
        found.append(("search and validation", results["agreement"]))
    known = [(name, each, tau) for name, each in found if (tau := finite(each.get("kendall"))) is not None]
    if not known:
        return None
    taus = [tau for *_, tau in known]
    trace = dots(
        taus,
        list(range(len(known))),
        [
            lines(
                text(name),
                f"Kendall's tau {_told(each, 'kendall')}",
                f"Spearman's rho {_told(each, 'spearman')}",
                counted(each.get("n") or 0, "candidate"),
            )
            for name, each, _ in known
        ],
        COLOURS[0],
        marker={"size": 10},
        error_x={
            **whiskers(
                taus,
                [finite(each.get("kendall_low")) for _, each, _ in known],
                [finite(each.get("kendall_high")) for _, each, _ in known],
            ),
            "color": COLOURS[0],
        },
    )
    lowest = min(finite(each.get("kendall_low")) or tau for _, each, tau in known)
    plot = {
        "data": [trace],
        "layout": layout(
            100 + 32 * len(known),
            xaxis=axis("Kendall's tau: 1 is the same order, 0 none", range=[min(-0.05, lowest - 0.05), 1.05]),
            yaxis=rows([name for name, *_ in known], 30),
        ),
    }
    told = [str(each["text"]).strip().rstrip(".") for each in results.get("rungs") or () if each.get("text")]
    said = [f"{short(each[:1].upper() + each[1:], 200)}." for each in told]
    if known[-1][0] == "search and validation":
        _, each, _ = known[-1]
        said.append(
            f"Search and validation order {counted(each.get('n') or 0, 'trial')} alike "
            f"with Kendall's tau {_told(each, 'kendall')}."
        )
    table = Table(
        ("between", "Kendall's tau", "95 % interval", "Spearman's rho", "95 % interval", "candidates"),
        [
            (
                name,
                figure(each.get("kendall")),
                interval(each.get("kendall_low"), each.get("kendall_high")),
                figure(each.get("spearman")),
                interval(each.get("spearman_low"), each.get("spearman_high")),
                f"{each.get('n') or 0:,}",
            )
            for name, each, _ in known
        ],
        frozenset({1, 2, 3, 4, 5}),
    )
    return Figure("Do few items order candidates as many do?", " ".join(said), plot, table, half=True)


def _told(each: Result, name: str) -> str:
    return with_interval(each.get(name), each.get(f"{name}_low"), each.get(f"{name}_high"))
