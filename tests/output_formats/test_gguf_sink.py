"""GGUF through the sink: the same bytes whatever the blocks, the threads, the order, the stops and the damage."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alloyd.errors import DiskFull, OutputExists, SourceError
from alloyd_daemon.checkpoints import staged_files
from alloyd_daemon.checkpoints.journal import Block
from alloyd_daemon.checkpoints.sink import StagedSink
from alloyd_daemon.gguf.encode import encode
from checkpoint_factory import read_checkpoint
from extras import need
from output_formats import gguf_driver
from output_formats.gguf_driver import IDENTITY, SHAPE, SIDE_FILES, TYPE, blocks, importance, make, model, run

need("gguf", "llama_cpp", "gguf")

DRIVER = Path(str(gguf_driver.__file__))
FILE = f"model-{TYPE}.gguf"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model(tmp_path_factory.mktemp("source") / "model")


@pytest.fixture(scope="module")
def expected(source: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return at_once(make(tmp_path_factory.mktemp("expected") / "out", source), source)


def at_once(sink: StagedSink, source: Path) -> bytes:
    """The file as it is when every tensor is encoded whole."""
    layout = sink.layout.file  # type: ignore[attr-defined]
    data = np.zeros(layout.size, dtype=np.uint8)
    data[: len(layout.header)] = np.frombuffer(layout.header, dtype=np.uint8)
    for placement, values in zip(layout.placements, read_checkpoint(source).values(), strict=True):
        flat = values.astype(np.float32).reshape(-1)
        for extent in placement.extents(0, flat.size):
            part = flat[extent.first : extent.first + extent.elements]
            encode(extent, part, data[extent.offset : extent.offset + extent.size])
    return data.tobytes()


def files(folder: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in folder.iterdir()}


def test_a_published_file_is_whole(source: Path, expected: bytes, tmp_path: Path) -> None:
    assert run(tmp_path / "out", source) > 30
    assert files(tmp_path / "out") == SIDE_FILES | {FILE: expected}
    assert os.listdir(tmp_path) == ["out"]
    assert run(tmp_path / "out", source) == 0


@given(
    units=st.sampled_from([1 << 6, 1 << 8, 1 << 12]),
    threads=st.integers(1, 3),
    order=st.randoms(use_true_random=False),
    stops=st.lists(st.integers(0, 60), max_size=2),
)
@settings(max_examples=8)
def test_blocks_order_threads_and_stops_do_not_matter(
    source: Path, expected: bytes, units: int, threads: int, order: random.Random, stops: list[int]
) -> None:
    weights = read_checkpoint(source)
    with tempfile.TemporaryDirectory() as folder:
        final = Path(folder) / "out"
        for stop in (*stops, None):
            sink = make(final, source)
            known = {(block.tensor, block.start) for block in sink.open()}
            todo = [
                each for each in blocks(sink, weights, units) if (each[0].tensor, each[0].start) not in known
            ]
            order.shuffle(todo)
            put_all(sink, todo[:stop], threads)
            if stop is None:
                sink.publish(SIDE_FILES)
            sink.close()
        assert (final / FILE).read_bytes() == expected


@pytest.mark.parametrize("kind", ["Q4_0", "Q5_1", "Q4_K_M"])
def test_an_importance_weighs_alike_in_every_block(source: Path, tmp_path: Path, kind: str) -> None:
    """Q4_0 and its kin weigh over whole rows: their blocks are whole rows, too."""
    imatrix = importance(tmp_path / "imatrix.dat")
    for units in (3, 1 << 10):
        sink = make(tmp_path / f"out-{units}", source, kind=kind, imatrix=imatrix)
        if kind in ("Q4_0", "Q5_1"):
            assert sink.layout.unit(3) % SHAPE.hidden == 0
        sink.open()
        put_all(sink, blocks(sink, read_checkpoint(source), units), 2)
        sink.publish(SIDE_FILES)
        sink.close()
        assert (tmp_path / f"out-{units}" / f"model-{kind}.gguf").read_bytes() == at_once(sink, source)
    assert ", imatrix " in sink.layout.identity


def put_all(sink: StagedSink, todo: list[tuple[Block, memoryview]], threads: int) -> None:
    """Every block, shared among the threads."""

    def labour(mine: list[tuple[Block, memoryview]]) -> None:
        for block, part in mine:
            sink.put(block, part)

    workers = [threading.Thread(target=labour, args=(todo[each::threads],)) for each in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


@pytest.mark.parametrize("place", [0.0, 0.35, 0.999])
def test_damage_of_what_was_staged_is_found(
    source: Path, expected: bytes, tmp_path: Path, place: float
) -> None:
    final = tmp_path / "out"
    sink = make(final, source)
    sink.open()
    whole = blocks(sink, read_checkpoint(source), 64)
    for block, part in whole:
        sink.put(block, part)
    first = sink.layout.slots[0].offset
    sink.close()
    with (tmp_path / ".out.partial" / FILE).open("r+b") as file:
        at = first + int(place * (len(expected) - 32 - first))
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))
    again = make(final, source)
    assert len(again.open()) == len(whole) - 1
    again.close()
    assert run(final, source) == 1
    assert (final / FILE).read_bytes() == expected


def test_another_type_is_not_continued(source: Path, tmp_path: Path) -> None:
    sink = make(tmp_path / "out", source)
    sink.open()
    for block, part in blocks(sink, read_checkpoint(source), 64):
        sink.put(block, part)
    sink.close()
    other = make(tmp_path / "out", source, kind="Q8_0")
    assert other.open() == ()
    assert not (tmp_path / ".out.partial" / FILE).exists()
    other.discard()


def test_a_block_cut_in_two_is_a_fault(source: Path, tmp_path: Path) -> None:
    sink = make(tmp_path / "out", source)
    sink.open()
    for start, stop in ((2, 512), (0, 2), (0, 10**9), (-512, 512)):
        with pytest.raises(ValueError, match="are no block"):
            sink.put(Block(1, start, stop, ()), memoryview(bytes(max(0, stop - start))))
    sink.discard()


def test_values_that_a_type_cannot_hold_name_the_tensor(source: Path, tmp_path: Path) -> None:
    sink = make(tmp_path / "out", source)
    sink.open()
    block, part = blocks(sink, read_checkpoint(source), 64)[5]
    spoilt = np.frombuffer(part, dtype=np.uint16).copy()
    spoilt[17] = 0x7FC0
    with pytest.raises(SourceError, match=r"model\.embed_tokens\.weight has values that are not finite"):
        sink.put(block, memoryview(spoilt).cast("B"))
    sink.discard()


def test_a_full_disk(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    final = tmp_path / "out"
    sink = make(final, source)
    sink.open()
    todo = blocks(sink, read_checkpoint(source), 64)
    sink.put(*todo[0])

    def full(handle: int, data: memoryview, at: int) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(staged_files.os, "pwrite", full)  # type: ignore[attr-defined]
        with pytest.raises(DiskFull, match="no room left"):
            sink.put(*todo[1])
    sink.close()
    assert run(final, source) == len(todo) - 1


def test_force_replaces_a_gguf_and_nothing_else(source: Path, expected: bytes, tmp_path: Path) -> None:
    final = tmp_path / "out"
    final.mkdir()
    (final / "old-Q8_0.gguf").write_bytes(b"GGUF old")
    with pytest.raises(OutputExists):
        run(final, source)
    run(final, source, force=True)
    assert files(final) == SIDE_FILES | {FILE: expected}


@pytest.mark.parametrize(
    "fault",
    [
        "after-record",
        "after-record:17",
        "after-fsync-shard",
        "after-fsync-journal",
        "after-fsync-side-file",
        "after-rename-sealed",
        "after-rename",
        "after-unlink-state",
    ],
)
def test_killed_at_a_named_moment(source: Path, expected: bytes, tmp_path: Path, fault: str) -> None:
    final = tmp_path / "out"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "ALLOYD_FAULT": fault}
    done = subprocess.run(
        [sys.executable, str(DRIVER), str(final), str(source)],
        env=environment | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        timeout=240,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    if final.exists():
        assert (final / FILE).read_bytes() == expected
    run(final, source)
    assert files(final) == SIDE_FILES | {FILE: expected}
    assert os.listdir(tmp_path) == ["out"]
    shutil.rmtree(final)


def test_the_identity_names_the_library(source: Path, tmp_path: Path) -> None:
    layout = make(tmp_path / "out", source).layout
    assert layout.identity.startswith(f"gguf {TYPE}, llama_cpp_python ")
    assert IDENTITY not in layout.identity
