"""A recipe laid over its models: which output tensor comes from which source tensors, with which parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..merge_method import Scalar

Place = tuple[Path, Path | None]
"""The folders of a model and of the adapter that it is read with: equal for what is one model, by whatever name."""


@dataclass(frozen=True, slots=True)
class Model:
    """One model of a recipe: the name as written, and the folders that it and its adapter resolved to."""

    name: str
    path: Path
    adapter: Path | None = None

    @property
    def place(self) -> Place:
        return self.path, self.adapter


@dataclass(frozen=True, slots=True)
class Input:
    """One source tensor of an output tensor."""

    model: int
    tensor: str
    parameters: Mapping[str, Scalar | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Assignment:
    """One output tensor: its name, method, sources in recipe order, and resolved parameters.

    ``base`` is the place of the base within ``inputs``, or ``None``. ``vocabulary_axis`` is the axis that counts
    tokens, or ``None``.
    """

    name: str
    method: str
    inputs: tuple[Input, ...]
    base: int | None
    shared: Mapping[str, Scalar | None]
    vocabulary_axis: int | None = None


@dataclass(frozen=True, slots=True)
class LayerStack:
    """One stack of layers of the output: where in the config it is counted, and each layer's origin.

    ``prefix`` is the tensor-name prefix of the stack (``model.layers``); ``config_path`` the keys that lead
    to the part of config.json that describes it (``()`` or ``("text_config",)``); ``origins`` has one (model
    index, source layer) per output layer; ``resliced`` says whether the recipe used slices.
    """

    prefix: str
    config_path: tuple[str, ...]
    origins: tuple[tuple[int, int], ...]
    resliced: bool


@dataclass(frozen=True, slots=True)
class Outline:
    """The whole recipe: models in recipe order, the donor of config and tokenizer, tensors in processing order."""

    models: tuple[Model, ...]
    donor: int
    assignments: tuple[Assignment, ...]
    stacks: tuple[LayerStack, ...]
    dtype: str | None
    out_dtype: str | None
    seed: int
    warnings: tuple[str, ...] = ()
