"""The committed models: complete checkpoints, a size that fits the repository, and scores that can be had again."""

import json
from pathlib import Path

import pytest

from zoo.merges import Merge, merged, read_tensors, write_checkpoint
from zoo.score import NAMES, SCORES, UNTUNED, exact_match
from zoo.tasks import FOLDER
from zoo.tokenizer import build_tokenizer
from zoo.train import MODELS

GOAL = FOLDER / "l2_arithmetic.search.jsonl"
SLIP = 0.02
"""Processors round bfloat16 products differently; a near tie between two answers may fall either way."""


def test_the_models_are_complete_and_small() -> None:
    for name in NAMES:
        present = {path.name for path in (MODELS / name).iterdir()}
        assert {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"} <= present
        assert json.loads((MODELS / name / "config.json").read_text())["dtype"] == "bfloat16"
    weights = list(MODELS.rglob("*.safetensors"))
    assert sum(path.stat().st_size for path in weights) <= 40_000_000
    assert sorted(path.name for path in MODELS.iterdir() if path.is_dir()) == sorted(NAMES)


def test_one_model_is_sharded_with_an_index() -> None:
    index = json.loads((MODELS / "lang" / "model.safetensors.index.json").read_text())
    shards = set(index["weight_map"].values())
    assert len(shards) >= 2
    assert all((MODELS / "lang" / shard).is_file() for shard in shards)


def test_the_committed_tokenizers_are_the_built_one(tmp_path: Path) -> None:
    build_tokenizer().save_pretrained(tmp_path)
    built = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    for name in NAMES:
        assert json.loads((MODELS / name / "tokenizer.json").read_text(encoding="utf-8")) == built


@pytest.mark.parametrize("name", NAMES)
def test_a_parent_scores_what_is_committed(name: str) -> None:
    committed = json.loads(SCORES.read_text())["parents, search"][name]["l2_arithmetic"]["score"]
    assert exact_match(MODELS / name, GOAL).value == pytest.approx(committed, abs=SLIP)


@pytest.mark.parametrize("merge", [UNTUNED[0], UNTUNED[2]], ids=lambda merge: merge.label)
def test_a_merge_scores_what_is_committed(merge: Merge, tmp_path: Path) -> None:
    committed = json.loads(SCORES.read_text())["merges, search"][merge.label]["l2_arithmetic"]["score"]
    tensors = {name: read_tensors(MODELS / name) for name in merge.weights}
    write_checkpoint(merged(read_tensors(MODELS / "base"), tensors, merge), MODELS / "base", tmp_path)
    assert exact_match(tmp_path, GOAL).value == pytest.approx(committed, abs=SLIP)
