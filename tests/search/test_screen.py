"""The screen: the distance it predicts is that of the merged weights, and a search refuses what lies too far."""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import search_driver
from adapter_factory import write_adapter
from alloyd.errors import RecipeError, SourceChanged, SourceError
from alloyd.jobs import MergeSpec, Note, PlanSpec, Progress
from alloyd.recipe import ModelRef
from alloyd.search_schema import Budget
from alloyd_daemon.candidate import Candidate, from_recipe
from alloyd_daemon.job import JOBS, Context
from alloyd_daemon.kinship.gram import TensorGram, tensor_grams
from alloyd_daemon.recipes.outline import Place
from alloyd_daemon.search.history import History
from alloyd_daemon.search.run import search
from alloyd_daemon.search.screen import Measuring, Screen, distance, reach, task_vector_weights
from alloyd_daemon.search.space import PlainRecipe
from alloyd_daemon.search.trial import Trial
from alloyd_daemon.settings import Settings
from checkpoint_factory import Model, read_checkpoint, write_family
from search.toy import Toy

SMALL = Model(hidden=32, intermediate=48, layers=2, heads=2, kv_heads=1, vocab=300)
LONG_AGO = 1_600_000_000 * 10**9
BASE = search_driver.ZOO / "models" / "base"


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A base and two fine-tunes."""
    found = list(write_family(tmp_path_factory.mktemp("family"), SMALL, tunes=2))
    for file in (each for folder in found for each in folder.iterdir()):
        os.utime(file, ns=(LONG_AGO, LONG_AGO))
    return found


def end(running: Generator[Any, None, Any]) -> Any:
    try:
        while True:
            next(running)
    except StopIteration as stop:
        return stop.value


def measured(family: list[Path], home: Path) -> Measuring:
    base, *models = (ModelRef(str(each)) for each in family)
    return tensor_grams(base, models, home=home, settings=Settings())


def candidate(recipe: PlainRecipe, home: Path) -> Candidate:
    spec = PlanSpec(recipe=json.dumps(recipe), base_dir="/")
    return from_recipe(spec, name="one", home=home, settings=Settings())


def recipe(
    family: list[Path], weights: list[Any], method: str = "task_arithmetic", **more: Any
) -> PlainRecipe:
    merged = family if method == "linear" and len(weights) == len(family) else family[1:]
    base = {} if method == "linear" else {"base_model": str(family[0])}
    models = [
        {"model": str(each), "parameters": {"weight": weight}}
        for each, weight in zip(merged, weights, strict=True)
    ]
    return {"merge_method": method, **base, "models": models, "dtype": "float32", **more}


def merged_ratio(family: list[Path], recipe: PlainRecipe, tmp_path: Path) -> float:
    """The distance as it is, in float64, after the merge."""
    out = tmp_path / "merged"
    list(
        JOBS.get("merge").run(
            MergeSpec(json.dumps(recipe), "/", str(out)), Context(tmp_path, Settings(), "m")
        )
    )
    base, *others, found = (read_checkpoint(each) for each in (*family, out))

    def far(model: Any) -> float:
        parts = [np.sum((model[name].astype(float) - base[name].astype(float)) ** 2) for name in base]
        return float(np.sqrt(np.sum(parts)))

    return far(found) / max(far(each) for each in others)


@pytest.mark.parametrize(
    ("weights", "method", "more"),
    [
        ([0.7, 1.9], "task_arithmetic", {}),
        ([8.0, -6.5], "task_arithmetic", {"parameters": {"lambda": 0.5}}),
        ([3.0, 2.0], "task_arithmetic", {"parameters": {"normalize": True}}),
        (
            [
                [{"filter": "self_attn", "value": -4}, {"filter": "mlp", "value": [1, 5]}, {"value": 0.25}],
                2.5,
            ],
            "task_arithmetic",
            {},
        ),
        ([0.5, 0.5], "linear", {}),
        ([-6.0, 4.0, 3.0], "linear", {"parameters": {"normalize": False}}),
        ([1.0, 2.0, 1.0], "linear", {}),
    ],
)
def test_the_distance_is_that_of_the_merged_weights(
    family: list[Path], tmp_path: Path, weights: list[Any], method: str, more: dict[str, Any]
) -> None:
    one = recipe(family, weights, method, **more)
    found = task_vector_weights(candidate(one, tmp_path).prepared.plan.outline)
    assert found is not None
    ratio = distance(found, end(measured(family, tmp_path)))
    assert ratio == pytest.approx(merged_ratio(family, one, tmp_path), rel=1e-5)
    assert ratio <= reach(found, (family[0], None)) * (1 + 1e-12)


def test_adapters_of_one_base_are_sources_of_their_own(family: list[Path], tmp_path: Path) -> None:
    base = family[0]
    adapters = [
        write_adapter(tmp_path / each, read_checkpoint(base), seed=seed) for seed, each in enumerate("xy")
    ]
    refs = [ModelRef(str(base), lora=ModelRef(str(each))) for each in adapters]
    plain = []
    for ref, adapter in zip(refs, adapters, strict=True):
        alone = {"merge_method": "passthrough", "models": [{"model": str(ref)}], "out_dtype": "float32"}
        plain.append(tmp_path / f"merged-{adapter.name}")
        spec = MergeSpec(json.dumps(alone), "/", str(plain[-1]))
        list(JOBS.get("merge").run(spec, Context(tmp_path, Settings(), "m")))
    entries = [
        {"model": model, "parameters": {"weight": weight}}
        for model, weight in zip((*map(str, refs), str(family[1])), (3.0, -2.0, 0.5), strict=True)
    ]
    one = recipe(family, [1.0, 1.0]) | {"models": entries}
    found = task_vector_weights(candidate(one, tmp_path).prepared.plan.outline)
    assert found is not None
    models = [*refs, ModelRef(str(family[1]))]
    ratio = distance(
        found, end(tensor_grams(ModelRef(str(base)), models, home=tmp_path, settings=Settings()))
    )
    for entry, folder in zip(entries, plain, strict=False):
        entry["model"] = str(folder)
    assert ratio == pytest.approx(merged_ratio([base, *plain, family[1]], one, tmp_path), rel=1e-5)
    assert reach(found, (base, None)) == pytest.approx(5.5)


def test_of_what_adds_no_task_vectors_it_says_nothing(family: list[Path], tmp_path: Path) -> None:
    sliced = {
        "merge_method": "passthrough",
        "slices": [{"sources": [{"model": str(family[1]), "layer_range": [at, at + 1]}]} for at in (1, 0)],
    }
    for one in (
        recipe(family, [20, 20], "ties"),
        recipe(family, [20, 20], "linear", parameters={"normalize": False}),
        recipe(family, [1, -1, 0], "linear"),
        recipe(family, [0.5, 0.5], "linear", parameters={"offset": 100.0}),
    ):
        assert task_vector_weights(candidate(one, tmp_path).prepared.plan.outline) is None
    found = task_vector_weights(candidate(sliced, tmp_path).prepared.plan.outline)
    assert found is not None
    assert distance(found, end(measured(family, tmp_path))) is None
    other = task_vector_weights(candidate(recipe(family, [20, 20]), tmp_path).prepared.plan.outline)
    assert other is not None
    assert distance(other, end(measured(family[:2], tmp_path))) is None
    assert distance(other, {}) is None


@given(
    deltas=st.lists(st.lists(st.floats(-9, 9), min_size=6, max_size=6), min_size=2, max_size=3),
    weights=st.lists(st.floats(-9, 9), min_size=6, max_size=6),
)
def test_reach_bounds_the_distance(deltas: list[list[float]], weights: list[float]) -> None:
    """Two tensors of three elements each, every model with weights of its own in each."""
    vectors = np.array(deltas).reshape(len(deltas), 2, 3)
    base: Place = Path("/base"), None
    folders: list[Place] = [(Path(f"/m{each}"), None) for each in range(len(deltas))]
    used = {
        f"t{tensor}": {(folder, "t"): weights[2 * place + tensor] for place, folder in enumerate(folders)}
        for tensor in range(2)
    }
    grams = {
        f"t{tensor}": TensorGram(
            {(base, "t"): None} | {(folder, "t"): place for place, folder in enumerate(folders)},
            vectors[:, tensor] @ vectors[:, tensor].T,
        )
        for tensor in range(2)
    }
    ratio = distance(used, grams)
    assert ratio is not None
    assert ratio <= reach(used, base) * (1 + 1e-6) + 1e-9
    moved = sum(
        float(np.sum((np.array(list(used[f"t{tensor}"].values())) @ vectors[:, tensor]) ** 2))
        for tensor in range(2)
    )
    largest = max(float(np.sum(each**2)) for each in vectors)
    assert ratio**2 * largest == pytest.approx(moved if largest else 0.0, rel=1e-6, abs=1e-9)


# In a search


class Measured:
    """A screen over the zoo that counts how often it measures, or ``fails`` to."""

    def __init__(self, home: Path, limit: float, fails: Exception | None = None) -> None:
        self.times = 0
        self._fails = fails
        models = [ModelRef(str(BASE.with_name(each))) for each in ("math", "lang")]
        self._measure = partial(tensor_grams, ModelRef(str(BASE)), models, home=home, settings=Settings())
        self.screen = Screen(limit, (BASE, None), self.measure)

    def measure(self) -> Measuring:
        self.times += 1
        yield Progress(0, 1, "bytes", "")
        if self._fails is not None:
            raise self._fails
        return (yield from self._measure())


def go(folder: Path, screen: Screen, until: int | None = None) -> tuple[list[Trial], list[str]]:
    one = search_driver.task(
        folder, runner="toy", optimiser="random", screen=screen, budget=Budget(candidates=16)
    )
    said = []
    with History(folder / "history.db") as history:
        running = search(one, history)
        for number, each in enumerate(running):
            if isinstance(each, Note):
                said.append(each.text)
            if number == until:
                break
        running.close()
        return list(history.trials()), said


def _far(trial: Trial) -> bool:
    return trial.origin == "optimiser" and trial.state == "failed"


def test_what_lies_too_far_fails_unscored(tmp_path: Path, toy: Toy) -> None:
    made = Measured(tmp_path, 1.5)
    trials, said = go(tmp_path, made.screen)
    far = [each for each in trials if _far(each)]
    assert 0 < len(far) < 16
    assert made.times == 1
    assert sum("measured in one pass" in each for each in said) == 1
    for each in far:
        assert isinstance(each.error, RecipeError)
        assert each.error.facts["norm_ratio"] > 1.5 == each.error.facts["limit"]
        assert f"{each.error.facts['norm_ratio']:.4g} times as far" in each.error.message
        assert not each.items
        assert each.name not in toy.asked
    assert all(each.name in toy.asked for each in trials if each.origin == "baseline")


def test_a_stopped_search_screens_as_if_it_had_not_been_stopped(tmp_path: Path, toy: Toy) -> None:
    whole, _ = go(tmp_path / "whole", Measured(tmp_path, 1.5).screen)
    for stop in (300, 40):
        go(tmp_path / "parts", Measured(tmp_path, 1.5).screen, until=stop)
    parts, _ = go(tmp_path / "parts", Measured(tmp_path, 1.5).screen)
    assert [(each.state, each.losses, str(each.error)) for each in parts] == [
        (each.state, each.losses, str(each.error)) for each in whole
    ]


def test_where_no_weights_could_lie_too_far_nothing_is_measured(tmp_path: Path, toy: Toy) -> None:
    made = Measured(tmp_path, 4.0)
    trials, said = go(tmp_path, made.screen)
    assert made.times == 0
    assert not any(_far(each) for each in trials)
    assert not any("measured" in each for each in said)


def test_what_cannot_be_measured_screens_nothing_and_a_changed_source_ends_the_search(
    tmp_path: Path, toy: Toy
) -> None:
    made = Measured(tmp_path, 1.5, SourceError("it has NaN"))
    trials, said = go(tmp_path / "one", made.screen)
    assert made.times == 1
    assert not any(_far(each) for each in trials)
    assert "no candidate is screened by its distance from the base: it has NaN" in said
    with pytest.raises(SourceChanged):
        go(tmp_path / "other", Measured(tmp_path, 1.5, SourceChanged("it changed")).screen)
