"""The order of a population's parts: which tensors are merged when, and which activations run through them.

A key names activations by all that they follow from: the batches, and the digests of every tensor on the way. Equal
keys are equal activations, so candidates whose early layers are equal share them, and equal layers on different
activations are merged once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from blake3 import blake3

from ..engine.in_memory import Weights
from .groups import Group


@dataclass(frozen=True, slots=True)
class Flow:
    """Activations ``source`` (empty: the batches' tokens) become ``result``, for ``candidates``."""

    source: str
    result: str
    candidates: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a model with one set of weights.

    ``step`` orders parts: 0 comes before the layers, ``n + 1`` is layer ``n`` (or what comes after them, in a model of
    fewer). ``tensors`` are names by parameter, merged as ``candidate`` has them.
    """

    step: int
    is_last: bool
    group: int
    candidate: int
    tensors: Mapping[str, str]
    flows: tuple[Flow, ...]

    @property
    def is_first(self) -> bool:
        """Whether it comes before the layers."""
        return self.step == 0

    @property
    def number(self) -> int:
        """The layer's number; -1 around the layers."""
        return -1 if self.is_last else self.step - 1

    @property
    def candidates(self) -> tuple[int, ...]:
        return tuple(each for flow in self.flows for each in flow.candidates)


@dataclass(frozen=True)
class Schedule:
    """All parts in order; ``finals`` are the keys of each candidate's scores, ``most_keys`` how many activations are
    held at once at most."""

    parts: tuple[Part, ...]
    finals: Mapping[int, str]
    most_keys: int

    @cached_property
    def _last_use(self) -> Mapping[str, Part]:
        return {name: part for part in self.parts for name in part.tensors.values()}

    def done_after(self, part: Part) -> tuple[str, ...]:
        """The tensors of ``part`` that no later one asks for."""
        return tuple(name for name in set(part.tensors.values()) if self._last_use[name] is part)


@dataclass(slots=True)
class _Open:
    """A part in the making."""

    candidate: int
    flows: dict[tuple[str, str], list[int]] = field(default_factory=dict)


def schedule(groups: Sequence[Group], weights: Sequence[Weights], *, quantise: str | None) -> Schedule:
    """Order the parts of all candidates by step, equal ones made one."""
    keys: dict[int, str] = {number: "" for group in groups for number in group.members}
    parts: list[Part] = []
    most = 0
    depth = max(len(group.anatomy.layers) for group in groups)
    for step in range(depth + 2):
        for place, group in enumerate(groups):
            anatomy = group.anatomy
            around = [anatomy.first, *anatomy.layers, anatomy.last]
            if step >= len(around):
                continue
            tensors = around[step]
            open_parts: dict[str, _Open] = {}
            for number in group.members:
                digest = _digest(group, step, tensors, weights[number], quantise)
                part = open_parts.setdefault(digest, _Open(number))
                source = keys[number]
                result = blake3(f"{source} {digest}".encode()).hexdigest()
                part.flows.setdefault((source, result), []).append(number)
                keys[number] = result
            parts += [
                Part(
                    step,
                    step == len(around) - 1,
                    place,
                    part.candidate,
                    tensors,
                    tuple(Flow(source, result, tuple(who)) for (source, result), who in part.flows.items()),
                )
                for part in open_parts.values()
            ]
        most = max(most, len(set(keys.values())))
    return Schedule(tuple(parts), keys, most)


def _digest(
    group: Group, step: int, tensors: Mapping[str, str], weights: Weights, quantise: str | None
) -> str:
    found = blake3(f"{group.digest} {step} {quantise}\n".encode())
    for place, name in sorted(tensors.items()):
        found.update(f"{place} {weights.digest(name)}\n".encode())
    return found.hexdigest()
