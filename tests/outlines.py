"""Recipes laid over checkpoints that exist as names, shapes and configs alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from alloyd.errors import AlloydError, Problems
from alloyd.recipe import Recipe, load
from alloyd_daemon.recipes.assign import assign
from alloyd_daemon.recipes.outline import Assignment, Model, Outline
from checkpoint_factory import CLASSES, shapes
from checkpoint_factory import Model as Shape


@dataclass(frozen=True)
class Tensor:
    shape: tuple[int, ...]
    dtype: str = "BF16"


@dataclass
class Checkpoint:
    """The names, shapes and config of a model, as its headers and config.json give them."""

    tensors: dict[str, Tensor]
    config: dict[str, Any] | None = field(default_factory=dict)

    def without(self, *endings: str) -> Checkpoint:
        kept = {name: each for name, each in self.tensors.items() if not name.endswith(endings)}
        return Checkpoint(kept, self.config)

    def plus(self, **more: tuple[int, ...]) -> Checkpoint:
        added = {name.replace("__", "."): Tensor(shape) for name, shape in more.items()}
        return Checkpoint(self.tensors | added, self.config)

    def saying(self, **config: Any) -> Checkpoint:
        return Checkpoint(self.tensors, {**(self.config or {}), **config})


def family(name: Any = "llama", layers: int = 4, *, tied: bool = False, vocab: int = 96) -> Checkpoint:
    model = Shape(architecture=name, layers=layers, tied=tied, vocab=vocab)
    key = "n_layer" if name == "gpt2" else "num_hidden_layers"
    tensors = {tensor: Tensor(shape) for tensor, shape in shapes(model).items()}
    return Checkpoint(tensors, {"architectures": [CLASSES[name]], key: layers})


LLAMA = family()


def recipe_of(text: str, lenient: bool = False) -> Recipe:
    (recipe,) = load(text, lenient=lenient)
    return recipe


def lay(
    text: str,
    checkpoints: Mapping[str, Checkpoint] | None = None,
    *,
    lenient: bool = False,
    vocabularies: Mapping[str, str | None] | None = None,
) -> Outline:
    """Assign ``text`` over ``checkpoints`` (by the model's path; LLAMA where there is none)."""
    recipe = recipe_of(text, lenient)
    refs = recipe.referenced_models()
    held = [(checkpoints or {}).get(each.path, LLAMA) for each in refs]
    return assign(
        recipe,
        [Model(str(each), Path("/models") / each.path) for each in refs],
        [each.tensors for each in held],
        [each.config for each in held],
        vocabularies=[] if vocabularies is None else [vocabularies.get(each.path) for each in refs],
        lenient=lenient,
    )


def problems(
    text: str, checkpoints: Mapping[str, Checkpoint] | None = None, **more: Any
) -> list[AlloydError]:
    with pytest.raises(AlloydError) as caught:
        lay(text, checkpoints, **more)
    error = caught.value
    return list(error.problems) if isinstance(error, Problems) else [error]


def problem(text: str, checkpoints: Mapping[str, Checkpoint] | None = None, **more: Any) -> AlloydError:
    found = problems(text, checkpoints, **more)
    assert len(found) == 1, [each.message for each in found]
    return found[0]


def named(outline: Outline, name: str) -> Assignment:
    (found,) = (each for each in outline.assignments if each.name == name)
    return found


def weights(outline: Outline, name: str) -> list[Any]:
    return [each.parameters.get("weight") for each in named(outline, name).inputs]


AVERAGE = """
merge_method: linear
models:
  - {model: a, parameters: {weight: 1}}
  - {model: b, parameters: {weight: 3}}
"""
Q = "model.layers.%d.self_attn.q_proj.weight"
