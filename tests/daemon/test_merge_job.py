"""The merge job: complete checkpoints, the same bytes again, resumed after a stop, honest about sources that change."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alloyd.errors import OutputExists, SourceChanged
from alloyd.jobs import Finished, MergeSpec, Note, Planned, Progress, Report
from alloyd_daemon.checkpoints.verify import verify
from alloyd_daemon.job import JOBS, Context
from alloyd_daemon.settings import Settings
from checkpoint_factory import Model, read_checkpoint, write_family

MERGE = JOBS.get("merge")


@pytest.fixture
def family(tmp_path: Path) -> list[Path]:
    return write_family(tmp_path / "models", Model(layers=4, hidden=64), tunes=2)


def recipe(family: list[Path], **more: Any) -> str:
    models = [{"model": each.name, "parameters": {"weight": 0.5, "density": 0.5}} for each in family[1:]]
    return json.dumps({"merge_method": "dare_ties", "base_model": "base", "models": models} | more)


def steps(family: list[Path], out: Path, text: str = "", **more: Any) -> Iterator[Report]:
    home = out.parent / "home"
    home.mkdir(exist_ok=True)
    spec = MergeSpec(recipe=text or recipe(family), base_dir=str(family[0].parent), out=str(out), **more)
    return MERGE.run(spec, Context(home, Settings(), "merge-1"))


def merge(family: list[Path], out: Path, text: str = "", **more: Any) -> dict[str, Any]:
    reports = list(steps(family, out, text, **more))
    assert isinstance(reports[-1], Finished)
    assert sum(isinstance(each, Finished) for each in reports) == 1
    assert any(isinstance(each, Planned) for each in reports)
    return reports[-1].result


def contents(folder: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in sorted(folder.iterdir())}


def test_the_output_is_a_complete_checkpoint(family: list[Path], tmp_path: Path) -> None:
    result = merge(family, tmp_path / "out")
    files = contents(tmp_path / "out")
    assert {
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "generation_config.json",
        "README.md",
    } <= set(files)
    assert {"alloyd_recipe.yaml", "alloyd_manifest.json"} <= set(files)
    assert files["alloyd_recipe.yaml"].decode() == recipe(family)
    assert str(tmp_path) not in files["alloyd_manifest.json"].decode() + files["README.md"].decode()
    assert set(read_checkpoint(tmp_path / "out")) == set(read_checkpoint(family[0]))
    assert json.loads(files["alloyd_manifest.json"])["digest"] == result["digest"]
    list(verify(tmp_path / "out"))


def test_the_same_recipe_gives_the_same_bytes_at_another_place_and_time(
    family: list[Path], tmp_path: Path
) -> None:
    merge(family, tmp_path / "out")
    (tmp_path / "elsewhere").mkdir()
    moved = [each.rename(tmp_path / "elsewhere" / each.name) for each in family]
    for each in moved:
        for file in each.iterdir():
            os.utime(file, (5, 5))
    merge(moved, tmp_path / "again", threads=1, reader="pread", shard_size=5_000_000_000)
    assert contents(tmp_path / "again") == contents(tmp_path / "out")


@pytest.mark.parametrize("changed", ["config.json", "generation_config.json", "tokenizer.json"])
def test_a_merge_of_other_side_files_is_not_there_already(
    family: list[Path], tmp_path: Path, changed: str
) -> None:
    merge(family, tmp_path / "out")
    (family[0] / changed).write_text(json.dumps(json.loads((family[0] / changed).read_text()) | {"new": 1}))
    with pytest.raises(OutputExists):
        merge(family, tmp_path / "out")
    assert merge(family, tmp_path / "out", force=True)["already_there"] is False
    assert json.loads((tmp_path / "out" / changed).read_text())["new"] == 1


def test_a_merge_that_is_there_already_is_not_done_again(family: list[Path], tmp_path: Path) -> None:
    merge(family, tmp_path / "out")
    assert merge(family, tmp_path / "out")["already_there"] is True
    with pytest.raises(OutputExists):
        merge(family, tmp_path / "out", recipe(family, seed=1))
    before = contents(tmp_path / "out")
    merge(family, tmp_path / "out", recipe(family, seed=1), force=True)
    assert contents(tmp_path / "out") != before


def test_a_stop_keeps_what_is_staged_and_a_discard_removes_it(family: list[Path], tmp_path: Path) -> None:
    merge(family, tmp_path / "whole")
    run = steps(family, tmp_path / "out")
    for report in run:
        if isinstance(report, Progress):
            break
    run.close()  # type: ignore[attr-defined]
    assert (tmp_path / ".out.partial").exists()
    assert not (tmp_path / "out").exists()
    merge(family, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    run = steps(family, tmp_path / "second")
    while not isinstance(next(run), Progress):
        pass
    run.close()  # type: ignore[attr-defined]
    spec = MergeSpec(recipe=recipe(family), base_dir=str(family[0].parent), out=str(tmp_path / "second"))
    assert MERGE.discard is not None
    MERGE.discard(spec, Context(tmp_path / "home", Settings(), "merge-1"))
    assert not list(tmp_path.glob(".second*"))


@pytest.mark.parametrize("change", ["touched", "truncated", "removed"])
def test_a_source_that_changes_while_it_is_read_is_an_error_and_nothing_is_published(
    family: list[Path], tmp_path: Path, change: str
) -> None:
    victim = next(family[2].glob("*.safetensors"))
    run = steps(family, tmp_path / "out")
    assert any(isinstance(report, Planned) for report in run)
    if change == "touched":
        os.utime(victim, (1, 1))
    elif change == "truncated":
        os.truncate(victim, victim.stat().st_size // 2)
    else:
        victim.unlink()
    with pytest.raises(SourceChanged, match=victim.name):
        list(run)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))


def test_documents_of_one_file_are_merged_in_order(family: list[Path], tmp_path: Path) -> None:
    first = recipe(family, name="soup")
    second = {
        "merge_method": "linear",
        "models": [
            {"model": "soup", "parameters": {"weight": 1}},
            {"model": "base", "parameters": {"weight": 1}},
        ],
    }
    result = merge(family, tmp_path / "out", f"{json.dumps(second)}\n---\n{first}\n")
    assert [Path(each["out"]) for each in result["before"]] == [tmp_path / "out.parts" / "soup"]
    soup, base = read_checkpoint(tmp_path / "out.parts" / "soup"), read_checkpoint(family[0])
    for name, found in read_checkpoint(tmp_path / "out").items():
        wanted = (soup[name].astype(np.float32) + base[name].astype(np.float32)) / 2
        np.testing.assert_array_equal(found, wanted.astype(found.dtype))


def test_elements_that_are_not_finite_are_told(family: list[Path], tmp_path: Path) -> None:
    text = json.dumps({"merge_method": "linear", "models": [{"model": "base", "parameters": {"weight": 1e38}}],
                       "parameters": {"normalize": False}, "dtype": "float16"})  # fmt: skip
    reports = list(steps(family, tmp_path / "out", text))
    notes = [each.text for each in reports if isinstance(each, Note)]
    assert any("infinite" in each for each in notes)
    assert isinstance(reports[-1], Finished)
    assert reports[-1].result["non_finite"] > 0
