"""The sink while it lives: resuming, refusing, locks, full disks, mount points, and what others may see."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from alloyd.errors import OutputError
from alloyd_daemon.checkpoints.checkpoint import open_checkpoint
from alloyd_daemon.checkpoints.digest import PIECE, piece_digests
from alloyd_daemon.checkpoints.journal import Block
from alloyd_daemon.checkpoints.safetensors_layout import lay_out
from alloyd_daemon.checkpoints.sink import (
    StagedSink,
    already_published,
)
from checkpoints.sink_driver import (
    IDENTITY,
    SIDE_FILES,
    content,
    expected,
    files,
    layout,
    make,
    only,
    publish,
    write_all,
)


@pytest.fixture
def final(tmp_path: Path) -> Path:
    return tmp_path / "models" / "merged"


def test_a_published_output_is_whole_and_opens(final: Path) -> None:
    publish(final)
    assert files(final) == expected()
    assert only(final)
    found = open_checkpoint(final)
    assert sorted(found.tensors) == sorted(slot.name for slot in layout().tensors)
    big = found.tensors["big"]
    assert (final / "model-00001-of-00003.safetensors").read_bytes()[big.offset :] == content(0, big.nbytes)


def test_nothing_is_at_the_final_place_before_publishing(final: Path) -> None:
    sink = make(final)
    write_all(sink, sink.open())
    sink.checkpoint()
    assert not final.exists()
    sink.close()
    assert not final.exists()
    assert os.listdir(final.parent) == [".merged.partial"]


def test_rights_follow_the_umask(final: Path) -> None:
    before = os.umask(0o027)
    try:
        publish(final)
    finally:
        os.umask(before)
    assert final.stat().st_mode & 0o777 == 0o750
    assert (final / "config.json").stat().st_mode & 0o777 == 0o640
    assert (final / "model-00001-of-00003.safetensors").stat().st_mode & 0o777 == 0o640


def test_resuming_forgets_blocks_whose_bytes_are_wrong(final: Path) -> None:
    sink = make(final)
    assert write_all(sink, sink.open()) == 6
    slot = sink.layout.tensors[0]
    name = sink.layout.shards[slot.shard].filename
    sink.close()
    with open(sink.place.staging / name, "r+b") as file:
        file.seek(slot.offset + 10)
        file.write(b"\0\0\0\0")
    again = make(final)
    found = again.open()
    assert [(block.tensor, block.start) for block in found] == [
        (0, PIECE),
        (0, 2 * PIECE),
        (2, 0),
        (3, 0),
        (4, 0),
    ]
    assert write_all(again, found) == 1
    again.publish(SIDE_FILES)
    again.close()
    assert files(final) == expected()


def test_facts_and_inputs_come_back(final: Path) -> None:
    sink = make(final)
    sink.open()
    data = memoryview(content(4, sink.layout.tensors[4].nbytes))
    block = Block(4, 0, len(data), piece_digests(data), ((1, (b"x" * 32,)),), {"non_finite": 3})
    sink.put(block, data)
    sink.close()
    again = make(final)
    assert again.open() == (block,)
    again.discard()
    assert not any(final.parent.iterdir())


@pytest.mark.parametrize(
    "strange",
    [
        Block(99, 0, 10, (b"x" * 32,)),
        Block(-1, 0, 10, (b"x" * 32,)),
        Block(4, 1, 10, (b"x" * 32,)),
        Block(4, -PIECE, 10, (b"x" * 32,)),
        Block(4, 0, 100_001, (b"x" * 32,)),
        Block(4, 0, 0, ()),
        Block(4, 0, 10, ()),
        Block(4, 0, 10, (b"",)),
    ],
)
def test_blocks_that_make_no_sense_are_forgotten(final: Path, strange: Block) -> None:
    sink = make(final)
    sink.open()
    assert sink._journal is not None
    sink._journal.append(strange)
    sink.close()
    again = make(final)
    assert again.open() == ()
    again.discard()


def test_of_overlapping_blocks_the_last_counts(final: Path) -> None:
    sink = make(final)
    sink.open()
    data = memoryview(content(0, sink.layout.tensors[0].nbytes))
    for start, stop in ((0, PIECE), (PIECE, 2 * PIECE), (0, 2 * PIECE)):
        sink.put(Block(0, start, stop, piece_digests(data[start:stop])), data[start:stop])
    sink.close()
    again = make(final)
    assert [(block.start, block.stop) for block in again.open()] == [(0, 2 * PIECE)]
    again.discard()


def test_another_identity_starts_anew(final: Path) -> None:
    sink = make(final)
    write_all(sink, sink.open())
    (sink.place.staging / "stray").mkdir()
    sink.close()
    other = make(final, identity="another recipe")
    assert other.open() == ()
    assert not (other.place.staging / "stray").exists()
    write_all(other, ())
    other.publish(SIDE_FILES)
    other.close()
    assert files(final) == expected()
    assert not already_published(final, IDENTITY)
    assert already_published(final, "another recipe")


def test_side_files_of_an_earlier_attempt_do_not_stay(final: Path) -> None:
    sink = make(final)
    write_all(sink, sink.open())
    (sink.place.staging / "tokenizer.model").write_bytes(b"of a run that died")
    sink.publish(SIDE_FILES)
    sink.close()
    assert files(final) == expected()


def test_publishing_needs_every_block(final: Path) -> None:
    sink = make(final)
    sink.open()
    with pytest.raises(OutputError, match=r"'big' is not complete: 0 of"):
        sink.publish(SIDE_FILES)
    assert not final.exists()
    sink.discard()
    assert not any(final.parent.iterdir())


@pytest.mark.parametrize(
    "name", ["model-00001-of-00003.safetensors", "../x", "a/b/c", "/etc/x", ".alloyd", "", ".."]
)
def test_side_files_with_names_that_do_harm(final: Path, name: str) -> None:
    sink = make(final)
    write_all(sink, sink.open())
    with pytest.raises(OutputError, match="side file"):
        sink.publish({name: b"x"})
    sink.discard()


def test_many_threads_write_and_record(final: Path) -> None:
    sink = make(final)
    sink.open()
    work = [
        (number, start)
        for number, slot in enumerate(sink.layout.tensors)
        for start in range(0, slot.nbytes, PIECE)
    ]

    def labour(number: int) -> None:
        for slot, start in work[number::3]:
            data = memoryview(content(slot, sink.layout.tensors[slot].nbytes))[start : start + PIECE]
            sink.put(Block(slot, start, start + len(data), piece_digests(data)), data)

    threads = [threading.Thread(target=labour, args=(number,)) for number in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    sink.publish(SIDE_FILES)
    sink.publish(SIDE_FILES)
    sink.close()
    assert files(final) == expected()


def test_writes_stay_inside_their_tensor(final: Path) -> None:
    sink = make(final)
    sink.open()
    for start, size in ((-PIECE, 4), (0, 100_001), (PIECE, 1), (1, 4)):
        data = bytes(size)
        with pytest.raises(ValueError, match="not inside 'last'"):
            sink.put(Block(4, start, start + size, piece_digests(data)), memoryview(data))
    sink.discard()


def test_short_writes_go_on(final: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda handle, data, at: real(handle, data[:100_000], at))
    publish(final)
    assert files(final) == expected()


def test_the_disk_reports_an_error_while_forcing_to_disk(
    final: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = make(final)
    write_all(sink, sink.open())

    def fail(handle: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OutputError, match="Input/output error"):
            sink.publish(SIDE_FILES)
    assert not final.exists()
    sink.discard()


def test_files_that_cannot_be_preallocated(final: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from alloyd_daemon.checkpoints import staged_files as module

    monkeypatch.setattr(module, "allocate", lambda handle, size: False)
    publish(final)
    assert files(final) == expected()


def test_a_sink_that_is_not_open_says_so(final: Path) -> None:
    sink = make(final)
    with pytest.raises(ValueError, match="not open"):
        sink.checkpoint()
    sink.close()
    sink.discard()


def test_an_output_of_one_file_has_no_index(final: Path) -> None:
    plan = lay_out([("a", "U8", (3,))], shard_size=100)
    sink = StagedSink(final, plan, identity="x", force=False)
    sink.open()
    sink.put(Block(0, 0, 3, piece_digests(b"abc")), memoryview(b"abc"))
    sink.publish({})
    sink.close()
    assert os.listdir(final) == ["model.safetensors"]
