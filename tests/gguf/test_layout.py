"""A layout is refused, before anything is written, where llama.cpp could not hold or would not compute the model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alloyd.errors import AlloydError, PlanError
from alloyd_daemon.gguf.architecture import GGUF_ARCHITECTURES
from alloyd_daemon.gguf.imatrix import Imatrix
from alloyd_daemon.gguf.layout import GgufLayout, describe
from alloyd_daemon.gguf.reader import parse
from checkpoint_factory import Model, config, shapes
from extras import need

need("gguf", "llama_cpp", "gguf")

Shapes = dict[str, tuple[int, ...]]
GEMMA2 = {"query_pre_attn_scalar": 8, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}


def _describe(
    folder: Path,
    architecture: Any = "llama",
    *,
    changes: dict[str, Any] | None = None,
    tensors: Shapes | None = None,
    dtype: str = "BF16",
    type_name: str = "F16",
    **given: Any,
) -> GgufLayout:
    model = Model(architecture=architecture)
    sources = [(name, dtype, shape) for name, shape in (tensors or shapes(model)).items()]
    return describe(
        sources, {**config(model), **(changes or {})}, folder, type_name, filename="out.gguf", **given
    )


def test_the_header_is_a_head_with_the_tensors_that_are_told(tmp_path: Path) -> None:
    import io

    layout = _describe(tmp_path, type_name="Q8_0", name="A model")
    head = parse(io.BytesIO(layout.header), layout.size, file="out.gguf")
    assert head.tensors == layout.tensors
    assert head.data_start == len(layout.header)
    assert head.metadata["general.name"] == "A model"
    assert layout.size % 32 == 0


def test_nothing_but_the_model_decides_the_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    assert _describe(tmp_path / "one").header == _describe(tmp_path / "two").header


def test_an_unknown_architecture_is_met_with_the_list(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="'NewForCausalLM'") as raised:
        _describe(tmp_path, changes={"architectures": ["NewForCausalLM"]})
    for name in ("LlamaForCausalLM", "Qwen3MoeForCausalLM", "Gemma3ForCausalLM"):
        assert name in raised.value.hint
    with pytest.raises(PlanError, match="names no architecture"):
        _describe(tmp_path, changes={"architectures": None})


@pytest.mark.parametrize(
    ("architecture", "changes", "said"),
    [
        ("llama", {"hidden_act": "relu"}, "silu"),
        ("llama", {"rms_norm_eps": "small"}, "'rms_norm_eps' must be a finite number"),
        ("llama", {"num_attention_heads": 4.5}, "'num_attention_heads' must be a whole number"),
        ("llama", {"num_attention_heads": 32, "num_key_value_heads": 32}, "not 32 heads of an even size"),
        ("llama", {"num_hidden_layers": 3}, "no norm for layer 2"),
        ("llama", {"num_hidden_layers": 1}, "has no place"),
        ("llama", {"num_hidden_layers": 600}, "no norm for layer 2"),
        ("llama", {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "'dynamic'"),
        ("llama", {"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "original_max_position_embeddings"),
        ("llama", {"rope_scaling": ["yarn"]}, "must be an object"),
        ("llama", {"rope_scaling": {"rope_type": "llama3", "high_freq_factor": 1.0}}, "high_freq_factor"),
        ("llama", {"num_local_experts": 4, "num_experts_per_tok": 8}, "cannot choose 8 of 4"),
        (
            "phi3",
            {"rope_scaling": {"type": "longrope", "long_factor": [1.0], "short_factor": [1.0]}},
            "a list of 4",
        ),
        *(
            (
                architecture,
                {"rope_scaling": {"type": kind, "factor": 2.0, "original_max_position_embeddings": context}},
                "'original_max_position_embeddings' must be a number of tokens",
            )
            for architecture, kind in (("phi3", "longrope"), ("llama", "yarn"))
            for context in (-(10**29), 0, 1, 2**40)
        ),
        ("gemma2", {**GEMMA2, "query_pre_attn_scalar": 144}, "scales the queries"),
    ],
)
def test_a_config_that_llama_cpp_cannot_follow_is_refused(
    architecture: str, changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(PlanError, match=said.replace("(", r"\(")) as raised:
        _describe(tmp_path, architecture, changes=changes)
    assert raised.value.hint


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({"model.layers.0.self_attn.new.weight": (8, 8)}, "self_attn.new.weight' has no place"),
        ({"lm_head.weight": (2, 3, 4, 5)}, "has the shape"),
        ({"model.layers.0.mlp.experts.0.w1.weight": (8, 8)}, "should hold 0 experts"),
    ],
)
def test_a_tensor_without_a_place_is_named(extra: Shapes, said: str, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=said):
        _describe(tmp_path, tensors={**shapes(Model()), **extra})


def test_quantised_sources_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="of I32 cannot be written"):
        _describe(tmp_path, dtype="I32")


def test_a_model_without_its_embedding_is_refused(tmp_path: Path) -> None:
    tensors = {name: shape for name, shape in shapes(Model()).items() if "embed_tokens" not in name}
    with pytest.raises(PlanError, match="no token embedding"):
        _describe(tmp_path, tensors=tensors)


def test_an_imatrix_of_another_shape_is_refused(tmp_path: Path) -> None:
    imatrix = Imatrix({"blk.0.attn_q.weight": np.ones(7, np.float32)}, "")
    with pytest.raises(PlanError, match=r"weighs 7 columns of blk\.0\.attn_q\.weight, which has 32"):
        _describe(tmp_path, type_name="Q4_0", imatrix=imatrix)


def test_layers_that_alternate_otherwise_are_told(tmp_path: Path) -> None:
    """What a recipe stacks anew keeps each layer's own window."""
    import io

    def pattern(kinds: list[str]) -> Any:
        layout = _describe(tmp_path, "gemma2", changes={**GEMMA2, "layer_types": kinds})
        head = parse(io.BytesIO(layout.header), layout.size, file="out.gguf")
        return head.metadata.get("gemma2.attention.sliding_window_pattern")

    assert pattern(["sliding_attention", "full_attention"]) is None
    assert list(pattern(["full_attention", "sliding_attention"])) == [0, 1]


def test_a_window_that_llama_cpp_ignores_is_told(tmp_path: Path) -> None:
    layout = _describe(tmp_path, "mistral", changes={"sliding_window": 16})
    assert any("looks back 16 tokens" in warning for warning in layout.warnings)


def test_tensors_that_a_file_does_not_hold_say_why(tmp_path: Path) -> None:
    extra = {"model.layers.0.self_attn.rotary_emb.inv_freq": (4,), "vision_tower.x.weight": (4, 4)}
    layout = _describe(tmp_path, tensors={**shapes(Model()), **extra})
    dropped = {each.source: each.reason for each in layout.placements if not each.parts}
    assert dropped.keys() == extra.keys()
    assert all(dropped.values())


def test_every_family_has_a_table_that_gguf_knows() -> None:
    import gguf

    for name, table in GGUF_ARCHITECTURES.items():
        assert name in table.names
        assert table.model_arch in gguf.MODEL_ARCH.__members__


TOKENIZER_LIES: dict[str, tuple[str, Any]] = {
    "not JSON": ("tokenizer.json", b"{"),
    "an id that is no number": ("tokenizer.json", {"model": {"type": "BPE", "vocab": {"a": "0"}}}),
    "a negative id": ("tokenizer.json", {"model": {"type": "BPE", "vocab": {"a": -1}}}),
    "one id twice": ("tokenizer.json", {"model": {"type": "BPE", "vocab": {"a": 1, "b": 1}}}),
    "no vocabulary": ("tokenizer.json", {"model": {"type": "BPE"}}),
    "an added token without text": (
        "tokenizer.json",
        {
            "model": {"type": "BPE", "vocab": {"a": 1}, "merges": []},
            "pre_tokenizer": {"type": "ByteLevel"},
            "added_tokens": [{"id": 1}],
        },
    ),
    "a merge of three": (
        "tokenizer.json",
        {
            "model": {"type": "BPE", "byte_fallback": True, "vocab": {"a": 1}, "merges": [["a", "a", "a"]]},
            "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        },
    ),
    "not a SentencePiece model": ("tokenizer.model", b"\x00\x01\x02 nothing"),
    "an added id that is text": ("added_tokens.json", {"<a>": "one"}),
    "an added id of very many digits": (
        "tokenizer_config.json",
        {"added_tokens_decoder": {"9" * 5000: {"content": "<a>"}}},
    ),
}


@pytest.mark.parametrize("name", TOKENIZER_LIES)
def test_a_tokenizer_file_that_lies_is_named(name: str, tmp_path: Path) -> None:
    file, content = TOKENIZER_LIES[name]
    if file in ("added_tokens.json", "tokenizer_config.json"):
        good = {
            "model": {"type": "BPE", "vocab": {"a": 1}, "merges": []},
            "pre_tokenizer": {"type": "ByteLevel"},
        }
        (tmp_path / "tokenizer.json").write_text(json.dumps(good))
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    (tmp_path / file).write_bytes(data)
    with pytest.raises(AlloydError) as raised:
        _describe(tmp_path)
    assert raised.value.code == "E_SOURCE"
    assert str(tmp_path) in raised.value.message
    assert raised.value.hint


@pytest.mark.parametrize(
    "tokenizer",
    [
        None,
        {"model": {"type": "WordLevel", "vocab": {"a": 0}}},
        {"model": {"type": "Unigram", "vocab": [["a", 0.0]]}},
        {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}, "pre_tokenizer": {"type": "Whitespace"}},
        {
            "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []},
            "pre_tokenizer": {"type": "ByteLevel"},
            "normalizer": {"type": "Lowercase"},
        },
    ],
)
def test_a_tokenizer_that_llama_cpp_cannot_hold_leaves_numbers(tokenizer: Any, tmp_path: Path) -> None:
    import io

    if tokenizer is not None:
        (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    layout = _describe(tmp_path, "qwen2")
    assert any("has no vocabulary" in warning for warning in layout.warnings)
    metadata = parse(io.BytesIO(layout.header), layout.size, file="x").metadata
    assert metadata["tokenizer.ggml.model"] == "none"
    assert metadata["qwen2.vocab_size"] == 96


def test_a_sentencepiece_model_is_read_by_its_fields() -> None:
    from alloyd_daemon.gguf.sentencepiece_model import kind_of

    # trainer_spec {model_type: BPE}, normalizer_spec {add_dummy_prefix: false, remove_extra_whitespaces: false}
    found = kind_of(bytes([0x12, 2, 0x18, 2, 0x1A, 4, 0x18, 0, 0x20, 0]))
    assert (found.name, found.space_prefix, found.normalises) == ("BPE", False, False)
    assert kind_of(b"").name == "unigram"
    for lie in (b"\x12\x7f", b"\x80", b"\xff" * 11, b"\x13", b"\x0d\x00"):
        with pytest.raises(ValueError, match=r"a (field|number)"):
            kind_of(lie)
