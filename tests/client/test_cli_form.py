"""What the command line says of an output's form, and the recipes of conversions."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from alloyd import recipe
from alloyd.cli import parser
from alloyd.cli_form import conversion, form_of
from alloyd.errors import AlloydError, UsageError
from alloyd.recipe import Form, ModelRef


def form(*words: str) -> dict[str, object] | None:
    return form_of(parser().parse_args(["merge", "recipe.yaml", "out", *words]))


def test_the_recipe_decides_unless_the_command_line_does() -> None:
    assert form() is None
    assert form("--gguf", "Q4_K_M") == {"format": "gguf", "type": "Q4_K_M"}
    assert form("--bitsandbytes", "nf4") == {"format": "bitsandbytes", "type": "nf4"}
    found = form("--gguf", "IQ2_S", "--imatrix", "imatrix.gguf")
    assert found == {"format": "gguf", "type": "IQ2_S", "imatrix": os.path.abspath("imatrix.gguf")}


def test_options_that_do_not_go_together() -> None:
    with pytest.raises(UsageError, match="--imatrix is for GGUF"):
        form("--imatrix", "imatrix.gguf")
    with pytest.raises(UsageError, match="not allowed with"):
        form("--gguf", "Q8_0", "--bitsandbytes", "nf4")


def read(made: dict[str, object]) -> recipe.Recipe:
    (found,) = recipe.load(json.dumps(made))
    assert found.merge_method == "passthrough"
    return found


def test_a_folder_is_converted_as_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    strange = tmp_path / "a+b@c"
    strange.mkdir()
    found = read(conversion("a+b@c", None, {"format": "gguf", "type": "F16"}))
    assert found.models[0].model == ModelRef("./a+b@c")
    assert found.name is None
    (tmp_path / "model-7B").mkdir()
    for written in ("model-7B/", "model-7B", "./model-7B"):
        found = read(conversion(written, "float16", None))
        assert found.name == "model-7B"
        assert found.models[0].model.path != found.name  # which would name its own result
    found = read(conversion("gpt2", "float16", None))
    assert (found.models[0].model.path, found.name) == ("gpt2", None)
    monkeypatch.chdir(tmp_path / "model-7B")
    assert read(conversion(".", "float16", None)).name == "model-7B"


def test_a_name_is_converted_at_its_revision() -> None:
    found = read(conversion("org/model@v1", "float16", None))
    assert found.models[0].model == ModelRef("org/model", "v1")
    assert found.name == "model"
    assert found.out_dtype == "float16"


def test_a_model_with_its_adapter_is_a_conversion_by_itself() -> None:
    found = read(conversion("org/model@v1+org/adapter@v2", None, None))
    assert found.models[0].model == ModelRef("org/model", "v1", ModelRef("org/adapter", "v2"))
    assert found.name == "model-adapter"


@pytest.mark.parametrize(
    ("model", "dtype", "said"),
    [
        ("org/model", None, "what should the model become"),
        ("org/model", "fp16", "'fp16' is not a dtype"),
        ("org/model+", "float16", "is not a model"),
        ("org/model@a@b", "float16", "is not a model"),
    ],
)
def test_conversions_that_make_no_sense(model: str, dtype: str | None, said: str) -> None:
    with pytest.raises(AlloydError, match=said) as caught:
        conversion(model, dtype, None)
    assert caught.value.hint


OUT = "merge_method: linear\nmodels: [{model: a, parameters: {weight: 1}}]\nout: "


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{format: safetensors}", Form()),
        ("{format: gguf, type: Q4_K_M}", Form("gguf", "Q4_K_M")),
        ("{format: gguf, type: IQ2_S, imatrix: i.gguf}", Form("gguf", "IQ2_S", "i.gguf")),
        ("{format: bitsandbytes, type: nf4}", Form("bitsandbytes", "nf4")),
        (
            "{format: bitsandbytes, type: nf4, double_quant: true, block_size: 64}",
            Form("bitsandbytes", "nf4", None, {"double_quant": True, "block_size": 64}),
        ),
        ("", None),
    ],
)
def test_out_in_a_recipe(text: str, expected: Form | None) -> None:
    (found,) = recipe.load(OUT + text)
    assert found.out == expected


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        ("gguf", "out must be a mapping whose key 'format' is one of", "{format: gguf, type: Q4_K_M}"),
        (
            "{type: Q4_K_M}",
            "out must be a mapping whose key 'format' is one of",
            "{format: gguf, type: Q4_K_M}",
        ),
        ("{format: ggfu}", "must be one of safetensors, gguf, bitsandbytes, not 'ggfu'", "mean 'gguf'"),
        ("{format: [gguf]}", "must be one of safetensors, gguf, bitsandbytes, not a list", "Q4_K_M"),
        ("{format: gguf}", "out needs the key 'type'", "type: Q4_K_M"),
        ("{format: bitsandbytes}", "out needs the key 'type'", "type: nf4"),
        ("{format: gguf, type: 4}", "out.type must be text", '"4"'),
        ("{format: gguf, type: F16, imatirx: x}", "'imatirx' is not a key of out", "mean 'imatrix'"),
        ("{format: safetensors, type: F16}", "'type' is not a key of out", ""),
        ("{format: bitsandbytes, type: nf4, block_size: [64]}", "out.block_size must be a number", ""),
    ],
)
def test_mistakes_in_out_are_named_with_their_line(text: str, said: str, hint: str) -> None:
    with pytest.raises(AlloydError) as caught:
        recipe.load(OUT + text, name="r.yaml")
    assert said in caught.value.message
    assert caught.value.message.startswith("r.yaml line 3")
    assert hint in caught.value.hint
