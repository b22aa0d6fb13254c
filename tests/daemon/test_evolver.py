"""The merge method evolver: text that lies, steps shared and left out, rows used again, and what is written."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloyd.errors import PlanError, RecipeError
from alloyd.jobs import PlanSpec
from alloyd_daemon.engine.prepare import prepare
from alloyd_daemon.engine.sparsifier import Sparsifier
from alloyd_daemon.recipes.descent import MOST_STEPS, Descent, Step, child, pruned, read
from alloyd_daemon.settings import Settings
from alloyd_kernels.descent.reference import descend
from alloyd_kernels.dtypes import LEAF
from alloyd_kernels.sparsify.kinds import KEEP
from alloyd_kernels.sparsify.reference import draw_mask
from checkpoint_factory import read_checkpoint, write_weights
from merge_driver import MemorySink, outline_of, plan_of, run_merge, values_of

SHAPES = {"a.weight": (130, 700), "b.bias": (7,), "c.norm": (LEAF + 9,)}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "step 1 is ''"),
        ("m0", "step 1 is 'm0'"),
        ("m4", "m1 to m3"),
        ("1", "step 1 is '1'"),
        ("m1<m2", "step 1 is"),
        ("m1<m2*0.5@0.9#1 ", "step 2 is ''"),
        (" m1<m2*0.5@0.9#1", "step 1 is ''"),
        ("m1<m2*0.5@0.9#1\n", "step 1 is"),
        ("m1<m2*.5@0.9#1", "step 1 is"),
        ("m1<m2*5e-1@0.9#1", "step 1 is"),
        ("m1<m2*nan@0.9#1", "step 1 is"),
        ("m1<m2*-0.5@0.9#1", "step 1 is"),
        ("m1<m2*0@0.9#1", "more than 0"),
        ("m1<m2*2.1@0.9#1", "at most 2"),
        ("m1<m2*0.5@0#1", "more than 0"),
        ("m1<m2*0.5@1.01#1", "at most 1"),
        ("m1<m2*0.5@0.9#9999999999999999", "seed"),
        ("m1<m2*0.5@0.9#01", "step 1 is"),
        ("m1<m9*0.5@0.9#1", "m1 to m3"),
        ("m1<1*0.5@0.9#1", "only steps before it"),
        ("m1<m2*0.5@0.9#1 3<m2*0.5@0.9#1", "only steps before it"),
        ("m1<m2+m3*0.5@0.9#1", "step 1 is"),
        ("m1<m2+m3-m9*0.5@0.9#1", "m1 to m3"),
        ("m１<m2*0.5@0.9#1", "step 1 is"),
        ("m1<m2*0.5@0.9#1 " * MOST_STEPS + "m1<m2*0.5@0.9#1", "1,001 steps"),
        ("x" * 10**6, "1,000,000 characters"),
    ],
)
def test_a_text_that_lies_is_refused_by_name(text: str, said: str) -> None:
    with pytest.raises(RecipeError) as refused:
        read(text, 3)
    assert said in refused.value.message
    assert refused.value.facts["key"] == "descent"
    assert len(refused.value.message) < 300


def members(steps: int) -> st.SearchStrategy[tuple[bool, int]]:
    models = st.tuples(st.just(True), st.integers(0, 3))
    return models if not steps else models | st.tuples(st.just(False), st.integers(0, steps - 1))


@st.composite
def descents(draw: st.DrawFn) -> Descent:
    steps: list[Step] = []
    for number in range(draw(st.integers(0, 12))):
        factor, rate = draw(st.sampled_from([0.5, 0.123456789, 2.0])), draw(st.sampled_from([1.0, 0.9, 1e-9]))
        seed = draw(st.integers(0, 2**53 - 1))
        parent, *rest = (draw(members(number)) for _ in range(4))
        if draw(st.booleans()):
            steps.append(Step.between(parent, rest[0], factor=factor, rate=rate, seed=seed))
        else:
            steps.append(Step(parent, rest[0], rest[1], rest[2], factor, rate, seed))
    return pruned(steps) if steps else Descent(alone=draw(st.integers(0, 3)))


@given(descents())
def test_what_is_written_is_read(descent: Descent) -> None:
    assert read(str(descent), 4) == descent
    used = descent.models
    assert read(str(descent.among(used)), len(used)).models == tuple(range(len(used)))


def masks_of(descent: Descent, tensor: str, count: int) -> list[np.ndarray[Any, Any]]:
    found = []
    for step in descent.steps:
        one = Sparsifier.draw(step.rate, seed=step.seed, tensor=tensor, position=0)
        found.append(
            np.ones(count, dtype=np.bool_) if one.kind == KEEP else draw_mask(one.key, 0, count, step.rate)
        )
    return found


def expected(descent: Descent, models: list[np.ndarray[Any, Any]], tensor: str) -> np.ndarray[Any, Any]:
    if not descent.steps:
        return models[descent.alone]
    flat = [each.ravel() for each in models]
    masks = masks_of(descent, tensor, flat[0].size)
    places = [tuple(n if model else len(flat) + n for model, n in each.members) for each in descent.steps]
    steps = [
        (*place, each.factor, mask) for place, each, mask in zip(places, descent.steps, masks, strict=True)
    ]
    return descend(flat, steps).reshape(models[0].shape)  # type: ignore[arg-type]


@given(descents())
def test_a_row_is_used_again_only_when_nobody_needs_it(descent: Descent) -> None:
    """The rows give what numbered members give, on numbers that differ everywhere."""
    from alloyd_daemon.methods import evolver

    rng = np.random.default_rng(3)
    models = [rng.standard_normal(50) for _ in range(4)]
    if not descent.steps:
        return
    rows: dict[int, Any] = {row: models[number] for row, number in enumerate(descent.models)}
    masks = masks_of(descent, "t", 50)
    placed = evolver.rows_of(descent)
    for (parent, start, toward, away, made), step, mask in zip(placed, descent.steps, masks, strict=True):
        assert made not in (parent, start, toward, away)
        assert made >= len(descent.models)
        rows[made] = np.where(mask, rows[start] + step.factor * (rows[toward] - rows[away]), rows[parent])
    np.testing.assert_array_equal(rows[placed[-1][4]], expected(descent, models, "t"))


def test_a_long_line_of_parents_needs_few_rows() -> None:
    from alloyd_daemon.methods import evolver

    text = "m1<m2*0.5@0.9#1 " + " ".join(f"{n}<m2*0.5@0.9#{n}" for n in range(1, MOST_STEPS))
    descent = read(text, 2)
    assert len(descent.steps) == MOST_STEPS
    assert max(child for *_, child in evolver.rows_of(descent)) == 3


def test_reading_and_placing_take_no_more_than_moments() -> None:
    from alloyd_daemon.methods import evolver

    wide = [f"m1<m2*0.5@0.9#{n}" for n in range(MOST_STEPS // 2)]
    half = len(wide)
    joined = [f"{1 if not n else half + n}<{n + 1}*0.5@0.9#{n}" for n in range(half)]
    began = time.process_time()
    descent = read(" ".join(wide + joined), 2)
    evolver.rows_of(descent)
    assert len(descent.steps) == MOST_STEPS
    assert time.process_time() - began < 2


def test_children_share_steps_and_forget_those_not_needed() -> None:
    one = child(Descent(alone=0), [Descent(alone=1)], factor=0.5, rate=0.9, seed=1)
    two = child(one, [Descent(alone=2)], factor=0.5, rate=0.9, seed=2)
    three = child(two, [one], factor=0.5, rate=0.9, seed=3)
    assert str(three) == "m1<m2*0.5@0.9#1 1<m3*0.5@0.9#2 2<1*0.5@0.9#3"
    away = child(three, [one, two, Descent(alone=1)], factor=0.5, rate=1.0, seed=4)
    assert str(away) == str(two) + " " + str(three).split(" ")[2] + " 3<1+2-m2*0.5@1#4"
    assert read("m1<m2*0.5@0.9#1 m1<m3*0.5@0.9#2", 3).steps == read("m1<m3*0.5@0.9#2", 3).steps


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    rng = np.random.default_rng(11)
    folders = []
    for _ in range(4):
        folder = tmp_path_factory.mktemp("model")
        write_weights(
            folder,
            {
                name: (rng.standard_normal(shape) * 0.05).astype(ml_dtypes.bfloat16)
                for name, shape in SHAPES.items()
            },
        )
        folders.append(folder)
    return folders


TEXTS = {
    "interpolation": "m1<m2*0.5@0.9#17 1<m3*0.25@0.5#18 2<1*2@1#5",
    "differences": "m2<m3*0.5@1#17 m1<1+m3-m4*0.5@0.3#18 2<m1+1-m2*0.75@0.9#3",
    "alone": "m3",
    "wide": " ".join(
        [f"m{1 + n % 4}<m{1 + (n + 1) % 4}*0.5@0.5#{n}" for n in range(20)]
        + ["1<2*0.5@0.5#1", *(f"{18 + n}<{n}*0.5@0.5#{n}" for n in range(3, 21))]
    ),
}


def plan_for(models: list[Path], text: str, **how: Any) -> Any:
    outline = outline_of(
        models, "evolver", base=None, inputs=[{}] * 4, shared={"descent": text}, dtype="float32"
    )
    return plan_of(outline, **how)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_the_model_is_what_the_steps_say(text: str, models: list[Path]) -> None:
    plan = plan_for(models, text)
    sink = MemorySink(plan)
    run_merge(plan, sink)
    descent = read(text, 4)
    sources = [read_checkpoint(each) for each in models]
    for name, values in values_of(plan, sink).items():
        wanted = expected(descent, [each[name].astype(np.float64) for each in sources], name)
        np.testing.assert_allclose(values, wanted, rtol=1e-5, atol=1e-7)


def test_bytes_do_not_depend_on_threads_and_blocks(models: list[Path]) -> None:
    outputs = set()
    for how in ({"threads": 1}, {"threads": 4, "block": LEAF}, {"threads": 3, "block": 2 * LEAF}):
        plan = plan_for(models, TEXTS["wide"], **how)
        sink = MemorySink(plan)
        run_merge(plan, sink)
        outputs.add(b"".join(each.tobytes() for each in sink.data))
    assert len(outputs) == 1


def test_rows_beyond_the_usual_are_planned(models: list[Path]) -> None:
    narrow, wide = plan_for(models, TEXTS["interpolation"]), plan_for(models, TEXTS["wide"])
    assert narrow.tensors[0].rows == 0
    assert wide.tensors[0].rows > 8
    more = wide.tensors[0].worker_bytes(buffered=False) - narrow.tensors[0].worker_bytes(buffered=False)
    assert more == 4096 * wide.tensors[0].rows
    assert wide.budget.peak > narrow.budget.peak


def test_a_mistake_is_told_once_before_work(models: list[Path]) -> None:
    with pytest.raises(RecipeError, match="uses m5"):
        plan_for(models, "m1<m5*0.5@0.9#1")


@pytest.mark.parametrize("method", ["linear", "evolver"])
def test_it_takes_no_tensor_that_a_source_lacks(method: str, models: list[Path], tmp_path: Path) -> None:
    """Where linear averages the models that have a tensor, m2 would be another model than elsewhere."""
    few = {name: each for name, each in read_checkpoint(models[0]).items() if name != "b.bias"}
    write_weights(tmp_path, few)
    parameters: dict[str, Any] = {"weight": 1.0} if method == "linear" else {"descent": "m1<m2*0.5@0.9#1"}
    recipe = {
        "merge_method": method,
        "models": [{"model": str(each)} for each in (tmp_path, *models[:2])],
        "parameters": parameters,
    }
    spec = PlanSpec(recipe=json.dumps(recipe), base_dir="/")
    if method == "linear":
        assert len(prepare(spec, home=tmp_path, settings=Settings())[-1].plan.tensors) == 3
        return
    with pytest.raises(PlanError, match=r"b\.bias"):
        prepare(spec, home=tmp_path, settings=Settings())


def test_the_page_explains_a_descent_that_can_be_read() -> None:
    page = (Path(__file__).parents[2] / "docs" / "compatibility.md").read_text()
    texts = re.findall(r'descent: "(.*?)"', page) + re.findall(r"`(m\d<\S+)`", page)
    assert len(texts) >= 3
    for text in texts:
        assert str(read(text, 4)) == text
