"""What a rebuild leaves alone: files that people put beside a model, and parts of a recipe that are as they were."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from alloyd.errors import DigestMismatch, OutputExists, UsageError
from alloyd.jobs import MergeSpec, RebuildSpec
from alloyd_daemon.checkpoints.manifest import MANIFEST
from checkpoint_factory import Model, write_family
from daemon.test_rebuild import digests, merge, run, strip


@pytest.fixture
def models(tmp_path: Path) -> list[Path]:
    return write_family(tmp_path / "models", Model(dtype="F32"), tunes=2)


def rebuild(out: Path, tmp_path: Path) -> None:
    run(RebuildSpec(str(out), str(out), str(tmp_path)), tmp_path)


@pytest.mark.parametrize(("name", "told"), [("notes.txt", "is not of its manifest"), ("README.md", "edited")])
def test_what_people_wrote_beside_the_model_is_not_lost(
    tmp_path: Path, models: list[Path], name: str, told: str
) -> None:
    out = tmp_path / "out"
    merge(models, out, tmp_path)
    strip(out)
    (out / name).write_text("mine\n")
    with pytest.raises(OutputExists, match=told) as refused:
        rebuild(out, tmp_path)
    assert str(out / name) in refused.value.message
    assert (out / name).read_text() == "mine\n"
    (out / name).unlink()
    rebuild(out, tmp_path)
    assert (out / "model.safetensors").exists()


def test_a_manifest_of_another_version_with_other_fields_is_not_called_damaged(
    tmp_path: Path, models: list[Path]
) -> None:
    out = tmp_path / "out"
    merge(models, out, tmp_path)
    change(out, version=2, speed="high")
    with pytest.raises(DigestMismatch, match="is of version 2") as refused:
        rebuild(out, tmp_path)
    assert "the version of alloyd that wrote it" in refused.value.hint


def test_a_manifest_that_says_otherwise_of_itself_is_told_by_the_field(
    tmp_path: Path, models: list[Path]
) -> None:
    out = tmp_path / "out"
    merge(models, out, tmp_path)
    strip(out)
    change(out, seed=99)
    with pytest.raises(DigestMismatch, match="another seed") as refused:
        rebuild(out, tmp_path)
    assert "manifest" in refused.value.hint


def change(out: Path, **fields: object) -> None:
    file = out / MANIFEST
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


@pytest.fixture
def with_part(tmp_path: Path, models: list[Path]) -> Path:
    """An output of a recipe of two documents."""
    first = [{"model": str(each), "parameters": {"weight": 1}} for each in models[:2]]
    second = [{"model": each, "parameters": {"weight": 1}} for each in ("left", str(models[2]))]
    recipe = "\n---\n".join(
        json.dumps({"merge_method": "linear", "dtype": "float32", **each})
        for each in ({"name": "left", "models": first}, {"models": second})
    )
    run(MergeSpec(recipe=recipe, base_dir=str(tmp_path), out=str(tmp_path / "out")), tmp_path)
    return tmp_path / "out"


def test_a_rebuild_that_is_refused_leaves_the_parts_of_its_recipe(
    tmp_path: Path, models: list[Path], with_part: Path
) -> None:
    part = tmp_path / "out.parts" / "left"
    before = digests(part)
    strip(with_part)
    weights = models[0] / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(
        DigestMismatch, match=r"out\.parts/left cannot be made again: .*base is not what it was"
    ):
        rebuild(with_part, tmp_path)
    assert digests(part) == before
    data[-1] ^= 1
    weights.write_bytes(data)
    strip(part)
    (part / "notes.txt").write_text("mine\n")
    with pytest.raises(OutputExists, match=r"notes\.txt"):
        rebuild(with_part, tmp_path)
    (part / "notes.txt").unlink()
    rebuild(with_part, tmp_path)
    assert digests(part) == before


def test_a_part_is_made_again_with_the_output_it_belongs_to(tmp_path: Path, with_part: Path) -> None:
    part = tmp_path / "out.parts" / "left"
    before = digests(part)
    strip(part)
    with pytest.raises(UsageError, match="a part of a larger recipe"):
        rebuild(part, tmp_path)
    assert not (tmp_path / "out.parts" / "left.parts").exists()
    strip(with_part)
    rebuild(with_part, tmp_path)
    assert digests(part) == before


def test_a_rebuild_elsewhere_that_is_refused_leaves_nothing_there(
    tmp_path: Path, models: list[Path], with_part: Path
) -> None:
    """The last document alone is not what it was; the part before it was made, and published, already."""
    again = tmp_path / "again"
    weights = models[2] / "model.safetensors"
    before = weights.read_bytes()
    weights.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    spec = RebuildSpec(str(with_part), str(again), str(tmp_path))
    kept = digests(tmp_path / "out.parts" / "left")
    with pytest.raises(DigestMismatch, match="tune-1 is not what it was"):
        run(spec, tmp_path)
    assert [each.name for each in tmp_path.iterdir() if "again" in each.name] == []
    assert digests(tmp_path / "out.parts" / "left") == kept
    weights.write_bytes(before)
    run(spec, tmp_path)
    assert digests(tmp_path / "again.parts" / "left") == kept
    weights.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    for each in again.iterdir():
        each.unlink()
    with pytest.raises(DigestMismatch, match="tune-1 is not what it was"):
        run(spec, tmp_path)
    assert digests(tmp_path / "again.parts" / "left") == kept, "it was there before"


def test_an_output_that_is_there_is_refused_with_what_a_rebuild_has(
    tmp_path: Path, models: list[Path]
) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    merge(models, out, tmp_path)
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    with pytest.raises(OutputExists, match="exists and is not empty") as refused:
        run(RebuildSpec(str(out), str(other), str(tmp_path)), tmp_path)
    assert "--force" not in refused.value.hint
    assert "leave OUT out" in refused.value.hint
