"""The safetensors header: every lie by its name, round trips, and agreement with the reference implementation."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
import safetensors
from hypothesis import given, settings
from hypothesis import strategies as st

from alloyd.errors import HeaderError
from alloyd_daemon.checkpoints.header import DTYPES, MAX_HEADER, header_length, parse, render, size_of


def wrap(text: bytes, data: int = 0, length: int | None = None) -> tuple[bytes, int]:
    """A file's prefix around ``text``, and the file's size with ``data`` bytes behind it."""
    prefix = (len(text) if length is None else length).to_bytes(8, "little") + text
    return prefix, len(prefix) + data


def entry(dtype: Any = "U8", shape: Any = (4,), start: Any = 0, stop: Any = 4) -> dict[str, Any]:
    return {
        "dtype": dtype,
        "shape": list(shape) if isinstance(shape, tuple) else shape,
        "data_offsets": [start, stop],
    }


def file_of(entries: Any, data: int) -> tuple[bytes, int]:
    return wrap(json.dumps(entries).encode(), data)


def raw(text: str, data: int = 4) -> tuple[bytes, int]:
    return wrap(text.encode(), data)


GOOD = '{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}'

LIES: dict[str, tuple[str, tuple[bytes, int], str | None]] = {
    "no bytes": ("too-short", (b"", 0), None),
    "seven bytes": ("too-short", (b"\x02\0\0\0\0\0\0", 7), None),
    "prefix beyond the file": ("length-beyond-file", wrap(b"{}", length=100), None),
    "prefix beyond the limit": ("too-large", wrap(b"{}", length=MAX_HEADER + 1), None),
    "prefix of all ones": ("too-large", (b"\xff" * 8 + b"{}", 10), None),
    "file ended inside the header": ("too-short", (wrap(GOOD.encode())[0][:20], 100), None),
    "pointer of git lfs": ("git-lfs-pointer", (b"version https://git-lfs.github.com/spec/v1\n", 130), None),
    "zip": ("not-safetensors", (b"PK\x03\x04\x00\x00\x08\x08" + b"x" * 99, 107), None),
    "gguf": ("not-safetensors", (b"GGUF\x03\0\0\0" + b"x" * 99, 107), None),
    "pickle": ("not-safetensors", (b"\x80\x02\x8a\nl\xfc\x9cF" + b"x" * 99, 107), None),
    "web page": ("not-safetensors", (b"<!DOCTYPE html>" + b"x" * 99, 114), None),
    "not utf-8": ("not-utf8", wrap(b'{"\xff\xfe":1}'), None),
    "empty header": ("no-brace", wrap(b""), None),
    "leading space": ("no-brace", raw(" " + GOOD), None),
    "byte order mark": ("no-brace", raw("\ufeff" + GOOD), None),
    "array": ("no-brace", raw("[]", 0), None),
    "unfinished": ("not-json", raw(GOOD[:-1]), None),
    "junk after the object": ("not-json", raw(GOOD + "x"), None),
    "zero byte padding": ("not-json", raw(GOOD + "\0"), None),
    "two objects": ("not-json", raw(GOOD + "{}"), None),
    "NaN": ("not-json", raw('{"a":{"dtype":"U8","shape":[NaN],"data_offsets":[0,4]}}'), None),
    "name twice": ("duplicate-key", raw(GOOD[:-1] + "," + GOOD[1:]), None),
    "dtype twice": ("duplicate-key", raw(GOOD.replace('"dtype"', '"dtype":"I8","dtype"')), None),
    "metadata twice": ("duplicate-key", raw('{"__metadata__":{},"__metadata__":{}}', 0), None),
    "half a surrogate": ("bad-text", raw(GOOD.replace('"a"', '"\\ud800"')), None),
    "nesting bomb": ("nesting", raw('{"a":' + "[" * 200_000, 0), None),
    "nesting bomb of objects": ("nesting", raw('{"a":' * 200_000, 0), None),
    "number bomb": ("number-too-long", raw(GOOD.replace("[4]", "[" + "9" * 5000 + "]")), None),
    "entry is a number": ("entry", raw('{"a":1}', 0), "a"),
    "entry is null": ("entry", raw('{"a":null}', 0), "a"),
    "no dtype": ("entry", raw('{"a":{"shape":[4],"data_offsets":[0,4]}}'), "a"),
    "no shape": ("entry", raw('{"a":{"dtype":"U8","data_offsets":[0,4]}}'), "a"),
    "no offsets": ("entry", raw('{"a":{"dtype":"U8","shape":[4]}}'), "a"),
    "dtype is a number": ("entry", file_of({"a": entry(dtype=3)}, 4), "a"),
    "shape is a number": ("entry", file_of({"a": entry(shape=4)}, 4), "a"),
    "one offset": ("entry", raw('{"a":{"dtype":"U8","shape":[4],"data_offsets":[4]}}'), "a"),
    "three offsets": ("entry", raw('{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4,4]}}'), "a"),
    "offsets are text": ("entry", file_of({"a": entry(start="0", stop="4")}, 4), "a"),
    "offsets are floats": ("entry", file_of({"a": entry(start=0.0, stop=4.0)}, 4), "a"),
    "offsets are booleans": ("entry", file_of({"a": entry(start=False, stop=True, shape=(1,))}, 1), "a"),
    "unknown dtype": ("dtype", file_of({"a": entry(dtype="F12")}, 4), "a"),
    "dtype in small letters": ("dtype", file_of({"a": entry(dtype="u8")}, 4), "a"),
    "negative shape": ("shape", file_of({"a": entry(shape=(-4,))}, 4), "a"),
    "two negative shapes": ("shape", file_of({"a": entry(shape=(-2, -2))}, 4), "a"),
    "shape of floats": ("shape", file_of({"a": entry(shape=(4.0,))}, 4), "a"),
    "shape of booleans": ("shape", file_of({"a": entry(shape=(True,), stop=1)}, 1), "a"),
    "shape of text": ("shape", file_of({"a": entry(shape=("4",))}, 4), "a"),
    "too many dimensions": ("dimensions", file_of({"a": entry(shape=(1,) * 65, stop=1)}, 1), "a"),
    "shape overflows": ("overflow", file_of({"a": entry(shape=(2**32, 2**32))}, 4), "a"),
    "shape overflows to zero": ("overflow", file_of({"a": entry(shape=(2**63, 2), stop=0)}, 0), "a"),
    "zero beside a huge dimension": ("overflow", file_of({"a": entry(shape=(0, 2**64 - 1), stop=0)}, 0), "a"),
    "offset overflows": ("overflow", file_of({"a": entry(stop=2**63)}, 4), "a"),
    "offsets reversed": ("offsets-reversed", file_of({"a": entry(start=4, stop=0)}, 4), "a"),
    "offsets negative": ("offsets-negative", file_of({"a": entry(start=-4, stop=0)}, 4), "a"),
    "offsets beyond the file": ("offsets-beyond-file", file_of({"a": entry(start=100, stop=104)}, 4), "a"),
    "hole before the first": ("hole", file_of({"a": entry(start=4, stop=8)}, 8), "a"),
    "hole between": ("hole", file_of({"a": entry(), "b": entry(start=5, stop=9)}, 9), "b"),
    "overlap": ("overlap", file_of({"a": entry(), "b": entry(start=2, stop=6)}, 6), "b"),
    "same bytes twice": ("overlap", file_of({"a": entry(), "b": entry()}, 4), "b"),
    "size too large for the shape": ("size", file_of({"a": entry(shape=(3,))}, 4), "a"),
    "size too small for the dtype": ("size", file_of({"a": entry(dtype="F32")}, 4), "a"),
    "half a byte": ("misaligned", file_of({"a": entry(dtype="F4", shape=(3,), stop=1)}, 1), "a"),
    "six bits": ("misaligned", file_of({"a": entry(dtype="F6_E2M3", shape=(3,), stop=2)}, 2), "a"),
    "bytes after the last tensor": ("trailing-bytes", raw(GOOD, 5), None),
    "bytes and no tensor": ("trailing-bytes", raw("{}", 1), None),
    "truncated inside a tensor": ("truncated", raw(GOOD, 3), "a"),
    "truncated before a tensor": ("truncated", file_of({"a": entry(), "b": entry(start=4, stop=8)}, 4), "b"),
    "metadata of numbers": ("metadata", raw('{"__metadata__":{"format":1}}', 0), None),
    "metadata nested": ("metadata", raw('{"__metadata__":{"format":{"a":"b"}}}', 0), None),
    "metadata is text": ("metadata", raw('{"__metadata__":"pt"}', 0), None),
    "metadata is null": ("metadata", raw('{"__metadata__":null}', 0), None),
}


@pytest.mark.parametrize("story", LIES)
def test_every_lie_is_refused_by_its_name(story: str) -> None:
    lie, (prefix, size), tensor = LIES[story]
    with pytest.raises(HeaderError) as caught:
        parse(prefix, size, file="liar.safetensors")
    error = caught.value
    assert error.facts["lie"] == lie
    assert error.facts["file"] == "liar.safetensors"
    assert error.facts.get("tensor") == tensor
    assert error.message.startswith("liar.safetensors ")
    assert error.hint
    assert len(error.message) < 400


@pytest.mark.parametrize("story", [name for name, (_, (_, size), _) in LIES.items() if size < 10_000])
def test_the_reference_accepts_only_lies_that_are_listed_here(story: str, tmp_path: Path) -> None:
    lie, (prefix, size), _ = LIES[story]
    file = tmp_path / "liar.safetensors"
    file.write_bytes(prefix + bytes(max(0, size - len(prefix))))
    stricter = {
        "duplicate-key",  # which of two entries counts depends on who reads
        "dimensions",  # nothing has 65 of them
        "bad-text",  # no file can be written with that name
        "no-brace",  # white space first, which the specification forbids
        "metadata",  # null only
        "overflow",  # zero beside a huge dimension
    }
    try:
        with safetensors.safe_open(file, "np"):
            pass
    except safetensors.SafetensorError:
        return
    assert lie in stricter


def test_length_of_a_small_header_is_not_taken_for_a_stranger() -> None:
    for first in (b"<\0\0\0\0\0\0\0", b"PK\x03\x04\0\0\0\0", b"GGUF\0\0\0\0"):
        length = int.from_bytes(first, "little")
        if length <= MAX_HEADER:
            assert header_length(first, length + 8, file="f") == length


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=0, max_size=12).filter(
    lambda name: name != "__metadata__"
)
SHAPES = st.lists(st.integers(0, 5), max_size=4).map(tuple)


@st.composite
def tensor_lists(draw: st.DrawFn) -> list[tuple[str, str, tuple[int, ...]]]:
    names = draw(st.lists(NAMES, unique=True, max_size=6))
    found = []
    for name in names:
        dtype = draw(st.sampled_from(sorted(DTYPES)))
        shape = draw(SHAPES)
        if DTYPES[dtype] % 8:
            shape = (*shape, 4)
        found.append((name, dtype, shape))
    return found


@given(tensor_lists(), st.dictionaries(NAMES, NAMES, max_size=3))
def test_what_is_rendered_parses_to_the_same(
    tensors: list[tuple[str, str, tuple[int, ...]]], metadata: dict[str, str]
) -> None:
    prefix, infos = render(tensors, metadata)
    size = len(prefix) + (infos[-1].stop if infos else 0)
    header = parse(prefix, size, file="f")
    assert header.data_start == len(prefix)
    assert header.data_start % 8 == 0
    assert dict(header.metadata) == metadata
    assert sorted(header.tensors, key=lambda info: info.name) == sorted(infos, key=lambda info: info.name)
    assert [(info.name, info.dtype, info.shape) for info in infos] == tensors
    assert sum(size_of(dtype, shape) for _, dtype, shape in tensors) == size - len(prefix)


@settings(max_examples=50)
@given(tensor_lists())
def test_the_reference_reads_what_is_rendered(tensors: list[tuple[str, str, tuple[int, ...]]]) -> None:
    prefix, infos = render(tensors, {"format": "pt"})
    data = prefix + bytes(infos[-1].stop if infos else 0)
    found = dict(safetensors.deserialize(data))
    assert {name: (each["dtype"], tuple(each["shape"])) for name, each in found.items()} == {
        name: (dtype, shape) for name, dtype, shape in tensors
    }


@settings(max_examples=300)
@given(st.binary(max_size=200), st.integers(0, 300))
def test_no_bytes_raise_anything_but_a_named_lie(text: bytes, size: int) -> None:
    for prefix in (text, len(text).to_bytes(8, "little") + text):
        with contextlib.suppress(HeaderError):
            parse(prefix, size, file="f")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
ODD_ENTRIES = st.fixed_dictionaries(
    {}, optional={"dtype": JSON | st.just("U8"), "shape": JSON, "data_offsets": JSON}
)


@settings(max_examples=300)
@given(st.dictionaries(st.sampled_from(["a", "b", "__metadata__"]), ODD_ENTRIES | JSON), st.integers(0, 20))
def test_no_json_raises_anything_but_a_named_lie(entries: dict[str, Any], data: int) -> None:
    prefix, size = file_of(entries, data)
    with contextlib.suppress(HeaderError):
        header = parse(prefix, size, file="f")
        assert sum(info.stop - info.start for info in header.tensors) == data


@settings(max_examples=300)
@given(st.data())
def test_one_changed_byte_is_refused_or_harmless(data: st.DataObject) -> None:
    prefix, infos = render([("a", "BF16", (2, 3)), ("b", "F32", (5,)), ("c", "BOOL", (0,))], {"format": "pt"})
    size = len(prefix) + infos[-1].stop
    changed = bytearray(prefix)
    place = data.draw(st.integers(0, len(prefix) - 1))
    changed[place] = data.draw(st.integers(0, 255))
    try:
        header = parse(bytes(changed), size, file="f")
    except HeaderError:
        return
    end = header.data_start
    for info in header.tensors:
        assert info.stop - info.start == size_of(info.dtype, info.shape)
        end += info.stop - info.start
    assert end == size


def test_a_name_twice_is_not_rendered() -> None:
    with pytest.raises(HeaderError, match="'a'"):
        render([("a", "U8", (1,)), ("a", "U8", (1,))], {})


def test_big_headers_are_read_in_reasonable_time() -> None:
    tensors = [(f"model.layers.{each}.mlp.experts.weight", "BF16", (64, 64)) for each in range(20_000)]
    prefix, infos = render(tensors, {})
    header = parse(prefix, len(prefix) + infos[-1].stop, file="f")
    assert len(header.tensors) == 20_000
