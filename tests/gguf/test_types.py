"""Types as llama.cpp chooses them, asked in a pretence: names, fall-backs, refusals, and no word on stderr."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from alloyd.errors import PlanError, RecipeError
from alloyd_daemon.gguf import types
from alloyd_daemon.gguf.layout import GgufLayout, describe
from checkpoint_factory import Model, config, shapes
from extras import need

need("gguf", "llama_cpp", "gguf")


def _describe(model: Model, type_name: str, folder: Path, **changes: object) -> GgufLayout:
    sources = [(name, "BF16", shape) for name, shape in shapes(model).items()]
    return describe(sources, {**config(model), **changes}, folder, type_name, filename="out.gguf")


WIDE = Model(hidden=256, intermediate=512, heads=4, kv_heads=2, layers=8)


def test_a_mix_gives_more_bits_to_some_layers(tmp_path: Path) -> None:
    layout = _describe(WIDE, "q4_k_m", tmp_path)
    kinds = {each.name: each.type.name for each in layout.tensors}
    assert kinds["output.weight"] == "Q6_K"
    assert kinds["blk.0.attn_norm.weight"] == "F32"
    assert {kinds[f"blk.{layer}.ffn_down.weight"] for layer in range(8)} == {"Q4_K", "Q6_K"}


@pytest.mark.parametrize(("alias", "name"), [("q4_k", "Q4_K_M"), ("f32", "F32"), ("Iq4_Xs", "IQ4_XS")])
def test_a_type_has_the_names_people_use(alias: str, name: str) -> None:
    assert types.file_type(alias).name == name


def test_an_unknown_type_is_met_with_the_nearest() -> None:
    with pytest.raises(RecipeError, match="GGUF has no type 'IQ4_XX'") as raised:
        types.file_type("IQ4_XX")
    assert raised.value.hint == "Did you mean 'IQ4_XS'?"


def test_rows_that_do_not_fill_blocks_fall_back_and_say_so(tmp_path: Path) -> None:
    narrow = Model(hidden=192, intermediate=512, heads=4, kv_heads=2, layers=1)
    layout = _describe(narrow, "Q4_K_M", tmp_path)
    kinds = {each.name: each.type.name for each in layout.tensors}
    assert kinds["blk.0.attn_q.weight"] == "Q5_0"
    said = [warning for warning in layout.warnings if warning.startswith("blk.0.attn_q.weight: ")]
    assert said == ["blk.0.attn_q.weight: rows of 192 do not fill blocks of 256; it is written as Q5_0"]
    odd = Model(hidden=40, intermediate=50, heads=4, kv_heads=2, layers=1)
    kinds = {each.name: each.type.name for each in _describe(odd, "Q8_0", tmp_path).tensors}
    assert kinds["blk.0.ffn_down.weight"] == "F16"


def test_the_library_says_nothing_also_where_it_refuses(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    _describe(WIDE, "Q5_K_M", tmp_path)
    with pytest.raises(PlanError):
        _describe(WIDE, "IQ2_XXS", tmp_path)
    with pytest.raises(PlanError):
        _describe(WIDE, "Q8_0", tmp_path, rms_norm_eps=None, num_hidden_layers=9)
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")


def test_words_that_are_not_understood_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = types._pretend

    def changed(old: str, new: str) -> None:
        monkeypatch.setattr(
            types,
            "_pretend",
            lambda *given, **named: [line.replace(old, new) for line in real(*given, **named)],
        )

    for old, new in (("type =", "kind ="), ("q4_K", "q4_Z"), ("blk.0.attn_k", "blk.0.attn_j")):
        changed(old, new)
        with pytest.raises(PlanError, match="not understood") as raised:
            _describe(WIDE, "Q4_K_M", tmp_path)
        assert "alloyd[gguf]" in raised.value.hint
    changed("quant size", "failed to quantize: no luck; quant size")
    with pytest.raises(PlanError, match="no luck"):
        _describe(WIDE, "Q4_K_M", tmp_path)


def test_a_large_model_takes_no_room(tmp_path: Path) -> None:
    """70 billion parameters in F32 are 280 GB, of which the pretence writes only the head."""
    large = Model(hidden=8192, intermediate=28672, heads=64, kv_heads=8, layers=80, vocab=128256, tied=False)
    (tmp_path / "config.json").write_text(json.dumps(config(large)))
    layout = _describe(large, "Q4_K_M", tmp_path)
    kinds = {each.name: each.type.name for each in layout.tensors}
    # Only for 80 layers whose heads share keys is this one given more.
    assert kinds["blk.40.attn_v.weight"] in ("Q5_K", "Q6_K")
    assert 40e9 < layout.size < 45e9
