"""What tensor names cannot tell about an architecture: ties, vocabulary axes, config keys, modules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from .plugins import Door


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleTable:
    """One module of an architecture: its name in recipes, how its tensors' names begin, its part of config.json."""

    name: str
    prefixes: tuple[str, ...]
    config_path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """Where the scale of the residual stream can move into weights: pieces of tensor names.

    ``adds``: what a branch ends with, bias included, where nothing renormalises it. ``post_norms``: gains of norms on
    what a branch adds. ``norms``: gains of norms that read the stream, without their biases. ``reads``: weights that
    read the stream with no norm before them. ``final``: the gain of the norm after the last layer. A gain is
    ``gain_offset`` + the stored weight.
    """

    final: str
    adds: tuple[str, ...] = ()
    post_norms: tuple[str, ...] = ()
    norms: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    gain_offset: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """What names cannot tell about the checkpoints of one architecture. Every key has a default that is usual.

    ``names`` are entries of config.json's ``architectures``. ``tied`` gives, for a tensor that a checkpoint
    may leave out, the one whose weights it shares. ``optional`` holds endings of names that one model may
    have and another lack (``""``: any). ``vocabulary`` gives the axis that counts tokens.
    ``layer_count_keys`` are the config keys that may hold the number of layers; ``per_layer_lists`` those
    with one entry for each layer and ``layer_index_lists`` those that list layers by number. ``pre`` and
    ``post`` are endings of the names of tensors outside the layers, where the usual rule (embeddings
    before, all else after) is wrong. ``prefix`` begins each name in the canonical spelling that filters
    see; some checkpoints leave it out. ``buffers`` are endings of tensors that are derived from the config:
    they are copied, never computed with. ``input_first`` are endings of weights that are stored as [in, out], the other
    way round than those of a linear layer. ``modules`` lists the parts of an architecture with several; empty
    means one. ``fold`` says how a path's scales are folded into weights; ``None``: they cannot be.
    """

    names: tuple[str, ...]
    tied: Mapping[str, str] = field(default_factory=dict)
    optional: tuple[str, ...] = ()
    vocabulary: Mapping[str, int] = field(default_factory=dict)
    layer_count_keys: tuple[str, ...] = ("num_hidden_layers",)
    per_layer_lists: tuple[str, ...] = ("layer_types",)
    layer_index_lists: tuple[str, ...] = ()
    pre: tuple[str, ...] = ()
    post: tuple[str, ...] = ()
    prefix: str = ""
    buffers: tuple[str, ...] = ("rotary_emb.inv_freq", "rotary_emb.cos_cached", "rotary_emb.sin_cached")
    input_first: tuple[str, ...] = ()
    modules: tuple[ModuleTable, ...] = ()
    fold: Fold | None = None

    def is_optional(self, name: str) -> bool:
        """Whether a model may lack the tensor ``name`` that another has."""
        return name in self.tied or name.endswith(self.optional)

    def is_buffer(self, name: str) -> bool:
        """Whether ``name`` is derived from the config, and so copied."""
        return name.endswith(self.buffers)


ARCHITECTURES: Final[Door[Architecture]] = Door("architecture", "alloyd_daemon.architectures")

TIED_HEAD: Final = MappingProxyType({"lm_head.weight": "model.embed_tokens.weight"})
VOCABULARY: Final = MappingProxyType({"model.embed_tokens.weight": 0, "lm_head.weight": 0})

UNKNOWN: Final = Architecture(
    names=(),
    tied=TIED_HEAD,
    optional=("",),
    vocabulary=VOCABULARY,
    layer_count_keys=("num_hidden_layers", "n_layer", "num_layers", "n_layers", "depth"),
    per_layer_lists=("layer_types", "layers_block_type", "no_rope_layers"),
    layer_index_lists=("mlp_only_layers",),
)
"""What is assumed of an architecture without a table: names and places that nearly every decoder has."""


def register(architecture: Architecture) -> None:
    """Add a table under each of its names."""
    for name in architecture.names:
        ARCHITECTURES.register(name, architecture)


def named_in(config: Mapping[str, Any] | None, override: str | None = None) -> str | None:
    """The architecture that a config.json names first, or ``override`` when the recipe gives one."""
    if override is not None:
        return override
    listed = (config or {}).get("architectures")
    return listed[0] if isinstance(listed, list) and listed and isinstance(listed[0], str) else None


def table_for(name: str | None) -> Architecture:
    """The table of the architecture called ``name``, or :data:`UNKNOWN`."""
    return ARCHITECTURES.get(name) if name in ARCHITECTURES.names() and name is not None else UNKNOWN
