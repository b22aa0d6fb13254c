"""The safetensors header: bytes to layout and back, as pure functions that believe nothing.

The format (https://github.com/huggingface/safetensors): eight bytes little-endian n, n bytes of JSON that
start with ``{``, then the tensors' bytes without a gap. Every way a header can lie is refused by the name of
the lie.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from alloyd.errors import HeaderError

from .json_object import Lie, load_object

MAX_HEADER: Final = 100_000_000
MAX_DIMENSIONS: Final = 64
MAX_BYTES: Final = 2**63 - 1
ALIGNMENT: Final = 4096
"""The data of a file we write starts at a multiple of this: a page, for direct writes (the format asks for 8)."""

DTYPES: Final[Mapping[str, int]] = MappingProxyType(
    {
        "BOOL": 8,
        "F4": 4,
        "F6_E2M3": 6,
        "F6_E3M2": 6,
        "U8": 8,
        "I8": 8,
        "F8_E5M2": 8,
        "F8_E4M3": 8,
        "F8_E8M0": 8,
        "F8_E4M3FNUZ": 8,
        "F8_E5M2FNUZ": 8,
        "I16": 16,
        "U16": 16,
        "F16": 16,
        "BF16": 16,
        "I32": 32,
        "U32": 32,
        "F32": 32,
        "C64": 64,
        "F64": 64,
        "I64": 64,
        "U64": 64,
    }
)
"""Every dtype code of the format, with its bits per element."""

_STRANGERS: Final = (
    (b"version ", "git-lfs-pointer", "is a Git LFS pointer, not the file itself", "Run: git lfs pull"),
    (
        b"PK\x03\x04",
        "not-safetensors",
        "is a zip archive (a PyTorch pickle?)",
        "Convert it to safetensors first.",
    ),
    (b"GGUF", "not-safetensors", "is a GGUF file", "Merge the safetensors it was made from."),
    (b"\x80\x02", "not-safetensors", "is a Python pickle", "Convert it to safetensors first."),
    (b"<", "not-safetensors", "is a web page", "Download it again."),
)


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor: dtype code, shape, and its bytes [start, stop) counted from the start of the data."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Header:
    """A header that was believed: tensors in offset order, the file's metadata, where the data starts."""

    tensors: tuple[TensorInfo, ...]
    metadata: Mapping[str, str]
    data_start: int


def size_of(dtype: str, shape: Sequence[int]) -> int:
    """Bytes of a tensor of this dtype code and shape.

    Raises
    ------
    ValueError
        The elements do not fill whole bytes (four- and six-bit dtypes), or there are too many.
    """
    elements = 1
    for each in shape:
        elements *= each
    size, rest = divmod(elements * DTYPES[dtype], 8)
    if rest:
        raise ValueError(f"{elements} elements of {dtype} do not fill whole bytes")
    if size > MAX_BYTES:
        raise ValueError(f"{elements} elements of {dtype} are more than a file can hold")
    return size


def header_length(first8: bytes, file_size: int, *, file: str) -> int:
    """The length of the header's JSON, from the file's first eight bytes.

    Raises
    ------
    HeaderError
        ``too-short``, ``git-lfs-pointer``, ``not-safetensors``, ``too-large`` or ``length-beyond-file``.
    """
    if file_size < 8 or len(first8) < 8:
        raise _error(file, "too-short", f"has {file_size} bytes, too few for a safetensors file")
    for start, lie, found, hint in _STRANGERS:
        if first8.startswith(start) and first8[4:8] != b"\0\0\0\0":
            raise _error(file, lie, found, hint=hint)
    length = int.from_bytes(first8[:8], "little")
    if length > MAX_HEADER:
        raise _error(
            file, "too-large", f"says its header has {length} bytes; at most {MAX_HEADER} are allowed"
        )
    if 8 + length > file_size:
        raise _error(
            file,
            "length-beyond-file",
            f"says its header ends at byte {8 + length}, but it has only {file_size} bytes",
        )
    return length


def parse(prefix: bytes, file_size: int, *, file: str) -> Header:
    """Parse and check a header.

    Parameters
    ----------
    prefix:
        The first 8 + :func:`header_length` bytes of the file (more does no harm).
    file_size:
        Bytes of the whole file; the tensors must end exactly there.
    file:
        The file's name, for messages.

    Raises
    ------
    HeaderError
        With ``facts['lie']``, ``facts['file']`` and, where one is to blame, ``facts['tensor']``.
    """
    length = header_length(prefix[:8], file_size, file=file)
    text = bytes(prefix[8 : 8 + length])
    if len(text) < length:
        raise _error(file, "too-short", f"ended after {len(prefix)} bytes, inside its header")
    if not text.startswith(b"{"):
        raise _error(file, "no-brace", "has a header that does not start with '{'")
    try:
        entries = load_object(text)
    except Lie as wrong:
        raise _error(file, wrong.lie, f"has a header that {wrong.found}") from None
    metadata = _metadata(entries.pop("__metadata__", {}), file)
    infos = sorted(
        (_entry(name, entry, file) for name, entry in entries.items()),
        key=lambda each: (each.start, each.stop),
    )
    _check_layout(infos, file_size - 8 - length, file)
    return Header(tuple(infos), metadata, 8 + length)


def render(
    infos: Sequence[tuple[str, str, tuple[int, ...]]], metadata: Mapping[str, str]
) -> tuple[bytes, tuple[TensorInfo, ...]]:
    """The header of a file that holds these tensors (name, dtype code, shape) one after the other.

    The JSON is padded with spaces so that the data starts at a multiple of ALIGNMENT.

    Raises
    ------
    HeaderError
        A name twice, or a header over the format's limit.
    """
    laid: list[TensorInfo] = []
    entries: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for name, dtype, shape in infos:
        if name in entries or name == "__metadata__":
            raise HeaderError(f"two tensors would be called '{name}'", lie="duplicate-key", tensor=name)
        stop = offset + size_of(dtype, shape)
        laid.append(TensorInfo(name, dtype, tuple(shape), offset, stop))
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, stop]}
        offset = stop
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    text += b" " * (-(len(text) + 8) % ALIGNMENT)
    if len(text) > MAX_HEADER:
        raise HeaderError(
            f"a header of {len(text)} bytes would be needed; at most {MAX_HEADER} are allowed",
            hint="Choose a smaller shard size.",
            lie="too-large",
        )
    return len(text).to_bytes(8, "little") + text, tuple(laid)


def _entry(name: str, entry: object, file: str) -> TensorInfo:
    def lie(kind: str, found: str) -> HeaderError:
        return _error(file, kind, f"has a tensor '{name}' {found}", tensor=name)

    if not isinstance(entry, dict):
        raise lie("entry", "whose entry is not an object")
    for key in ("dtype", "shape", "data_offsets"):
        if key not in entry:
            raise lie("entry", f"without '{key}'")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str):
        raise lie("entry", "whose dtype is not a string")
    if dtype not in DTYPES:
        raise lie("dtype", f"of the unknown dtype '{dtype[:40]}'")
    if not isinstance(shape, list):
        raise lie("entry", "whose shape is not a list")
    if len(shape) > MAX_DIMENSIONS:
        raise lie("dimensions", f"of {len(shape)} dimensions; at most {MAX_DIMENSIONS} are allowed")
    if not all(type(each) is int and each >= 0 for each in shape):
        raise lie("shape", f"whose shape {_brief(shape)} has something other than whole numbers from 0 up")
    if not (isinstance(offsets, list) and len(offsets) == 2 and all(type(each) is int for each in offsets)):
        raise lie("entry", "whose data_offsets are not two whole numbers")
    start, stop = offsets
    if start < 0 or stop < 0:
        raise lie("offsets-negative", f"at negative offsets [{start}, {stop}]")
    if stop < start:
        raise lie("offsets-reversed", f"that ends before it starts: [{start}, {stop}]")
    if stop > MAX_BYTES:
        raise lie("overflow", f"that ends at {stop}, beyond any file")
    elements = 1
    for each in shape:
        elements *= each
    bits = elements * DTYPES[dtype]
    if any(each > MAX_BYTES for each in shape) or bits > 8 * MAX_BYTES:
        raise lie("overflow", f"whose shape {_brief(shape)} is more than a file can hold")
    if bits % 8:
        raise lie("misaligned", f"whose {elements} elements of {dtype} do not fill whole bytes")
    if stop - start != bits // 8:
        raise lie("size", f"of {stop - start} bytes where {dtype} {_brief(shape)} takes {bits // 8}")
    return TensorInfo(name, dtype, tuple(shape), start, stop)


def _check_layout(infos: Sequence[TensorInfo], data_size: int, file: str) -> None:
    end = 0
    for each in infos:
        if each.start == end:
            end = each.stop
            continue
        if each.start < end:
            raise _error(
                file,
                "overlap",
                f"has a tensor '{each.name}' that overlaps the one before it",
                tensor=each.name,
            )
        if each.stop > data_size:
            raise _error(
                file,
                "offsets-beyond-file",
                f"has a tensor '{each.name}' at [{each.start}, {each.stop}] of {data_size} bytes of data",
                tensor=each.name,
            )
        raise _error(
            file,
            "hole",
            f"has {each.start - end} bytes before tensor '{each.name}' that belong to none",
            tensor=each.name,
        )
    if end > data_size:
        cut = next(each.name for each in infos if each.stop > data_size)
        raise _error(
            file,
            "truncated",
            f"is truncated: {end - data_size} bytes are missing, the first from tensor '{cut}'",
            hint="Download or copy the file again.",
            tensor=cut,
        )
    if end < data_size:
        raise _error(file, "trailing-bytes", f"has {data_size - end} bytes after its last tensor")


def _metadata(value: object, file: str) -> Mapping[str, str]:
    if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
        raise _error(file, "metadata", "has a __metadata__ that is not a map from text to text")
    return MappingProxyType(value)


def _brief(shape: Sequence[object]) -> str:
    text = str(list(shape))
    return text if len(text) <= 80 else text[:77] + "..."


def _error(file: str, lie: str, found: str, *, hint: str = "", tensor: str | None = None) -> HeaderError:
    facts: dict[str, str] = {"lie": lie, "file": file}
    if tensor is not None:
        facts["tensor"] = tensor
    return HeaderError(
        f"{file} {found}", hint=hint or "The file is damaged or was not written as safetensors.", **facts
    )
