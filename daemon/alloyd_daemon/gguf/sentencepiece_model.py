"""What a SentencePiece model file says of how it cuts text, read from its protobuf messages.

The library has no call for these. Fields (sentencepiece_model.proto): 2 trainer_spec {3 model_type}, 3 normalizer_spec
{2 precompiled_charsmap, 3 add_dummy_prefix, 4 remove_extra_whitespaces}.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

BPE: Final = 2
_KINDS: Final = {1: "unigram", 2: "BPE", 3: "word", 4: "character"}


@dataclass(frozen=True, slots=True)
class SentencePieceKind:
    """The kind of model by name, and what it does to text before it cuts it."""

    name: str
    space_prefix: bool
    """A space is put before the text."""
    normalises: bool
    """Characters are replaced or runs of spaces joined."""


def kind_of(data: bytes) -> SentencePieceKind:
    """What the model file ``data`` says of itself; what it leaves out has the format's default.

    Raises
    ------
    ValueError
        It is not a protobuf message.
    """
    model_type, prefix, charsmap, joins = 1, True, b"", True
    for field, value in _fields(data):
        if field == 2 and isinstance(value, bytes):
            for inner, found in _fields(value):
                if inner == 3 and isinstance(found, int):
                    model_type = found
        elif field == 3 and isinstance(value, bytes):
            for inner, found in _fields(value):
                if inner == 2 and isinstance(found, bytes):
                    charsmap = found
                elif inner == 3:
                    prefix = bool(found)
                elif inner == 4:
                    joins = bool(found)
    return SentencePieceKind(_KINDS.get(model_type, f"{model_type}"), prefix, bool(charsmap) or joins)


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of every field of a message: varints as int, all else as bytes."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        wire = tag & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield tag >> 3, value
            continue
        if wire == 2:
            length, at = _varint(data, at)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise ValueError(f"a field of the wire type {wire}")
        if length > len(data) - at:
            raise ValueError("a field beyond the message")
        yield tag >> 3, data[at : at + length]
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("a number beyond the message")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number of more than ten bytes")
