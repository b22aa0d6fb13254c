"""Mixtures of experts: checkpoints keep each expert's matrices, transformers computes with stacks of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from alloyd.errors import PlanError, ShapeMismatch
from alloyd_daemon.quantiser import quantiser
from alloyd_daemon.resident import Resident
from quantised_driver import config_of, loaded, logits, publish, torch_tensors

SHARED: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 192,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": 96,
    "num_experts_per_tok": 2,
}
CONFIGS = {
    "mixtral": {"num_local_experts": 4},
    "qwen2_moe": {"num_experts": 4, "moe_intermediate_size": 64, "shared_expert_intermediate_size": 64},
    "qwen3_moe": {"num_experts": 4, "moe_intermediate_size": 64},
}


@pytest.fixture(params=CONFIGS)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A checkpoint as transformers saves it: a matrix for each expert."""
    config = transformers.CONFIG_MAPPING[request.param](**SHARED, **CONFIGS[request.param])
    torch.manual_seed(3)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(tmp_path / "merged")
    assert any(".experts.3." in name for name, _ in torch_tensors(tmp_path / "merged"))
    return tmp_path / "merged"


@pytest.mark.parametrize("name", [None, "int8", "nf4"])
def test_a_resident_mixture_is_what_transformers_loads(folder: Path, name: str | None) -> None:
    made = None if name is None else quantiser(name)
    resident = Resident(config_of(folder), quantiser=made)
    resident.fill(torch_tensors(folder))
    assert any("stacks of experts" in each for each in resident.warnings) == (name is not None)
    # A gate of one row is quantised to nf4 by transformers, which then fails on some processors.
    if not any("shared_expert_gate" in each for each in resident.warnings):
        assert torch.equal(logits(resident.model), logits(loaded(folder, made)))


@pytest.mark.parametrize("name", ["int8", "nf4"])
def test_a_published_mixture_is_the_resident_one(folder: Path, name: str, tmp_path: Path) -> None:
    made = quantiser(name)
    layout = publish(folder, made, tmp_path / "out")
    resident = Resident(config_of(folder), quantiser=made)
    resident.fill(torch_tensors(folder))
    assert layout.warnings == resident.warnings
    assert torch.equal(logits(loaded(tmp_path / "out")), logits(resident.model))


def test_one_expert_is_changed_by_itself(folder: Path) -> None:
    resident = Resident(config_of(folder))
    resident.fill(torch_tensors(folder))
    before = logits(resident.model)
    experts = [(name, each) for name, each in torch_tensors(folder) if ".experts.2." in name]
    resident.update((name, each * 2) for name, each in experts)
    assert not torch.equal(logits(resident.model), before)
    resident.update(experts)
    assert torch.equal(logits(resident.model), before)


def test_an_expert_that_is_missing_wrong_or_too_many_is_named(folder: Path) -> None:
    tensors = dict(torch_tensors(folder))
    lacking = next(name for name in tensors if ".experts.1." in name)
    with pytest.raises(PlanError, match="got no tensor"):
        Resident(config_of(folder)).fill((name, each) for name, each in tensors.items() if name != lacking)
    resident = Resident(config_of(folder))
    with pytest.raises(ShapeMismatch, match=lacking):
        resident.update([(lacking, tensors[lacking][1:])])
    with pytest.raises(PlanError, match=r"experts\.4\."):
        resident.update([(lacking.replace(".experts.1.", ".experts.4."), tensors[lacking])])
