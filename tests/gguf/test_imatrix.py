"""Importance matrices: both forms are read as llama.cpp reads them; what lies is refused."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from alloyd.errors import HeaderError, SourceNotFound
from alloyd_daemon.gguf.imatrix import read_imatrix
from extras import need

need("gguf", "gguf")
SUMS = np.arange(1, 9, dtype=np.float32)


def _write(path: Path, tensors: dict[str, np.ndarray], *, kind: str = "imatrix") -> Path:
    import gguf

    writer = gguf.GGUFWriter(path=None, arch="any")
    writer.add_string("general.type", kind)
    writer.add_array("imatrix.datasets", ["x.txt"])
    writer.add_uint32("imatrix.chunk_count", 1)
    writer.add_uint32("imatrix.chunk_size", 512)
    for name, values in tensors.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file(path)
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _entry(name: bytes, calls: int, values: np.ndarray, *, columns: int | None = None) -> bytes:
    count = values.size if columns is None else columns
    return struct.pack("<i", len(name)) + name + struct.pack("<ii", calls, count) + values.tobytes()


def test_sums_become_means_by_matrix(tmp_path: Path) -> None:
    path = _write(
        tmp_path / "i.gguf",
        {
            "blk.0.attn_q.weight.in_sum2": SUMS.reshape(1, 8),
            "blk.0.attn_q.weight.counts": np.array([[4]], np.float32),
            "blk.0.ffn_up_exps.weight.in_sum2": SUMS.reshape(2, 4),
            "blk.0.ffn_up_exps.weight.counts": np.array([[2], [0]], np.float32),
        },
    )
    found = read_imatrix(path)
    assert np.array_equal(found.weights["blk.0.attn_q.weight"], SUMS / 4)
    # An expert that no token reached weighs its columns alike.
    assert np.array_equal(found.weights["blk.0.ffn_up_exps.weight"], [0.5, 1, 1.5, 2, 1, 1, 1, 1])
    assert len(found.digest) == 64
    assert not found.weights["blk.0.attn_q.weight"].flags.writeable


def test_the_older_form_is_read(tmp_path: Path) -> None:
    path = tmp_path / "i.dat"
    entries = _entry(b"blk.0.attn_q.weight", 4, SUMS) + _entry(b"output.weight", 0, SUMS)
    path.write_bytes(struct.pack("<i", 2) + entries + struct.pack("<ii", 7, 1) + b"x")
    found = read_imatrix(path)
    assert np.array_equal(found.weights["blk.0.attn_q.weight"], SUMS / 4)
    assert np.array_equal(found.weights["output.weight"], SUMS)


COUNTS = np.array([[1]], np.float32)
GGUF_LIES = {
    "no counts": ({"a.in_sum2": SUMS}, "pair"),
    "no sums": ({"a.counts": COUNTS}, "pair"),
    "counts that do not fit": ({"a.in_sum2": SUMS, "a.counts": np.ones(3, np.float32)}, "pair"),
    "a stranger": ({"a.in_sum2": SUMS, "a.counts": COUNTS, "b.weight": SUMS}, "pair"),
    "not F32": ({"a.in_sum2": SUMS.astype(np.float16), "a.counts": COUNTS}, "type"),
    "negative": ({"a.in_sum2": -SUMS, "a.counts": COUNTS}, "value"),
    "not finite": ({"a.in_sum2": SUMS * np.float32(np.nan), "a.counts": COUNTS}, "value"),
    "beyond any activation": ({"a.in_sum2": SUMS * np.float32(1e30), "a.counts": COUNTS}, "value"),
}


@pytest.mark.parametrize("name", GGUF_LIES)
def test_a_gguf_that_lies_is_refused(name: str, tmp_path: Path) -> None:
    tensors, lie = GGUF_LIES[name]
    with pytest.raises(HeaderError) as raised:
        read_imatrix(_write(tmp_path / "i.gguf", tensors))
    assert raised.value.facts["lie"] == lie
    assert "llama-imatrix" in raised.value.hint


def test_a_model_is_no_imatrix(tmp_path: Path) -> None:
    with pytest.raises(HeaderError, match="no imatrix"):
        read_imatrix(_write(tmp_path / "i.gguf", {"a": SUMS}, kind="model"))


DAT_LIES = {
    "empty": b"",
    "no entries": struct.pack("<i", 0),
    "more entries than bytes": struct.pack("<i", 1 << 30) + bytes(64),
    "a name beyond the file": struct.pack("<ii", 1, 1 << 20) + bytes(64),
    "columns beyond the file": struct.pack("<i", 1) + _entry(b"a", 1, SUMS, columns=1 << 28),
    "cut": (struct.pack("<i", 2) + _entry(b"a", 1, SUMS))[:40],
    "a tensor twice": struct.pack("<i", 2) + _entry(b"a", 1, SUMS) * 2,
    "text": b"this is a text that is no imatrix at all\n" * 4,
}


@pytest.mark.parametrize("name", DAT_LIES)
def test_an_older_file_that_lies_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "i.dat"
    path.write_bytes(DAT_LIES[name])
    with pytest.raises(HeaderError, match="the imatrix"):
        read_imatrix(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFound, match=r"none\.dat"):
        read_imatrix(tmp_path / "none.dat")
