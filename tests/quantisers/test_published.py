"""A published pre-quantised checkpoint, a resident model and transformers' own quantising give the same logits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from alloyd.errors import PlanError
from alloyd_daemon.quantised_layout import quantised_layout
from alloyd_daemon.quantiser import quantiser
from alloyd_daemon.resident import Resident
from checkpoint_factory import ARCHITECTURES, Architecture, Model, write_checkpoint
from quantised_driver import config_of, loaded, logits, model_of, publish, torch_tensors

ZOO = Path(__file__).parents[2] / "zoo" / "models"
KINDS: list[tuple[str, dict[str, Any]]] = [
    ("nf4", {}),
    ("nf4", {"double_quant": True, "compute_dtype": "bfloat16"}),
    ("fp4", {}),
    ("int8", {}),
]


def check_all_equal(folder: Path, out: Path, name: str, options: dict[str, Any]) -> None:
    made = quantiser(name, options)
    layout = publish(folder, made, out)
    assert any(each.linear for each in layout.tensors)
    assert not layout.warnings
    at_load = logits(loaded(folder, made))
    published = loaded(out)
    assert torch.equal(logits(published), at_load)
    resident = Resident(config_of(folder), quantiser=made)
    resident.fill(torch_tensors(folder))
    assert torch.equal(logits(resident.model), at_load)
    assert not torch.equal(at_load, logits(loaded(folder)))


@pytest.mark.parametrize("name", ["nf4", "int8"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_of_every_architecture(architecture: Architecture, name: str, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "merged", model_of(architecture))
    check_all_equal(folder, tmp_path / "out", name, {})


@pytest.mark.parametrize(("name", "options"), KINDS, ids=str)
def test_of_the_zoo(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    check_all_equal(ZOO / "math", tmp_path / "out", name, options)


@pytest.mark.parametrize("dtype", ["F16", "F32"])
@pytest.mark.parametrize(("name", "options"), KINDS, ids=str)
def test_of_other_dtypes(name: str, options: dict[str, Any], dtype: str, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "merged", model_of("llama", dtype=dtype))
    check_all_equal(folder, tmp_path / "out", name, options)


def test_larger_blocks_are_read_back(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "merged", model_of("llama", intermediate=128))
    made = quantiser("nf4", {"block_size": 128})
    publish(folder, made, tmp_path / "out")
    resident = Resident(config_of(folder), quantiser=made)
    resident.fill(torch_tensors(folder))
    assert torch.equal(logits(loaded(tmp_path / "out")), logits(resident.model))


@pytest.mark.parametrize(("name", "options"), KINDS, ids=str)
def test_its_tensors_are_those_that_transformers_saves(
    name: str, options: dict[str, Any], tmp_path: Path
) -> None:
    folder = write_checkpoint(tmp_path / "merged", model_of("llama"))
    made = quantiser(name, options)
    layout = publish(folder, made, tmp_path / "out")
    saved = loaded(folder, made).state_dict()
    assert {each.name for each in layout.stored} == set(saved)
    for each in layout.stored:
        if "quant_state" not in each.name:
            assert each.shape == tuple(saved[each.name].shape)


@pytest.mark.parametrize(("name", "options"), KINDS, ids=str)
def test_its_config_is_the_merged_one_and_what_transformers_writes(
    name: str, options: dict[str, Any], tmp_path: Path
) -> None:
    folder = write_checkpoint(tmp_path / "merged", model_of("llama"))
    made = quantiser(name, options)
    publish(folder, made, tmp_path / "out")
    config = config_of(tmp_path / "out")
    assert config.pop("quantization_config") == loaded(folder, made).config.quantization_config.to_dict() | {
        "quant_method": "bitsandbytes"
    }
    assert config == config_of(folder)


def test_shapes_that_nf4_cannot_hold_stay_and_are_named(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "merged", model_of("llama", hidden=64, heads=4, intermediate=96))
    made = quantiser("nf4")
    layout = publish(folder, made, tmp_path / "out")
    left = {each.name for each in layout.tensors if each.linear is None and "proj" in each.name}
    assert left == {f"model.layers.{n}.mlp.down_proj.weight" for n in range(2)}
    assert layout.warnings == (
        "tensor 'model.layers.0.mlp.down_proj.weight' and 1 like it has 96 columns, not a multiple of the block "
        "size 64: left as it is, not quantised to nf4",
    )
    skipped = config_of(tmp_path / "out")["quantization_config"]["llm_int8_skip_modules"]
    assert {"lm_head", "model.layers.0.mlp.down_proj", "model.layers.1.mlp.down_proj"} <= set(skipped)
    resident = Resident(config_of(folder), quantiser=made)
    resident.fill(torch_tensors(folder))
    assert resident.warnings == layout.warnings
    assert torch.equal(logits(loaded(tmp_path / "out")), logits(resident.model))


def test_a_tensor_of_another_dtype_is_quantised_from_the_models(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "merged", model_of("llama", dtype="F32"))
    config = config_of(folder) | {"torch_dtype": "bfloat16"}
    (folder / "config.json").write_text(json.dumps(config))
    check_all_equal(folder, tmp_path / "out", "nf4", {})
    layout = publish(folder, quantiser("nf4"), tmp_path / "again")
    assert not any(each.unchanged for each in layout.tensors)
    assert {each.stored[0].dtype for each in layout.tensors if each.linear is None} == {"BF16"}


def test_a_checkpoint_that_is_quantised_already_is_refused(tmp_path: Path) -> None:
    config = config_of(write_checkpoint(tmp_path, model_of("llama")))
    config["quantization_config"] = {"quant_method": "bitsandbytes"}
    with pytest.raises(PlanError, match="quantised already"):
        quantised_layout([], config, quantiser("nf4"))


def test_the_last_layers_and_embeddings_stay_as_they_are(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "merged", Model(hidden=64, intermediate=64, vocab=128))
    layout = publish(folder, quantiser("int8"), tmp_path / "out")
    taken = {each.name for each in layout.tensors if each.linear}
    assert not {"lm_head.weight", "model.embed_tokens.weight"} & taken
    assert len(taken) == 2 * 7
    assert all(each.unchanged != (each.name in taken) for each in layout.tensors)
