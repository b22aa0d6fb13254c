"""Runs a model's own forward with layers that act otherwise: record, stop, or hand something through."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import nn
from torch.func import functional_call

from alloyd.errors import PlanError

from .hollow import Hollow

INSTEAD: Final = "Score it with --runner resident, which runs the model whole."

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
"""What a layer is called with beside its input: positional and by keyword."""

Act = Callable[[int, torch.Tensor, Arguments], Any]
"""What a layer does instead: of its number, its input and its other arguments."""


class Stop(Exception):
    """Leaves a forward that has come as far as it is wanted."""

    def __init__(self, hidden: torch.Tensor) -> None:
        super().__init__()
        self.hidden = hidden


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a forward is run on: ``ids`` int64 [rows, width]; for shared rows ``positions`` int64 [rows, width] and
    ``mask`` [rows, 1, width, width], 0 where a query sees a key and the type's least value elsewhere."""

    ids: torch.Tensor
    positions: torch.Tensor | None = None
    mask: torch.Tensor | None = None

    def keywords(self) -> dict[str, Any]:
        """As transformers' models take them."""
        found = {"input_ids": self.ids, "position_ids": self.positions, "attention_mask": self.mask}
        return {name: value for name, value in found.items() if value is not None} | {"use_cache": False}


def stop(number: int, hidden: torch.Tensor, rest: Arguments) -> torch.Tensor:
    """An :data:`Act` that stops where it is."""
    raise Stop(hidden)


def refusal(model: nn.Module, reason: str) -> PlanError:
    """The error for a model that cannot be taken apart."""
    name = type(model).__name__
    return PlanError(
        f"the forward of {name} cannot be taken apart into layers: {reason}", hint=INSTEAD, architecture=name
    )


@contextmanager
def acting(layers: nn.ModuleList, act: Act) -> Generator[None, None, None]:
    """The layers act so for as long as the context lasts."""

    def forward_of(number: int) -> Callable[..., Any]:
        def forward(*args: Any, **keywords: Any) -> Any:
            if args:
                return act(number, args[0], (args[1:], keywords))
            hidden = keywords.pop("hidden_states")
            return act(number, hidden, ((), keywords))

        return forward

    for number, each in enumerate(layers):
        each.__dict__["forward"] = forward_of(number)
    try:
        yield
    finally:
        for each in layers:
            each.__dict__.pop("forward", None)


def until_stopped(
    model: nn.Module,
    layers: nn.ModuleList,
    act: Act,
    hollow: Hollow,
    tensors: Mapping[str, torch.Tensor],
    inputs: Inputs,
) -> torch.Tensor:
    """Run ``model`` on ``inputs`` with the parameters ``tensors``, hollow else, until ``act`` raises :class:`Stop`.

    Gives what the stop carries. Raises PlanError where the forward fails or ends before.
    """
    try:
        with torch.no_grad(), acting(layers, act), hollow:
            functional_call(model, dict(tensors), args=(), kwargs=inputs.keywords())
    except Stop as stopped:
        return stopped.hidden
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        raise refusal(model, f"a part of it failed ({' '.join(str(error).split())})") from error
    raise refusal(model, "its forward ended before its last layer")
