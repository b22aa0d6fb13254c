"""Small searches over the zoo, and one in a process of its own, to be killed: ``python search_driver.py FOLDER``."""

from __future__ import annotations

import json
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

from alloyd.jobs import Note, PlanSpec, Progress
from alloyd.recipe import ModelRef
from alloyd.search_schema import Budget, Objective, Rung
from alloyd_daemon import tasks
from alloyd_daemon.candidate import Candidate, from_recipe
from alloyd_daemon.evaluator import Choices
from alloyd_daemon.optimiser import OPTIMISERS
from alloyd_daemon.runner import RunOptions
from alloyd_daemon.scoring.run import Posed
from alloyd_daemon.search.baselines import baselines
from alloyd_daemon.search.genome import Gene, Genome, Point
from alloyd_daemon.search.history import History
from alloyd_daemon.search.objective import goal_of
from alloyd_daemon.search.run import search
from alloyd_daemon.search.search_task import Phase, SearchTask
from alloyd_daemon.search.space import PlainRecipe
from alloyd_daemon.search.trial import Trial
from alloyd_daemon.settings import Settings
from alloyd_daemon.warm import Warm

ZOO = Path(__file__).parents[1] / "zoo"


class Weights:
    """Task arithmetic of `math` and `lang`, whose weights are the genes."""

    @property
    def genome(self) -> Genome:
        return (Gene(name="math", low=0, high=2), Gene(name="lang", low=0, high=2))

    def recipe(self, point: Point) -> PlainRecipe:
        return {
            "merge_method": "task_arithmetic",
            "base_model": str(ZOO / "models" / "base"),
            "models": [
                {"model": str(ZOO / "models" / name), "parameters": {"weight": float(point[name])}}
                for name in ("math", "lang")
            ],
            "dtype": "float32",
        }


def posed(split: str, limit: int, kind: str = "gold_answer") -> tuple[Posed, ...]:
    """The first items of a split of the zoo's arithmetic in L2."""
    name = f"{kind}:{ZOO / 'tasks' / f'l2_arithmetic.{split}.jsonl'}"
    return tuple(Posed(*each) for each in tasks.resolve([name], Choices(limit=limit)))


def task(folder: Path, *, optimiser: str = "cma-es", items: int = 60, **changes: Any) -> SearchTask:
    """A search of few candidates over few items, whose scratch is in ``folder``."""
    options = RunOptions(scratch=folder / "scratch", memory=4 << 30, threads=1, warm=Warm())

    def phase(_: Trial | None) -> Generator[Progress | Note, None, Phase]:
        yield from ()
        kind = OPTIMISERS.get(optimiser)
        given = {name: each.default for name, each in kind.options.items()}
        return Phase(space=Weights(), kind=kind, options=given)

    def plan(recipe: PlainRecipe, name: str) -> Candidate:
        spec = PlanSpec(recipe=json.dumps(recipe), base_dir="/")
        return from_recipe(spec, name=name, home=folder, settings=Settings())

    models = {name: ModelRef(str(ZOO / "models" / name)) for name in ("math", "lang")}
    asked = posed("search", items)
    whole: dict[str, Any] = {
        "phases": [phase],
        "baselines": baselines(
            models, ("base", ModelRef(str(ZOO / "models" / "base"))), {"dtype": "float32"}
        )[0],
        "goal": goal_of([Objective(metric="greedy")], [each.task for each in asked], several=False),
        "search": asked,
        "validation": posed("validation", 40),
        "rungs": (Rung(race=True, block=20),),
        "budget": Budget(candidates=10),
        "plan": plan,
        "options": options,
        "runner": "resident",
        "finalists": 2,
    }
    return SearchTask(**(whole | changes))


def run(folder: Path, **changes: Any) -> int | None:
    """Search to the end; returns the winner's number."""
    with History(folder / "history.db") as history:
        running = search(task(folder, **changes), history)
        try:
            while True:
                next(running)
        except StopIteration as end:
            winner: int | None = end.value
            return winner


if __name__ == "__main__":
    print("ready", flush=True)
    print("winner", run(Path(sys.argv[1])), flush=True)
