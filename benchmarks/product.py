"""Run a search as `alloy search` does (the job itself, in this process) and say what it found and spent.

A search lies in WORK/home/searches/NAME and goes on where it was stopped; one that has ended is only read.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from zoo_ground import Ground, Paper, PlainRecipe

from alloyd import search_reader
from alloyd.jobs import Finished, SearchSpec
from alloyd_daemon.job import JOBS, Context
from alloyd_daemon.search.history import History
from alloyd_daemon.search.model_shape import ModelShape
from alloyd_daemon.search.space import Space
from alloyd_daemon.search.spaces.parameters import ParameterSpace
from alloyd_daemon.search.template import opened
from alloyd_daemon.search.trial import Trial
from alloyd_daemon.settings import Settings


@dataclass(frozen=True, slots=True)
class Searched:
    """``items`` are all that were scored, validation included; ``results`` is the job's own results.json."""

    trials: tuple[Trial, ...]

    recipe: PlainRecipe
    items: int
    candidates: int
    seconds: float
    results: Mapping[str, Any]


def knob(low: float, high: float, layers: int | None = None, **more: Any) -> dict[str, Any]:
    """A knob for each group of layers and each of embeddings, attention, mlp and what is left (the norms)."""
    each = {"layers": layers, "components": ["embeddings", "attention", "mlp"]} if layers else {}
    return {"low": low, "high": high, **each, **more}


def spec(
    ground: Ground,
    template: PlainRecipe,
    *,
    search: Sequence[Paper],
    validation: Sequence[Paper],
    items: int,
    optimiser: str = "auto",
    **more: Any,
) -> dict[str, Any]:
    """A spec over ``template`` whose goal is the sum of the papers' first values."""
    return {
        "recipe": template,
        "tasks": {
            "search": [each.name for each in search],
            "validation": [each.name for each in validation],
        },
        "objectives": [
            {"task": number, "metric": each.values[0], "weight": 1 / len(search)}
            for number, each in enumerate(search, start=1)
        ],
        "optimiser": {"name": optimiser},
        "budget": {"items": items},
        "runner": "resident",
        **more,
    }


def run(ground: Ground, name: str, plain: Mapping[str, Any], *, seed: int) -> Searched:
    """Search, or read what an earlier run of the same name found."""
    home = ground.work / "home"
    folder = home / "searches" / name
    text = yaml.safe_dump(dict(plain), sort_keys=False, allow_unicode=True)
    kept, took = folder / "spec.yaml", folder / "seconds.json"
    if kept.exists() and kept.read_text(encoding="utf-8") != text:
        raise SystemExit(f"{folder} is of another spec: remove it, or choose another --work")
    folder.mkdir(parents=True, exist_ok=True)
    kept.write_text(text, encoding="utf-8")
    results = folder / "results.json"
    if not results.exists() or not took.exists():
        asked = SearchSpec(spec=text, base_dir="/", name=name, seed=seed, threads=ground.threads)
        before = time.perf_counter()
        job = JOBS.get("search").run(asked, Context(home, Settings(), name))
        with contextlib.closing(job):
            ended = [each for each in job if isinstance(each, Finished)]
        assert ended
        took.write_text(json.dumps(time.perf_counter() - before))
    found = json.loads(results.read_text(encoding="utf-8"))
    if found["winner"] is None:
        raise SystemExit(f"{folder}: the search has no winner")
    with History(folder / "history.db") as history:
        trials = history.trials()
    return Searched(
        trials=trials,
        recipe=found["winner"]["recipe"],
        items=sum(found["spent"]["items"].values()),
        candidates=found["spent"]["candidates"],
        seconds=float(json.loads(took.read_text())),
        results=found,
    )


def space(plain: Mapping[str, Any]) -> Space:
    """The parameter space of a spec's recipe."""
    template = search_reader.read(yaml.safe_dump(dict(plain))).recipe
    assert template is not None
    found, checkpoints = opened(template, base_dir=Path("/"), settings=Settings())
    return ParameterSpace(found, ModelShape.of(checkpoints))
