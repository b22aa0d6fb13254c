"""Every registered merge method keeps the promises that the engine relies on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from alloyd_daemon.merge_method import METHODS, REQUIRED, MergeMethod
from alloyd_kernels.dtypes import LEAF
from checkpoint_factory import write_weights
from merge_driver import MemorySink, outline_of, plan_of, run_merge, values_of

SHAPES = {
    "matrix": (257, 300),
    "long": (LEAF + 5,),
    "one": (1,),
    "none": (0, 3),
    "scalar": (),
    "stack": (3, 5, 7),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A base and three fine-tunes; the last equals the base."""
    rng = np.random.default_rng(5)
    base = {name: rng.standard_normal(shape) * 0.1 for name, shape in SHAPES.items()}
    folders = []
    for number in range(4):
        folder = tmp_path_factory.mktemp("model")
        move = 0.01 if number in (1, 2) else 0.0
        weights = {
            name: np.asarray(each + move * rng.standard_normal(each.shape)).astype(ml_dtypes.bfloat16)
            for name, each in base.items()
        }
        write_weights(folder, weights)
        folders.append(folder)
    return folders


def settings(method: MergeMethod, scopes: tuple[str, ...], density: float) -> Mapping[str, Any]:
    """A value for each parameter: its default, else its example, else 0.5; and ``density`` for the density."""
    found: dict[str, Any] = {}
    for each in method.parameters:
        if each.scope in scopes:
            example = 0.5 if each.example is None else each.example
            found[each.name] = example if each.default is REQUIRED else each.default
    return found | ({"density": density} if "density" in found else {})


def count_of(method: MergeMethod) -> int:
    """Sources that the method takes: as many as it may, at most three fine-tunes and a base."""
    if method.base == "required":
        return 1 + min(method.most or 3, 3)
    return min(method.most or 3, 3)


def plan_for(method: MergeMethod, models: list[Path], *, density: float = 0.4, **how: Any) -> Any:
    count = count_of(method)
    outline = outline_of(
        models[:count],
        method.name,
        base=0 if method.base == "required" else None,
        inputs=[settings(method, ("input", "non_base"), density)] * count,
        shared=settings(method, ("shared",), density),
    )
    return plan_of(outline, **how)


@pytest.mark.parametrize("name", METHODS.names())
def test_it_declares_itself(name: str) -> None:
    method = METHODS.get(name)
    assert method.name == name
    assert method.summary
    assert method.reference.startswith(("arXiv:", "https://"))
    names = [each.name for each in method.parameters]
    assert len(names) == len(set(names))
    for each in method.parameters:
        assert each.about
        if each.default is not REQUIRED and each.default is not None:
            assert isinstance(each.default, each.kind)
    assert method.most is None or method.least <= method.most
    assert method.state_bytes(3, 10, 2) >= 0


@pytest.mark.parametrize("name", METHODS.names())
@pytest.mark.parametrize("density", [0.0, 0.4, 1.0])
def test_its_output_is_whole_finite_and_the_same_however_it_is_cut(
    name: str, density: float, models: list[Path]
) -> None:
    method = METHODS.get(name)
    wanted = None
    for how in (
        {"threads": 1},
        {"threads": 4, "block": LEAF},
        {"threads": 2, "block": 2 * LEAF, "buffered": True},
    ):
        plan = plan_for(method, models, density=density, **how)
        sink = MemorySink(plan)
        merged = run_merge(plan, sink, door="pread" if how.get("buffered") else "mmap")
        assert not merged.non_finite
        assert set(merged.tensors) == set(SHAPES)
        found = [each.tobytes() for each in sink.data]
        assert wanted is None or found == wanted
        wanted = found


@pytest.mark.parametrize("name", METHODS.names())
def test_sources_that_are_all_the_base_give_the_base(name: str, models: list[Path]) -> None:
    method = METHODS.get(name)
    plan = plan_for(method, [models[0]] + [models[3]] * 3)
    sink = MemorySink(plan)
    run_merge(plan, sink)
    base = plan_of(outline_of(models[:1], "passthrough", base=None, inputs=[{}], shared={}))
    kept = MemorySink(base)
    run_merge(base, kept)
    for tensor, value in values_of(plan, sink).items():
        np.testing.assert_allclose(value, values_of(base, kept)[tensor], rtol=2.0**-7)


@pytest.mark.parametrize("name", METHODS.names())
def test_a_plan_counts_its_passes_and_memory(name: str, models: list[Path]) -> None:
    plan = plan_for(METHODS.get(name), models)
    for tensor in plan.tensors:
        assert tensor.passes >= 1
        assert tensor.worker_bytes(buffered=True) >= tensor.worker_bytes(buffered=False) >= 0
        assert tensor.state_bytes(4) >= tensor.state_bytes(1) >= 0
