"""Adapters that cannot be merged, or whose files lie: one clear error before work, which names file, key or tensor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapter_factory import PREFIX, write_adapter
from alloyd.errors import AlloydError, PlanError, SourceError, SourceNotFound
from alloyd.jobs import PlanSpec
from alloyd_daemon.adapters.apply import with_adapter
from alloyd_daemon.adapters.config import read_adapter_config
from alloyd_daemon.checkpoints.checkpoint import Checkpoint, open_checkpoint
from alloyd_daemon.engine.prepare import prepare
from alloyd_daemon.settings import ModelSettings, Settings
from checkpoint_factory import Model, read_safetensors, tensors, write_checkpoint, write_safetensors

MODEL = Model(layers=1)
MODULE = "model.layers.0.self_attn.q_proj"
WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return open_checkpoint(write_checkpoint(tmp_path_factory.mktemp("models") / "base", MODEL))


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return write_adapter(tmp_path / "adapter", tensors(MODEL), modules=("q_proj",))


def configure(adapter: Path, **changes: Any) -> None:
    config = json.loads((adapter / CONFIG).read_text())
    (adapter / CONFIG).write_text(json.dumps({**config, **changes}))


def rewrite(adapter: Path, changes: dict[str, Any]) -> None:
    """Other tensors in the adapter's file; ``None`` takes one out."""
    found = read_safetensors(adapter / WEIGHTS) | changes
    write_safetensors(adapter / WEIGHTS, {name: each for name, each in found.items() if each is not None})


def refusal(model: Checkpoint, adapter: Path) -> AlloydError:
    with pytest.raises(AlloydError) as raised:
        with_adapter(model, adapter)
    assert str(adapter) in raised.value.message
    return raised.value


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("peft_type", "LOHA", "an adapter of the type 'LOHA' cannot be merged"),
        ("peft_type", None, "an adapter of the type None cannot be merged"),
        ("use_dora", True, "sets 'use_dora', which cannot be merged: DoRA scales"),
        ("use_qalora", True, "sets 'use_qalora'"),
        ("use_novelty", True, "sets 'use_novelty', which cannot be merged: this version does not know it"),
        ("layer_replication", [[0, 1], [0, 1]], "sets 'layer_replication'"),
        ("trainable_token_indices", [3], "sets 'trainable_token_indices'"),
        ("target_parameters", ["mlp.experts.gate_up_proj"], "sets 'target_parameters'"),
        ("alora_invocation_tokens", [1, 2], "sets 'alora_invocation_tokens'"),
        ("lora_bias", True, "sets 'lora_bias'"),
        ("init_lora_weights", "pissa_niter_16", "init_lora_weights: 'pissa_niter_16'"),
        ("init_lora_weights", "olora", "init_lora_weights: 'olora'"),
        ("init_lora_weights", 1, "init_lora_weights: 1"),
    ],
)
def test_what_is_more_than_a_product_is_refused_by_name(
    key: str, value: Any, message: str, model: Checkpoint, adapter: Path
) -> None:
    configure(adapter, **{key: value})
    error = refusal(model, adapter)
    assert isinstance(error, PlanError)
    assert message in error.message
    assert error.hint


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("r", 0, "says r: 0"),
        ("r", None, "says r: None"),
        ("r", 4.0, "says r: 4.0"),
        ("r", True, "says r: True"),
        ("r", 10**18, "says r: 1000000000000000000"),
        ("lora_alpha", "8", "says lora_alpha: '8'"),
        ("lora_alpha", None, "says lora_alpha: None"),
        ("lora_alpha", 1e300, "says lora_alpha: 1e+300"),
        ("use_rslora", "yes", "says use_rslora: 'yes'"),
        ("fan_in_fan_out", 1, "says fan_in_fan_out: 1"),
        ("bias", "some", "says bias: 'some'"),
        ("rank_pattern", ["q_proj"], "says rank_pattern: ['q_proj']"),
        ("rank_pattern", {"q_proj": -1}, "says rank_pattern.q_proj: -1"),
        ("alpha_pattern", {"q_proj": None}, "says alpha_pattern.q_proj: None"),
        ("rank_pattern", {"(a+)+x": 4}, "too intricate"),
        ("rank_pattern", {"(a|a)*x": 4}, "too intricate"),
        ("rank_pattern", {".*.*.*.*x": 4}, "too intricate"),
        ("alpha_pattern", {"q_proj(": 4}, "no regular expression"),
    ],
)
def test_configs_that_lie(key: str, value: Any, message: str, model: Checkpoint, adapter: Path) -> None:
    configure(adapter, **{key: value})
    error = refusal(model, adapter)
    assert isinstance(error, SourceError)
    assert message in error.message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "is not JSON"),
        (b"[]", "is a JSON array"),
        (b"[" * 100_000, "nested too deeply"),
        (b"\xff{}", "is not UTF-8"),
        (b'{"peft_type": "LORA", "r": 4, "r": 8}', "has the key 'r' twice"),
        (b'{"peft_type": "LORA", "r": 4, "lora_alpha": NaN}', "NaN is not a JSON number"),
        (b'{"peft_type": "LORA", "r": 4, "lora_alpha": 1e999}', "says lora_alpha: inf"),
    ],
)
def test_configs_that_are_none(text: bytes, message: str, model: Checkpoint, adapter: Path) -> None:
    (adapter / CONFIG).write_bytes(text)
    assert message in refusal(model, adapter).message


def test_a_config_that_is_no_file(model: Checkpoint, adapter: Path, tmp_path: Path) -> None:
    (adapter / CONFIG).unlink()
    assert "does not exist" in refusal(model, adapter).message
    (adapter / CONFIG).mkdir()
    assert "cannot be read" in refusal(model, adapter).message
    (adapter / CONFIG).rmdir()
    (adapter / CONFIG).symlink_to("/dev/zero")
    assert "cannot be read" in refusal(model, adapter).message
    assert isinstance(refusal(model, adapter / WEIGHTS), SourceNotFound)


@given(st.binary(max_size=300) | st.text('{}[]",:ralpho_ 0123.eE-', max_size=60).map(str.encode))
@settings(max_examples=150, deadline=None)
def test_any_bytes_are_a_config_or_an_error(tmp_path_factory: pytest.TempPathFactory, text: bytes) -> None:
    folder = tmp_path_factory.getbasetemp() / "bytes"
    folder.mkdir(exist_ok=True)
    (folder / CONFIG).write_bytes(text)
    with pytest.raises(AlloydError, match=r"bytes/adapter_config\.json"):
        read_adapter_config(folder)


A = np.ones((4, 32), dtype=np.float32)
B = np.ones((32, 4), dtype=np.float32)
A_NAME, B_NAME = f"{PREFIX}{MODULE}.lora_A.weight", f"{PREFIX}{MODULE}.lora_B.weight"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({A_NAME: None}, "without the factor A of model.layers.0.self_attn.q_proj"),
        ({B_NAME: None}, "without the factor B of"),
        ({A_NAME: A[:3]}, "its config gives them the rank 4"),
        ({A_NAME: A[:3], B_NAME: B[:, :3]}, "its config gives them the rank 4"),
        ({A_NAME: A[:, :31]}, "make [32, 31], and 'model.layers.0.self_attn.q_proj.weight' of"),
        ({A_NAME: A[None]}, "of the shape [1, 4, 32], no matrix"),
        ({A_NAME: A[:0], B_NAME: B[:, :0]}, "of the shape [0, 32], no matrix"),
        ({A_NAME: A.astype(np.int32)}, "of the type I32"),
        ({PREFIX + MODULE + ".lora_magnitude_vector": B[:, 0]}, "cannot be merged: DoRA"),
        ({PREFIX + MODULE + ".lora_B.bias": B[:, 0]}, "cannot be merged: its factors have biases"),
        (
            {PREFIX + "model.layers.7.mlp.up_proj.lora_A.weight": A,
             PREFIX + "model.layers.7.mlp.up_proj.lora_B.weight": B},
            "has no tensor that 'base_model.model.model.layers.7.mlp.up_proj.lora_A.weight' could change",
        ),
        ({"something": A}, "has no tensor that 'something' could change"),
        ({PREFIX + "model.norm.weight": B[:31, 0]}, "is of the shape [31], and 'model.norm.weight'"),
        ({PREFIX + "model.norm.weight": np.ones(32, dtype=np.int64)}, "of the type I64, and the model's of BF16"),
        ({PREFIX + "model.embed_tokens.weight": np.ones((97, 32), np.float32)}, "is of the shape [97, 32]"),
        (
            {PREFIX + "model.norm.lora_A.weight": A, PREFIX + "model.norm.lora_B.weight": B},
            "make [32, 32], and 'model.norm.weight'",
        ),
    ],
)  # fmt: skip
def test_tensors_that_do_not_fit(
    changes: dict[str, Any], message: str, model: Checkpoint, adapter: Path
) -> None:
    rewrite(adapter, changes)
    error = refusal(model, adapter)
    assert message in error.message
    assert isinstance(error, SourceError | PlanError)


def test_a_resized_vocabulary_is_told(model: Checkpoint, adapter: Path) -> None:
    rewrite(adapter, {PREFIX + "model.embed_tokens.weight": np.ones((97, 32), np.float32)})
    assert "vocabulary resized" in refusal(model, adapter).hint


def test_a_square_weight_needs_to_know_which_way_it_lies(tmp_path: Path, adapter: Path) -> None:
    """Without a table of the family the config's fan_in_fan_out says it."""
    folder = write_checkpoint(tmp_path / "base", MODEL)
    (folder / "config.json").write_text('{"architectures": ["NovelForCausalLM"]}')
    for flag in (False, True):
        configure(adapter, fan_in_fan_out=flag)
        found = with_adapter(open_checkpoint(folder), adapter).tensors[MODULE + ".weight"]
        assert found.low_rank is not None
        assert found.low_rank.transposed is flag


def test_pickles_and_quantised_models_are_refused(tmp_path: Path, model: Checkpoint, adapter: Path) -> None:
    (adapter / WEIGHTS).rename(adapter / "adapter_model.bin")
    assert "is a PyTorch pickle" in refusal(model, adapter).message
    (adapter / "adapter_model.bin").rename(adapter / WEIGHTS)
    folder = write_checkpoint(tmp_path / "base", MODEL)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": {"bits": 4}}))
    with pytest.raises(PlanError, match="is quantised"):
        with_adapter(open_checkpoint(folder), adapter)


def test_a_weight_that_is_no_float_is_refused(tmp_path: Path, adapter: Path) -> None:
    weights = tensors(MODEL) | {MODULE + ".weight": np.ones((32, 32), dtype=np.int8)}
    model = open_checkpoint(write_checkpoint(tmp_path / "base", MODEL, weights=weights))
    assert "is of the type I8, to which nothing can be added" in refusal(model, adapter).message


@pytest.mark.parametrize("cut", [4, 40, -1])
def test_a_file_that_was_cut_is_refused(cut: int, model: Checkpoint, adapter: Path) -> None:
    data = (adapter / WEIGHTS).read_bytes()
    (adapter / WEIGHTS).write_bytes(data[:cut])
    assert refusal(model, adapter).code == "E_HEADER"


def test_factors_that_ask_for_more_than_the_budget_are_refused(tmp_path: Path) -> None:
    """A rank is bounded by nothing but memory."""
    write_checkpoint(tmp_path / "base", MODEL)
    write_adapter(tmp_path / "wide", tensors(MODEL), rank=20_000, modules=("q_proj",))
    recipe = {"merge_method": "passthrough", "models": [{"model": "base+wide"}]}
    spec = PlanSpec(recipe=json.dumps(recipe), base_dir=str(tmp_path), memory=200 << 20)
    with pytest.raises(AlloydError, match="this merge needs") as raised:
        prepare(spec, home=tmp_path / "home", settings=Settings())
    assert raised.value.code == "E_MEMORY"


def test_both_halves_are_looked_for_where_models_are(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write_checkpoint(root / "org" / "base", MODEL)
    write_adapter(root / "one", tensors(MODEL))
    settings = Settings(models=ModelSettings(roots=(str(root),)))

    def plan(name: str) -> Any:
        recipe = {"merge_method": "passthrough", "models": [{"model": name}]}
        spec = PlanSpec(recipe=json.dumps(recipe), base_dir=str(tmp_path))
        return prepare(spec, home=tmp_path / "home", settings=settings)[0]

    assert plan("org/base+you/one").checkpoints[0].adapter == root / "one"
    with pytest.raises(SourceNotFound, match="the model 'you/two' was not found; tried"):
        plan("org/base+you/two")
    with pytest.raises(SourceNotFound, match="the model 'org/none' was not found"):
        plan("org/none+one")
