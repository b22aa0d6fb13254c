"""Which optimiser searches a space, with which options: the one that was named, or what suits the space best."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from alloyd.errors import RecipeError, did_you_mean
from alloyd.recipe_schema import Scalar
from alloyd.search_schema import OptimiserChoice

from ..optimiser import OPTIMISERS, OptimiserKind, Option
from .genome import Genome, Value

AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Chosen:
    """An optimiser, its options whole, and why it is this one."""

    kind: OptimiserKind
    options: Mapping[str, Value]
    why: str


def choose(choice: OptimiserChoice, genome: Genome, objectives: int) -> Chosen:
    """The optimiser of ``choice`` for a space; ``auto`` takes what says that the space suits it best.

    Raises
    ------
    RecipeError
        It is unknown, cannot search this space or so many objectives, or an option is.
    """
    if choice.name == AUTO:
        able = [
            each
            for _, each in OPTIMISERS.items()
            if each.space is None and (each.several or objectives == 1) and each.suits(genome, objectives) > 0
        ]
        if not able:
            raise RecipeError(
                "no optimiser that is installed can search this space",
                hint="pip install 'alloyd[search]'",
                key="optimiser",
            )
        kind = max(able, key=lambda each: (each.suits(genome, objectives), each.name))
        return Chosen(kind, options_of(kind, choice.options), kind.why)
    kind = OPTIMISERS.get(choice.name)
    check_objectives(kind, objectives)
    if kind.space is None and kind.suits(genome, objectives) <= 0:
        raise RecipeError(
            f"the optimiser '{kind.name}' cannot search this space",
            hint="Leave it to 'auto', or see what it is for with 'alloy search --help'.",
            key="optimiser",
        )
    return Chosen(kind, options_of(kind, choice.options), "it was asked for")


def check_objectives(kind: OptimiserKind, objectives: int) -> None:
    """Raise RecipeError where ``kind`` knows one objective and there are several."""
    if objectives > 1 and not kind.several:
        able = ", ".join(name for name, each in OPTIMISERS.items() if each.several)
        raise RecipeError(
            f"the optimiser '{kind.name}' knows one objective, not {objectives}",
            hint=f"For a front of several: {able}.",
            key="optimiser",
        )


def options_of(kind: OptimiserKind, given: Mapping[str, Scalar]) -> dict[str, Value]:
    """The options of ``kind``: those given, checked, and the defaults of the others. Raises RecipeError."""
    for name in given:
        if name not in kind.options:
            hint = did_you_mean(name, kind.options) or "It has none."
            raise RecipeError(f"the optimiser '{kind.name}' has no option '{name}'", hint=hint, key=name)
    return {
        name: _checked(kind.name, name, option, given[name]) if name in given else option.default
        for name, option in kind.options.items()
    }


def _checked(kind: str, name: str, option: Option, value: object) -> Value:
    wanted = option.default
    if isinstance(wanted, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    fits = type(value) is type(wanted)
    if fits and isinstance(value, int | float) and not isinstance(value, bool):
        low = float("-inf") if option.low is None else option.low
        high = float("inf") if option.high is None else option.high
        fits = low <= value <= high
    if fits and option.choices:
        fits = value in option.choices
    if fits and isinstance(value, bool | int | float | str):
        return value
    if option.choices:
        expected = "one of " + ", ".join(map(str, option.choices))
    else:
        bounds = [f"at least {option.low:g}"] if option.low is not None else []
        bounds += [f"at most {option.high:g}"] if option.high is not None else []
        kinds = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
        expected = " of ".join(
            [kinds[type(wanted)], " and ".join(bounds)] if bounds else [kinds[type(wanted)]]
        )
    raise RecipeError(
        f"the option '{name}' of the optimiser '{kind}' is {option.about}: {expected}, not {value!r}",
        key=name,
    )
