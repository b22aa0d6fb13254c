"""Runs a small search over the zoo in a process of its own, to be killed: ``python search_driver.py FOLDER``."""

from __future__ import annotations

import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

from alloyd.jobs import Note, PlanSpec, Progress
from alloyd.search_schema import Budget, Objective, Rung
from alloyd_daemon import tasks
from alloyd_daemon.candidate import from_recipe
from alloyd_daemon.evaluator import Choices
from alloyd_daemon.optimiser import OPTIMISERS
from alloyd_daemon.runner import RunOptions
from alloyd_daemon.scoring.run import Posed
from alloyd_daemon.search.baselines import baselines
from alloyd_daemon.search.genome import Gene, Genome, Point
from alloyd_daemon.search.history import History
from alloyd_daemon.search.objective import goal_of
from alloyd_daemon.search.run import Phase, SearchTask, search
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


def posed(split: str, kind: str = "gold_answer", limit: int | None = None) -> tuple[Posed, ...]:
    """A split of the zoo's arithmetic in L2."""
    name = f"{kind}:{ZOO / 'tasks' / f'l2_arithmetic.{split}.jsonl'}"
    return tuple(Posed(*each) for each in tasks.resolve([name], Choices(limit=limit)))


def task(folder: Path, **changes: Any) -> SearchTask:
    """A search of few candidates."""
    settings = Settings()
    options = RunOptions(scratch=folder / "scratch", memory=4 << 30, threads=1, warm=Warm())

    def phase(_: Trial | None) -> Generator[Progress | Note, None, Phase]:
        yield from ()
        kind = OPTIMISERS.get(changes.pop("optimiser", "cma-es"))
        given = {name: each.default for name, each in kind.options.items()}
        return Phase(space=Weights(), kind=kind, options=given)

    models = {name: ZOO / "models" / name for name in ("math", "lang")}
    asked = posed("search", limit=100)
    whole: dict[str, Any] = {
        "phases": [phase],
        "baselines": baselines(models, ("base", ZOO / "models" / "base"), {"dtype": "float32"})[0],
        "goal": goal_of([Objective(metric="greedy")], [each.task for each in asked], several=False),
        "search": asked,
        "validation": posed("validation", limit=50),
        "rungs": (Rung(race=True, block=20),),
        "budget": Budget(candidates=16),
        "plan": lambda recipe, name: from_recipe(
            PlanSpec(recipe=__import__("json").dumps(recipe), base_dir="/"),
            name=name,
            home=folder,
            settings=settings,
        ),
        "options": options,
        "runner": "resident",
        "finalists": 2,
    }
    return SearchTask(**(whole | changes))


if __name__ == "__main__":
    place = Path(sys.argv[1])
    with History(place / "history.db") as history:
        run = search(task(place), history)
        try:
            while True:
                said = next(run)
                if "-v" in sys.argv:
                    print(said, flush=True)
        except StopIteration as end:
            print("winner", end.value)
