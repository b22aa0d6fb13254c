"""A search as text for people: what it will do, its winner beside the baselines, what can be learned of it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from .columns import columns
from .render_scores import difference, figure, interval
from .search_results import name_of
from .units import format_duration, format_size

SHOWN_GENES: Final = 8
SHOWN_FRONT: Final = 20

Result = Mapping[str, Any]


def run_lines(summary: Result) -> list[str]:
    """What a search is about to do."""
    genes, optimiser = summary.get("genes"), summary.get("optimiser") or {}
    lines = []
    if genes is not None:
        lines.append(f"  {'genes':<10} {genes}")
    if optimiser:
        lines.append(f"  {'optimiser':<10} {optimiser['name']}" + _because(optimiser))
    lines += [
        f"  {each['split']:<10} {each['name']} ({each['evaluator']}, {each['items']} items)"
        for each in summary.get("tasks", [])
    ]
    if summary.get("rungs"):
        lines.append(f"  {'rungs':<10} {', then '.join(summary['rungs'])}")
    if summary.get("baselines"):
        lines.append(f"  {'baselines':<10} {', '.join(summary['baselines'])}")
    if summary.get("budget"):
        lines.append(f"  {'budget':<10} {summary['budget']}")
    if summary.get("runner"):
        lines.append(f"  {'runner':<10} {summary['runner']}")
    if summary.get("memory"):
        lines.append(f"  {'memory':<10} {format_size(summary['memory'])} at most")
    return lines


def result_lines(result: Result) -> list[str]:
    """The winner beside the baselines, the front, the locked test, and what the search showed of its genes."""
    winner = result.get("winner")
    if winner is None:
        lines = _best_so_far(result)
    else:
        lines = validation_table(result)
        genes = winner.get("genes")
        if genes:
            lines += ["", f"winner: {winner['name']}", *_genes(genes)]
    lines += [*_after("front", _front(result)), *_after("locked test", test_lines(result))]
    lines += _after("what mattered", list(_importance(result)))
    lines += _after("rungs", [str(each["text"]) for each in result.get("rungs", []) if each.get("text")])
    return lines


def _best_so_far(result: Result) -> list[str]:
    """Of a search without a winner, how far it is: what validation will say may be less."""
    steps = result.get("convergence")
    if not steps:
        return ["no candidate has a validation score yet"]
    best = steps[-1]
    between = "" if best["low"] is None else f" ({best['low']:.4g} to {best['high']:.4g})"
    return [
        "no candidate has a validation score yet; on the search split:",
        f"  best trial {best['trial']}, loss {best['loss']:.4g}{between}, "
        f"after {best['candidates']} candidates and {best['items']:,} items",
    ]


def validation_table(result: Result) -> list[str]:
    """A line for every model and metric that the search was for, the winner first, each held against the winner."""
    winner = result["winner"]
    against = {each["trial"]: each["comparisons"] for each in winner["against"]}
    named = [(winner["trial"], f"{winner['name']} (winner)", winner["figures"])]
    named += [
        (each["trial"], name_of(each, (winner, *result["baselines"])), each["figures"])
        for each in result.get("baselines", [])
        if each["trial"] != winner["trial"] and each["figures"]
    ]
    return _table("VALIDATION", "THE WINNER AGAINST IT", result["objectives"], named, against)


def test_lines(result: Result) -> list[str]:
    """What the locked test showed and when, or that it is closed."""
    test = result.get("test")
    if test is None:
        has_one = any(each["split"] == "test" for each in (result.get("lineage") or {}).get("data", []))
        if not has_one:
            return []
        return [f"closed; 'alloy search --open-test {result['job']}' opens it, once"]
    lines = [f"opened {test['opened']} by {test['by']}"]
    models = test.get("models")
    if not models:
        return lines
    if result["winner"] is not None and models[0]["trial"] != result["winner"]["trial"]:
        lines.append(f"{models[0]['name']} was the winner then; the winner of now was not tested")
    against = {each["trial"]: each["comparisons"] for each in test.get("against", [])}
    named = [(each["trial"], each["name"], each["figures"]) for each in models]
    return lines + _table("TEST", "THE WINNER AGAINST IT", result["objectives"], named, against)


def spent_line(result: Result) -> str:
    """What the search took."""
    spent = result["spent"]
    states = ", ".join(f"{count} {state}" for state, count in spent["states"].items())
    items = sum(count for rung, count in spent["items"].items() if int(rung) >= 0)
    rest = sum(count for rung, count in spent["items"].items() if int(rung) < 0)
    # The time of the trials; that of validation and test is not among it.
    took = f"{items:,} items scored in {format_duration(spent['seconds'])}"
    parts = [f"{spent['candidates']} candidates ({states})", took]
    parts += [f"{rest:,} more for figures that count"] if rest else []
    return ", ".join(parts)


def _table(
    title: str,
    compared: str,
    objectives: Sequence[Result],
    named: Sequence[tuple[int, str, Sequence[Result]]],
    against: Mapping[int, Sequence[Result]],
) -> list[str]:
    several = len(objectives) > 1
    rows: list[tuple[str, ...]] = []
    for objective in objectives:
        for trial, name, figures in named:
            score = _of(objective, figures)
            if score is None:
                continue
            rows.append(
                (
                    name,
                    *((objective["task"],) if several else ()),
                    score["metric"],
                    figure(score["value"]),
                    interval(score),
                    str(score["n"]),
                    difference(_of(objective, against.get(trial, ()))),
                )
            )
    head = ("MODEL", *(("TASK",) if several else ()), "METRIC", title, "95% INTERVAL", "ITEMS", compared)
    return columns([head, *rows])


def _of(objective: Result, found: Sequence[Result]) -> Result | None:
    """What is of an objective's task and metric."""
    return next(
        (
            each
            for each in found
            if (each["number"], each["metric"]) == (objective["number"], objective["metric"])
        ),
        None,
    )


def _front(result: Result) -> list[str]:
    """The trials that no other beats in every objective of the search split, by their figures on validation."""
    pareto = result.get("pareto")
    if not pareto:
        return []
    objectives = result["objectives"]
    judged = {each["trial"]: each for each in (*result["baselines"], *result["finalists"])}
    rows = []
    for trial in pareto["front"]:
        figures = [_of(each, judged[trial]["figures"]) if trial in judged else None for each in objectives]
        if all(each is not None for each in figures):
            cells = [f"{figure(each['value'])} ({interval(each)})" for each in figures if each is not None]
            rows.append((judged[trial]["name"], *cells))
    lines = [f"hypervolume {pareto['hypervolume']:.4g} on the search split, {len(pareto['front'])} trials"]
    if rows:
        names = [f"{each['task']} {each['metric']}".upper() for each in objectives]
        lines = [*columns([("TRIAL", *names), *rows[:SHOWN_FRONT]]), *lines]
    return lines


def _importance(result: Result) -> Iterator[str]:
    several = len(result.get("importance", ())) > 1
    for each in result.get("importance", ()):
        if several:
            objective = result["objectives"][each["objective"]]
            yield f"for {objective['task']} {objective['metric']}, phase {each['phase'] + 1}:"
        if each["why_not"]:
            yield f"nothing can be said: {each['why_not']}"
            continue
        rows = [("GENE", "R² LOST WITHOUT IT", "SPREAD")]
        rows += [
            (one["gene"], f"{one['mean']:.3f}", f"{one['spread']:.3f}") for one in each["genes"][:SHOWN_GENES]
        ]
        yield from columns(rows)


def _genes(genes: Result) -> list[str]:
    width = max(map(len, genes))
    return [f"  {name:<{width}}  {_gene(value)}" for name, value in genes.items()]


def _gene(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value)
    return text if len(text) <= 100 and "\n" not in text else f"{text[:60].splitlines()[0]}..."


def _because(optimiser: Result) -> str:
    return f": {optimiser['why']}" if optimiser.get("why") else ""


def _after(title: str, lines: list[str]) -> list[str]:
    return ["", f"{title}:", *(f"  {line}" for line in lines)] if lines else []
