"""YAML as plain data with line numbers; duplicate keys, alias bombs, deep nesting and tags are refused.

Scalars mean what they mean to PyYAML's safe loader (YAML 1.1), so that a recipe reads the same as elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml

from .errors import RecipeError
from .recipe_file import MAX_CHARACTERS

Plain = None | bool | int | float | str | list["Plain"] | dict[str, "Plain"]
Path = tuple[str | int, ...]

MAX_DEPTH: Final = 32
MAX_VALUES: Final = 50_000
MAX_KEY: Final = 1_000
"""Characters of a key, for messages name values by the keys on the way to them."""
_MAX_NUMBER: Final = 400
"""Characters of a number: a double has at most 309 digits, and reading sexagesimal ones takes quadratic time."""
_MAX_INTEGER: Final = 1 << 63
_TAG: Final = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a YAML text: its value, and the line (from 1) on which each value stands."""

    value: Plain
    lines: Mapping[Path, int]

    def line(self, path: Path) -> int:
        """The line of the value at ``path``, or of the nearest value around it."""
        while path not in self.lines and path:
            path = path[:-1]
        return self.lines.get(path, 1)


def documents(text: str, *, name: str) -> tuple[Document, ...]:
    """Every document of ``text`` that is not empty, in order.

    Raises
    ------
    RecipeError
        The text is no YAML, is too long, nests too deeply, holds too many values once aliases are expanded,
        gives a key twice, or uses a tag; the message names ``name`` and the line.
    """
    if len(text) > MAX_CHARACTERS:
        raise RecipeError(
            f"{name} has {len(text):,} characters, a recipe at most {MAX_CHARACTERS:,}",
            hint="Is this the recipe, and not a model file?",
            file=name,
        )
    builder = None
    try:
        builder = _Builder(text, name)
        return builder.documents()
    except (ValueError, OverflowError):
        # From the parser itself: an escape beyond Unicode, or a version of thousands of digits.
        line = builder.loader.line + 1 if builder else 1
        raise RecipeError(
            f"{name} line {line} is not YAML: a number there is too large",
            hint="Check the escapes and the %YAML line there.",
            file=name,
            line=line,
        ) from None
    except yaml.reader.ReaderError as error:
        raise RecipeError(
            f"{name} is not YAML text: character {error.position} is one that YAML forbids",
            hint="Is this a text file in UTF-8?",
            file=name,
        ) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        problem = error.problem or error.context or "it cannot be read"
        hint = (
            "Indent with spaces, not with tabs."
            if "'\\t'" in problem
            else "Check the indentation and quotes there."
        )
        raise RecipeError(
            f"{name} line {line} is not YAML: {problem}", hint=hint, file=name, line=line
        ) from None


class _Builder:
    """Builds plain values from the parser's events, counting as it goes."""

    def __init__(self, text: str, name: str) -> None:
        self.name = name
        self.loader: Any = yaml.SafeLoader(text)
        self.anchors: dict[str, tuple[Plain, int] | None] = {}
        self.lines: dict[Path, int] = {}
        self.count = 0

    def documents(self) -> tuple[Document, ...]:
        found = []
        self.loader.get_event()
        while not self.loader.check_event(yaml.StreamEndEvent):
            self.loader.get_event()
            self.anchors, self.lines = {}, {}
            value = self.value((), 0)
            if value is not None:
                found.append(Document(value, self.lines))
            self.loader.get_event()
        return tuple(found)

    def refuse(self, line: int, message: str, hint: str) -> RecipeError:
        return RecipeError(f"{self.name} line {line}: {message}", hint=hint, file=self.name, line=line)

    def add(self, count: int, line: int) -> None:
        self.count += count
        if self.count > MAX_VALUES:
            raise self.refuse(
                line,
                f"more than {MAX_VALUES:,} values once aliases are expanded",
                "Aliases of aliases multiply; write the values out.",
            )

    def value(self, path: Path, depth: int) -> Plain:
        event = self.loader.get_event()
        line = event.start_mark.line + 1
        self.lines.setdefault(path, line)
        if isinstance(event, yaml.AliasEvent):
            return self.alias(event.anchor or "", line)
        if depth > MAX_DEPTH:
            raise self.refuse(line, f"more than {MAX_DEPTH} levels of nesting", "Is a bracket left open?")
        before = self.count
        self.add(1, line)
        if event.anchor is not None:
            self.anchors[event.anchor] = None
        built: Plain
        if isinstance(event, yaml.ScalarEvent):
            built = self.scalar(event, line)
        else:
            self.check_tag(event.tag, "seq" if isinstance(event, yaml.SequenceStartEvent) else "map", line)
            built = (
                self.sequence(path, depth)
                if isinstance(event, yaml.SequenceStartEvent)
                else self.mapping(path, depth)
            )
        if event.anchor is not None:
            self.anchors[event.anchor] = (built, self.count - before)
        return built

    def alias(self, anchor: str, line: int) -> Plain:
        if anchor not in self.anchors:
            raise self.refuse(
                line, f"alias *{anchor} names no anchor", f"Write &{anchor} before the value it repeats."
            )
        known = self.anchors[anchor]
        if known is None:
            raise self.refuse(line, f"alias *{anchor} contains itself", "Write the value out.")
        self.add(known[1], line)
        return known[0]

    def check_tag(self, tag: str | None, expected: str, line: int) -> None:
        if tag is not None and tag not in ("!", _TAG + expected):
            raise self.refuse(
                line, f"the tag '{tag}' is not allowed", "A recipe is plain values; leave the tag out."
            )

    def sequence(self, path: Path, depth: int) -> list[Plain]:
        built: list[Plain] = []
        while not self.loader.check_event(yaml.SequenceEndEvent):
            built.append(self.value((*path, len(built)), depth + 1))
        self.loader.get_event()
        return built

    def mapping(self, path: Path, depth: int) -> dict[str, Plain]:
        built: dict[str, Plain] = {}
        merged: dict[str, Plain] = {}
        first: dict[str, int] = {}
        while not self.loader.check_event(yaml.MappingEndEvent):
            event = self.loader.peek_event()
            line = event.start_mark.line + 1
            if not isinstance(event, yaml.ScalarEvent):
                raise self.refuse(
                    line, "a key must be plain text, not a list, mapping or alias", "Write KEY: VALUE."
                )
            self.loader.get_event()
            if event.anchor is not None:
                self.anchors[event.anchor] = (event.value, 1)
            if event.value == "<<" and event.implicit[0]:
                for each in self.merge_sources(self.value(path, depth + 1), line):
                    for name, value in each.items():
                        merged.setdefault(name, value)
                continue
            key = self.scalar(event, line)
            if not isinstance(key, str):
                raise self.refuse(
                    line,
                    f"the key '{event.value}' reads as {kind_of(key)}, not as text",
                    f'Quote it: "{event.value}".',
                )
            if len(key) > MAX_KEY:
                raise self.refuse(
                    line,
                    f"a key of {len(key):,} characters, which may have {MAX_KEY:,}",
                    "Is a quote missing?",
                )
            if key in built:
                raise self.refuse(
                    line,
                    f"the key '{key}' is given twice, first on line {first[key]}",
                    "Keep one of the two.",
                )
            first[key] = line
            self.lines[(*path, key)] = line
            built[key] = self.value((*path, key), depth + 1)
        self.loader.get_event()
        return {**{key: value for key, value in merged.items() if key not in built}, **built}

    def merge_sources(self, value: Plain, line: int) -> list[dict[str, Plain]]:
        sources = value if isinstance(value, list) else [value]
        mappings = [each for each in sources if isinstance(each, dict)]
        if len(mappings) != len(sources):
            raise self.refuse(line, "'<<' takes a mapping or a list of mappings", "For example <<: *shared.")
        return mappings

    def scalar(self, event: yaml.ScalarEvent, line: int) -> bool | int | float | str | None:
        text: str = event.value
        if any("\ud800" <= each <= "\udfff" for each in text):
            raise self.refuse(line, "text holds half a surrogate pair", "Write the character itself.")
        tag = event.tag
        if tag is None or tag == "!":
            tag = self.loader.resolve(yaml.ScalarNode, text, event.implicit)
        node = yaml.ScalarNode(tag, text)
        kind = tag.removeprefix(_TAG)
        if kind in ("int", "float") and len(text) > _MAX_NUMBER:
            raise self.refuse(line, f"a number of {len(text):,} characters", "Quote it if it is text.")
        try:
            if kind in ("str", "timestamp", "value", "merge"):
                return text
            if kind == "null":
                return None
            if kind == "bool":
                return bool(self.loader.construct_yaml_bool(node))
            if kind == "int":
                number = int(self.loader.construct_yaml_int(node))
                if abs(number) < _MAX_INTEGER:
                    return number
                raise self.refuse(line, "a whole number has more than 63 bits", "Quote it if it is text.")
            if kind == "float":
                return float(self.loader.construct_yaml_float(node))
        except (ValueError, KeyError, IndexError, OverflowError):
            raise self.refuse(
                line, f"'{text[:40]}' does not read as {kind}", "Quote it if it is text."
            ) from None
        raise self.refuse(
            line, f"the tag '{tag}' is not allowed", "A recipe is plain values; leave the tag out."
        )


def kind_of(value: Plain) -> str:
    """What a value is, for people."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "text"
    return "a list" if isinstance(value, list) else "a mapping"
