"""The figures of a score: each model with its interval, and how it differs from the first on the same items."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..goal import Result
from ..parts import Figure, Table
from ..plot import COLOURS, axis, dots, layout, line, lines, rows, text, whiskers
from ..wording import counted, figure, finite, interval, listed, short, short_names, with_interval

VERDICTS = {"better": COLOURS[2], "worse": COLOURS[4]}


def scores(result: Result) -> list[Figure]:
    """A figure for each task and metric, then one for each of differences."""
    found: list[Figure] = []
    for task, metric in _metrics(result):
        found += [
            each for each in (_scores(result, task, metric), _differences(result, task, metric)) if each
        ]
    return found


def _metrics(result: Result) -> Iterator[tuple[Result, Result]]:
    return ((task, metric) for task in result.get("tasks") or () for metric in task["metrics"])


def _names(result: Result) -> dict[str, str]:
    models = [str(each["name"]) for each in result.get("models") or ()]
    return dict(zip(models, short_names(models), strict=True))


def _scores(result: Result, task: Result, metric: Result) -> Figure | None:
    called = _names(result)
    found = [
        (value, called[str(model["name"])], score)
        for model in result.get("models") or ()
        for score in model["scores"]
        if (score["task"], score["metric"]) == (task["name"], metric["name"])
        and (value := finite(score["value"])) is not None
    ]
    if not found:
        return None
    higher = metric["better"] != "lower"
    values = [value for value, _, _ in found]
    trace = dots(
        values,
        list(range(len(found))),
        [
            lines(
                text(name), with_interval(value, score.get("low"), score.get("high")), f"{score['n']:,} items"
            )
            for value, name, score in found
        ],
        COLOURS[0],
        marker={"size": 10},
        error_x={
            **whiskers(
                values,
                [finite(score.get("low")) for *_, score in found],
                [finite(score.get("high")) for *_, score in found],
            ),
            "color": COLOURS[0],
        },
    )
    measure = f"{task['name']} {metric['name']}"
    plot = {
        "data": [trace],
        "layout": layout(
            70 + 30 * len(found),
            xaxis=axis(f"{text(measure, 60)}, {'higher' if higher else 'lower'} is better"),
            yaxis=rows([name for _, name, _ in found], 28),
        ),
    }
    best = (max if higher else min)(found, key=lambda one: one[0])
    value, name, score = best
    told = with_interval(value, score.get("low"), score.get("high"))
    said = f"Of {counted(len(found), 'model')} {short(name)} is best: {told}."
    table = Table(
        ("model", measure, "95 % interval", "items"),
        [
            (short(name), figure(value), interval(score.get("low"), score.get("high")), f"{score['n']:,}")
            for value, name, score in found
        ],
        frozenset({1, 2, 3}),
    )
    return Figure(short(measure, 60), said, plot, table, half=True)


def _differences(result: Result, task: Result, metric: Result) -> Figure | None:
    called = _names(result)
    pairs = [
        (value, each)
        for each in result.get("comparisons") or ()
        if (each["task"], each["metric"]) == (task["name"], metric["name"])
        and (value := finite(each["difference"])) is not None
    ]
    if not pairs:
        return None
    values = [value for value, _ in pairs]
    names = [called.get(str(each["model"]), str(each["model"])) for _, each in pairs]
    first = called.get(str(pairs[0][1]["against"]), str(pairs[0][1]["against"]))
    colours = [VERDICTS.get(str(each["verdict"]), "var(--soft)") for _, each in pairs]
    trace = dots(
        values,
        list(range(len(pairs))),
        [
            lines(f"{text(name)} against {text(first)}", _told(each))
            for name, (_, each) in zip(names, pairs, strict=True)
        ],
        colours,
        marker={"size": 10},
        error_x={
            **whiskers(
                values,
                [finite(each.get("low")) for _, each in pairs],
                [finite(each.get("high")) for _, each in pairs],
            ),
            "color": "var(--soft)",
        },
    )
    plot = {
        "data": [line([0, 0], [-0.5, len(pairs) - 0.5], "var(--line)"), trace],
        "layout": layout(
            70 + 30 * len(pairs),
            xaxis=axis(f"difference to {text(first, 30)} on the same items"),
            yaxis=rows(names, 28),
        ),
    }
    return Figure(
        f"{short(str(task['name']), 40)} {short(str(metric['name']), 20)} against {short(first, 30)}",
        _says(names, pairs, first),
        plot,
        _table(names, pairs),
        half=True,
    )


def _told(pair: Result) -> str:
    return f"{with_interval(pair['difference'], pair.get('low'), pair.get('high'), '+')} {pair['verdict']}"


def _says(names: Sequence[str], pairs: Sequence[tuple[float, Result]], first: str) -> str:
    verdicts: dict[str, list[str]] = {}
    for name, (_, each) in zip(names, pairs, strict=True):
        verdicts.setdefault(str(each["verdict"]), []).append(short(name, 24))
    said = [f"{verdict}: {listed(found)}" for verdict, found in verdicts.items()]
    return f"Held against {short(first)} on the same items, {'; '.join(said)}."


def _table(names: Sequence[str], pairs: Sequence[tuple[float, Result]]) -> Table:
    body = [
        (
            short(name),
            figure(value, "+"),
            interval(each.get("low"), each.get("high"), "+"),
            str(each["verdict"]),
            f"{each['wins']:,}",
            f"{each['losses']:,}",
            f"{each['ties']:,}",
            figure(each.get("p")),
        )
        for name, (value, each) in zip(names, pairs, strict=True)
    ]
    head = ("model", "difference", "95 % interval", "verdict", "items won", "lost", "even", "p")
    return Table(head, body, frozenset({1, 2, 4, 5, 6, 7}))
