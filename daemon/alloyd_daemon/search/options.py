"""What people set of an optimiser, checked and completed."""

from __future__ import annotations

from collections.abc import Mapping

from alloyd.errors import AlloydError, Problems, RecipeError, did_you_mean

from ..optimiser import OptimiserKind, Option
from .genome import Value


def check_options(kind: OptimiserKind, given: Mapping[str, object]) -> dict[str, Value]:
    """Every option of ``kind``: as ``given``, else its default.

    Raises
    ------
    RecipeError
        An option that the kind does not have, or a value that it cannot be (Problems, if there are several).
    """
    problems: list[AlloydError] = []
    complete: dict[str, Value] = {name: option.default for name, option in kind.options.items()}
    for name, value in given.items():
        if name not in kind.options:
            hint = did_you_mean(name, kind.options) or "It has none."
            problems.append(
                RecipeError(f"the optimiser '{kind.name}' has no option '{name}'", hint=hint, key=name)
            )
            continue
        option = kind.options[name]
        fitting = _fitting(option, value)
        if fitting is None:
            problems.append(
                RecipeError(
                    f"the option '{name}' of the optimiser '{kind.name}' cannot be {str(value)[:60]!r}",
                    hint=f"It is {expected(option)}: {option.about}.",
                    key=name,
                )
            )
            continue
        complete[name] = fitting
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise Problems(problems)
    return complete


def expected(option: Option) -> str:
    """What the values of ``option`` are, in words."""
    if option.choices:
        return "one of " + ", ".join(map(str, option.choices))
    if isinstance(option.default, bool):
        return "true or false"
    if isinstance(option.default, str):
        return "text"
    number = "a whole number" if isinstance(option.default, int) else "a number"
    if option.low is not None and option.high is not None:
        return f"{number} from {option.low:g} to {option.high:g}"
    if option.low is not None:
        return f"{number}, at least {option.low:g}"
    return number if option.high is None else f"{number}, at most {option.high:g}"


def _fitting(option: Option, value: object) -> Value | None:
    """``value`` in the type of the default, or ``None`` if it is none that the option can have."""
    if option.choices:
        return next((each for each in option.choices if each == value and type(each) is type(value)), None)
    if isinstance(option.default, bool | str):
        return value if type(value) is type(option.default) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(option.default, int) and value % 1:
        return None
    # Comparisons are false of what is no number, and of infinities where there are bounds.
    low = option.low if option.low is not None else float("-inf")
    high = option.high if option.high is not None else float("inf")
    if not low <= value <= high or value in (float("inf"), float("-inf")):
        return None
    return int(value) if isinstance(option.default, int) else float(value)
