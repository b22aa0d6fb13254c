"""What a merge method declares (parameters, base, inputs) and the door it registers at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from .plugins import Door

if TYPE_CHECKING:
    from .engine.blends import Blend
    from .stages import Steps

Scalar = float | int | bool | str
Scope = Literal["shared", "input", "non_base"]


class _Required:
    """The default of a parameter that must be given."""

    def __repr__(self) -> str:
        return "REQUIRED"


REQUIRED: Final = _Required()


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter of a merge method.

    ``scope`` says where it is looked up: ``shared`` has one value per output tensor and is never read from a
    model's own entry; ``input`` has one per source, the base included; ``non_base`` has one per source that is
    not the base. ``default=None`` means "absent is allowed". ``example`` is a value for one without a default, where
    half a unit is none. ``idle``: it is accepted for mergekit's sake and changes nothing.
    """

    name: str
    kind: type[float] | type[int] | type[bool] | type[str]
    scope: Scope
    default: Scalar | _Required | None = REQUIRED
    low: float | None = None
    high: float | None = None
    about: str = ""
    idle: bool = False
    example: Scalar | None = None


@dataclass(frozen=True, slots=True)
class Operands:
    """What a method's program sees of one output tensor: how many sources, which is the base, resolved values.

    ``inputs`` holds the per-source parameters in recipe order, the base included; ``base`` is the base's place
    in that order or ``None``. ``positions`` are the places of the sources that are not the base.
    """

    name: str
    shape: tuple[int, ...]
    count: int
    base: int | None
    inputs: tuple[Mapping[str, Scalar | None], ...]
    shared: Mapping[str, Scalar | None]
    seed: int

    @property
    def positions(self) -> tuple[int, ...]:
        return tuple(each for each in range(self.count) if each != self.base)

    def column(self, parameter: str) -> tuple[Any, ...]:
        """The values of a per-source parameter, base left out, in recipe order."""
        return tuple(self.inputs[each].get(parameter) for each in self.positions)


Program = Callable[[Operands], "Steps[Blend | None]"]


def no_state(sources: int, leaves: int, workers: int) -> int:
    """The memory of a method that measures nothing."""
    return 0


def no_rows(operands: Operands) -> int:
    """The scratch of a blend that needs no more than all have."""
    return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeMethod:
    """One merge method.

    ``program`` is a generator: it yields measurements over the tensor's sources (stages, and recalls of what may be
    known), is sent what each one resolved to, and returns the blend that writes the output; what returns none is only
    measured. ``passes`` says how many sweeps over the sources a tensor with these values takes when nothing is known,
    the blend included, so that a plan can count bytes before work (a sample that misleads may cost more); it raises
    RecipeError for values that make no sense together.

    ``base`` is ``required``, ``optional`` or ``ignored`` (mergekit's contract); ``least``/``most`` bound the number
    of sources other than the base (all sources when the base is ignored). ``singleton`` lets a tensor that only one
    source has pass through; ``complete`` says that every source must have every tensor, because places count.
    ``state_bytes`` of (sources, leaves, workers) bounds the private memory of its stages; ``rows`` is how many rows of
    a tile the blend needs beyond those that every method has.
    """

    name: str
    summary: str
    reference: str
    parameters: tuple[Parameter, ...]
    base: Literal["required", "optional", "ignored"]
    program: Program
    passes: Callable[[Operands], int]
    state_bytes: Callable[[int, int, int], int] = no_state
    least: int = 1
    most: int | None = None
    singleton: bool = False
    complete: bool = False
    rows: Callable[[Operands], int] = no_rows

    def parameter(self, name: str) -> Parameter | None:
        """The declaration of ``name``, or ``None``."""
        return next((each for each in self.parameters if each.name == name), None)


METHODS: Final[Door[MergeMethod]] = Door("merge method", "alloyd_daemon.methods")
