"""Zoo models as candidates for llama.cpp, and the reference: transformers in float32."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alloyd.jobs import PlanSpec
from alloyd_daemon.candidate import Candidate, from_checkpoint, from_recipe
from alloyd_daemon.engine.in_memory import population
from alloyd_daemon.gguf.layout import describe
from alloyd_daemon.llama.image import Image
from alloyd_daemon.settings import Settings

ZOO = Path(__file__).parents[2] / "zoo" / "models"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Callable[[str], Candidate]:
    """The candidate that a zoo model is."""

    def make(name: str) -> Candidate:
        return from_checkpoint(ZOO / name, name=name, home=tmp_path, settings=Settings())

    return make


@pytest.fixture
def mixture(tmp_path: Path) -> Callable[[float], Candidate]:
    """The candidate that is so much of the zoo's `math` and otherwise its `base`."""

    def make(weight: float) -> Candidate:
        recipe = {
            "merge_method": "linear",
            "dtype": "bfloat16",
            "models": [
                {"model": str(ZOO / "math"), "parameters": {"weight": weight}},
                {"model": str(ZOO / "base"), "parameters": {"weight": 1 - weight}},
            ],
        }
        spec = PlanSpec(recipe=json.dumps(recipe), base_dir="/", recipe_name=f"math {weight}")
        return from_recipe(spec, name=f"math {weight}", home=tmp_path, settings=Settings())

    return make


def gguf_file(candidate: Candidate, path: Path, kind: str = "F32") -> Path:
    """Write the candidate as a GGUF file."""
    tensors = [(each.name, each.dtype, each.shape) for each in candidate.prepared.plan.tensors]
    layout = describe(tensors, candidate.config, candidate.folder, kind, filename=path.name)
    with Image(layout, path.parent, in_memory=True) as image, population([candidate]) as sources:
        for _ in image.become(sources.members[0]):
            pass
        path.write_bytes(os.pread(image.handle, layout.size, 0))
    return path


@functools.cache
def reference(folder: Path) -> Any:
    """transformers' model of a folder, in float32."""
    import torch
    import transformers

    torch.set_num_threads(1)
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def logprobs_of(folder: Path, ids: tuple[int, ...]) -> Any:
    """Natural log-probabilities after each of ``ids``, float64 [tokens, vocabulary]."""
    import torch

    with torch.inference_mode():
        logits = reference(folder)(torch.tensor([ids])).logits[0]
    return torch.log_softmax(logits.double(), -1).numpy()
