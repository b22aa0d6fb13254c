"""The engine: right by the float64 references, the same bytes however it is cut, resumable, and honest on failure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alloyd_daemon.checkpoints.checkpoint import open_checkpoint
from alloyd_daemon.checkpoints.reader import open_reader
from alloyd_daemon.engine import tensor_run
from alloyd_daemon.engine.merge import merge
from alloyd_daemon.engine.sparsifier import Sparsifier
from alloyd_daemon.engine.tensor_run import TensorRun
from alloyd_kernels.dtypes import LEAF
from alloyd_kernels.sparsify.reference import draw_mask, top_k
from alloyd_kernels.task_vectors.reference import combine
from alloyd_kernels.weighted_sum.reference import weighted_sum
from checkpoint_factory import read_checkpoint, write_weights
from merge_driver import MemorySink, outline_of, plan_of, run_merge, values_of

SHAPES = {
    "a.weight": (300, 1000),
    "b.weight": (2 * LEAF + 77,),
    "c.bias": (3,),
    "empty": (0, 4),
    "scalar": (),
}
METHODS: dict[str, tuple[int | None, list[dict[str, Any]], dict[str, Any]]] = {
    "linear": (None, [{"weight": 0.2}, {"weight": 0.5}, {"weight": 0.6}], {"normalize": True}),
    "task_arithmetic": (
        0,
        [{}, {"weight": 0.7, "density": 1.0}, {"weight": -0.4, "density": 1.0}],
        {"normalize": False, "rescale": False, "lambda": 1.5},
    ),
    "ties": (
        0,
        [{}, {"weight": 0.7, "density": 0.3}, {"weight": 0.4, "density": 0.55}],
        {"normalize": True, "rescale": False, "lambda": 1.0},
    ),
    "dare_ties": (
        0,
        [{}, {"weight": 0.7, "density": 0.3}, {"weight": 0.4, "density": 0.55}],
        {"normalize": False, "rescale": True, "lambda": 1.0},
    ),
    "dare_linear": (
        0,
        [{}, {"weight": 0.7, "density": 0.3}, {"weight": 0.4, "density": 0.55}],
        {"normalize": False, "rescale": True, "lambda": 1.0},
    ),
    "slerp": (0, [{}, {}], {"t": 0.35}),
    "passthrough": (None, [{"scale": 0.5}], {}),
}


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three models in bf16 whose differences have many exact ties, as real fine-tunes do."""
    import ml_dtypes

    folder = tmp_path_factory.mktemp("family")
    rng = np.random.default_rng(7)
    base = {name: rng.standard_normal(shape) * 0.05 for name, shape in SHAPES.items()}
    folders = []
    for number in range(3):
        weights = {
            name: np.asarray(value + (number > 0) * 0.004 * rng.standard_normal(value.shape)).astype(
                ml_dtypes.bfloat16
            )
            for name, value in base.items()
        }
        place = folder / f"model-{number}"
        place.mkdir()
        write_weights(place, weights)
        folders.append(place)
    return folders


def sources(folders: list[Path], name: str, count: int) -> list[npt.NDArray[np.float64]]:
    return [read_checkpoint(folder)[name].astype(np.float64).reshape(-1) for folder in folders[:count]]


def expected(method: str, folders: list[Path], name: str, seed: int = 0) -> npt.NDArray[np.float64]:
    base, inputs, shared = METHODS[method]
    values = sources(folders, name, len(inputs))
    if method == "linear":
        weights = [each["weight"] for each in inputs]
        return weighted_sum(values, weights, sum(weights))
    if method == "passthrough":
        return values[0] * 0.5
    if method == "slerp":
        left, right = (each / np.linalg.norm(each) if each.size else each for each in values)
        cosine = float(left @ right)
        t = shared["t"]
        if abs(cosine) > 0.9995 or not values[0].size:
            return (1 - t) * values[0] + t * values[1]
        angle = np.arccos(cosine)
        return np.asarray(
            (np.sin((1 - t) * angle) * values[0] + np.sin(t * angle) * values[1]) / np.sin(angle)
        )
    assert base == 0
    deltas = []
    for position in (1, 2):
        delta = (np.float32(values[position]) - np.float32(values[0])).astype(np.float64)
        density = inputs[position]["density"]
        if method == "ties" and delta.size:
            delta = np.where(top_k(delta, max(1, int(density * delta.size))), delta, 0)
        elif method.startswith("dare"):
            key = Sparsifier.draw(density, seed=seed, tensor=name, position=position).key
            kept = np.where(draw_mask(key, 0, delta.size, density), delta, 0)
            whole, part = np.abs(delta).sum(), np.abs(kept).sum()
            delta = kept * (whole / part) if part > 1e-7 and whole > 1e-7 else kept
        deltas.append(delta)
    return combine(
        values[0],
        deltas,
        [each["weight"] for each in inputs[1:]],
        consensus=method.endswith("ties"),
        normalize=shared["normalize"],
        scale=shared["lambda"],
    )


def outline(method: str, family: list[Path], **extra: Any) -> Any:
    base, inputs, shared = METHODS[method]
    return outline_of(family[: len(inputs)], method, base=base, inputs=inputs, shared=shared, **extra)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_what_its_reference_gives(method: str, family: list[Path]) -> None:
    plan = plan_of(outline(method, family, dtype="float32"))
    sink = MemorySink(plan)
    run_merge(plan, sink)
    for name, found in values_of(plan, sink).items():
        wanted = expected(method, family, name).reshape(found.shape)
        if not wanted.size:
            continue
        close = np.isclose(found, wanted, rtol=1e-5, atol=np.abs(wanted).max() * 2.0**-15)
        # A weighted sign sum that cancels may be elected either way.
        assert close.mean() > (0.999 if method.endswith("ties") else 1.0 - 1e-12), name


@pytest.mark.parametrize("method", METHODS)
def test_the_bytes_do_not_depend_on_threads_blocks_or_door(method: str, family: list[Path]) -> None:
    wanted = None
    for threads, block, door in [
        (1, None, "mmap"),
        (2, LEAF, "mmap"),
        (5, 2 * LEAF, "pread"),
        (3, LEAF, "pread"),
    ]:
        plan = plan_of(outline(method, family), threads=threads, block=block, buffered=door == "pread")
        sink = MemorySink(plan)
        run_merge(plan, sink, door=door)
        found = [each.tobytes() for each in sink.data]
        assert wanted is None or found == wanted
        wanted = found


@pytest.mark.parametrize("method", METHODS)
def test_passes_are_never_more_than_the_plan_says(
    method: str, family: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    sweeps: dict[str, int] = {}
    step = TensorRun._step

    def counted(run: TensorRun, result: Any) -> None:
        sweeps[run.plan.name] = sweeps.get(run.plan.name, 0) + 1
        step(run, result)

    monkeypatch.setattr(TensorRun, "_step", counted)
    plan = plan_of(outline(method, family))
    run_merge(plan, MemorySink(plan))
    assert all(0 < sweeps[each.name] <= each.passes for each in plan.tensors if each.elements)
    assert max(sweeps.values()) == plan.passes


def test_a_seed_changes_random_masks_and_only_those(family: list[Path]) -> None:
    def data(method: str, seed: int) -> list[bytes]:
        plan = plan_of(outline(method, family, seed=seed))
        sink = MemorySink(plan)
        run_merge(plan, sink)
        return [each.tobytes() for each in sink.data]

    assert data("dare_ties", 1) == data("dare_ties", 1)
    assert data("dare_ties", 1) != data("dare_ties", 2)
    assert data("ties", 1) == data("ties", 2)


@pytest.mark.parametrize("method", ["ties", "dare_ties", "linear", "slerp"])
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_merge_that_stops_anywhere_goes_on_to_the_same_bytes(
    method: str, data: st.DataObject, family: list[Path]
) -> None:
    plan = plan_of(outline(method, family), block=LEAF)
    whole = MemorySink(plan)
    merged = run_merge(plan, whole)
    stop = data.draw(st.integers(0, whole.writes - 1))
    broken = MemorySink(plan, fail_after=stop)
    with pytest.raises(OSError, match="full"):
        run_merge(plan, broken)
    assert broken.checkpoints == 1
    kept = data.draw(st.sets(st.integers(0, max(len(broken.done) - 1, 0))))
    blocks = [block for place, block in enumerate(broken.done) if place not in kept]
    again = MemorySink(plan, blocks)
    for mine, theirs in zip(again.data, broken.data, strict=True):
        mine[:] = theirs
    resumed = run_merge(plan, again)
    assert [each.tobytes() for each in again.data] == [each.tobytes() for each in whole.data]
    assert again.writes == whole.writes - len(blocks)
    assert resumed.tensors == merged.tensors
    assert [dict(each) for each in resumed.sources] == [dict(each) for each in merged.sources]


def test_closing_the_generator_finishes_blocks_in_hand_and_checkpoints(family: list[Path]) -> None:
    plan = plan_of(outline("ties", family), block=LEAF)
    sink = MemorySink(plan)
    readers = [open_reader(open_checkpoint(model.path)) for model in plan.outline.models]
    steps = merge(plan, readers, sink)
    next(steps)
    steps.close()
    assert sink.checkpoints <= 1
    assert len(sink.done) == sink.writes


@pytest.mark.parametrize("method", METHODS)
def test_neither_bytes_nor_digests_depend_on_strips(
    method: str, family: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(outline(method, family))
    whole, parts = MemorySink(plan), MemorySink(plan)
    wanted = run_merge(plan, whole)
    monkeypatch.setattr(tensor_run, "STRIP", LEAF)
    found = run_merge(plan, parts)
    assert [each.tobytes() for each in parts.data] == [each.tobytes() for each in whole.data]
    assert found.tensors == wanted.tensors
    assert [dict(each) for each in found.sources] == [dict(each) for each in wanted.sources]


@pytest.mark.parametrize("method", ["ties", "slerp"])
def test_without_digests_the_bytes_are_the_same(method: str, family: list[Path]) -> None:
    plan = plan_of(outline(method, family))
    with_digests, without = MemorySink(plan), MemorySink(plan)
    run_merge(plan, with_digests)
    merged = run_merge(plan, without, digests=False)
    assert [each.tobytes() for each in without.data] == [each.tobytes() for each in with_digests.data]
    assert merged.tensors == {}
    assert [dict(each) for each in merged.sources] == [{}] * len(plan.outline.models)
    assert not any(block.pieces or block.inputs for block in without.done)


def test_non_finite_results_are_counted_by_tensor(tmp_path: Path) -> None:
    weights: Mapping[str, npt.NDArray[np.float32]] = {
        "fine": np.ones(1000, dtype=np.float32),
        "odd": np.array([1.0, np.inf, np.nan, 2.0], dtype=np.float32),
    }
    write_weights(tmp_path, dict(weights))
    plan = plan_of(
        outline_of([tmp_path], "linear", base=None, inputs=[{"weight": 1.0}], shared={"normalize": True})
    )
    merged = run_merge(plan, MemorySink(plan))
    assert merged.non_finite == {"odd": 2}


def test_tensors_that_are_not_floats_must_agree_and_are_copied(tmp_path: Path) -> None:
    from alloyd.errors import SourceError

    folders = [tmp_path / "a", tmp_path / "b"]
    for folder, last in zip(folders, (3, 3), strict=True):
        folder.mkdir()
        write_weights(folder, {"ids": np.array([1, 2, last]), "w": np.ones(4, dtype=np.float32)})
    inputs = [{"weight": 1.0}, {"weight": 3.0}]
    plan = plan_of(outline_of(folders, "linear", base=None, inputs=inputs, shared={"normalize": True}))
    sink = MemorySink(plan)
    run_merge(plan, sink)
    place = next(each.slot for each in plan.tensors if each.name == "ids")
    assert sink.data[place].view(np.int64).tolist() == [1, 2, 3]
    write_weights(folders[1], {"ids": np.array([1, 2, 4]), "w": np.ones(4, dtype=np.float32)})
    plan = plan_of(outline_of(folders, "linear", base=None, inputs=inputs, shared={"normalize": True}))
    with pytest.raises(SourceError, match="'ids'"):
        run_merge(plan, MemorySink(plan))


def test_a_passthrough_without_scale_copies_every_bit(tmp_path: Path) -> None:
    bits = np.arange(2**16, dtype=np.uint16)
    import ml_dtypes

    write_weights(tmp_path, {"all": bits.view(ml_dtypes.bfloat16)})
    plan = plan_of(outline_of([tmp_path], "passthrough", base=None, inputs=[{}], shared={}))
    sink = MemorySink(plan)
    run_merge(plan, sink)
    np.testing.assert_array_equal(sink.data[0].view(np.uint16), bits)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_the_output_has_the_dtype_that_was_asked_for(dtype: str, family: list[Path]) -> None:
    plan = plan_of(outline("linear", family, dtype=dtype))
    sink = MemorySink(plan)
    run_merge(plan, sink)
    found = values_of(plan, sink)["a.weight"]
    wanted = expected("linear", family, "a.weight").reshape(found.shape)
    np.testing.assert_allclose(found, wanted, rtol=2.0**-8, atol=1e-6)


def test_fp8_sources_are_merged_in_float32_and_rounded_once(tmp_path: Path) -> None:
    import ml_dtypes

    rng = np.random.default_rng(2)
    folders = []
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        write_weights(folder, {"w": (rng.standard_normal(5000)).astype(ml_dtypes.float8_e4m3fn)})
        folders.append(folder)
    inputs = [{"weight": 0.5}, {"weight": 0.5}]
    plan = plan_of(outline_of(folders, "linear", base=None, inputs=inputs, shared={"normalize": False}))
    sink = MemorySink(plan)
    run_merge(plan, sink)
    left, right = (each.astype(np.float32) for each in sources(folders, "w", 2))
    wanted = (left * np.float32(0.5) + right * np.float32(0.5)).astype(ml_dtypes.float8_e4m3fn)
    np.testing.assert_array_equal(values_of(plan, sink)["w"], wanted.astype(np.float64))
