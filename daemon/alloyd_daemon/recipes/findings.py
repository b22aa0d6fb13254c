"""What is wrong with a recipe or worth telling, gathered over all tensors so that one cause makes one message."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from alloyd.errors import AlloydError, PlanError, RecipeError, ShapeMismatch

SHOWN: Final = 3


class Findings:
    """Errors and warnings of one recipe. ``unset``, ``lacking`` and ``unequal`` take one tensor at a time."""

    def __init__(self, warnings: Sequence[str] = ()) -> None:
        self.warnings = list(warnings)
        self._errors: dict[str, AlloydError] = {}
        self._unset: dict[tuple[str, str, str], list[str]] = {}
        self._lacking: dict[tuple[str, str], list[str]] = {}
        self._unequal: list[ShapeMismatch] = []
        self._unwritten: list[str] = []

    def __bool__(self) -> bool:
        """Whether there is an error."""
        return bool(self._errors or self._unset or self._lacking or self._unequal)

    def error(self, *errors: AlloydError) -> None:
        for each in errors:
            self._errors.setdefault(each.message, each)

    def warn(self, *texts: str) -> None:
        self.warnings += [each for each in texts if each not in self.warnings]

    def unset(self, parameter: str, owner: str, hint: str, tensor: str) -> None:
        """A required parameter has no value for ``tensor`` (of the model ``owner``, if it is one of a model)."""
        self._unset.setdefault((parameter, owner, hint), []).append(tensor)

    def lacking(self, model: str, holder: str, tensor: str) -> None:
        """``model`` lacks a tensor that ``holder`` has."""
        self._lacking.setdefault((model, holder), []).append(tensor)

    def unequal(self, error: ShapeMismatch) -> None:
        self._unequal.append(error)

    def unwritten(self, tensor: str) -> None:
        """A source tensor has no place in the output."""
        self._unwritten.append(tensor)

    def warnings_told(self) -> tuple[str, ...]:
        """Every warning."""
        if self._unwritten:
            self.warn(f"not written: {some(self._unwritten)}, for which the output has no place")
        return tuple(self.warnings)

    def errors_told(self, method: str) -> tuple[AlloydError, ...]:
        """Every error, one for each cause."""
        errors = list(self._errors.values())
        for (parameter, owner, hint), names in self._unset.items():
            of = f" of {owner}" if owner else ""
            message = f"{method} needs the parameter '{parameter}', which has no value for {some(names)}{of}"
            errors.append(RecipeError(message, hint=hint, key=parameter, tensor=names[0]))
        for (model, holder), names in self._lacking.items():
            errors.append(
                PlanError(
                    f"{model} lacks {some(names)}, which {holder} has",
                    hint=f"{method} needs each tensor in all of its models.",
                    model=model,
                    tensor=names[0],
                )
            )
        errors += self._unequal[:SHOWN]
        if len(self._unequal) > SHOWN:
            errors.append(ShapeMismatch(f"{len(self._unequal) - SHOWN} more tensors have different shapes"))
        return tuple(errors)


def some(names: Sequence[str]) -> str:
    """The first few of ``names``, and how many more there are."""
    unique = list(dict.fromkeys(names))
    more = len(unique) - SHOWN
    return ", ".join(unique[:SHOWN]) + (f" and {more} more" if more > 0 else "")
