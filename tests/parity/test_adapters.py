"""Adapters that the real PEFT made: alloyd merges them as it does in float32, and by ties as mergekit does then."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alloyd_daemon.search.export import Exported, export
from alloyd_daemon.settings import Settings
from checkpoint_factory import Model, read_checkpoint, read_safetensors, write_checkpoint
from parity import other_tool
from parity.comparison import excess

RUNNER = Path(__file__).with_name("peft_runner.py")
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
LLAMA = Model()
TIED = Model(architecture="qwen2")
GPT2 = Model(architecture="gpt2")

CASES: dict[str, tuple[Model, dict[str, Any]]] = {
    "every linear layer": (LLAMA, {"r": 6, "lora_alpha": 16, "target_modules": ALL}),
    "another": (LLAMA, {"r": 3, "lora_alpha": 4, "target_modules": ALL}),
    "patterns": (
        LLAMA,
        {
            "r": 4,
            "lora_alpha": 8,
            "target_modules": ["q_proj", "down_proj"],
            "rank_pattern": {"model.layers.1.mlp.down_proj": 7, "q_proj": 2},
            "alpha_pattern": {r"^model\.layers\.0.*": 3, "down_proj": 5.5},
        },
    ),
    "rank-stabilised": (LLAMA, {"r": 5, "lora_alpha": 8, "use_rslora": True, "target_modules": ["v_proj"]}),
    "embedding, and a head that was trained whole": (
        LLAMA,
        {
            "r": 4,
            "lora_alpha": 8,
            "target_modules": ["embed_tokens", "q_proj"],
            "modules_to_save": ["lm_head"],
        },
    ),
    "biases": (TIED, {"r": 4, "lora_alpha": 8, "bias": "all", "target_modules": ["q_proj", "k_proj"]}),
    "a tied embedding": (TIED, {"r": 4, "lora_alpha": 8, "target_modules": ["embed_tokens", "up_proj"]}),
    "Conv1D": (GPT2, {"r": 4, "lora_alpha": 8, "target_modules": ["c_attn", "c_proj", "c_fc"]}),
    "Conv1D, and an embedding": (GPT2, {"r": 4, "lora_alpha": 8, "target_modules": ["c_proj", "wte"]}),
}
TIES = """\
merge_method: ties
base_model: {base}
models:
  - {{model: "{base}+{one}", parameters: {{weight: 0.6, density: 0.4}}}}
  - {{model: "{base}+{two}", parameters: {{weight: 0.4, density: 0.7}}}}
dtype: float32
out_dtype: bfloat16
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base, an adapter and PEFT's merge of the two for each case."""
    python = other_tool.needed("PEFT")
    folder = tmp_path_factory.mktemp("peft")
    jobs = []
    for place, (model, config) in enumerate(CASES.values()):
        base = write_checkpoint(folder / model.architecture, model)
        jobs.append(
            {
                "base": str(base),
                "adapter": str(folder / f"{place}-adapter"),
                "out": str(folder / f"{place}-merged"),
                "config": config,
            }
        )
    (folder / "jobs.json").write_text(json.dumps(jobs))
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    done = subprocess.run(
        [str(python), "-P", str(RUNNER), str(folder / "jobs.json")],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.parametrize("name", CASES)
def test_an_adapter_is_merged_as_peft_does(
    name: str, made: Path, alloyd_merge: Callable[[str], Path]
) -> None:
    place, model = list(CASES).index(name), CASES[name][0]
    source = {
        "model": {"path": str(made / model.architecture)},
        "lora": {"path": str(made / f"{place}-adapter")},
    }
    recipe = {"merge_method": "passthrough", "models": [{"model": source}], "dtype": "float32"}
    ours, theirs = (
        read_checkpoint(alloyd_merge(json.dumps(recipe))),
        read_checkpoint(made / f"{place}-merged"),
    )
    base = read_checkpoint(made / model.architecture)
    assert sorted(ours) == sorted(theirs)
    assert not {
        tensor: found for tensor in theirs if (found := excess(ours[tensor], theirs[tensor]).max()) > 1
    }
    changed = {tensor for tensor in ours if excess(ours[tensor], base[tensor].astype("float32")).max() > 1}
    assert len(changed) >= 2


@pytest.fixture(scope="module")
def winner(made: Path) -> Exported:
    """What a search over adapters writes of a winner."""
    models = (f"{made / 'llama'}+{made / '0-adapter'}", f"{made / 'llama'}+{made / '1-adapter'}")
    recipe = {
        "merge_method": "task_arithmetic",
        "base_model": str(made / "llama"),
        "models": [
            {"model": model, "parameters": {"weight": [{"filter": "mlp", "value": weight}, {"value": 0.3}]}}
            for model, weight in zip(models, (1.2, -0.4), strict=True)
        ],
        "dtype": "float32",
        "out_dtype": "bfloat16",
    }
    return export(recipe, head=[], home=made / "home", settings=Settings())


@pytest.fixture(scope="module")
def theirs(made: Path, winner: Exported) -> dict[str, Path]:
    """What mergekit makes of two recipes, called as the winner's file says."""
    python = other_tool.needed("mergekit")
    assert winner.mergekit is not None
    texts = {"ties": _ties(made), "winner": winner.mergekit}
    options = " ".join(re.findall(r"--\S+ \w+", winner.remark)).replace("FOLDER", str(made / "cache")).split()
    outs = {made / name: text for name, text in texts.items()}
    assert other_tool.run(python, outs, made, options=options) == dict.fromkeys(outs)
    return {name: made / name for name in texts}


def _ties(made: Path) -> str:
    return TIES.format(base=made / "llama", one=made / "0-adapter", two=made / "1-adapter")


def test_two_adapters_are_merged_by_ties_as_mergekit_does(
    made: Path, theirs: dict[str, Path], alloyd_merge: Callable[[str], Path]
) -> None:
    ours, found = read_checkpoint(alloyd_merge(_ties(made))), read_checkpoint(theirs["ties"])
    undecided = read_safetensors(made / "ties.undecided.safetensors")
    assert sorted(ours) == sorted(found)
    beyond = {
        tensor: int((excess(ours[tensor], found[tensor], undecided.get(tensor)) > 1).sum()) for tensor in ours
    }
    # An element at the edge of the k largest may fall on the other side where the two products differ in a rounding.
    assert sum(beyond.values()) <= 4


def test_the_winner_of_a_search_over_adapters_is_the_same_to_mergekit(
    winner: Exported, theirs: dict[str, Path], alloyd_merge: Callable[[str], Path]
) -> None:
    ours, found = read_checkpoint(alloyd_merge(winner.alloyd)), read_checkpoint(theirs["winner"])
    assert sorted(ours) == sorted(found)
    assert not {tensor: each for tensor in ours if (each := excess(ours[tensor], found[tensor]).max()) > 1}
