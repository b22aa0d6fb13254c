"""A search that has ended, made by hand: its record, tasks and spec, over the zoo's models and two small tasks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from alloyd.errors import SourceError
from alloyd.search_schema import Budget, Objective, SearchFile, Splits
from alloyd_daemon.engine.findings import FindingCache
from alloyd_daemon.evaluator import Item, ItemScore, Metric, Task
from alloyd_daemon.search.genome import Gene
from alloyd_daemon.search.history import History
from alloyd_daemon.search.objective import Goal, Target
from alloyd_daemon.search.publish import Published, publish
from alloyd_daemon.search.results import Searched
from alloyd_daemon.search.trial import VALIDATION, Trial
from alloyd_daemon.settings import Settings

MODELS = Path(__file__).parents[2] / "zoo" / "models"
ITEMS = 40
RIGHT = Metric("right")
GENES = (Gene(name="weight", low=0.0, high=2.0),)


def task(split: str) -> Task:
    items = tuple(
        Item(f"{split}-{place}", f"question {place} of {split}", f"{split}:{place}", None)
        for place in range(ITEMS)
    )
    return Task(f"sums.{split}", "exact_match", (RIGHT,), items)


def recipe(weight: float) -> dict[str, Any]:
    return {
        "merge_method": "task_arithmetic",
        "base_model": str(MODELS / "base"),
        "models": [{"model": str(MODELS / "math"), "parameters": {"weight": weight}}],
        "dtype": "bfloat16",
    }


TRIALS = (
    Trial(
        number=1,
        batch=0,
        origin="baseline",
        name="math",
        recipe={"merge_method": "passthrough", "models": [{"model": str(MODELS / "math")}]},
        state="scored",
        losses=(-0.5,),
        items={0: ITEMS, VALIDATION: ITEMS},
    ),
    Trial(
        number=2,
        batch=1,
        origin="optimiser",
        name="trial 2",
        point={"weight": 1.0},
        recipe=recipe(1.0),
        state="scored",
        losses=(-0.6,),
        items={0: ITEMS, VALIDATION: ITEMS},
        seconds=2.0,
    ),
    Trial(
        number=3,
        batch=1,
        origin="optimiser",
        name="trial 3",
        point={"weight": 1.9},
        state="dropped",
        losses=(-0.1,),
        items={0: 10},
    ),
    Trial(
        number=4,
        batch=2,
        origin="optimiser",
        name="trial 4",
        point={"weight": 0.3},
        parents=(2, 3),
        state="failed",
        error=SourceError("numbers that are none"),
        items={0: 5},
    ),
    Trial(
        number=5,
        batch=2,
        origin="optimiser",
        name="trial 5",
        point={"weight": 1.25},
        recipe=recipe(1.25),
        parents=(2,),
        how="mutated",
        state="scored",
        losses=(-0.9,),
        items={0: ITEMS, VALIDATION: ITEMS},
        seconds=1.0,
    ),
    Trial(
        number=6,
        batch=2,
        origin="optimiser",
        name="trial 6",
        point={"weight": 1.25},
        state="duplicate",
        of=5,
        losses=(-0.9,),
    ),
)
VALIDATED = {1: 20, 2: 24, 5: 34}
"""How many of the validation items each trial has right."""
SEARCHED = {1: 20, 2: 24, 5: 36}


def make(path: Path) -> History:
    """The record of the search."""
    history = History(path)
    for batch in (0, 1, 2):
        trials = [each for each in TRIALS if each.batch == batch]
        blank = [
            replace(each, state="asked", losses=None, of=None, error=None, items={}, seconds=0.0)
            for each in trials
        ]
        history.ask(blank, batch=batch, count=len(trials))
        history.tell(trials)
    for rung, split, right in ((0, "search", SEARCHED), (VALIDATION, "validation", VALIDATED)):
        for trial, count in right.items():
            for place in range(ITEMS):
                history.keep(trial, rung, 0, ItemScore(f"{split}-{place}", {"right": float(place < count)}))
    history.set_fact(
        "finals",
        {"winner": 5, "losses": {str(trial): [-right / ITEMS] for trial, right in VALIDATED.items()}},
    )
    history.flush()
    return history


def searched() -> Searched:
    """What the record is of."""
    spec = SearchFile(
        tasks=Splits(search=("a.jsonl",), validation=("b.jsonl",), test=("c.jsonl",)),
        budget=Budget(candidates=5),
        recipe=recipe(1.0),
        name="weights",
        objectives=(Objective(),),
        seed=7,
    )
    return Searched(
        job="search-3",
        spec=spec,
        genomes=(GENES,),
        optimiser={
            "name": "cma-es",
            "why": "every gene is a number",
            "options": {},
            "reference": "",
            "after": [],
        },
        splits={split: (task(split),) for split in ("search", "validation", "test")},
        goal=Goal((Target(0, RIGHT, 1.0),)),
        top=0,
    )


def end(history: History, folder: Path, *, winner: int | None = 5) -> Published:
    """Its files in ``folder``, with all that can be said of its sources."""
    with FindingCache() as findings:
        published = publish(
            history,
            searched(),
            winner=winner,
            folder=folder,
            home=folder,
            settings=Settings(),
            findings=findings,
        )
        for _ in published.read_sources(history, findings):
            pass
    return published
