"""Finds the stacks of layers of a checkpoint from its tensors' names, and sorts what lies outside them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ..architecture import Architecture

_NUMBERED: Final = re.compile(r"(?P<prefix>.*?)\.(?P<layer>0|[1-9][0-9]{0,6})\.(?P<rest>.+)")
_EMBEDDING: Final = re.compile(r"embed|(^|\.)(wte|wpe)\.")


@dataclass(frozen=True, slots=True)
class Stack:
    """``count`` layers named ``{prefix}.{number}.*``; ``declared`` is the number that config.json gives, if it does.

    ``config_path`` leads to the part of config.json that counts them.
    """

    prefix: str
    layers: tuple[tuple[str, ...], ...]
    config_path: tuple[str, ...] = ()
    declared: int | None = None

    @property
    def count(self) -> int:
        return len(self.layers)

    def name(self, layer: int, rest: str) -> str:
        """The name of a tensor of a layer."""
        return f"{self.prefix}.{layer}.{rest}"

    def numbers(self, name: str) -> bool:
        """Whether ``name`` is that of a layer of this stack, or of one numbered beyond it."""
        match = _NUMBERED.fullmatch(name)
        return match is not None and match["prefix"] == self.prefix


@dataclass(frozen=True, slots=True)
class Module:
    """One module: at most one stack, and the tensors that come before and after it. Names are canonical."""

    name: str
    stack: Stack | None
    pre: tuple[str, ...]
    post: tuple[str, ...]

    @property
    def loose(self) -> tuple[str, ...]:
        return self.pre + self.post


@dataclass(frozen=True, slots=True)
class Layout:
    """A checkpoint's modules, and the name under which each canonical name is stored."""

    modules: Mapping[str, Module]
    stored: Mapping[str, str]
    prefix_dropped: str = ""

    def as_stored(self, canonical: str) -> str:
        """How this checkpoint would spell ``canonical``, whether or not it has that tensor."""
        return self.stored.get(canonical) or canonical.removeprefix(self.prefix_dropped)


def find_layout(names: Iterable[str], architecture: Architecture, config: Mapping[str, Any] | None) -> Layout:
    """Lay out the tensors called ``names``, given in stored order.

    A stack is what is numbered from 0 without a gap and holds submodules (``self_attn.q_proj.weight``), so
    that the numbered parts of a small ``Sequential`` (``mlp.0.weight``) do not count as layers. Layers
    beyond the number that config.json declares (heads for multi-token prediction) lie outside the stack.
    """
    stored = canonical_names(names, architecture.prefix)
    dropped = architecture.prefix if any(key != value for key, value in stored.items()) else ""
    stacks = _find_stacks(stored)
    members: dict[str, list[str]] = {}
    for name in stored:
        members.setdefault(_module_of(name, architecture, stacks), []).append(name)
    modules = {}
    for key, tensors in members.items():
        path = next((each.config_path for each in architecture.modules if each.name == key), None)
        modules[key] = _lay_out_module(key, tensors, stacks, architecture, config, path)
    order = [each.name for each in architecture.modules] or list(modules)
    ordered = sorted(modules, key=lambda key: order.index(key) if key in order else len(order))
    return Layout({key: modules[key] for key in ordered}, stored, dropped)


def canonical_names(names: Iterable[str], prefix: str) -> dict[str, str]:
    """Canonical name -> stored name. The prefix is added where the file left it out, but not to an output head."""
    listed = list(names)
    if not prefix or any(name.startswith(prefix) for name in listed):
        return {name: name for name in listed}
    return {name if name.startswith("lm_head.") else prefix + name: name for name in listed}


def _find_stacks(names: Iterable[str]) -> dict[str, dict[int, list[str]]]:
    """Prefix -> layer number -> the rest of each name, for prefixes whose numbers make a stack."""
    found: dict[str, dict[int, list[str]]] = {}
    for name in names:
        match = _NUMBERED.fullmatch(name)
        if match:
            found.setdefault(match["prefix"], {}).setdefault(int(match["layer"]), []).append(match["rest"])
    return {
        prefix: layers
        for prefix, layers in found.items()
        if max(layers) == len(layers) - 1 and any("." in rest for rests in layers.values() for rest in rests)
    }


def _module_of(name: str, architecture: Architecture, stacks: Mapping[str, object]) -> str:
    """The module a tensor belongs to: by table, else a stack of its own where there are several, else ``default``."""
    fits = [
        (len(prefix), each.name)
        for each in architecture.modules
        for prefix in each.prefixes
        if name.startswith(prefix)
    ]
    if fits:
        return max(fits)[1]
    if architecture.modules or len(stacks) < 2:
        return "default"
    match = _NUMBERED.fullmatch(name)
    return match["prefix"] if match and match["prefix"] in stacks else "default"


def _lay_out_module(
    name: str,
    tensors: list[str],
    stacks: Mapping[str, Mapping[int, list[str]]],
    architecture: Architecture,
    config: Mapping[str, Any] | None,
    config_path: tuple[str, ...] | None,
) -> Module:
    mine = [
        match["prefix"] for match in map(_NUMBERED.fullmatch, tensors) if match and match["prefix"] in stacks
    ]
    stack = None
    if mine:
        prefix = max(set(mine), key=lambda each: (len(stacks[each]), each))
        stack = _stack(prefix, stacks[prefix], architecture, config, config_path, alone=len(stacks) == 1)
    inside = set()
    if stack is not None:
        inside = {stack.name(number, rest) for number, rests in enumerate(stack.layers) for rest in rests}
    loose = [each for each in tensors if each not in inside]
    pre = tuple(each for each in loose if _comes_before(each, architecture))
    post = tuple(each for each in loose if not _comes_before(each, architecture))
    return Module(name, stack, pre, post)


def _stack(
    prefix: str,
    layers: Mapping[int, list[str]],
    architecture: Architecture,
    config: Mapping[str, Any] | None,
    config_path: tuple[str, ...] | None,
    alone: bool,
) -> Stack:
    paths: list[tuple[str, ...]] = [()] if config_path is None else [config_path]
    if config_path is None:
        paths += [(key,) for key, each in (config or {}).items() if isinstance(each, Mapping)]
    counts = {path: count for path in paths if (count := _declared(config, path, architecture)) is not None}
    equal = next((each for each, count in counts.items() if count == len(layers)), None)
    path = equal if equal is not None else next(iter(counts), ())
    # Of several stacks, a count that no stack has says nothing about this one, unless a table says whose it is.
    declared = counts.get(path) if equal is not None or alone or config_path is not None else None
    kept = len(layers) if declared is None or declared < 1 else min(len(layers), declared)
    return Stack(prefix, tuple(tuple(layers[number]) for number in range(kept)), path, declared)


def _declared(
    config: Mapping[str, Any] | None, path: tuple[str, ...], architecture: Architecture
) -> int | None:
    """The number of layers that the part of config.json at ``path`` gives."""
    part: Any = config
    for key in path:
        part = part.get(key) if isinstance(part, Mapping) else None
    if not isinstance(part, Mapping):
        return None
    counts = (part.get(key) for key in architecture.layer_count_keys)
    return next((each for each in counts if isinstance(each, int) and not isinstance(each, bool)), None)


def _comes_before(name: str, architecture: Architecture) -> bool:
    """Whether a tensor outside the layers comes before them."""
    if architecture.post and name.endswith(architecture.post):
        return False
    if architecture.pre and name.endswith(architecture.pre):
        return True
    return _EMBEDDING.search(name) is not None
