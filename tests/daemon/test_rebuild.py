"""Outputs made again from their manifests: the same bytes, or a refusal that names what is not what it was."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from alloyd.errors import DigestMismatch, SourceNotFound, UsageError
from alloyd.jobs import Finished, MergeSpec, RebuildSpec, Spec
from alloyd.recipe_schema import Form
from alloyd_daemon.checkpoints.manifest import MANIFEST
from alloyd_daemon.job import JOBS, Context
from alloyd_daemon.settings import Settings
from checkpoint_factory import Model, write_family
from extras import need


@pytest.fixture
def models(tmp_path: Path) -> list[Path]:
    return write_family(tmp_path / "models", Model(dtype="F32"), tunes=2)


def run(spec: Spec, tmp_path: Path) -> dict[str, Any]:
    kind = JOBS.get(type(spec).__struct_config__.tag)  # type: ignore[arg-type]
    context = Context(tmp_path / "home", Settings(), "rebuild-1")
    last = list(kind.run(spec, context))[-1]
    assert isinstance(last, Finished)
    return last.result


def merge(models: list[Path], out: Path, tmp_path: Path, **options: Any) -> dict[str, Any]:
    recipe = {
        "merge_method": "dare_ties",
        "base_model": str(models[0]),
        "models": [
            {"model": str(each), "parameters": {"weight": 0.6, "density": 0.5}} for each in models[1:]
        ],
        "dtype": "float32",
        "seed": 7,
    }
    return run(
        MergeSpec(recipe=json.dumps(recipe), base_dir=str(tmp_path), out=str(out), **options), tmp_path
    )


def digests(folder: Path) -> dict[str, str]:
    return {each.name: hashlib.sha256(each.read_bytes()).hexdigest() for each in sorted(folder.iterdir())}


def strip(folder: Path) -> None:
    for each in folder.iterdir():
        if each.name.endswith((".safetensors", ".safetensors.index.json", ".gguf")):
            each.unlink()


@pytest.mark.parametrize("shard_size", [5_000_000_000, 30_000])
def test_a_stripped_output_is_made_again_in_its_place(
    tmp_path: Path, models: list[Path], shard_size: int
) -> None:
    out = tmp_path / "out"
    merge(models, out, tmp_path, shard_size=shard_size)
    before = digests(out)
    strip(out)
    assert digests(out) != before
    result = run(RebuildSpec(str(out), str(out), str(tmp_path)), tmp_path)
    assert result["bytes_written"] > 0
    assert digests(out) == before


def test_a_manifest_alone_is_enough_elsewhere(tmp_path: Path, models: list[Path]) -> None:
    out, kept = tmp_path / "out", tmp_path / "kept"
    merge(models, out, tmp_path)
    before = digests(out)
    kept.mkdir()
    shutil.copy(out / MANIFEST, kept)
    shutil.rmtree(out)
    run(RebuildSpec(str(kept), str(out), str(tmp_path)), tmp_path)
    assert digests(out) == before


def test_what_is_whole_is_left_alone_and_what_is_damaged_is_replaced(
    tmp_path: Path, models: list[Path]
) -> None:
    out = tmp_path / "out"
    merge(models, out, tmp_path)
    before = digests(out)
    spec = RebuildSpec(str(out), str(out), str(tmp_path))
    assert run(spec, tmp_path)["already_there"]
    weights = out / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert not run(spec, tmp_path)["already_there"]
    assert digests(out) == before
    weights.write_bytes(weights.read_bytes()[:-100])
    assert not run(spec, tmp_path)["already_there"]
    (out / "config.json").unlink()
    assert not run(spec, tmp_path)["already_there"]
    assert digests(out) == before


def test_a_source_that_changed_is_named_and_nothing_is_published(tmp_path: Path, models: list[Path]) -> None:
    out = tmp_path / "out"
    merge(models, out, tmp_path)
    strip(out)
    left = digests(out)
    weights = models[2] / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(DigestMismatch, match="tune-1"):
        run(RebuildSpec(str(out), str(out), str(tmp_path)), tmp_path)
    assert digests(out) == left
    assert not (tmp_path / ".out.partial").exists()


def test_without_a_manifest_or_with_a_damaged_one(tmp_path: Path, models: list[Path]) -> None:
    with pytest.raises(SourceNotFound, match=MANIFEST):
        run(RebuildSpec(str(models[0]), str(tmp_path / "out"), str(tmp_path)), tmp_path)
    (models[0] / MANIFEST).write_text("{")
    with pytest.raises(DigestMismatch, match="damaged"):
        run(RebuildSpec(str(models[0]), str(tmp_path / "out"), str(tmp_path)), tmp_path)


def test_another_recipe_in_the_manifest_is_noticed(tmp_path: Path, models: list[Path]) -> None:
    out = tmp_path / "out"
    merge(models, out, tmp_path)
    strip(out)
    file = out / MANIFEST
    manifest = json.loads(file.read_text())
    manifest["recipe"] = manifest["recipe"].replace("0.6", "0.7")
    file.write_text(json.dumps(manifest))
    with pytest.raises(DigestMismatch, match="other tensors"):
        run(RebuildSpec(str(out), str(out), str(tmp_path)), tmp_path)


def test_a_quantised_output_is_made_again(tmp_path: Path) -> None:
    need("gguf", "llama_cpp")
    out = tmp_path / "out"
    base, math = (Path("zoo/models").absolute() / name for name in ("base", "math"))
    models = [{"model": str(each), "parameters": {"weight": 1}} for each in (base, math)]
    recipe = {"merge_method": "linear", "models": models}
    form = Form(format="gguf", type="Q8_0")
    run(MergeSpec(recipe=json.dumps(recipe), base_dir="/", out=str(out), form=form), tmp_path)
    before = digests(out)
    strip(out)
    run(RebuildSpec(str(out), str(out), "/"), tmp_path)
    assert digests(out) == before


def test_an_importance_matrix_must_be_given_again(tmp_path: Path, models: list[Path]) -> None:
    out = tmp_path / "out"
    merge(models, out, tmp_path)
    file = out / MANIFEST
    manifest = json.loads(file.read_text())
    manifest["stored"] = {"form": "gguf Q4_K, imatrix abc", "headers": {}, "tensors": {}}
    file.write_text(json.dumps(manifest))
    with pytest.raises(UsageError, match="importance matrix"):
        run(RebuildSpec(str(out), str(tmp_path / "other"), str(tmp_path)), tmp_path)
