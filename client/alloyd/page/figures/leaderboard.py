"""The winner, the finalists and the baselines, each with its interval, and how sure the differences are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...search_results import name_of
from ..goal import Result, bare, of
from ..parts import Figure, Table
from ..plot import COLOURS, axis, dots, layout, lines, rows, text, whiskers
from ..wording import counted, figure, finite, interval, listed, short, with_interval

MOST = 60
"""Models that are shown; of more the best."""
SPLITS = {
    "validation split": "Its items chose no candidate, only the winner among the finalists.",
    "locked test": "Its items chose nothing.",
}


@dataclass(frozen=True, slots=True)
class Judged:
    """A model with its figures, what it is (``winner``, ``finalist``, ``baseline``), and the winner against it."""

    name: str
    role: str
    figures: Sequence[Result]
    against: Sequence[Result] = ()


def validation(results: Result) -> list[Figure]:
    """A figure for each objective, by the split that chose nothing but the winner."""
    winner = results.get("winner")
    against: Mapping[Any, Sequence[Result]] = {}
    judged: list[Judged] = []
    if winner:
        against = {each["trial"]: each["comparisons"] for each in winner.get("against") or ()}
        judged.append(Judged(str(winner["name"]), "winner", winner["figures"]))
    seen = {winner["trial"]} if winner else set()
    for role, key in (("finalist", "finalists"), ("baseline", "baselines")):
        models: Sequence[Result] = results.get(key) or ()
        for each in models:
            if each["trial"] not in seen:
                seen.add(each["trial"])
                name = name_of(each, (*([winner] if winner else []), *models))
                judged.append(Judged(name, role, each["figures"], against.get(each["trial"], ())))
    return _boards(results, judged, "validation split")


def locked_test(results: Result) -> list[Figure]:
    """The same of an opened test."""
    test = results.get("test") or {}
    models: Sequence[Result] = test.get("models") or ()
    against = {each["trial"]: each["comparisons"] for each in test.get("against") or ()}
    judged = [
        Judged(
            str(each["name"]),
            "winner" if place == 0 else "baseline",
            each["figures"],
            against.get(each["trial"], ()),
        )
        for place, each in enumerate(models)
    ]
    return _boards(results, judged, "locked test")


def _boards(results: Result, judged: Sequence[Judged], split: str) -> list[Figure]:
    found = (_board(each, judged, split) for each in results.get("objectives") or ())
    return [each for each in found if each is not None]


def _board(objective: Result, judged: Sequence[Judged], split: str) -> Figure | None:
    scored = [
        (value, each, score)
        for each in judged
        if (score := of(objective, each.figures)) is not None
        and (value := finite(score["value"])) is not None
    ]
    if not scored:
        return None
    higher = objective.get("better") != "lower"
    # Of equals the winner is on top.
    scored.sort(key=lambda one: (-one[0] if higher else one[0], one[1].role != "winner"))
    left_out = len(scored) - MOST
    shown = [one for place, one in enumerate(scored) if place < MOST or one[1].role == "winner"]
    measure = f"{bare(str(objective['task']))} {objective['metric']}"
    data = []
    for place, (role, symbol) in enumerate(
        (("winner", "star"), ("finalist", "circle"), ("baseline", "diamond"))
    ):
        mine = [(row, *one) for row, one in enumerate(shown) if one[1].role == role]
        if not mine:
            continue
        values = [value for _, value, _, _ in mine]
        data.append(
            dots(
                values,
                [row for row, *_ in mine],
                [_hover(objective, each, score) for _, _, each, score in mine],
                COLOURS[(2, 0, 1)[place]],
                name=f"{role}s" if role != "winner" else role,
                marker={"symbol": symbol, "size": 13 if role == "winner" else 9},
                error_x={
                    **whiskers(
                        values,
                        [finite(score.get("low")) for *_, score in mine],
                        [finite(score.get("high")) for *_, score in mine],
                    ),
                    "color": COLOURS[(2, 0, 1)[place]],
                },
            )
        )
    plot = {
        "data": data,
        "layout": layout(
            90 + 26 * len(shown),
            showlegend=True,
            xaxis=axis(f"{text(measure, 60)}, {'higher' if higher else 'lower'} is better"),
            yaxis=rows([each.name for _, each, _ in shown], 26),
        ),
    }
    table = _table(objective, shown, left_out, measure)
    said = f"{_says(objective, scored, measure)} {SPLITS[split]}"
    return Figure(f"{short(measure, 60)} on the {split}", said, plot, table)


def _hover(objective: Result, each: Judged, score: Result) -> str:
    pair = of(objective, each.against)
    said = [
        f"{text(each.name)} ({each.role})",
        with_interval(score["value"], score.get("low"), score.get("high")),
        f"{score.get('n', 0):,} items",
    ]
    return lines(*said, f"the winner against it: {_difference(pair)}" if pair else "")


def _difference(pair: Result | None) -> str:
    if pair is None:
        return "–"
    between = interval(pair.get("low"), pair.get("high"), "+")
    return f"{figure(pair.get('difference'), '+')}{f' ({between})' if between != '–' else ''} {pair.get('verdict', '')}"


def _says(objective: Result, scored: Sequence[tuple[float, Judged, Result]], measure: str) -> str:
    winner = next(((each, score) for _, each, score in scored if each.role == "winner"), None)
    if winner is None:
        _, each, score = scored[0]
        value = with_interval(score["value"], score.get("low"), score.get("high"))
        return (
            f"There is no winner yet. Best of {counted(len(scored), 'model')} is {short(each.name)}: {value}."
        )
    each, score = winner
    said = f"The winner, {short(each.name)}, has {with_interval(score['value'], score.get('low'), score.get('high'))}."
    verdicts: dict[str, list[str]] = {}
    for _, rival, _ in scored:
        pair = of(objective, rival.against)
        if pair is not None:
            verdicts.setdefault(str(pair["verdict"]), []).append(short(rival.name, 24))
    told = [
        f"{verdict} than {_some(names)}"
        for verdict, names in verdicts.items()
        if verdict in ("better", "worse")
    ]
    unclear = verdicts.get("no clear difference")
    if told:
        said += f" It is {' and '.join(told)}."
    if unclear:
        said += f" There is no clear difference to {_some(unclear)}."
    return said


def _some(names: Sequence[str]) -> str:
    return listed(names, 3) if len(names) <= 3 else f"{len(names)} others ({listed(names[:2])}, ...)"


def _table(
    objective: Result, shown: Sequence[tuple[float, Judged, Result]], left_out: int, measure: str
) -> Table:
    body = [
        (
            short(each.name),
            each.role,
            figure(value),
            interval(score.get("low"), score.get("high")),
            f"{score.get('n', 0):,}",
            _difference(of(objective, each.against)),
        )
        for value, each, score in shown
    ]
    head = ("model", "what it is", measure, "95 % interval", "items", "the winner against it")
    return Table(head, body, frozenset({2, 3, 4}), max(0, left_out))
