"""Kinship: figures against numpy over whole models, the same however it is read, errors before work."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from collections.abc import Generator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from adapter_factory import merged, write_adapter
from alloyd.errors import AlloydError, PlanError, SourceError, SourceNotFound, UsageError
from alloyd.jobs import Finished, KinshipSpec, Note, Planned, Report
from alloyd.recipe import ModelRef
from alloyd_daemon.engine.findings import FindingCache
from alloyd_daemon.job import JOBS, Context
from alloyd_daemon.kinship.figures import SATURATED, figures
from alloyd_daemon.kinship.gram import task_vector_gram
from alloyd_daemon.kinship.measure import Measured, measure, sit
from alloyd_daemon.search.model_shape import COMPONENTS
from alloyd_daemon.settings import Settings
from alloyd_daemon.stages.moments import MomentSweep
from alloyd_kernels.dtypes import LEAF
from checkpoint_factory import (
    Model,
    read_checkpoint,
    read_safetensors,
    write_checkpoint,
    write_family,
    write_weights,
)

LONG_AGO = 1_600_000_000 * 10**9
SMALL = Model(hidden=32, intermediate=48, layers=2, heads=2, kv_heads=1, vocab=300)


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A base, two fine-tunes, and one that went exactly the other way as the first."""
    folder = tmp_path_factory.mktemp("family")
    base, one, two = write_family(folder, SMALL, tunes=2)
    weights = read_checkpoint(base)
    against = {
        name: (2 * each.astype(np.float64) - read_checkpoint(one)[name].astype(np.float64)).astype(np.float32)
        for name, each in weights.items()
    }
    found = [base, one, two, write_checkpoint(folder / "against", SMALL, weights=against)]
    for each in found:
        for file in each.iterdir():
            os.utime(file, ns=(LONG_AGO, LONG_AGO))
    return found


def context(tmp_path: Path) -> Context:
    return Context(tmp_path, Settings(), "kinship-1")


def sitting_of(family: list[Path], tmp_path: Path, **how: Any) -> Any:
    base, *models = (ModelRef(str(each)) for each in family)
    return sit(base, models, base_dir="/", home=tmp_path, settings=Settings(), **how)


def measured(
    family: list[Path], tmp_path: Path, findings: FindingCache | None = None, **how: Any
) -> Measured:
    return finish(measure(sitting_of(family, tmp_path, **how), findings))


def finish(steps: Generator[Any, None, Any]) -> Any:
    try:
        while True:
            next(steps)
    except StopIteration as end:
        return end.value


def deltas_of(family: list[Path]) -> list[np.ndarray[Any, Any]]:
    """Each model's task vector, flattened; as kernels see it: float32 differences."""
    base = read_checkpoint(family[0])
    return [
        np.concatenate(
            [
                (np.float32(read_checkpoint(each)[name]) - np.float32(base[name])).ravel()
                for name in sorted(base)
            ]
        ).astype(np.float64)
        for each in family[1:]
    ]


def test_figures_are_those_of_whole_vectors(family: list[Path], tmp_path: Path) -> None:
    found = figures(measured(family, tmp_path))
    deltas = deltas_of(family)
    assert found["parameters"] == len(deltas[0])
    assert [each["name"] for each in found["models"]] == ["tune-0", "tune-1", "against"]
    for each, delta in zip(found["models"], deltas, strict=True):
        assert each["norm"] == pytest.approx(np.linalg.norm(delta), rel=1e-12)
        assert each["mean"] == pytest.approx(delta.mean(), rel=1e-9, abs=1e-15)
    for (i, k), each in zip([(0, 1), (0, 2), (1, 2)], found["pairs"], strict=True):
        one, two = deltas[i], deltas[k]
        cosine = one @ two / np.linalg.norm(one) / np.linalg.norm(two)
        assert each["cosine"] == pytest.approx(cosine, abs=1e-12)
        assert each["pearson"] == pytest.approx(np.corrcoef(one, two)[0, 1], abs=1e-12)
        assert each["euclidean"] == pytest.approx(np.linalg.norm(one - two), rel=1e-9)
    assert found["pairs"][1]["cosine"] < -0.99, "the sign is kept"
    assert found["mean"]["cosine"] == pytest.approx(np.mean([each["cosine"] for each in found["pairs"]]))


def test_layers_and_components_add_up_to_the_whole(family: list[Path], tmp_path: Path) -> None:
    found = figures(measured(family, tmp_path))
    assert [each["layer"] for each in found["layers"]] == [0, 1]
    assert {each["component"] for each in found["components"]} == {"attention", "embeddings", "mlp", "norms"}
    assert sum(each["parameters"] for each in found["components"]) == found["parameters"]
    for place, pair in enumerate(found["pairs"]):
        parts = [each["pairs"][place]["euclidean"] ** 2 for each in found["components"]]
        assert math.sqrt(sum(parts)) == pytest.approx(pair["euclidean"], rel=1e-9)


def test_a_layer_is_that_of_its_tensors_alone(family: list[Path], tmp_path: Path) -> None:
    whole = measured(family, tmp_path)
    base, one, two = (read_checkpoint(each) for each in family[:3])
    names = [each.name for each in whole.tensors if each.layer == 1]
    assert len(names) > 5
    left, right = (
        np.concatenate([(np.float32(model[name]) - np.float32(base[name])).ravel() for name in names]).astype(
            float
        )
        for model in (one, two)
    )
    cosine = left @ right / np.linalg.norm(left) / np.linalg.norm(right)
    assert figures(whole)["layers"][1]["pairs"][0]["cosine"] == pytest.approx(cosine, abs=1e-12)


def test_it_does_not_matter_how_it_is_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    base = rng.standard_normal(5 * LEAF + 77) * 0.05
    folders = []
    for number in range(3):
        folder = tmp_path / f"m{number}"
        folder.mkdir()
        moved = base + (number > 0) * 0.004 * rng.standard_normal(len(base))
        write_weights(
            folder, {"a.weight": moved.astype(ml_dtypes.bfloat16), "b.weight": moved[:9].astype(np.float16)}
        )
        folders.append(folder)
    results = [
        json.dumps(figures(measured(folders, tmp_path, **how)))
        for how in ({"threads": 1}, {"threads": 4}, {"threads": 2, "reader": "pread"})
    ]
    assert len(set(results)) == 1


def test_what_is_known_is_not_read_again(
    family: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = FindingCache()
    one = figures(measured(family, tmp_path, known))
    monkeypatch.setattr(MomentSweep, "measure", None)
    assert figures(measured(family, tmp_path, known)) == one


def test_a_new_model_adds_only_its_own_pairs(
    family: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = FindingCache()
    measured(family[:3], tmp_path, known)
    asked: list[int] = []
    inner = FindingCache.remember
    monkeypatch.setattr(
        FindingCache,
        "remember",
        lambda self, key, numbers: (asked.append(len(numbers)), inner(self, key, numbers)),
    )
    found = measured(family, tmp_path, known)
    tensors = len(found.tensors)
    assert sorted(asked) == [1] * 2 * tensors + [2] * tensors
    assert figures(found) == figures(measured(family, tmp_path))


def test_a_model_that_equals_its_base_has_no_direction(family: list[Path], tmp_path: Path) -> None:
    same = tmp_path / "same"
    shutil.copytree(family[0], same)
    found = figures(measured([family[0], family[1], same], tmp_path))
    assert found["pairs"][0]["cosine"] is None
    assert found["pairs"][0]["pearson"] is None
    assert found["pairs"][0]["euclidean"] == pytest.approx(found["models"][0]["norm"])
    assert found["mean"]["cosine"] is None


def test_what_is_not_finite_is_told(family: list[Path], tmp_path: Path) -> None:
    weights = dict(read_checkpoint(family[1]))
    weights["model.norm.weight"] = weights["model.norm.weight"].copy()
    weights["model.norm.weight"][3] = np.nan
    broken = write_checkpoint(tmp_path / "broken", SMALL, weights=weights)
    with pytest.raises(SourceError, match=r"model\.norm\.weight.*broken"):
        measured([family[0], family[2], broken], tmp_path)


def test_what_has_no_elements_or_no_fractions_is_passed_over(tmp_path: Path) -> None:
    folders = []
    for number in range(3):
        folder = tmp_path / f"m{number}"
        folder.mkdir()
        values = np.arange(9, dtype=np.float32) + number * np.arange(9)[::-1]
        more = {"empty": np.zeros((0, 3), np.float32), "ids": np.arange(3)}
        write_weights(folder, {"a.weight": values.astype(np.float32), **more})
        folders.append(folder)
    found = figures(measured(folders, tmp_path))
    assert (found["tensors"], found["parameters"]) == (1, 9)
    assert found["pairs"][0]["cosine"] == pytest.approx(1.0)
    only = tmp_path / "only"
    for number in range(3):
        (only / f"m{number}").mkdir(parents=True)
        write_weights(only / f"m{number}", {"ids": np.arange(3)})
    with pytest.raises(PlanError, match="no tensor of a floating type"):
        sitting_of([only / f"m{number}" for number in range(3)], tmp_path)


def test_the_gram_is_that_of_the_vectors(family: list[Path], tmp_path: Path) -> None:
    base, *models = (ModelRef(str(each)) for each in family)
    found = finish(task_vector_gram(base, models, home=tmp_path, settings=Settings()))
    deltas = np.stack(deltas_of(family))
    np.testing.assert_allclose(np.array(found), deltas @ deltas.T, rtol=1e-11)


def run(spec: KinshipSpec, tmp_path: Path) -> list[Report]:
    return list(JOBS.get("kinship").run(spec, context(tmp_path)))


def test_the_job_plans_warns_and_finishes(family: list[Path], tmp_path: Path) -> None:
    near = tmp_path / "near"
    weights = read_checkpoint(family[1])
    base = read_checkpoint(family[0])
    nearly = {
        name: (1.5 * each.astype(np.float64) - 0.5 * base[name].astype(np.float64)).astype(np.float32)
        for name, each in weights.items()
    }
    write_checkpoint(near, SMALL, weights=nearly)
    spec = KinshipSpec(str(family[0]), (str(family[1]), str(near)))
    reports = run(spec, tmp_path)
    assert isinstance(reports[0], Planned)
    assert reports[0].summary["bytes_read"] > 0
    assert reports[0].summary["peak_memory"] <= reports[0].summary["memory"]
    notes = [each.text for each in reports if isinstance(each, Note)]
    assert any("tune-0 and near moved the same way" in each for each in notes)
    last = reports[-1]
    assert isinstance(last, Finished)
    assert last.result["saturated"] == [["tune-0", "near"]]
    json.dumps(last.result, allow_nan=False)


def test_bad_input_is_told_before_work(family: list[Path], tmp_path: Path) -> None:
    base, one, two, _ = (str(each) for each in family)
    wide = write_checkpoint(
        tmp_path / "wide", Model(hidden=64, intermediate=48, layers=2, heads=2, kv_heads=1, vocab=300)
    )
    deep = write_checkpoint(
        tmp_path / "deep", Model(hidden=32, intermediate=48, layers=3, heads=2, kv_heads=1, vocab=300)
    )
    lacking = {name: each for name, each in read_checkpoint(family[1]).items() if "o_proj" not in name}
    holed = write_checkpoint(tmp_path / "holed", SMALL, weights=lacking)
    for models, kind, text in (
        ((one,), UsageError, "two or more"),
        ((one, one), UsageError, "different checkpoints"),
        ((one, base), UsageError, "different checkpoints"),
        ((one, str(tmp_path / "gone")), SourceNotFound, "gone"),
        ((one, str(wide)), AlloydError, "shape"),
        ((one, str(deep)), AlloydError, "layers"),
        ((one, str(holed)), PlanError, "o_proj"),
        ((one, "org/two+org/lora"), SourceNotFound, "org/two"),
    ):
        with pytest.raises(kind, match=text):
            run(KinshipSpec(base, models), tmp_path)
    with pytest.raises(AlloydError, match="memory"):
        run(KinshipSpec(base, (one, two), memory=1000), tmp_path)


def test_adapters_are_as_akin_as_what_they_make_of_their_base(family: list[Path], tmp_path: Path) -> None:
    base = family[0]
    weights = read_checkpoint(base)
    adapters = [write_adapter(tmp_path / each, weights, rank=2, seed=seed) for seed, each in enumerate("xy")]
    named = (f"{base}+{adapters[0]}", f"{base}+{adapters[1]}", str(family[1]))
    plain = [family[1]]
    for adapter in reversed(adapters):
        made = merged(weights, read_safetensors(adapter / "adapter_model.safetensors"), 4.0)
        whole = {name: each.astype(np.float32) for name, each in made.items()}
        plain.insert(0, write_checkpoint(tmp_path / f"made-{adapter.name}", SMALL, weights=whole))
    for folder in (*adapters, *plain):
        for file in folder.iterdir():
            os.utime(file, ns=(LONG_AGO, LONG_AGO))
    for _ in range(2):  # the second time from what is known
        (found, wanted) = (
            figures_of(run(KinshipSpec(str(base), models, str(tmp_path)), tmp_path))
            for models in (named, tuple(map(str, plain)))
        )
        assert [each["name"] for each in found["models"]] == ["base+x", "base+y", family[1].name]
        for one, other in zip(found["pairs"], wanted["pairs"], strict=True):
            assert one["cosine"] == pytest.approx(other["cosine"], abs=1e-5)
            assert one["euclidean"] == pytest.approx(other["euclidean"], rel=1e-5)
        assert abs(found["pairs"][0]["cosine"]) < 0.3


def figures_of(reports: list[Report]) -> dict[str, Any]:
    assert isinstance(reports[-1], Finished)
    return reports[-1].result


def test_the_page_names_every_key(family: list[Path], tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "kinship.md").read_text()
    (last,) = (each for each in run(KinshipSpec(str(family[0]), tuple(map(str, family[1:]))), tmp_path)[-1:])
    assert isinstance(last, Finished)
    named = set(re.findall(r"`(\w+)`", page))
    parts = [last.result, *(last.result[key][0] for key in ("models", "pairs", "layers", "components"))]
    assert {key for part in parts for key in part} <= named
    assert {*COMPONENTS, "other"} <= named
    assert f"over {SATURATED}" in page
