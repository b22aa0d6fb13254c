"""The door for architectures that can be written as GGUF, and what a table says of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from alloyd.errors import PlanError

from ..plugins import Door
from .hyperparameters import Hyperparameters

Writer = Any
"""A ``gguf.GGUFWriter``, whose methods are named for the keys they add."""

Constants = Mapping[str, NDArray[np.float32]]


def _no_constants(hyperparameters: Hyperparameters) -> Constants:
    return {}


def _no_warnings(hyperparameters: Hyperparameters) -> list[str]:
    return []


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufArchitecture:
    """How llama.cpp holds one family of models."""

    names: tuple[str, ...]
    """Class names in config.json's ``architectures``."""
    model_arch: str
    """The family's name in ``gguf.MODEL_ARCH``."""
    describe: Callable[[Writer, Hyperparameters], None]
    """Adds the family's hyperparameters to the metadata."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """What transformers means where config.json is silent."""
    interleaved: bool = False
    """Query and key rows go in pairs instead of halves."""
    norm_shift: float = 0.0
    """What is added to every norm's weight."""
    dropped: tuple[str, ...] = ()
    """Ends of names of tensors that GGUF does not hold."""
    space_prefix: bool | None = None
    """Whether a SentencePiece text begins with a space, where the family decides it and not the tokenizer."""
    activations: tuple[str, ...] = ("silu", "swish")
    """The activations that llama.cpp computes for the family."""
    constants: Callable[[Hyperparameters], Constants] = _no_constants
    """Tensors that are computed from the config."""
    warnings: Callable[[Hyperparameters], list[str]] = _no_warnings
    """What llama.cpp will do otherwise than transformers."""


GGUF_ARCHITECTURES: Final[Door[GgufArchitecture]] = Door("GGUF architecture", f"{__package__}.architectures")


def register(architecture: GgufArchitecture) -> None:
    """Register ``architecture`` under each of its names."""
    for name in architecture.names:
        GGUF_ARCHITECTURES.register(name, architecture)


def architecture_of(config: Mapping[str, Any]) -> GgufArchitecture:
    """The table of the model whose config.json this is.

    Raises
    ------
    PlanError
        The config names no architecture, or one that has no table.
    """
    named = config.get("architectures")
    name = named[0] if isinstance(named, list) and named else None
    known = GGUF_ARCHITECTURES.names()
    if not isinstance(name, str) or name not in known:
        said = (
            f"the architecture '{name}'"
            if isinstance(name, str)
            else "a model whose config names no architecture"
        )
        raise PlanError(
            f"GGUF cannot be written for {said}",
            hint=f"Known: {', '.join(known)}.",
            architecture=name if isinstance(name, str) else None,
        )
    return GGUF_ARCHITECTURES.get(name)
