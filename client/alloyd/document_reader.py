"""Reads one YAML document piece by piece, collecting every mistake with its line instead of stopping at the first."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TypeVar

from .errors import AlloydError, RecipeError, did_you_mean, nearest
from .recipe_schema import Scalar
from .strict_yaml import Document, Plain, kind_of
from .strict_yaml import Path as Place

T = TypeVar("T")


class DocumentReader:
    """What every kind of document is read with; ``problems`` and ``warnings`` grow as it reads.

    ``what`` is how messages call the whole document. ``meant`` has the places of the keys that unknown ones are taken
    for misspellings of.
    """

    what = "the document"

    def __init__(self, document: Document, name: str, lenient: bool) -> None:
        self.document = document
        self.name = name
        self.lenient = lenient
        self.problems: list[AlloydError] = []
        self.warnings: list[str] = []
        self.meant: set[Place] = set()

    def dotted(self, place: Place) -> str:
        """``("models", 0, "parameters")`` as ``models[0].parameters``."""
        text = "".join(f"[{each}]" if isinstance(each, int) else f".{each}" for each in place)
        return text.removeprefix(".") or self.what

    def where(self, place: Place) -> str:
        return f"{self.name} line {self.document.line(place)}"

    def problem(self, place: Place, message: str, hint: str) -> None:
        self.problems.append(
            RecipeError(
                f"{self.where(place)}: {message}",
                hint=hint,
                file=self.name,
                line=self.document.line(place),
                key=self.dotted(place),
            )
        )

    def needs(self, place: Place, keys: Iterable[str], message: str, hint: str) -> None:
        """Report that one of ``keys`` is missing, unless it stands there misspelt: that was reported already."""
        if not any((*place, key) in self.meant for key in keys):
            self.problem(place, message, hint)

    def mapping(self, value: Plain, place: Place, known: tuple[str, ...] | None) -> dict[str, Plain]:
        """``value`` as a mapping; keys outside ``known`` are reported and left out."""
        if not isinstance(value, dict):
            what = f"a mapping with the keys {', '.join(known)}" if known else "a mapping"
            self.problem(
                place,
                f"{self.dotted(place)} must be {what}, not {kind_of(value)}",
                "Write KEY: VALUE, one a line and indented, or {KEY: VALUE}.",
            )
            return {}
        if known is None:
            return value
        for key in value:
            if key in known:
                continue
            message = f"'{key}' is not a key of {self.dotted(place)}"
            if self.lenient:
                self.warnings.append(f"{self.where((*place, key))}: {message}; ignored")
            else:
                self.problem((*place, key), message, did_you_mean(key, known))
                near = nearest(key, known)
                if near is not None:
                    self.meant.add((*place, near))
        return {key: each for key, each in value.items() if key in known}

    def entries(self, value: Plain, place: Place, read: Callable[[Plain, Place], T | None]) -> tuple[T, ...]:
        """``value`` as a list of at least one entry, each through ``read``."""
        if not isinstance(value, list) or not value:
            found = "an empty list" if value == [] else kind_of(value)
            self.problem(
                place,
                f"{self.dotted(place)} must be a list of at least one entry, not {found}",
                "Write one entry a line, each behind '- '.",
            )
            return ()
        read_entries = [read(each, (*place, index)) for index, each in enumerate(value)]
        return tuple(each for each in read_entries if each is not None)

    def text(self, value: Plain, place: Place) -> str | None:
        if isinstance(value, str) and value.strip():
            return value
        found = "empty" if isinstance(value, str) else kind_of(value)
        quote = isinstance(value, bool | int | float)
        hint = f'Quote it: "{value}".' if quote else "Write a word or two there."
        self.problem(place, f"{self.dotted(place)} must be text, not {found}", hint)
        return None

    def texts(self, value: Plain, place: Place) -> tuple[str, ...]:
        """A list of texts; one text is a list of one."""
        return self.entries([value] if isinstance(value, str) else value, place, self.text)

    def scalar(self, value: Plain, place: Place) -> Scalar | None:
        if value is None or isinstance(value, dict | list):
            self.problem(
                place,
                f"{self.dotted(place)} must be a number, true, false or text, not {kind_of(value)}",
                "Leave the key out to get its default.",
            )
            return None
        if isinstance(value, float) and not math.isfinite(value):
            self.problem(
                place, f"{self.dotted(place)} must be finite, not {value}", "Write a number such as 0.5."
            )
            return None
        return value

    def whole(self, value: Plain, place: Place, low: int, high: int) -> int | None:
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        found = value if isinstance(value, int | float | str) else kind_of(value)
        self.problem(
            place,
            f"{self.dotted(place)} must be a whole number from {low} to {high}, not {found}",
            f"For example {low}.",
        )
        return None
