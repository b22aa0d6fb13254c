"""What a quantiser is (weights of linear modules in fewer bits, one tensor at a time), its options, and its door.

A quantiser serves two ends with the same arithmetic: a resident model whose linear modules are filled tensor by tensor
(``prepare``, ``load``), and an ordinary pre-quantised checkpoint (``stored``, ``encode``, ``config``) that transformers
loads. Which modules are quantised is not its affair but :meth:`alloyd_daemon.skeleton.Skeleton.select`'s; it only says
which shapes it cannot hold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Protocol

from alloyd.errors import RecipeError, did_you_mean

from .checkpoints.header import size_of
from .plugins import Door

OptionValue = bool | int | float | str


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One tensor of a pre-quantised checkpoint: its name, dtype code of the format, and shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return size_of(self.dtype, self.shape)


class Quantiser(Protocol):
    """Quantises matrices of shape (outputs, inputs), each by itself.

    Tensors are torch tensors of the dtype that the merge puts out (bfloat16, float16 or float32), on the CPU or a GPU.
    The same tensor gives the same bytes on any number of threads.
    """

    @property
    def name(self) -> str:
        """The name that it is registered at."""

    def refusal(self, shape: Sequence[int]) -> str | None:
        """Why a matrix of this shape (outputs, inputs) is left as it is; ``None`` where it can be quantised."""

    def stored(self, name: str, dtype: str, shape: Sequence[int]) -> tuple[StoredTensor, ...]:
        """What a checkpoint holds for the matrix ``name`` of this dtype code and shape, known before its values."""

    def encode(self, name: str, tensor: Any) -> Mapping[str, memoryview]:
        """The bytes of every tensor of :meth:`stored`, for the values of the matrix ``name``.

        Raises JobError for values that the format cannot hold (not finite, or too large).
        """

    def round_trip(self, name: str, tensor: Any, *, dtype: Any = None) -> Any:
        """``tensor`` quantised and dequantised: same shape and device; torch's ``dtype``, by default its own."""

    def prepare(self, model: Any, skipped: Sequence[str]) -> None:
        """Swap the linear modules of a transformers model on the meta device for quantised ones.

        ``skipped`` are the patterns of module names that transformers leaves as they are.
        """

    def load(self, module: Any, name: str, tensor: Any) -> None:
        """Quantise ``tensor``, the matrix called ``name``, into a module that :meth:`prepare` made.

        What the module held before is dropped, also after a forward. Raises JobError as :meth:`encode` does.
        """

    def config(self, skipped: Sequence[str] | None) -> Mapping[str, Any]:
        """The ``quantization_config`` of config.json; ``skipped`` where more modules than usual were left out."""

    def workspace(self, shape: Sequence[int]) -> int:
        """Bytes of private memory that quantising one matrix of this shape takes, results included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """An option of a quantiser: its default says its type; ``choices`` or ``low`` bound its values."""

    name: str
    default: OptionValue
    about: str
    choices: tuple[OptionValue, ...] = ()
    low: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantiserKind:
    """A registered quantiser: what it is, where it is described, its options, and how it is made from them."""

    summary: str
    reference: str
    options: tuple[Option, ...]
    make: Callable[[Mapping[str, OptionValue]], Quantiser]


QUANTISERS: Final[Door[QuantiserKind]] = Door("quantiser", "alloyd_daemon.quantisers")


def quantiser(name: str, options: Mapping[str, Any] = MappingProxyType({})) -> Quantiser:
    """The quantiser called ``name`` with ``options``; those that are left out have transformers' defaults.

    Raises RecipeError for an unknown name or option, or a value out of its range.
    """
    kind = QUANTISERS.get(name)
    known = {option.name: option for option in kind.options}
    for key in options:
        if key not in known:
            raise RecipeError(
                f"quantiser '{name}' has no option '{key}'", hint=did_you_mean(key, known), key=key
            )
    return kind.make({key: _checked(name, known[key], options.get(key, known[key].default)) for key in known})


def _checked(quantiser: str, option: Option, value: Any) -> OptionValue:
    wanted = type(option.default)
    if wanted is float and type(value) is int:
        value = float(value)
    problem = None
    if type(value) is not wanted:
        problem = f"must be {_KINDS[wanted]}, not {value!r}"
    elif option.choices and value not in option.choices:
        problem = f"must be one of {', '.join(map(str, option.choices))}, not {value}"
    elif isinstance(value, float) and not math.isfinite(value):
        problem = f"must be a finite number, not {value}"
    elif option.low is not None and float(value) < option.low:
        problem = f"must be at least {option.low:g}, not {value}"
    if problem is not None:
        raise RecipeError(
            f"option '{option.name}' of quantiser '{quantiser}' {problem}",
            hint=f"{option.about[0].upper()}{option.about[1:]}; default {option.default}.",
            key=option.name,
        )
    checked: OptionValue = value
    return checked


_KINDS: Final = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
