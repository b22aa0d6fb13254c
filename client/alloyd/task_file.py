"""Task files: JSON Lines, one object an item, checked line by line; an item's id and what it is made of."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from .errors import TaskError, did_you_mean

SUFFIX: Final = ".jsonl"
MAX_BYTES: Final = 1 << 30
QUESTION_KEYS: Final = ("prompt", "context", "question", "text")
"""What is asked of a model stands under one of these."""


@dataclass(frozen=True, slots=True)
class Record:
    """One line of a task file: its fields as they stand, and where they stand.

    ``content`` is all that the item is made of but its id, as canonical JSON with composed Unicode (NFC) and runs of
    blanks as one; two items of equal content are the same item. ``id`` is the one given, else 16 hex digits of a hash
    of the content, which stay with the item in whichever file it is put.
    """

    path: str
    line: int
    fields: Mapping[str, Any]
    content: str = ""
    id: str = ""

    @property
    def where(self) -> str:
        """File and line, for messages."""
        return f"{self.path}, line {self.line}"

    @property
    def asked(self) -> str:
        """What is asked: the content of the first of ``QUESTION_KEYS`` that is there, else of all."""
        key = next((key for key in QUESTION_KEYS if key in self.fields), "")
        return content_of({"": self.fields[key]}) if key else self.content

    def refuse(self, problem: str, hint: str = "", key: str = "") -> TaskError:
        """The error that says what is wrong with this line."""
        facts = {"key": key} if key else {}
        return TaskError(f"{self.where}: {problem}", hint=hint, path=self.path, line=self.line, **facts)

    def only(self, *keys: str) -> None:
        """Refuse keys other than ``keys`` and ``id``."""
        for key in self.fields:
            if key not in ("id", *keys):
                raise self.refuse(f"unknown key '{key}'", did_you_mean(key, ("id", *keys)), key)

    def text(self, key: str) -> str:
        """The text under ``key``, which must be there and hold more than blanks."""
        return self.checked_text(self.value(key), key)

    def question(self, *keys: str) -> str:
        """The text under the one of ``keys`` that is there."""
        there = [key for key in keys if key in self.fields]
        if len(there) > 1:
            raise self.refuse(
                f"'{there[0]}' and '{there[1]}' mean the same here", "Keep one of them.", there[1]
            )
        return self.text(there[0] if there else keys[0])

    def value(self, key: str) -> Any:
        """What stands under ``key``, which must be there."""
        if key not in self.fields:
            raise self.refuse(f"the key '{key}' is missing", f'Write "{key}": ... into the line.', key)
        return self.fields[key]

    def checked_text(self, value: Any, key: str) -> str:
        """``value`` if it is text that holds more than blanks; it stands somewhere under ``key``."""
        if not isinstance(value, str):
            found = f"'{key}' must be text, found {kind_of(value)}"
            raise self.refuse(found, f"Put the {key} in double quotes.", key)
        if not value.strip():
            raise self.refuse(f"'{key}' is empty", "Write it, or remove the line.", key)
        return value


def read(path: Path) -> tuple[Record, ...]:
    """The items of a file. Raises TaskError: see :func:`load` and :func:`parse`."""
    return parse(load(path), str(path))


def load(path: Path) -> bytes:
    """The bytes of a task file. Raises TaskError where it cannot be read, is no regular file, or is too large."""
    try:
        # Opening a pipe would wait for a writer.
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            facts = os.fstat(file.fileno())
            regular = stat.S_ISREG(facts.st_mode)
            # No more is asked for than is there: Python makes room for all of it first.
            data = file.read(min(facts.st_size, MAX_BYTES) + 1) if regular else b""
    except OSError as wrong:
        raise TaskError(
            f"the task file {path} cannot be read ({wrong.strerror})",
            hint=f"Give the path of a {SUFFIX} file.",
            path=str(path),
        ) from None
    if not regular or len(data) > MAX_BYTES:
        what = f"is larger than {MAX_BYTES:,} bytes" if regular else "is no regular file"
        raise TaskError(f"the task file {path} {what}", hint="Give a file of items.", path=str(path))
    return data


def parse(data: bytes, path: str) -> tuple[Record, ...]:
    """The items in ``data``; ``path`` serves the messages. Blank lines and a byte order mark are allowed.

    Raises TaskError, with file and line, for bytes that are not UTF-8, a line that is no JSON object, a key that
    stands there twice, text that no file can hold, an id that is no text or is not the item's own, and for no items.
    """
    records: list[Record] = []
    lines: dict[str, Record] = {}
    for number, raw in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not raw.strip():
            continue
        try:
            record = _record(raw, path, number)
        except RecursionError:
            where = Record(path, number, {})
            raise where.refuse("nested too deeply", "Write the item as a flat object.") from None
        other = lines.setdefault(record.id, record)
        if other is not record:
            if "id" in record.fields or "id" in other.fields:
                problem, hint = f"the id '{record.id}' already stands", "Every item needs an id of its own."
            else:
                problem, hint = "the same item already stands", "Remove one of them."
            raise record.refuse(f"{problem} on line {other.line}", hint, "id")
        records.append(record)
    if not records:
        raise TaskError(f"{path} holds no items", hint="Write one JSON object a line.", path=path)
    return tuple(records)


def kind_of(value: object) -> str:
    """What JSON calls ``value``."""
    if value is None:
        return "null"
    kinds: dict[type, str] = {bool: "true or false", str: "text", list: "an array", dict: "an object"}
    return kinds.get(type(value), "a number")


def _reason(wrong: ValueError) -> str:
    # The library counts lines, too, from the start of this one.
    return f"{wrong.msg} at column {wrong.colno}" if isinstance(wrong, json.JSONDecodeError) else str(wrong)


def _record(raw: bytes, path: str, line: int) -> Record:
    record = Record(path, line, {})
    try:
        text = raw.decode()
    except UnicodeDecodeError as wrong:
        raise record.refuse(
            f"not UTF-8 at byte {wrong.start} of the line", "Save the file as UTF-8."
        ) from None
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_constant)
    except _Twice as twice:
        raise record.refuse(
            f"the key '{twice}' stands there twice", "Keep one of them.", str(twice)
        ) from None
    except ValueError as wrong:
        raise record.refuse(
            f"not JSON ({_reason(wrong)})", 'A line looks like {"prompt": "2 + 2 :", "answer": "4"}.'
        ) from None
    if not isinstance(value, dict):
        raise record.refuse(f"expected a JSON object, found {kind_of(value)}", "Write {...} on every line.")
    record = Record(path, line, value)
    if "\\u" in text:
        for key, part in value.items():
            _check_text(record, key, [key, part])
    given = record.text("id") if "id" in value else ""
    content = content_of({key: part for key, part in value.items() if key != "id"})
    return Record(path, line, value, content, given or id_of(content))


def id_of(content: str) -> str:
    """The id of an item that was given none: 16 hex digits of BLAKE2b."""
    return hashlib.blake2b(content.encode(), digest_size=8).hexdigest()


def content_of(fields: Mapping[str, Any]) -> str:
    """``fields`` as :attr:`Record.content` has them."""
    return json.dumps(_normal(fields), ensure_ascii=False, sort_keys=True, separators=(",", ":"))


class _Twice(ValueError):
    """A key that one JSON object has twice."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _Twice(key)
        found[key] = value
    return found


def _constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not a JSON number")


def _check_text(record: Record, key: str, parts: Sequence[Any]) -> None:
    for part in parts:
        if isinstance(part, str):
            try:
                part.encode()
            except UnicodeEncodeError:
                raise record.refuse(
                    f"{key!r} holds half a surrogate pair", "Write the character itself.", ascii(key)
                ) from None
        elif isinstance(part, dict):
            _check_text(record, key, [*part, *part.values()])
        elif isinstance(part, list):
            _check_text(record, key, part)


def _normal(value: Any) -> Any:
    if isinstance(value, str):
        return " ".join(unicodedata.normalize("NFC", value).split())
    if isinstance(value, list):
        return [_normal(each) for each in value]
    if isinstance(value, Mapping):
        return {_normal(key): _normal(each) for key, each in value.items()}
    return value
