"""Recipes that name adapters: the result is that of the merged models, for every method, block, reader and resume."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapter_factory import LINEAR, PREFIX, merged, write_adapter
from alloyd.errors import AlloydError, SourceChanged
from alloyd.jobs import Finished, MergeSpec, PlanSpec, Progress, Report
from alloyd_daemon.candidate import from_recipe
from alloyd_daemon.checkpoints.verify import verify
from alloyd_daemon.engine.in_memory import population
from alloyd_daemon.engine.prepare import prepare
from alloyd_daemon.job import JOBS, Context
from alloyd_daemon.settings import Settings
from checkpoint_factory import (
    Model,
    Tensors,
    read_checkpoint,
    read_safetensors,
    tensors,
    write_checkpoint,
)

MODEL = Model(layers=2, hidden=64)
MERGE = JOBS.get("merge")


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder with ``base``, ``tune``, the adapters ``one`` and ``two`` of the base, and what they come to as models
    of float32: ``base-one`` and ``base-two``."""
    base = tensors(MODEL)
    write_checkpoint(tmp_path / "base", MODEL, weights=base, shards=2)
    write_checkpoint(tmp_path / "tune", MODEL, tune=0)
    for seed, name in enumerate(("one", "two")):
        folder = write_adapter(tmp_path / name, base, seed=seed)
        whole = merged(base, read_safetensors(folder / "adapter_model.safetensors"), 2.0)
        weights = {key: value.astype(np.float32) for key, value in whole.items()}
        write_checkpoint(tmp_path / f"base-{name}", replace(MODEL, dtype="F32"), weights=weights)
    return tmp_path


def steps(models: Path, out: Path, recipe: dict[str, Any], **more: Any) -> Iterator[Report]:
    home = models / "home"
    home.mkdir(exist_ok=True)
    spec = MergeSpec(recipe=json.dumps(recipe), base_dir=str(models), out=str(out), **more)
    return MERGE.run(spec, Context(home, Settings(), "merge-1"))


def merge(models: Path, out: Path, recipe: dict[str, Any], **more: Any) -> dict[str, Any]:
    last = list(steps(models, out, recipe, **more))[-1]
    assert isinstance(last, Finished)
    return last.result


def entry(model: str, **parameters: Any) -> dict[str, Any]:
    return {"model": model, "parameters": parameters}


RECIPES: dict[str, dict[str, Any]] = {
    "passthrough": {"merge_method": "passthrough", "models": [entry("base+one")]},
    "linear": {
        "merge_method": "linear",
        "models": [entry("base+one", weight=0.25), entry("tune", weight=0.5), entry("base+two", weight=0.25)],
    },
    "slerp": {
        "merge_method": "slerp",
        "base_model": "base+one",
        "models": [entry("base+one"), entry("tune")],
        "parameters": {"t": 0.3},
    },
    "ties": {
        "merge_method": "ties",
        "base_model": "base",
        "models": [entry("base+one", weight=0.6, density=0.4), entry("base+two", weight=0.4, density=0.7)],
    },
    "dare_ties": {
        "merge_method": "dare_ties",
        "base_model": "base",
        "models": [entry("base+one", weight=0.6, density=0.4), entry("base+two", weight=0.4, density=0.7)],
    },
    "frankenmerge": {
        "merge_method": "passthrough",
        "slices": [
            {"sources": [{"model": "base+one", "layer_range": [0, 2]}]},
            {"sources": [{"model": "base+one", "layer_range": [1, 2], "parameters": {"scale": 0.5}}]},
        ],
    },
}


def spelled(recipe: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    return dict(json.loads(json.dumps(recipe).replace(old, new)))


def difference(ours: Tensors, theirs: Tensors) -> float:
    """The largest, as a part of the tensor's largest magnitude."""
    assert set(ours) == set(theirs)
    return max(
        float(np.abs(ours[name].astype(np.float64) - theirs[name]).max() / np.abs(theirs[name]).max())
        for name in ours
    )


@pytest.mark.parametrize("name", RECIPES)
def test_an_adapter_counts_as_the_model_that_it_makes(name: str, models: Path) -> None:
    """With `dtype: float32`, what PEFT would have merged beforehand in float32."""
    recipe = RECIPES[name] | {"dtype": "float32"}
    merge(models, models / "out", recipe)
    merge(models, models / "wanted", spelled(recipe, "base+", "base-"))
    ours, theirs = read_checkpoint(models / "out"), read_checkpoint(models / "wanted")
    bound = 2.0**-15
    if name in ("ties", "dare_ties"):
        # A model that was rounded to float32 beforehand may cut one element more or less: two of a tensor at most.
        for tensor in ours:
            far = np.abs(ours[tensor] - theirs[tensor]) > bound * np.abs(theirs[tensor]).max()
            assert np.count_nonzero(far) <= 2
    else:
        assert difference(ours, theirs) <= bound


def test_an_adapter_is_applied_as_numpy_does(models: Path) -> None:
    merge(models, models / "out", RECIPES["passthrough"] | {"dtype": "float32"})
    base = read_checkpoint(models / "base")
    whole = merged(base, read_safetensors(models / "one" / "adapter_model.safetensors"), 2.0)
    assert difference(read_checkpoint(models / "out"), whole) <= 2.0**-21


def test_the_output_keeps_the_models_type_and_is_rounded_once(models: Path) -> None:
    merge(models, models / "half", RECIPES["passthrough"])
    merge(models, models / "whole", RECIPES["passthrough"] | {"dtype": "float32"})
    half, whole = read_checkpoint(models / "half"), read_checkpoint(models / "whole")
    for name, values in half.items():
        np.testing.assert_array_equal(values, whole[name].astype(values.dtype))
    assert json.loads((models / "half" / "config.json").read_text())["torch_dtype"] == "bfloat16"
    list(verify(models / "half"))


@pytest.mark.parametrize("how", [{"threads": 1}, {"reader": "pread"}, {"memory": 200 << 20, "threads": 2}])
@pytest.mark.parametrize("name", ["passthrough", "ties"])
def test_bytes_depend_on_neither_threads_nor_reader(name: str, how: dict[str, Any], models: Path) -> None:
    first = merge(models, models / "first", RECIPES[name])
    other = merge(models, models / "other", RECIPES[name], **how)
    assert first["digest"] == other["digest"]
    manifest = (models / "first" / "alloyd_manifest.json").read_bytes()
    assert (models / "other" / "alloyd_manifest.json").read_bytes() == manifest


def test_a_merge_that_was_stopped_goes_on_to_the_same_bytes(models: Path) -> None:
    whole = merge(models, models / "whole", RECIPES["ties"])
    partly = steps(models, models / "out", RECIPES["ties"], threads=1)
    for report in partly:
        if isinstance(report, Progress) and report.done:
            break
    partly.close()  # type: ignore[attr-defined]
    assert not (models / "out").exists()
    again = merge(models, models / "out", RECIPES["ties"])
    assert again["resumed_blocks"]
    assert again["digest"] == whole["digest"]


DYING = """
import os, signal, sys
from pathlib import Path
from alloyd.jobs import MergeSpec
from alloyd_daemon.checkpoints.sink import StagedSink
from alloyd_daemon.job import JOBS, Context
from alloyd_daemon.settings import Settings

put, left = StagedSink.put, [6]

def dying(self, *block):
    put(self, *block)
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)

StagedSink.put = dying
models, out, recipe = sys.argv[1:]
spec = MergeSpec(recipe=recipe, base_dir=models, out=out)
list(JOBS.get("merge").run(spec, Context(Path(models) / "home", Settings(), "merge-1")))
"""


def test_a_merge_that_was_killed_goes_on_to_the_same_bytes(models: Path) -> None:
    whole = merge(models, models / "whole", RECIPES["ties"])
    words = [sys.executable, "-c", DYING, str(models), str(models / "out"), json.dumps(RECIPES["ties"])]
    assert subprocess.run(words, check=False).returncode == -signal.SIGKILL
    assert not (models / "out").exists()
    again = merge(models, models / "out", RECIPES["ties"])
    assert again["resumed_blocks"]
    for name in ("model.safetensors", "alloyd_manifest.json"):
        assert (models / "out" / name).read_bytes() == (models / "whole" / name).read_bytes()
    assert again["digest"] == whole["digest"]


def test_the_mapping_and_two_spellings_of_one_adapter(models: Path) -> None:
    text = merge(models, models / "text", RECIPES["passthrough"])
    mapping = {
        "model": {"path": "base"},
        "lora": {"path": "one"},
        "override_architecture": "LlamaForCausalLM",
    }
    recipe = {"merge_method": "passthrough", "models": [{"model": mapping}]}
    assert merge(models, models / "mapping", recipe)["digest"] == text["digest"]
    twice = {
        "merge_method": "slerp",
        "base_model": "./base+./one",
        "models": [entry("base+one"), entry("tune")],
        "parameters": {"t": 0.0},
    }
    assert merge(models, models / "twice", twice)["digest"] == text["digest"]


def test_base_and_adapter_are_two_models_of_one_folder(models: Path) -> None:
    both = {"merge_method": "linear", "models": [entry("base", weight=0.5), entry("base+one", weight=0.5)]}
    merge(models, models / "out", both | {"dtype": "float32"})
    base = read_checkpoint(models / "base")
    whole = merged(base, read_safetensors(models / "one" / "adapter_model.safetensors"), 1.0)
    assert difference(read_checkpoint(models / "out"), whole) <= 2.0**-15


def test_the_plan_counts_the_adapter_and_the_manifest_names_it(models: Path) -> None:
    def planned(recipe: dict[str, Any], **more: Any) -> dict[str, Any]:
        spec = PlanSpec(recipe=json.dumps(recipe), base_dir=str(models), threads=1, **more)
        return prepare(spec, home=models / "home", settings=Settings())[0].summary()

    alone = {"merge_method": "passthrough", "models": [entry("base")]}
    plain, adapted = planned(alone), planned(RECIPES["passthrough"])
    factors = read_safetensors(models / "one" / "adapter_model.safetensors")
    assert adapted["bytes_read"] - plain["bytes_read"] == sum(each.nbytes for each in factors.values())
    assert adapted["models"][0]["name"] == "base+one"
    assert adapted["models"][0]["adapter"] == str(models / "one")
    assert plain["models"][0]["adapter"] is None
    assert adapted["bytes_write"] == plain["bytes_write"]
    assert adapted["peak_memory"] > plain["peak_memory"]
    assert planned(RECIPES["passthrough"], reader="pread")["peak_memory"] > adapted["peak_memory"]
    merge(models, models / "out", RECIPES["passthrough"])
    manifest = json.loads((models / "out" / "alloyd_manifest.json").read_text())
    assert [each["model"] for each in manifest["sources"]] == ["base+one"]
    card = (models / "out" / "README.md").read_text()
    assert "`base`" in card
    assert "`one`" in card


def test_what_an_adapter_makes_of_a_model_is_scored_without_being_written(models: Path) -> None:
    merge(models, models / "out", RECIPES["ties"])
    spec = PlanSpec(recipe=json.dumps(RECIPES["ties"]), base_dir=str(models))
    candidate = from_recipe(spec, name="it", home=models / "home", settings=Settings())
    written = read_checkpoint(models / "out")
    with population([candidate]) as people:
        for name, tensor in people.members[0].each():
            assert tensor.data.tobytes() == written[name].tobytes()


def test_digests_of_a_candidates_tensors_know_the_adapter(models: Path) -> None:
    found = []
    for recipe in (RECIPES["passthrough"], spelled(RECIPES["passthrough"], "+one", "+two")):
        spec = PlanSpec(recipe=json.dumps(recipe), base_dir=str(models))
        candidate = from_recipe(spec, name="it", home=models / "home", settings=Settings())
        with population([candidate]) as people:
            found.append(people.members[0].digest("model.layers.0.self_attn.q_proj.weight"))
    assert found[0] != found[1]


def test_which_way_a_square_weight_lies_makes_another_tensor(tmp_path: Path) -> None:
    """What the architecture is said to be decides that, and the files are the same."""
    model = Model(architecture="gpt2", hidden=32)
    write_adapter(tmp_path / "one", tensors(model), modules=("c_proj",), turned=True)
    write_checkpoint(tmp_path / "base", model)
    named = {"model": {"path": "base"}, "lora": {"path": "one"}}
    found = []
    for name in ("GPT2LMHeadModel", "GPTBigCodeForCausalLM"):
        source = named | {"override_architecture": name}
        recipe = json.dumps({"merge_method": "passthrough", "models": [{"model": source}]})
        spec = PlanSpec(recipe=recipe, base_dir=str(tmp_path))
        candidate = from_recipe(spec, name="it", home=tmp_path / "home", settings=Settings())
        with population([candidate]) as people:
            digest = people.members[0].digest("transformer.h.0.attn.c_proj.weight")
        found.append((digest, candidate.prepared.plan.identity))
    (digest, identity), (other_digest, other_identity) = found
    assert digest != other_digest
    assert identity != other_identity


@pytest.mark.parametrize("file", ["adapter_model.safetensors", "adapter_config.json"])
def test_an_adapter_that_changes_meanwhile_is_noticed(file: str, models: Path) -> None:
    running = steps(models, models / "out", RECIPES["passthrough"])
    for report in running:
        if isinstance(report, Progress):
            break
    place = models / "one" / file
    place.write_bytes(place.read_bytes())
    with pytest.raises(SourceChanged, match=file):
        list(running)
    assert not (models / "out").exists()


def test_another_alpha_is_another_merge(models: Path) -> None:
    first = merge(models, models / "out", RECIPES["passthrough"])
    write_adapter(models / "one", tensors(MODEL), alpha=4)
    again = merge(models, models / "out", RECIPES["passthrough"], force=True)
    assert not again["already_there"]
    assert again["digest"] != first["digest"]


def test_the_result_of_a_document_takes_an_adapter(models: Path) -> None:
    text = (
        "name: mixed\nmerge_method: linear\nmodels:\n- {model: base, parameters: {weight: 1}}\n"
        "---\nmerge_method: passthrough\nmodels: [{model: mixed+one}]\n"
    )
    home = models / "home"
    home.mkdir()
    spec = MergeSpec(recipe=text, base_dir=str(models), out=str(models / "out"))
    *_, last = MERGE.run(spec, Context(home, Settings(), "merge-1"))
    assert isinstance(last, Finished)
    assert last.result["digest"] == merge(models, models / "plain", RECIPES["passthrough"])["digest"]


def test_whole_tensors_of_an_adapter_take_the_models_place(models: Path) -> None:
    """PEFT's modules_to_save, and biases; an embedding may be replaced and changed at once."""
    base = tensors(MODEL)
    head = np.arange(96 * 64, dtype=np.float32).reshape(96, 64) / 5000
    tokens = head[::-1].copy()
    a, b = np.full((4, 96), 0.25, np.float32), np.eye(64, 4, dtype=np.float32)
    extra = {
        PREFIX + "lm_head.modules_to_save.default.weight": head,
        PREFIX + "model.embed_tokens.base_layer.weight": tokens,
        PREFIX + "model.embed_tokens.lora_embedding_A": a,
        PREFIX + "model.embed_tokens.lora_embedding_B": b,
    }
    write_adapter(models / "one", base, extra=extra, modules_to_save=["lm_head"])
    merge(models, models / "out", RECIPES["passthrough"] | {"dtype": "float32"})
    found = read_checkpoint(models / "out")
    np.testing.assert_array_equal(found["lm_head.weight"], head)
    np.testing.assert_allclose(found["model.embed_tokens.weight"], tokens + 2.0 * (b @ a).T, rtol=1e-6)
    merge(models, models / "half", RECIPES["passthrough"])
    assert read_checkpoint(models / "half")["lm_head.weight"].dtype == base["lm_head.weight"].dtype


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F64", "F8_E4M3"])
def test_factors_of_every_type(dtype: str, models: Path) -> None:
    from checkpoint_factory import NUMPY_DTYPES

    base = tensors(MODEL)
    write_adapter(models / "one", base, dtype=NUMPY_DTYPES[dtype], rank=5, modules=LINEAR[:3])
    merge(models, models / "out", RECIPES["passthrough"] | {"dtype": "float32"})
    whole = merged(base, read_safetensors(models / "one" / "adapter_model.safetensors"), 8 / 5)
    assert difference(read_checkpoint(models / "out"), whole) <= 2.0**-20


def test_patterns_and_rank_stabilised_scales(models: Path) -> None:
    base = tensors(MODEL)
    module = "model.layers.1.mlp.up_proj"
    config = {
        "rank_pattern": {module: 9},
        "alpha_pattern": {"up_proj": 3, r"layers\.0\.self_attn\.[qk]_proj": 1.5},
        "use_rslora": True,
    }
    write_adapter(models / "one", base, **config)
    merge(models, models / "out", RECIPES["passthrough"] | {"dtype": "float32"})
    found = read_checkpoint(models / "out")
    factors = read_safetensors(models / "one" / "adapter_model.safetensors")
    for name, scale in (
        (module, 3 / 3),
        ("model.layers.0.mlp.up_proj", 3 / 2),
        ("model.layers.0.self_attn.q_proj", 1.5 / 2),
        ("model.layers.1.self_attn.q_proj", 8 / 2),
    ):
        pair = {key: value for key, value in factors.items() if key.startswith(PREFIX + name)}
        wanted = merged(base, pair, scale)[name + ".weight"]
        np.testing.assert_allclose(found[name + ".weight"], wanted, atol=1e-5)


def test_weights_stored_the_other_way_round(tmp_path: Path) -> None:
    """GPT-2's Conv1D; the config's word does not count where the family is known, nor where the shape tells."""
    model = Model(architecture="gpt2", hidden=32)
    base = tensors(model)
    write_checkpoint(tmp_path / "base", model, weights=base)
    for flag in (True, False):
        folder = write_adapter(
            tmp_path / "one", base, modules=("c_attn", "c_proj", "c_fc"), turned=True, fan_in_fan_out=flag
        )
        merge(tmp_path, tmp_path / f"{flag}", RECIPES["passthrough"] | {"dtype": "float32"})
        whole = merged(base, read_safetensors(folder / "adapter_model.safetensors"), 2.0, turned=True)
        assert difference(read_checkpoint(tmp_path / f"{flag}"), whole) <= 2.0**-20


def test_an_embedding_that_is_tied_changes_both(tmp_path: Path) -> None:
    """As PEFT's merge does; the head alone cannot be changed."""
    model = Model(tied=True)
    base = tensors(model)
    write_checkpoint(tmp_path / "base", model, weights=base)
    a, b = np.full((4, 96), 0.25, np.float32), np.eye(32, 4, dtype=np.float32)
    embedding = {
        PREFIX + "model.embed_tokens.lora_embedding_A": a,
        PREFIX + "model.embed_tokens.lora_embedding_B": b,
    }
    write_adapter(tmp_path / "one", base, extra=embedding)
    merge(tmp_path, tmp_path / "out", RECIPES["passthrough"] | {"dtype": "float32"})
    found = read_checkpoint(tmp_path / "out")
    assert "lm_head.weight" not in found
    wanted = base["model.embed_tokens.weight"].astype(np.float32) + 2.0 * (b @ a).T
    np.testing.assert_allclose(found["model.embed_tokens.weight"], wanted, rtol=1e-6)
    head = {PREFIX + "lm_head.lora_A.weight": a[:, :32], PREFIX + "lm_head.lora_B.weight": a.T}
    write_adapter(tmp_path / "one", base, extra=head)
    with pytest.raises(AlloydError, match=r"lm_head.weight.*tied to 'model.embed_tokens.weight'") as raised:
        merge(tmp_path, tmp_path / "other", RECIPES["passthrough"])
    assert "Untie" in raised.value.hint
