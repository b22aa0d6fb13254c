"""Plans: what a recipe costs is known before a byte moves, and what cannot work is refused there, all at once."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloyd.errors import (
    AlloydError,
    DiskFull,
    HeaderError,
    MemoryTooSmall,
    OutputError,
    OutputExists,
    PlanError,
    Problems,
    RecipeError,
    ShapeMismatch,
    SourceNotFound,
    UsageError,
)
from alloyd.jobs import MergeSpec, PlanSpec
from alloyd_daemon.engine.budget import FIXED, allot
from alloyd_daemon.engine.plan import promote
from alloyd_daemon.engine.prepare import Prepared, prepare
from alloyd_daemon.settings import Settings
from checkpoint_factory import Model, write_checkpoint, write_family, write_weights
from merge_driver import outline_of, plan_of

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return list(write_family(tmp_path_factory.mktemp("family"), Model(), tunes=2))


def ties(folders: list[Path], **more: Any) -> dict[str, Any]:
    models = [{"model": str(each), "parameters": {"weight": 0.5, "density": 0.5}} for each in folders[1:]]
    return {
        "merge_method": "ties",
        "base_model": str(folders[0]),
        "models": models,
        "dtype": "bfloat16",
    } | more


def spec_of(recipe: dict[str, Any] | str, out: Path | None = None, **more: Any) -> MergeSpec | PlanSpec:
    text = recipe if isinstance(recipe, str) else json.dumps(recipe)
    if out is None:
        return PlanSpec(recipe=text, base_dir="/", **more)
    return MergeSpec(recipe=text, base_dir="/", out=str(out), **more)


def prepared(recipe: dict[str, Any] | str, home: Path, out: Path | None = None, **more: Any) -> Prepared:
    return prepare(spec_of(recipe, out, **more), home=home, settings=Settings())[-1]


def refused(recipe: dict[str, Any] | str, home: Path, out: Path | None = None, **more: Any) -> AlloydError:
    with pytest.raises(AlloydError) as caught:
        prepared(recipe, home, out, **more)
    error = caught.value
    for each in error.problems if isinstance(error, Problems) else (error,):
        assert each.message
        assert "\n" not in each.message
        assert each.status != 0
    return error


def test_a_summary_says_what_will_be_moved(family: list[Path], tmp_path: Path) -> None:
    one = prepared(ties(family), tmp_path, tmp_path / "out", memory=512 * MIB, threads=2)
    summary = one.summary()
    source = sum(each.stat().st_size for each in family[0].glob("*.safetensors"))
    assert source * 3 * 0.9 < summary["bytes_read"] < source * 3
    assert summary["bytes_swept"] <= summary["bytes_read"] * summary["passes"]
    assert summary["passes"] == 3
    assert abs(summary["bytes_write"] - source) < 4096
    assert FIXED < summary["peak_memory"] <= summary["memory"] == 512 * MIB
    assert summary["disk_free"] > summary["disk_needed"] > summary["bytes_write"]
    assert [each["bytes"] for each in summary["models"]] == [one.checkpoints[0].nbytes] * 3
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".*"))


def test_a_plan_is_the_same_whatever_the_threads_and_its_identity_follows_every_value(
    family: list[Path], tmp_path: Path
) -> None:
    def identity(recipe: dict[str, Any], **more: Any) -> str:
        return prepared(recipe, tmp_path, **more).plan.identity

    same = identity(ties(family))
    assert identity(ties(family), threads=1, memory=400 * MIB, reader="pread") == same
    assert identity(ties(family, seed=1)) != same
    assert identity(ties(family, dtype="float16")) != same
    assert identity(ties(family, parameters={"lambda": 0.9})) != same
    assert identity(ties([family[0], family[2], family[1]])) != same
    os.utime(next(family[1].glob("*.safetensors")), (1, 1))
    assert identity(ties(family)) != same


def test_a_budget_that_is_too_small_names_the_least_that_works(family: list[Path], tmp_path: Path) -> None:
    error = refused(ties(family), tmp_path, memory=10 * MIB)
    assert isinstance(error, MemoryTooSmall)
    least = error.facts["least"]
    assert isinstance(least, int)
    again = prepared(ties(family), tmp_path, memory=least)
    assert again.plan.budget.threads == 1
    assert again.plan.budget.peak <= least
    refused(ties(family), tmp_path, memory=least - 1)


@given(memory=st.integers(FIXED, FIXED + 400 * MIB), threads=st.integers(1, 64), buffered=st.booleans())
def test_a_budget_is_never_exceeded_and_more_memory_never_means_less(
    memory: int, threads: int, buffered: bool
) -> None:
    tensors = PLAN.tensors
    try:
        granted = allot(tensors, memory=memory, threads=threads, buffered=buffered)
    except MemoryTooSmall as error:
        least = error.facts["least"]
        assert isinstance(least, int)
        assert least > memory
        assert allot(tensors, memory=least, threads=threads, buffered=buffered).threads == 1
        return
    assert granted.peak <= memory
    assert 1 <= granted.threads <= threads
    assert allot(tensors, memory=memory + MIB, threads=threads, buffered=buffered).threads >= granted.threads


def _a_plan() -> Any:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        places = [Path(folder) / str(number) for number in range(3)]
        for place in places:
            place.mkdir()
            write_weights(
                place, {"a": np.zeros((3000, 1000), dtype=np.float32), "b": np.zeros(7, dtype=np.float32)}
            )
        values = {"weight": 1.0, "density": 0.5}
        shared = {"normalize": True, "rescale": True, "lambda": 1.0}
        return plan_of(outline_of(places, "ties", base=0, inputs=[{}, values, values], shared=shared))


PLAN = _a_plan()


def test_promotion_follows_mergekit() -> None:
    assert promote(["BF16", "BF16"]) == "BF16"
    assert promote(["BF16", "F16"]) == "F32"
    assert promote(["BF16", "F32"]) == "F32"
    assert promote(["F32", "F64"]) == "F64"
    assert promote(["F8_E4M3", "BF16"]) == "BF16"
    assert promote(["F8_E4M3", "F8_E5M2"]) == "F32"


@pytest.mark.parametrize(
    ("change", "kind", "hint"),
    [
        ({"merge_methd": "ties"}, RecipeError, "merge_method"),
        ({"merge_method": "tise"}, RecipeError, "ties"),
        ({"parameters": {"lamda": 1}}, RecipeError, "lambda"),
        (
            {"parameters": {"lambda": [{"filter": "self_atn", "value": 1}, {"value": 2}]}},
            RecipeError,
            "self_attn",
        ),
        ({"dtype": "bfloat"}, RecipeError, "bfloat16"),
        ({"base_model": "nobody/nothing"}, SourceNotFound, ""),
    ],
)
def test_what_is_misspelt_is_named_with_the_nearest_known(
    change: dict[str, Any], kind: type[AlloydError], hint: str, family: list[Path], tmp_path: Path
) -> None:
    recipe = ties(family) | change
    if "merge_methd" in change:
        del recipe["merge_method"]
    error = refused(recipe, tmp_path)
    found = list(error.problems) if isinstance(error, Problems) else [error]
    assert any(isinstance(each, kind) and hint in each.hint + each.message for each in found), found


def test_shapes_that_differ_are_all_named_at_once(family: list[Path], tmp_path: Path) -> None:
    other = write_checkpoint(tmp_path / "other", Model(hidden=64))
    error = refused(ties([family[0], other]), tmp_path)
    assert error.status == ShapeMismatch.exit_status
    assert "q_proj" in error.message or "embed_tokens" in error.message


def test_models_of_different_depth_are_refused(family: list[Path], tmp_path: Path) -> None:
    other = write_checkpoint(tmp_path / "other", replace(Model(), layers=Model().layers + 1))
    error = refused(ties([family[0], other]), tmp_path)
    assert isinstance(error, PlanError)
    assert "layers" in error.message


def test_missing_and_truncated_shards_are_found_before_work(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "m", Model(), shards=3)
    shards = sorted(folder.glob("*.safetensors"))
    os.truncate(shards[1], shards[1].stat().st_size - 10)
    recipe = {"merge_method": "passthrough", "models": [{"model": str(folder)}]}
    error = refused(recipe, tmp_path)
    assert isinstance(error, HeaderError)
    assert shards[1].name in error.message
    shards[1].unlink()
    error = refused(recipe, tmp_path)
    assert isinstance(error, SourceNotFound)
    assert shards[1].name in error.message


def test_outputs_that_cannot_be_written_are_refused_before_work(
    family: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "notes.txt").write_text("mine")
    assert isinstance(refused(ties(family), tmp_path, taken), OutputExists)
    assert isinstance(refused(ties(family), tmp_path, taken, force=True), OutputExists)
    (tmp_path / "file").write_text("")
    assert isinstance(refused(ties(family), tmp_path, tmp_path / "file" / "out"), OutputError)
    assert isinstance(refused(ties(family), tmp_path, Path("relative")), OutputError)
    assert isinstance(refused(ties(family), tmp_path, Path("/")), OutputError)
    assert isinstance(refused(ties(family), tmp_path, tmp_path / ("n" * 250)), OutputError)
    assert isinstance(refused(ties(family), tmp_path, tmp_path.joinpath(*["n" * 100] * 60)), OutputError)
    real = os.statvfs

    def full(path: Any) -> Any:
        room = list(real(path))
        room[4] = 100
        return os.statvfs_result(room)

    monkeypatch.setattr(os, "statvfs", full)
    error = refused(ties(family), tmp_path, tmp_path / "out")
    assert isinstance(error, DiskFull)
    assert not list(tmp_path.glob(".out*"))


def test_a_source_is_never_replaced_by_its_merge(tmp_path: Path) -> None:
    family = write_family(tmp_path / "models", Model(layers=2, hidden=64), tunes=2)
    (tmp_path / "link").symlink_to(family[1])
    blob = tmp_path / "blobs" / "1.safetensors"
    blob.parent.mkdir()
    (family[2] / "model.safetensors").rename(blob)
    (family[2] / "model.safetensors").symlink_to(blob)
    for out in (family[0], family[1], tmp_path / "link", family[2], blob.parent):
        error = refused(ties(family), tmp_path, out, force=True)
        assert isinstance(error, OutputError)
        assert "holds a source of this merge" in error.message
        assert error.hint


def test_options_that_make_no_sense_are_usage_errors(family: list[Path], tmp_path: Path) -> None:
    assert isinstance(refused(ties(family), tmp_path, reader="telepathy"), UsageError)
    assert isinstance(refused(ties(family), tmp_path, threads=0), UsageError)
    assert isinstance(refused(ties(family), tmp_path, shard_size=0), UsageError)


def test_floats_and_integers_under_one_name_cannot_be_merged(tmp_path: Path) -> None:
    for name, dtype in (("a", np.float32), ("b", np.int32)):
        (tmp_path / name).mkdir()
        write_weights(tmp_path / name, {"w": np.zeros(4, dtype=dtype)})
    with pytest.raises(PlanError, match="element types"):
        plan_of(
            outline_of(
                [tmp_path / "a", tmp_path / "b"],
                "linear",
                base=None,
                inputs=[{"weight": 1.0}] * 2,
                shared={"normalize": True},
            )
        )


def test_documents_are_planned_from_each_others_plans(family: list[Path], tmp_path: Path) -> None:
    first = ties(family, name="soup")
    second = {
        "merge_method": "slerp",
        "base_model": "soup",
        "models": [{"model": str(family[1])}],
        "parameters": {"t": 0.5},
    }
    second["models"].append({"model": "soup"})
    text = f"{json.dumps(first)}\n---\n{json.dumps(second)}\n"
    one, two = prepare(spec_of(text, tmp_path / "out"), home=tmp_path, settings=Settings())
    assert (one.recipe.name, two.recipe.name) == ("soup", None)
    assert two.out == tmp_path / "out"
    assert one.out is not None
    assert one.out.parent == tmp_path / "out.parts"
    assert two.plan.parameters == one.plan.parameters
