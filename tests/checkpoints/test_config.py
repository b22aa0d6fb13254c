"""config.json of the output: what follows the layers, what follows dtype and vocabulary, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from alloyd.errors import PlanError
from alloyd_daemon.checkpoints.config import recut
from alloyd_daemon.recipes.outline import LayerStack, Model, Outline

Origins = list[tuple[int, int]]


def outline(
    origins: Origins,
    *,
    path: tuple[str, ...] = (),
    prefix: str = "model.layers",
    resliced: bool = True,
    donor: int = 0,
) -> Outline:
    models = tuple(Model(f"org/model-{place}", Path("/nowhere")) for place in range(3))
    stack = LayerStack(prefix, path, tuple(origins), resliced)
    return Outline(models, donor, (), (stack,), None, None, 0)


def cut(configs: list[dict[str, Any] | None], origins: Origins, **options: Any) -> dict[str, Any]:
    named = {key: options.pop(key) for key in ("path", "prefix", "resliced", "donor") if key in options}
    found = recut(configs, outline(origins, **named), **({"out_dtype": None, "vocabulary": None} | options))
    decoded: dict[str, Any] = json.loads(found)
    return decoded


STACK: Origins = [(0, 0), (0, 1), (1, 1), (1, 2), (0, 3)]


def test_layers_and_every_list_of_layers_follow_their_sources() -> None:
    first = {
        "architectures": ["LlamaForCausalLM"],
        "num_hidden_layers": 4,
        "layer_types": ["a0", "a1", "a2", "a3"],
        "no_rope_layers": [1, 1, 1, 0],
        "mlp_only_layers": [0, 3],
        "eos_token_id": [1, 2, 3, 4],
        "rope_scaling": {"short_factor": [1, 2, 3, 4]},
        "hidden_size": 4,
    }
    second = first | {"num_hidden_layers": 3, "layer_types": ["b0", "b1", "b2"], "mlp_only_layers": [1]}
    second["no_rope_layers"] = [0, 0, 0]
    found = cut([first, second], STACK)
    assert found["num_hidden_layers"] == 5
    assert found["layer_types"] == ["a0", "a1", "b1", "b2", "a3"]
    assert found["no_rope_layers"] == [1, 1, 0, 0, 0]
    assert found["mlp_only_layers"] == [0, 2, 4]
    assert found["eos_token_id"] == [1, 2, 3, 4]
    assert found["rope_scaling"] == first["rope_scaling"]
    assert found["architectures"] == ["LlamaForCausalLM"]
    assert list(found) == list(first)


def test_lists_of_unknown_names_follow_when_their_length_cannot_be_chance() -> None:
    config = {"num_hidden_layers": 10, "activation_sparsity": list(range(10)), "odd": [1, 2]}
    found = cut([config], [(0, 9), (0, 0)])
    assert found["activation_sparsity"] == [9, 0]
    assert found["odd"] == [1, 2]


def test_keys_of_the_architectures_table() -> None:
    config = {"depths": 2, "kinds": ["x", "y"], "special": [1]}
    found = cut(
        [config], [(0, 1), (0, 1)], count_keys=("depths",), list_keys=("kinds",), index_keys=("special",)
    )
    assert found == {"depths": 2, "kinds": ["y", "y"], "special": [0, 1]}


def test_without_slices_layers_stay_as_they_are() -> None:
    config = {"num_hidden_layers": 2, "layer_types": ["a", "b"], "sliding_window_pattern": 2}
    assert cut([config], [(0, 1), (0, 0)], resliced=False) == config


def test_a_part_of_a_nested_config() -> None:
    config = {
        "text_config": {
            "num_hidden_layers": 2,
            "layer_types": ["a", "b"],
            "vocab_size": 10,
            "dtype": "float32",
        },
        "vision_config": {"num_hidden_layers": 2, "vocab_size": 49408, "dtype": "float32"},
        "dtype": "float32",
    }
    found = cut([config], [(0, 1)], path=("text_config",), out_dtype="BF16", vocabulary=12)
    assert found["text_config"] == {
        "num_hidden_layers": 1,
        "layer_types": ["b"],
        "vocab_size": 12,
        "dtype": "bfloat16",
    }
    assert found["vision_config"] == {"num_hidden_layers": 2, "vocab_size": 49408, "dtype": "bfloat16"}
    assert "vocab_size" not in found
    with pytest.raises(PlanError, match="how many layers"):
        cut([config], [(0, 1)], path=("audio_config",))


def test_encoder_and_decoder_are_counted_apart() -> None:
    config = {"encoder_layers": 2, "decoder_layers": 3, "num_hidden_layers": 2}
    assert cut([config], [(0, 0)], prefix="model.decoder.layers") == config | {"decoder_layers": 1}
    assert cut([config], [(0, 0)], prefix="model.encoder.layers") == {
        "encoder_layers": 1,
        "decoder_layers": 3,
        "num_hidden_layers": 1,
    }


@pytest.mark.parametrize(
    ("config", "types"),
    [
        ({"model_type": "gemma2"}, ["sliding_attention", "sliding_attention", "full_attention"]),
        ({"sliding_window_pattern": 2}, ["sliding_attention", "sliding_attention", "full_attention"]),
        ({"full_attention_interval": 4}, ["linear_attention", "linear_attention", "full_attention"]),
        (
            {"use_sliding_window": True, "max_window_layers": 3},
            ["full_attention", "full_attention", "sliding_attention"],
        ),
    ],
)
def test_kinds_that_follow_from_a_layers_number_are_spelled_out(
    config: dict[str, Any], types: list[str]
) -> None:
    config = config | {"num_hidden_layers": 4}
    found = cut([config], [(0, 0), (0, 2), (0, 3)])
    assert found["layer_types"] == types
    assert "layer_types" not in cut([config], [(0, 0), (0, 1)])


def test_a_window_that_is_off_has_no_first_layer() -> None:
    config = {"num_hidden_layers": 4, "use_sliding_window": False, "max_window_layers": 3}
    found = cut([config], [(0, 0), (0, 3), (0, 1), (0, 3)])
    assert found == config


def test_counts_from_the_first_and_last_layer() -> None:
    config = {"num_hidden_layers": 6, "first_k_dense_replace": 2, "num_kv_shared_layers": 2}
    found = cut([config], [(0, 0), (0, 2), (0, 3), (0, 4), (0, 5), (0, 5)])
    assert found["first_k_dense_replace"] == 1
    assert found["num_kv_shared_layers"] == 3
    with pytest.raises(PlanError, match="first_k_dense_replace"):
        cut([config], [(0, 2), (0, 1)])
    with pytest.raises(PlanError, match="num_kv_shared_layers"):
        cut([config], [(0, 5), (0, 3)])


def test_a_period_that_the_slices_shift_is_refused() -> None:
    config = {"num_hidden_layers": 8, "attn_layer_period": 4, "attn_layer_offset": 2}
    assert cut([config], [(0, 0), (0, 1), (0, 2), (0, 3)])["num_hidden_layers"] == 4
    assert cut([config], [(0, layer) for layer in range(4, 8)])["num_hidden_layers"] == 4
    with pytest.raises(PlanError, match=r"'attn_layer_period' \(4\) gives"):
        cut([config], [(0, 1), (0, 2)])
    explicit = config | {"layers_block_type": ["m", "m", "a", "m"] * 2}
    assert cut([explicit], [(0, 1), (0, 2)])["layers_block_type"] == ["m", "a"]


def test_a_source_without_the_list_takes_the_donors() -> None:
    donor = {"num_hidden_layers": 2, "layer_types": ["a", "b"]}
    assert cut([donor, None, {}], [(1, 0), (2, 1)])["layer_types"] == ["a", "b"]
    with pytest.raises(PlanError, match="no entry for layer 5"):
        cut([donor, {"num_hidden_layers": 6}], [(1, 5)])


def test_slices_of_a_config_without_a_number_of_layers() -> None:
    with pytest.raises(PlanError, match="org/model-0 does not say how many layers"):
        cut([{"hidden_size": 4}], [(0, 0)])


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"torch_dtype": "float16"}, {"torch_dtype": "bfloat16"}),
        ({"dtype": "float16"}, {"dtype": "bfloat16"}),
        ({"dtype": "float16", "torch_dtype": "float16"}, {"dtype": "bfloat16", "torch_dtype": "bfloat16"}),
        ({}, {"torch_dtype": "bfloat16"}),
    ],
)
def test_the_dtype_goes_where_the_donor_has_it(config: dict[str, Any], expected: dict[str, Any]) -> None:
    assert cut([config], [], resliced=False, out_dtype="BF16") == expected
    assert cut([config], [], resliced=False, out_dtype="bfloat16") == expected
    assert cut([config], [], resliced=False) == config


def test_what_is_nobodys_business_is_not_copied() -> None:
    config = {
        "_name_or_path": "/home/someone/models/x",
        "vocab_size": 5,
        "time_step_limit": [0.0, float("inf")],
    }
    found = cut([config], [], resliced=False, vocabulary=7)
    assert found == {"vocab_size": 7, "time_step_limit": [0.0, float("inf")]}
    assert recut([None], outline([]), out_dtype="BF16", vocabulary=None) == b""


def test_the_bytes_are_the_same_every_time() -> None:
    config = {"num_hidden_layers": 4, "layer_types": list("abcd"), "name": "ä€"}
    assert recut([config], outline([(0, 1)]), out_dtype="F16", vocabulary=3) == recut(
        [config], outline([(0, 1)]), out_dtype="F16", vocabulary=3
    )
    assert config["num_hidden_layers"] == 4
