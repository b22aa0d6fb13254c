"""Rehearses a model's forward without weights, to find its parts and to refuse one that has no such parts.

A model can be taken apart where its layers are called once each and in order, each on the output of the one before,
with arguments that do not depend on weights and parameters of its own, and where what comes after sees the last
output alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from alloyd.errors import AlloydError

from .forwards import Arguments, Inputs, acting, refusal, stop, until_stopped
from .hollow import Hollow


@dataclass(frozen=True, slots=True)
class Parts:
    """The tensors that fill each part's parameters, and whether a layer gives its output in a tuple."""

    first: Mapping[str, str]
    layers: tuple[Mapping[str, str], ...]
    last: Mapping[str, str]
    wrapped: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class _Call:
    """One layer's call: its other arguments, whether a tuple came back, the parameters it met, and the ``id`` of every
    tensor that it computed with."""

    rest: Arguments
    wrapped: bool
    used: frozenset[str]
    met: frozenset[int]


@dataclass(frozen=True, slots=True)
class _Rehearsal:
    """The parameters that were met before and after the layers, and each layer's call."""

    before: frozenset[str]
    after: frozenset[str]
    calls: tuple[_Call, ...]


def find_layers(model: Any) -> tuple[str, nn.ModuleList]:
    """The list of the model's layers and its path. Raises PlanError where there is not one such list."""
    count = model.config.get_text_config().num_hidden_layers
    found: list[tuple[str, nn.ModuleList]] = []
    for path, module in model.named_modules():
        inside = any(path.startswith(f"{outer}.") for outer, _ in found)
        if isinstance(module, nn.ModuleList) and len(module) == count and not inside:
            found.append((path, module))
    if len(found) != 1:
        raise refusal(model, f"it has {len(found) or 'no'} lists of {count} layers, not one")
    return found[0]


def take_apart(
    model: nn.Module,
    path: str,
    layers: nn.ModuleList,
    names: Mapping[int, str],
    tensors: Mapping[str, str],
    device: torch.device,
) -> Parts:
    """The parts of ``model``, whose layers are the list ``layers`` at ``path``.

    ``names`` gives a parameter's name by its ``id``, ``tensors`` the checkpoint's tensor by parameter. Raises PlanError
    for a model that cannot be taken apart.
    """
    inputs = Inputs(torch.zeros((2, 5), dtype=torch.int64, device=device))
    shown, other = (
        _rehearse(model, layers, Hollow(names, device=device, fill=fill), inputs) for fill in (0.0, 1.0)
    )
    own = tuple(
        {place: name for place, name in tensors.items() if place.startswith(f"{path}.{number}.")}
        for number in range(len(layers))
    )
    for number, (call, again) in enumerate(zip(shown.calls, other.calls, strict=True)):
        if not _same(call.rest, again.rest):
            raise refusal(model, f"what layer {number} is called with depends on the weights")
        if strange := sorted(call.used - set(own[number])):
            raise refusal(model, f"layer {number} computes with '{strange[0]}', which is not its own")
    inner = {place for each in own for place in each}
    for when, used in (("before", shown.before), ("after", shown.after)):
        if strange := sorted(used & inner):
            raise refusal(model, f"'{strange[0]}' of a layer is used {when} the layers as well")
    if unused := sorted(set(tensors) - inner - shown.before - shown.after):
        raise refusal(
            model, f"the tensor '{tensors[unused[0]]}' is used neither in its layers nor around them"
        )
    return Parts(
        {place: tensors[place] for place in sorted(shown.before)},
        own,
        {place: tensors[place] for place in sorted(shown.after)},
        tuple(each.wrapped for each in shown.calls),
    )


def keeps_to_masks(
    model: Any, layers: nn.ModuleList, names: Mapping[int, str], dtype: torch.dtype, device: torch.device
) -> bool:
    """Whether every layer mixes tokens by attention alone, with the mask and positions that the forward is handed."""
    kinds = getattr(model.config.get_text_config(), "layer_types", None) or ()
    if not all(str(each).endswith("_attention") and "linear" not in str(each) for each in kinds):
        return False
    if any(isinstance(each, nn.Conv1d | nn.Conv2d) for each in layers.modules()):
        return False
    width = 4
    ids = torch.zeros((1, width), dtype=torch.int64, device=device)
    mask = torch.zeros((1, 1, width, width), dtype=dtype, device=device)
    straight = torch.arange(width, device=device)[None]
    hollow = Hollow(names, device=device)
    try:
        shown = _rehearse(model, layers, hollow, Inputs(ids, straight, mask))
        turned = _rehearse(model, layers, Hollow(names, device=device), Inputs(ids, straight.flip(1), mask))
    except AlloydError:
        return False
    if not all(id(mask) in each.met for each in shown.calls):
        return False
    # Positions reach a layer as angles, or its input by way of an embedding.
    pairs = zip(shown.calls, turned.calls, strict=True)
    return id(straight) in hollow.beside or all(not _same(_floats(a.rest), _floats(b.rest)) for a, b in pairs)


def recorded(
    model: nn.Module,
    layers: nn.ModuleList,
    names: Mapping[int, str],
    wrapped: tuple[bool, ...],
    inputs: Inputs,
    device: torch.device,
) -> tuple[Arguments, ...]:
    """What each layer is called with beside its input."""
    found: list[Arguments] = []

    def record(number: int, hidden: torch.Tensor, rest: Arguments) -> Any:
        found.append(rest)
        if number == len(layers) - 1:
            return stop(number, hidden, rest)
        return (hidden,) if wrapped[number] else hidden

    until_stopped(model, layers, record, Hollow(names, device=device), {}, inputs)
    return tuple(found)


def _rehearse(model: nn.Module, layers: nn.ModuleList, hollow: Hollow, inputs: Inputs) -> _Rehearsal:
    watch = _Watch(model, layers, hollow)
    try:
        with torch.no_grad(), acting(layers, watch.act), hollow:
            found = model(**inputs.keywords())
    except AlloydError:
        raise
    except Exception as error:
        raise refusal(
            model, f"a rehearsal without weights failed ({' '.join(str(error).split())})"
        ) from error
    if len(watch.calls) != len(layers):
        raise refusal(model, f"{len(watch.calls)} of its {len(layers)} layers are called")
    if hollow.met & {id(each) for each in watch.passed[:-1]}:
        raise refusal(model, "what comes after its layers looks at more than the last one's output")
    logits = getattr(found, "logits", None)
    if not isinstance(logits, torch.Tensor) or logits.dim() != 3:
        raise refusal(model, "it gives no logits")
    return _Rehearsal(watch.before, frozenset(hollow.used), tuple(watch.calls))


class _Watch:
    """Lets layers run while it looks on; ``passed`` are the first layer's input and every output since."""

    def __init__(self, model: nn.Module, layers: nn.ModuleList, hollow: Hollow) -> None:
        self.model = model
        self.layers = layers
        self.hollow = hollow
        self.originals = [type(each).forward for each in layers]
        self.calls: list[_Call] = []
        self.passed: list[torch.Tensor] = []
        self.before: frozenset[str] = frozenset()

    def act(self, number: int, hidden: torch.Tensor, rest: Arguments) -> Any:
        """Let a layer run, and check how it is called and what it gives."""
        hollow = self.hollow
        if number != len(self.calls):
            raise refusal(self.model, f"layer {number} is called at place {len(self.calls)}")
        if not self.passed:
            self.before = frozenset(hollow.used)
            self.passed.append(hidden)
        elif hidden is not self.passed[-1]:
            raise refusal(self.model, f"the input of layer {number} is not the output of the layer before")
        elif hollow.used or hollow.met & {id(each) for each in self.passed}:
            raise refusal(self.model, f"something is computed between layers {number - 1} and {number}")
        hollow.used.clear()
        hollow.met.clear()
        positional, keywords = rest
        found = self.originals[number](self.layers[number], hidden, *positional, **keywords)
        output = found[0] if isinstance(found, tuple) and found else found
        if isinstance(found, tuple) and len(found) != 1:
            raise refusal(self.model, f"layer {number} gives {len(found)} things, not its output alone")
        if not isinstance(output, torch.Tensor) or (output.shape, output.dtype) != (
            hidden.shape,
            hidden.dtype,
        ):
            raise refusal(self.model, f"the output of layer {number} is not like its input")
        self.calls.append(
            _Call(rest, isinstance(found, tuple), frozenset(hollow.used), frozenset(hollow.met))
        )
        self.passed.append(output)
        hollow.used.clear()
        hollow.met.clear()
        return found


def _floats(rest: Arguments) -> list[torch.Tensor]:
    return [each for each in tree_leaves(rest) if isinstance(each, torch.Tensor) and each.is_floating_point()]


def _same(one: Any, two: Any) -> bool:
    """Whether two nests of arguments are equal, tensors by value."""
    left, right = tree_leaves(one), tree_leaves(two)
    if len(left) != len(right):
        return False
    for a, b in zip(left, right, strict=True):
        if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
            if a.dtype != b.dtype or not torch.equal(a, b):
                return False
        elif a is not b and a != b:
            return False
    return True
