"""The head of a GGUF file: bytes to metadata and tensor table, by a parser that believes nothing.

The format (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md), versions 2 and 3, little-endian: magic, counts,
keys with typed values, a table of tensors, and after padding their bytes one after the other, each padded. Every way in
which a head can lie is refused by the name of the lie, and no count makes the parser read or keep more than the file
has.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, Final

import numpy as np

from alloyd.errors import HeaderError, SourceNotFound

from .element_type import TYPES
from .header import GgufTensor

MAGIC: Final = b"GGUF"
MAX_HEAD: Final = 1 << 30
MAX_NAME: Final = 63
MAX_DIMENSIONS: Final = 4
_STRING: Final = 8
_ARRAY: Final = 9
_SCALARS: Final[Mapping[int, str]] = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
_DTYPES: Final = {
    code: np.dtype("u1" if letter == "?" else "<" + letter) for code, letter in _SCALARS.items()
}


@dataclass(frozen=True, slots=True)
class GgufHead:
    """A head that was believed. ``tensors`` have offsets from the start of the file, in the order of the file.

    ``metadata`` holds int, float, bool, str; lists of str; and numpy arrays. Text that is not UTF-8 (a token may be any
    bytes) has surrogate escapes.
    """

    metadata: Mapping[str, Any]
    tensors: tuple[GgufTensor, ...]
    data_start: int
    file_size: int


def read_head(path: Path) -> GgufHead:
    """Read and check the head of ``path``.

    Raises
    ------
    HeaderError
        With ``facts['lie']``, ``facts['file']`` and, where one is to blame, ``facts['tensor']``.
    SourceNotFound
        There is no such file.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as wrong:
        raise SourceNotFound(f"{path} cannot be read: {wrong.strerror}", path=str(path)) from wrong
    with open(handle, "rb") as file:
        try:
            return parse(file, os.fstat(handle).st_size, file=str(path))
        except OSError as wrong:
            raise SourceNotFound(f"{path} cannot be read: {wrong.strerror}", path=str(path)) from wrong


def parse(stream: BinaryIO, file_size: int, *, file: str) -> GgufHead:
    """Parse the head that ``stream`` begins with; ``file_size`` is that of the whole file.

    Raises
    ------
    HeaderError
        As :func:`read_head`.
    """
    cursor = _Cursor(stream, file_size, file)
    if cursor.take(4, "magic") != MAGIC:
        raise cursor.lie("magic", "does not begin with GGUF", hint="Give a GGUF file.")
    version = cursor.number("I")
    if version >> 16 and not version & 0xFFFF:
        raise cursor.lie("big-endian", "was written for machines of the other byte order")
    if version not in (2, 3):
        raise cursor.lie("version", f"has the version {version}; 2 and 3 can be read")
    tensor_count, key_count = cursor.number("Q"), cursor.number("Q")
    # The shortest key takes 13 bytes, the shortest tensor 32.
    if 13 * key_count + 32 * tensor_count > file_size:
        raise cursor.lie("count-beyond-file", f"says it has {key_count} keys and {tensor_count} tensors")
    metadata: dict[str, Any] = {}
    for _ in range(key_count):
        key = cursor.name("key")
        if key in metadata:
            raise cursor.lie("duplicate-key", f"has the key '{key[:80]}' twice")
        metadata[key] = _value(cursor, cursor.number("I"), key)
    alignment = metadata.get("general.alignment", 32)
    if type(alignment) is not int or not 8 <= alignment <= 1 << 20 or alignment & (alignment - 1):
        raise cursor.lie(
            "alignment", f"aligns its tensors to {alignment!r}, which is no power of two from 8 up"
        )
    table = [_entry(cursor) for _ in range(tensor_count)]
    data_start = cursor.at + -cursor.at % alignment
    tensors = _lay_out(cursor, table, data_start, alignment)
    return GgufHead(MappingProxyType(metadata), tensors, data_start, file_size)


class _Cursor:
    """Reads forward, never past the file's end or the largest head."""

    def __init__(self, stream: BinaryIO, file_size: int, file: str) -> None:
        self._stream = stream
        self._end = min(file_size, MAX_HEAD)
        self.file_size = file_size
        self.file = file
        self.at = 0

    def take(self, count: int, what: str) -> bytes:
        if count > self._end - self.at:
            if self.at + count <= self.file_size:
                raise self.lie("too-large", f"has a head of more than {MAX_HEAD} bytes")
            raise self.lie("too-short", f"ends inside its {what} (byte {self.at}, {count} more are needed)")
        data = self._stream.read(count)
        if len(data) != count:
            raise self.lie("too-short", f"ended inside its {what} at byte {self.at + len(data)}")
        self.at += count
        return data

    def number(self, letter: str) -> Any:
        return struct.unpack("<" + letter, self.take(struct.calcsize("<" + letter), "numbers"))[0]

    def text(self, what: str) -> bytes:
        length: int = self.number("Q")
        return self.take(length, what)

    def name(self, what: str) -> str:
        try:
            found = self.text(what).decode("utf-8")
        except UnicodeDecodeError:
            raise self.lie("not-utf8", f"has a {what} that is not UTF-8") from None
        if not found:
            raise self.lie("no-name", f"has a {what} without a name")
        return found

    def lie(self, lie: str, found: str, *, hint: str = "", tensor: str | None = None) -> HeaderError:
        facts = {"lie": lie, "file": self.file} | ({} if tensor is None else {"tensor": tensor})
        return HeaderError(
            f"{self.file} {found}",
            hint=hint or "The file is damaged or was not written as GGUF.",
            **facts,
        )


def _value(cursor: _Cursor, kind: int, key: str) -> Any:
    if kind in _SCALARS:
        return cursor.number(_SCALARS[kind])
    if kind == _STRING:
        return cursor.text(f"key '{key}'").decode("utf-8", "surrogateescape")
    if kind != _ARRAY:
        raise cursor.lie("value-type", f"has the key '{key[:80]}' of the unknown type {kind}")
    inner, count = cursor.number("I"), cursor.number("Q")
    if inner == _STRING:
        if 8 * count > cursor.file_size - cursor.at:
            raise cursor.lie("count-beyond-file", f"says that '{key[:80]}' has {count} texts")
        return [cursor.text(f"key '{key}'").decode("utf-8", "surrogateescape") for _ in range(count)]
    if inner not in _DTYPES:
        raise cursor.lie("value-type", f"has an array '{key[:80]}' of the type {inner}")
    dtype = _DTYPES[inner]
    return np.frombuffer(cursor.take(count * dtype.itemsize, f"key '{key[:80]}'"), dtype=dtype)


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    shape: tuple[int, ...]
    code: int
    offset: int


def _entry(cursor: _Cursor) -> _Entry:
    name = cursor.name("tensor")
    if len(name.encode()) > MAX_NAME:
        raise cursor.lie(
            "long-name", f"has a tensor with a name of {len(name.encode())} bytes", tensor=name[:80]
        )
    dimensions = cursor.number("I")
    if not 1 <= dimensions <= MAX_DIMENSIONS:
        raise cursor.lie("dimensions", f"has a tensor '{name}' of {dimensions} dimensions", tensor=name)
    shape = tuple(cursor.number("Q") for _ in range(dimensions))
    if 0 in shape:
        raise cursor.lie("shape", f"has a tensor '{name}' of the shape {list(shape)}", tensor=name)
    return _Entry(name, shape, cursor.number("I"), cursor.number("Q"))


def _lay_out(cursor: _Cursor, table: list[_Entry], start: int, alignment: int) -> tuple[GgufTensor, ...]:
    found: dict[str, GgufTensor] = {}
    end = 0
    for each in table:
        name = each.name

        def lie(kind: str, what: str, name: str = name) -> HeaderError:
            return cursor.lie(kind, f"has a tensor '{name}' {what}", tensor=name)

        if name in found:
            raise lie("duplicate-tensor", "twice")
        kind = TYPES.get(each.code)
        if kind is None:
            raise lie("type", f"of the unknown type {each.code}")
        if each.shape[0] % kind.block:
            raise lie(
                "row", f"whose rows of {each.shape[0]} do not fill blocks of {kind.block} ({kind.name})"
            )
        elements = 1
        for dimension in each.shape:
            elements *= dimension
        if elements > 1 << 62:
            raise lie("overflow", f"whose shape {list(each.shape)} is more than a file can hold")
        size = kind.size_of(elements)
        if each.offset != end:
            what = "overlap" if each.offset < end else "hole"
            raise lie(what, f"at {each.offset} of the data where the one before it ends at {end}")
        if start + each.offset + size > cursor.file_size:
            missing = start + each.offset + size - cursor.file_size
            raise lie("truncated", f"of which {missing} bytes are missing")
        found[name] = GgufTensor(name, kind, each.shape[::-1], start + each.offset, size)
        end += size + -size % alignment
    if cursor.file_size > start + end:
        surplus = cursor.file_size - start - end
        raise cursor.lie("trailing-bytes", f"has {surplus} bytes after its last tensor")
    return tuple(found.values())
