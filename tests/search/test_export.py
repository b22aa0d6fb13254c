"""The winner's files on the zoo: both dialects plan the very tensors of the winner, and what cannot be said is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from alloyd import recipe
from alloyd.errors import AlloydError
from alloyd_daemon.engine.contents import Content
from alloyd_daemon.search.export import MERGEKIT, WINNER, export, write_files
from alloyd_daemon.search.lineage import sources_of
from alloyd_daemon.settings import Settings

MODELS = Path(__file__).parents[2] / "zoo" / "models"
ARITHMETIC: dict[str, Any] = {
    "merge_method": "task_arithmetic",
    "base_model": str(MODELS / "base"),
    "models": [
        {
            "model": str(MODELS / "math"),
            "parameters": {"weight": [{"filter": "mlp", "value": 1.25}, {"value": 1e-05}]},
        },
        {"model": str(MODELS / "lang"), "parameters": {"weight": 0.30000000000000004}},
    ],
    "dtype": "bfloat16",
}


def test_both_dialects_give_the_winner(tmp_path: Path) -> None:
    found = export(
        ARITHMETIC, head=["search-1, seed 7", "l2 0.9 (0.8 to 0.95)"], home=tmp_path, settings=Settings()
    )
    assert found.alloyd.startswith(
        "# search-1, seed 7\n# l2 0.9 (0.8 to 0.95)\nmerge_method: task_arithmetic\n"
    )
    assert found.mergekit is not None
    (said,) = recipe.load(found.mergekit)
    assert (said.dtype, said.out_dtype) == ("float32", "bfloat16")
    assert (found.why_not, found.remark) == ("", "")


def test_random_masks_are_remarked_on(tmp_path: Path) -> None:
    dare = ARITHMETIC | {"merge_method": "dare_ties", "seed": 5}
    found = export(dare, head=[], home=tmp_path, settings=Settings())
    assert found.mergekit is not None
    assert "draws other random masks" in found.mergekit.splitlines()[0]
    assert "seed" not in found.mergekit
    assert "seed: 5" in found.alloyd


def test_a_source_that_wins_is_a_recipe_too(tmp_path: Path) -> None:
    alone = {"merge_method": "passthrough", "models": [{"model": str(MODELS / "math")}]}
    assert export(alone, head=[], home=tmp_path, settings=Settings()).mergekit is not None


def test_what_mergekit_cannot_say_leaves_no_older_file(tmp_path: Path) -> None:
    found = export(ARITHMETIC, head=[], home=tmp_path / "home", settings=Settings())
    write_files(found, tmp_path)
    assert (tmp_path / WINNER).read_text() == found.alloyd
    assert (tmp_path / MERGEKIT).read_text() == found.mergekit
    from dataclasses import replace

    write_files(replace(found, mergekit=None, why_not="no words"), tmp_path)
    assert {each.name for each in tmp_path.iterdir()} - {"home"} == {WINNER}


def test_a_recipe_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AlloydError, match="tie"):
        export(ARITHMETIC | {"merge_method": "tie"}, head=[], home=tmp_path, settings=Settings())


def test_adapters_are_named_with_their_models_in_both_dialects(tmp_path: Path) -> None:
    adapters = MODELS.parent / "adapters"
    math, lang = f"{MODELS / 'base'}+{adapters / 'math'}", f"{MODELS / 'base'}+{adapters / 'lang'}"
    odd = tmp_path / "lang+more"
    odd.symlink_to(adapters / "lang")
    long = {"model": {"path": str(MODELS / "base")}, "lora": {"path": str(odd)}}
    models = [
        {"model": each, "parameters": {"weight": 0.5}} for each in (math, lang, long, str(MODELS / "lang"))
    ]
    found = export(ARITHMETIC | {"models": models}, head=["a head"], home=tmp_path, settings=Settings())
    assert found.mergekit is not None
    for text in (found.alloyd, found.mergekit):
        (said,) = recipe.load(text)
        refs = [each.model for each in said.models]
        assert [str(each) for each in refs[:2]] == [math, lang]
        assert refs[2].lora == recipe.ModelRef(str(odd))
        assert refs[3].lora is None
    assert "--lora-merge-cache" in found.remark
    assert found.mergekit.splitlines()[:2] == ["# a head", f"# {found.remark}"]
    assert found.remark not in found.alloyd
    rows = sources_of(found.candidate, [Content()] * 5)
    assert [each["adapter"] for each in rows[:3]] == [
        str(adapters / "math"),
        str(adapters / "lang"),
        str(odd),
    ]
    assert [each["adapter"] for each in rows[3:]] == [None, None]
    assert {each["path"] for each in rows} == {str(MODELS / "base"), str(MODELS / "lang")}
    assert "adapter_config.json" in {each["name"] for each in rows[0]["files"]}
