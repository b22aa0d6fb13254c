"""The journal of finished blocks: what is read back is what was written, whatever happened to the end of the file."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from alloyd_daemon.checkpoints.digest import PIECE, PieceDigests, model_digest, piece_digests, tensor_digest
from alloyd_daemon.checkpoints.journal import Block, Owner, read_journal, start_journal

OWNER = Owner("identity", "layout")


def block(place: int) -> Block:
    return Block(
        place,
        place * PIECE,
        place * PIECE + 9,
        (b"p" * 32,),
        ((0, (b"s" * 32,)), (2, ())),
        {"non_finite": place},
    )


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("journal") / "journal"
    journal = start_journal(path, OWNER, [block(0)])
    for place in range(1, 5):
        journal.append(block(place))
    journal.sync()
    journal.close()
    assert not path.with_name("journal.new").exists()
    return path.read_bytes()


def read(data: bytes, tmp: Path) -> tuple[Owner | None, tuple[Block, ...]]:
    path = tmp / "copy"
    path.write_bytes(data)
    return read_journal(path)


def test_all_blocks_come_back(journal: bytes, tmp_path: Path) -> None:
    assert read(journal, tmp_path) == (OWNER, tuple(block(place) for place in range(5)))


def test_a_torn_tail_is_ignored_wherever_it_is_torn(journal: bytes, tmp_path: Path) -> None:
    whole = [block(place) for place in range(5)]
    lengths = set()
    for end in range(len(journal)):
        owner, blocks = read(journal[:end], tmp_path)
        assert list(blocks) == whole[: len(blocks)]
        assert owner in (None, OWNER)
        lengths.add(len(blocks))
    assert lengths == {0, 1, 2, 3, 4}


@given(data=st.data())
def test_a_changed_byte_never_gives_a_wrong_block(
    journal: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    changed = bytearray(journal)
    place = data.draw(st.integers(0, len(journal) - 1))
    changed[place] ^= data.draw(st.integers(1, 255))
    owner, blocks = read(bytes(changed), tmp_path_factory.mktemp("changed"))
    assert owner in (None, OWNER)
    assert list(blocks) == [block(each) for each in range(len(blocks))]
    assert len(blocks) < 5


@given(st.binary(max_size=100))
def test_any_bytes_are_a_journal_of_nothing(data: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        assert read(data, Path(folder)) == (None, ())


def test_no_file_is_no_journal(tmp_path: Path) -> None:
    assert read_journal(tmp_path / "nothing") == (None, ())


def test_threads_append_whole_records(tmp_path: Path) -> None:
    journal = start_journal(tmp_path / "journal", OWNER)
    threads = [
        threading.Thread(
            target=lambda first: [journal.append(block(first * 50 + k)) for k in range(50)], args=(n,)
        )
        for n in range(4)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    journal.close()
    _, blocks = read_journal(tmp_path / "journal")
    assert sorted(each.tensor for each in blocks) == list(range(200))


def test_digests_do_not_depend_on_how_a_tensor_is_cut() -> None:
    data = bytes(range(256)) * (PIECE // 256) * 2 + b"tail"
    whole = piece_digests(data)
    assert whole == (*piece_digests(data[:PIECE]), *piece_digests(memoryview(data)[PIECE:]))
    assert whole[0] == blake3(data[:PIECE]).digest()
    assert len(whole) == 3
    assert tensor_digest(whole) == blake3(b"".join(whole)).hexdigest()
    assert piece_digests(b"") == ()


@pytest.mark.parametrize("part", [1_000_003, PIECE // 8, PIECE, 3 * PIECE])
def test_pieces_may_come_in_parts(part: int) -> None:
    data = bytes(range(256)) * (9 * PIECE // 1024)
    pieces = PieceDigests()
    for start in range(0, len(data), part):
        pieces.add(memoryview(data)[start : start + part])
    assert pieces.finish() == piece_digests(data)
    assert PieceDigests().finish() == ()
    assert model_digest({"b": "2", "a": "1"}) == blake3(b"1 a\n2 b\n").hexdigest()
