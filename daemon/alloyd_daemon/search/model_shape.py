"""What the models of a search look like, from their headers: layers, what lies around them, parts of a model."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from alloyd.recipe import ModelRef

from ..architecture import Architecture, named_in, table_for
from ..recipes.layers import Layout, Stack, find_layout
from ..recipes.sources import TensorLike

COMPONENTS: Final = ("attention", "mlp", "norms", "embeddings")
"""The parts of a model that have a name; all else is ``other``."""

_NORM: Final = re.compile(r"norm|^ln(_|$)")
_ATTENTION: Final = re.compile(r"attn|attention")
_MLP: Final = re.compile(r"^(mlp|ffn|feed_forward|moe|block_sparse_moe|experts|shared_experts?|fc\d?)$")
_EMBEDDING: Final = re.compile(r"embed|^(wte|wpe)$")


class Headers(Protocol):
    """What a checkpoint's headers and config.json say; ``alloyd_daemon.checkpoints`` opens such."""

    @property
    def tensors(self) -> Mapping[str, TensorLike]: ...

    @property
    def config(self) -> Mapping[str, Any] | None: ...


@dataclass(frozen=True, slots=True)
class Part:
    """Where one tensor stands in a model: its module, layer (``None`` outside of them), component, elements.

    ``before``: outside of the layers, it comes before them. ``rest`` is its name inside its layer.
    """

    module: str
    layer: int | None
    before: bool
    component: str
    elements: int
    rest: str


@dataclass(frozen=True, slots=True)
class ModelShape:
    """One model, or the union of several of one architecture. Names are canonical: those that filters see.

    ``stacks`` gives, for each module that has layers, the beginning of their names and how many there are (the most
    that one of the models has).
    """

    sources: Mapping[ModelRef, Headers]
    tensors: Mapping[str, Part]
    stacks: Mapping[str, tuple[str, int]]

    @property
    def layers(self) -> int:
        """The number of layers of the first module that has some; 0 without any."""
        return next((count for _, count in self.stacks.values()), 0)

    @property
    def prefix(self) -> str:
        """How the names of these layers begin: ``model.layers``."""
        return next((prefix for prefix, _ in self.stacks.values()), "")

    @staticmethod
    def of(sources: Mapping[ModelRef, Headers]) -> ModelShape:
        """The shape of ``sources``, given by what recipes name; the first decides on modules."""
        tensors: dict[str, Part] = {}
        stacks: dict[str, tuple[str, int]] = {}
        for ref, headers in sources.items():
            table = table_for(named_in(headers.config, ref.override_architecture))
            layout = find_layout(headers.tensors, table, headers.config)
            for key, module in layout.modules.items():
                if module.stack is not None:
                    prefix, count = stacks.get(key, (module.stack.prefix, 0))
                    stacks[key] = prefix, max(count, module.stack.count)
            for name, part in _parts(layout, table, headers).items():
                tensors.setdefault(name, part)
        return ModelShape(dict(sources), tensors, stacks)


def _parts(layout: Layout, table: Architecture, headers: Headers) -> dict[str, Part]:
    found = {}
    for key, module in layout.modules.items():
        places: list[tuple[str, int | None, bool, str]] = [(name, None, True, name) for name in module.pre]
        if module.stack is not None:
            places += [
                (module.stack.name(layer, rest), layer, False, rest)
                for layer, rests in enumerate(module.stack.layers)
                for rest in rests
            ]
        places += [(name, None, False, name) for name in module.post]
        for name, layer, before, rest in places:
            if not table.is_buffer(name) and not _numbered_beyond(module.stack, name, layer):
                elements = math.prod(headers.tensors[layout.stored[name]].shape)
                found[name] = Part(key, layer, before, component(name, table), elements, rest)
    return found


def _numbered_beyond(stack: Stack | None, name: str, layer: int | None) -> bool:
    """Whether a tensor outside the layers is numbered as one: a head for predicting several tokens."""
    return layer is None and stack is not None and stack.numbers(name)


def component(name: str, table: Architecture) -> str:
    """The part of a model that the tensor ``name`` belongs to: one of ``COMPONENTS``, or ``other``.

    A norm inside attention is a norm. Embeddings are whatever counts tokens: the output head is one of them.
    """
    if name in table.vocabulary or name in table.tied:
        return "embeddings"
    pieces = name.split(".")[:-1]
    if any(_NORM.search(piece.lower()) for piece in pieces[-1:]):
        return "norms"
    if any(_ATTENTION.search(piece.lower()) for piece in pieces):
        return "attention"
    if any(_MLP.search(piece.lower()) for piece in pieces):
        return "mlp"
    return "embeddings" if any(_EMBEDDING.search(piece.lower()) for piece in pieces) else "other"
