"""Heads of GGUF files: what is written is read back, and every lie is refused by its name."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloyd.errors import AlloydError, HeaderError, SourceNotFound
from alloyd_daemon.gguf.reader import GgufHead, parse, read_head


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def key(name: str, kind: int, value: bytes) -> bytes:
    return text(name) + struct.pack("<I", kind) + value


def tensor(name: str, shape: tuple[int, ...], code: int, offset: int) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, code, offset)


def gguf(
    keys: list[bytes], tensors: list[bytes], data: int, *, magic: bytes = b"GGUF", version: int = 3
) -> bytes:
    head = magic + struct.pack("<IQQ", version, len(tensors), len(keys)) + b"".join(keys) + b"".join(tensors)
    return head + bytes(-len(head) % 32) + bytes(data)


NAME = key("general.name", 8, text("x"))
GOOD = gguf(
    [
        key("general.architecture", 8, text("llama")),
        key("a.flag", 7, b"\1"),
        key("a.float", 6, struct.pack("<f", 0.5)),
        key("a.words", 9, struct.pack("<IQ", 8, 2) + text("one") + text(b"\xff")),
        key("a.numbers", 9, struct.pack("<IQ3i", 5, 3, 1, -2, 3)),
    ],
    [tensor("a", (32, 2), 8, 0), tensor("b", (3,), 0, 96)],
    96 + 32,
)


def read(data: bytes) -> GgufHead:
    return parse(io.BytesIO(data), len(data), file="x.gguf")


def test_a_good_head_is_read_whole() -> None:
    head = read(GOOD)
    assert head.metadata["general.architecture"] == "llama"
    assert head.metadata["a.flag"] is True
    assert head.metadata["a.float"] == 0.5
    assert head.metadata["a.words"] == ["one", "\udcff"]
    assert np.array_equal(head.metadata["a.numbers"], [1, -2, 3])
    first, second = head.tensors
    assert (first.name, first.type.name, first.shape, first.size) == ("a", "Q8_0", (2, 32), 68)
    assert (second.offset, second.size) == (head.data_start + 96, 12)
    # The last tensor may go without its padding.
    assert read(GOOD[:-20]).tensors == head.tensors


LIES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "another magic": ("magic", lambda: gguf([], [], 0, magic=b"GGML")),
    "other byte order": ("big-endian", lambda: b"GGUF" + struct.pack(">IQQ", 3, 0, 0)),
    "version 1": ("version", lambda: gguf([], [], 0, version=1)),
    "empty file": ("too-short", lambda: b""),
    "more keys than bytes": (
        "count-beyond-file",
        lambda: b"GGUF" + struct.pack("<IQQ", 3, 0, 2**60) + bytes(64),
    ),
    "more tensors than bytes": (
        "count-beyond-file",
        lambda: b"GGUF" + struct.pack("<IQQ", 3, 2**40, 0) + bytes(64),
    ),
    "key beyond the file": ("too-short", lambda: gguf([struct.pack("<Q", 2**40) + bytes(20)], [], 0)),
    "key twice": ("duplicate-key", lambda: gguf([NAME, NAME], [], 0)),
    "nameless key": ("no-name", lambda: gguf([key("", 8, text("x"))], [], 0)),
    "key not UTF-8": ("not-utf8", lambda: gguf([text(b"\xff") + struct.pack("<IB", 0, 1)], [], 0)),
    "unknown value type": ("value-type", lambda: gguf([key("a", 13, bytes(8))], [], 0)),
    "array of arrays": (
        "value-type",
        lambda: gguf([key("a", 9, struct.pack("<IQ", 9, 1) + bytes(12))], [], 0),
    ),
    "array beyond the file": ("too-short", lambda: gguf([key("a", 9, struct.pack("<IQ", 5, 2**40))], [], 0)),
    "texts beyond the file": (
        "count-beyond-file",
        lambda: gguf([key("a", 9, struct.pack("<IQ", 8, 2**40))], [], 0),
    ),
    "odd alignment": ("alignment", lambda: gguf([key("general.alignment", 4, struct.pack("<I", 48))], [], 0)),
    "no alignment": ("alignment", lambda: gguf([key("general.alignment", 4, struct.pack("<I", 0))], [], 0)),
    "long name": ("long-name", lambda: gguf([], [tensor("n" * 64, (4,), 0, 0)], 32)),
    "no dimension": ("dimensions", lambda: gguf([], [tensor("a", (), 0, 0) + bytes(32)], 32)),
    "five dimensions": ("dimensions", lambda: gguf([], [tensor("a", (1,) * 5, 0, 0)], 32)),
    "empty dimension": ("shape", lambda: gguf([], [tensor("a", (0, 4), 0, 0)], 32)),
    "too many elements": ("overflow", lambda: gguf([], [tensor("a", (2**40, 2**40), 0, 0)], 32)),
    "unknown type": ("type", lambda: gguf([], [tensor("a", (32,), 5, 0)], 32)),
    "rows of half blocks": ("row", lambda: gguf([], [tensor("a", (48, 2), 12, 0)], 128)),
    "tensor twice": (
        "duplicate-tensor",
        lambda: gguf([], [tensor("a", (8,), 0, 0), tensor("a", (8,), 0, 32)], 64),
    ),
    "overlap": ("overlap", lambda: gguf([], [tensor("a", (8,), 0, 0), tensor("b", (8,), 0, 0)], 64)),
    "hole": ("hole", lambda: gguf([], [tensor("a", (8,), 0, 32)], 64)),
    "cut": ("truncated", lambda: gguf([], [tensor("a", (64,), 0, 0)], 100)),
    "more than its tensors": ("trailing-bytes", lambda: gguf([], [tensor("a", (8,), 0, 0)], 64)),
}


@pytest.mark.parametrize("name", LIES)
def test_a_lie_is_refused_by_its_name(name: str) -> None:
    lie, make = LIES[name]
    with pytest.raises(HeaderError) as raised:
        read(make())
    assert raised.value.facts["lie"] == lie
    assert raised.value.facts["file"] == "x.gguf"
    assert raised.value.hint


@given(st.integers(0, len(GOOD) - 21))
def test_a_file_cut_anywhere_is_refused(length: int) -> None:
    with pytest.raises(HeaderError):
        read(GOOD[:length])


@given(st.integers(0, len(GOOD) - 1), st.binary(min_size=1, max_size=12))
def test_other_bytes_are_read_or_refused(place: int, other: bytes) -> None:
    data = bytearray(GOOD)
    data[place : place + len(other)] = other
    refused: AlloydError | None = None
    try:
        read(bytes(data))
    except AlloydError as wrong:
        refused = wrong
    assert refused is None or refused.facts["lie"]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFound, match=r"none\.gguf"):
        read_head(tmp_path / "none.gguf")
