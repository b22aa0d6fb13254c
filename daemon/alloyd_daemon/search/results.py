"""What came out of a search, as one JSON: everything that a table, a page or a replay needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import msgspec

from alloyd.search_results import SCHEMA
from alloyd.search_schema import SearchFile

from ..evaluator import Task
from ..scoring.summary import summarise
from .convergence import Interval, convergence, front_convergence, items_by_rung
from .correlation import correlation
from .genome import Gene
from .history import History
from .importance import Importance, importance
from .judgement import Judgement
from .lineage import ancestors, data_of, versions
from .objective import Goal
from .pareto import front, hypervolume, reference_point
from .trial import VALIDATION, Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class Searched:
    """What a search is of, as far as its record does not say so.

    ``genomes``: one a phase. ``optimiser``: name, options, and why it was chosen. ``splits``: the tasks of each split.
    ``top``: the rung whose scores make exact losses.
    """

    job: str
    spec: SearchFile
    genomes: tuple[tuple[Gene, ...], ...]
    optimiser: Mapping[str, Any]
    splits: Mapping[str, tuple[Task, ...]]
    goal: Goal
    top: int


def results(
    history: History, searched: Searched, *, winner: int | None, ended: bool = True
) -> dict[str, Any]:
    """The whole of a search as plain data; docs/search_results.md says what each key is. Nothing is scored for it.

    Of a search that has not ``ended``, what takes long to find is left out, and the best so far is its ``leader``.
    """
    trials = history.trials()
    spec = searched.spec
    tasks = searched.splits["validation"]
    judgement = Judgement(history, VALIDATION, tasks)
    baselines = [each for each in trials if each.origin != "optimiser" and each.state != "failed"]
    opening = history.opening()
    found: dict[str, Any] = {
        "schema": SCHEMA,
        "job": searched.job,
        "name": spec.name,
        "spec": msgspec.to_builtins(spec),
        "optimiser": dict(searched.optimiser),
        "genes": [[_gene(gene) for gene in genome] for genome in searched.genomes],
        "objectives": _objectives(searched.goal, tasks),
        "winner": None,
        "leader": None,
        "baselines": judgement.models(baselines),
        "finalists": judgement.models(
            [each for each in trials if each.items.get(VALIDATION) and each.origin == "optimiser"]
        ),
        "test": None if opening is None else {"opened": opening.at, "by": opening.job, **opening.figures},
        "trials": [_row(each) for each in trials],
        "convergence": convergence(trials, _interval(history, searched)) if not searched.goal.several else [],
        "pareto": _pareto(trials) if searched.goal.several else None,
        "importance": [_importance(each) for each in _importances(trials, searched)] if ended else [],
        "rungs": [dict(each.data) for each in history.entries("rung")],
        "agreement": _agreement(history, trials),
        "spent": _spent(trials),
        "notes": [{"at": each.at, **each.data} for each in history.entries("note")],
        "kinship": history.fact("kinship"),
        "lineage": {
            "seed": spec.seed,
            "data": data_of(searched.splits),
            "versions": versions(),
            "ancestors": [],
        },
    }
    leader = None if ended else _leader(trials)
    if leader is not None:
        found["leader"] = {
            **_named(leader),
            "losses": list(leader.losses or ()),
            "by_layer": None,
        }
        found["lineage"]["ancestors"] = [_row(each) for each in ancestors(trials, leader.number)]
    if winner is not None:
        best = next(each for each in trials if each.number == winner)
        found["winner"] = {
            **_named(best),
            "figures": judgement.figures(winner),
            "against": judgement.against(winner, baselines),
        }
        found["lineage"]["ancestors"] = [_row(each) for each in ancestors(trials, winner)]
    return found


def _leader(trials: Sequence[Trial]) -> Trial | None:
    """The best on the search split, as finalists are ranked."""
    scored = [each for each in trials if each.state == "scored" and each.losses is not None]
    return min(scored, key=lambda each: (sum(each.losses or ()), each.number), default=None)


def _named(trial: Trial) -> dict[str, Any]:
    return {
        "trial": trial.number,
        "name": trial.name,
        "origin": trial.origin,
        "genes": None if trial.point is None else dict(trial.point),
        "recipe": trial.recipe,
    }


def _objectives(goal: Goal, tasks: Sequence[Task]) -> list[dict[str, Any]]:
    return [
        {
            "task": tasks[each.task].name,
            "number": each.task + 1,
            "metric": each.metric.name,
            "better": each.metric.better,
            "weight": each.weight,
        }
        for each in goal.targets
    ]


def _interval(history: History, searched: Searched) -> Interval:
    """That of a loss of one target, from its figure's; of a sum of several none is told."""
    if len(searched.goal.targets) > 1:
        return lambda trial: None
    (target,) = searched.goal.targets

    def interval(trial: Trial) -> tuple[float, float] | None:
        items = history.scores(trial.number, searched.top).get(target.task, {})
        figures = summarise((target.metric,), list(items.values()))
        if not figures or figures[0].low is None or figures[0].high is None:
            return None
        sign = target.weight if target.metric.better == "lower" else -target.weight
        low, high = sorted((sign * figures[0].low, sign * figures[0].high))
        return low, high

    return interval


def _gene(gene: Gene) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(gene)
    return plain


def _row(trial: Trial) -> dict[str, Any]:
    return {
        "trial": trial.number,
        "batch": trial.batch,
        "phase": trial.phase,
        "origin": trial.origin,
        "name": trial.name,
        "genes": None if trial.point is None else dict(trial.point),
        "parents": list(trial.parents),
        "how": trial.how,
        "state": trial.state,
        "losses": None if trial.losses is None else list(trial.losses),
        "of": trial.of,
        "error": None if trial.error is None else trial.error.to_dict(),
        "seconds": trial.seconds,
        "items": {str(rung): count for rung, count in sorted(trial.items.items())},
        "identity": trial.identity,
    }


def _spent(trials: Sequence[Trial]) -> dict[str, Any]:
    states = [each.state for each in trials]
    return {
        "candidates": sum(state not in ("asked", "duplicate") for state in states),
        "states": {state: states.count(state) for state in dict.fromkeys(states)},
        "items": {str(rung): count for rung, count in items_by_rung(trials).items()},
        "seconds": sum(each.seconds for each in trials),
    }


def _agreement(history: History, trials: Sequence[Trial]) -> dict[str, Any]:
    """How far search and validation order trials alike; of several objectives, by the sum of their losses."""
    finals = (history.fact("finals") or {}).get("losses", {})
    both = [
        (sum(each.losses), sum(finals[str(each.number)]))
        for each in trials
        if each.state == "scored" and each.losses is not None and str(each.number) in finals
    ]
    found: dict[str, Any] = asdict(correlation([one for one, _ in both], [other for _, other in both]))
    return found


def _pareto(trials: Sequence[Trial]) -> dict[str, Any]:
    scored = [each for each in trials if each.state == "scored" and each.losses is not None]
    losses = [each.losses or () for each in scored]
    if not scored:
        return {"front": [], "reference": None, "hypervolume": 0.0, "convergence": []}
    reference = reference_point(losses)
    return {
        "front": [scored[place].number for place in front(losses)],
        "reference": list(reference),
        "hypervolume": hypervolume(losses, reference),
        "convergence": front_convergence(trials, reference),
    }


def _importances(trials: Sequence[Trial], searched: Searched) -> list[tuple[int, int, Importance]]:
    """Of each phase and each objective, over all trials with a loss: an estimate of a dropped one counts, too."""
    found = []
    for phase, genome in enumerate(searched.genomes):
        told = [
            each
            for each in trials
            if each.phase == phase
            and each.losses is not None
            and each.state in ("scored", "dropped")
            and each.point is not None
            and set(each.point) >= {gene.name for gene in genome}
        ]
        for number in range(len(told[0].losses or ()) if told else 0):
            points = [each.point or {} for each in told]
            losses = [(each.losses or ())[number] for each in told]
            found.append((phase, number, importance(genome, points, losses, seed=searched.spec.seed)))
    return found


def _importance(one: tuple[int, int, Importance]) -> dict[str, Any]:
    phase, objective, found = one
    return {"phase": phase, "objective": objective, **msgspec.to_builtins(found)}
