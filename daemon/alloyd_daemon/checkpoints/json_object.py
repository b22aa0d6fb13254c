"""One JSON object from bytes that somebody else wrote: strict, and never slower or deeper than its length."""

from __future__ import annotations

import json
from typing import Any, NoReturn

MAX_DIGITS = 20


class Lie(Exception):
    """What is wrong with the bytes: the ``lie`` by name, and a clause that says what was found."""

    def __init__(self, lie: str, found: str) -> None:
        super().__init__(found)
        self.lie = lie
        self.found = found


def load_object(data: bytes) -> dict[str, Any]:
    """The object that ``data`` (UTF-8) spells.

    Raises
    ------
    Lie
        ``not-utf8``, ``not-json``, ``not-an-object``, ``duplicate-key``, ``nesting``, ``number-too-long`` or
        ``bad-text`` (half of a surrogate pair, which no file can hold).
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as wrong:
        raise Lie("not-utf8", f"is not UTF-8 at byte {wrong.start}") from None
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_int=_integer, parse_constant=_constant)
    except RecursionError:
        raise Lie("nesting", "is nested too deeply") from None
    except json.JSONDecodeError as wrong:
        raise Lie("not-json", f"is not JSON ({wrong.msg} at character {wrong.pos})") from None
    if not isinstance(value, dict):
        raise Lie("not-an-object", f"is a JSON {_kind(value)}, not an object")
    if "\\u" in text:
        _check_text(value)
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise Lie("duplicate-key", f"has the key {key!r} twice")
            seen.add(key)
    return found


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise Lie("number-too-long", f"has a number of {len(digits)} digits")
    return int(digits)


def _constant(word: str) -> NoReturn:
    raise Lie("not-json", f"is not JSON ({word} is not a JSON number)")


def _check_text(value: dict[str, Any]) -> None:
    waiting: list[Any] = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, str):
            try:
                each.encode("utf-8")
            except UnicodeEncodeError:
                raise Lie("bad-text", f"has text that no file can hold ({each!r})") from None
        elif isinstance(each, dict):
            waiting.extend(each)
            waiting.extend(each.values())
        elif isinstance(each, list):
            waiting.extend(each)


def _kind(value: object) -> str:
    names = {
        list: "array",
        str: "string",
        bool: "boolean",
        int: "number",
        float: "number",
        type(None): "null",
    }
    return names.get(type(value), "value")
