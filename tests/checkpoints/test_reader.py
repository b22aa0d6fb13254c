"""Both doors give the same bytes, notice files that change, and give back only pages that they brought in."""

from __future__ import annotations

import mmap
import os
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

from alloyd.errors import SourceChanged, SourceError, UsageError
from alloyd_daemon.checkpoints import mounts, page_cache, reader
from alloyd_daemon.checkpoints.checkpoint import Checkpoint, open_checkpoint
from alloyd_daemon.checkpoints.header import render
from alloyd_daemon.checkpoints.libc import MADV_POPULATE_READ, address_of, advise, resident_pages
from alloyd_daemon.checkpoints.page_cache import GRANULE, PAGE, cached_granules, uncached_parts
from alloyd_daemon.checkpoints.reader import open_reader

Door = Literal["mmap", "pread"]
DOORS: tuple[Door, ...] = ("mmap", "pread")
SIZE = 6 * GRANULE + 1234


@pytest.fixture
def data() -> bytes:
    return random.Random(7).randbytes(SIZE)


@pytest.fixture
def checkpoint(tmp_path: Path, data: bytes) -> Checkpoint:
    prefix, _ = render([("a", "U8", (SIZE,)), ("empty", "F32", (0, 4)), ("b", "BF16", (3,))], {})
    (tmp_path / "model.safetensors").write_bytes(prefix + data + b"abcdef")
    return open_checkpoint(tmp_path)


@pytest.mark.parametrize("door", DOORS)
def test_ranges_of_tensors(checkpoint: Checkpoint, data: bytes, door: Door) -> None:
    big = checkpoint.tensors["a"]
    into = memoryview(bytearray(SIZE))
    with open_reader(checkpoint, door) as source:
        assert source.door == door
        for start, stop in ((0, SIZE), (0, 1), (SIZE - 1, SIZE), (4095, 4097), (5, 5), (SIZE, SIZE)):
            assert bytes(source.view(big, start, stop)) == data[start:stop]
            assert bytes(source.view(big, start, stop, into)) == data[start:stop]
        assert bytes(source.view(checkpoint.tensors["b"], 0, 6)) == b"abcdef"
        assert bytes(source.view(checkpoint.tensors["empty"], 0, 0)) == b""
        for start, stop in ((-1, 2), (3, 2), (0, SIZE + 1)):
            with pytest.raises(ValueError, match="not inside"):
                source.view(big, start, stop)


def test_mapped_views_cannot_be_written(checkpoint: Checkpoint) -> None:
    with open_reader(checkpoint, "mmap") as source:
        assert source.view(checkpoint.tensors["a"], 0, 9).readonly


def test_pread_fills_the_buffer_it_is_given(checkpoint: Checkpoint, data: bytes) -> None:
    into = memoryview(bytearray(64))
    with open_reader(checkpoint, "pread") as source:
        found = source.view(checkpoint.tensors["a"], 10, 40, into)
        assert bytes(into[:30]) == data[10:40]
        assert bytes(into[30:]) == bytes(34)
        assert found.nbytes == 30
        with pytest.raises(ValueError, match="too small"):
            source.view(checkpoint.tensors["a"], 0, 65, into)


def test_pread_goes_on_after_short_reads(
    checkpoint: Checkpoint, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Callable[..., int] = os.preadv
    monkeypatch.setattr(os, "preadv", lambda handle, views, at: real(handle, [views[0][:1000]], at))
    with open_reader(checkpoint, "pread") as source:
        assert bytes(source.view(checkpoint.tensors["a"], 3, 30_000)) == data[3:30_000]


@pytest.mark.parametrize("door", DOORS)
def test_released_ranges_read_again(checkpoint: Checkpoint, data: bytes, door: Door) -> None:
    tensor = checkpoint.tensors["a"]
    with open_reader(checkpoint, door) as source:
        held = source.view(tensor, 0, SIZE)
        source.prefetch(tensor, 0, SIZE)
        source.release(tensor, 0, SIZE)
        source.release(tensor, 7, 7)
        assert bytes(held) == data
        assert bytes(source.view(tensor, 0, SIZE)) == data


@pytest.mark.parametrize("door", DOORS)
def test_many_threads(checkpoint: Checkpoint, data: bytes, door: Door) -> None:
    tensor = checkpoint.tensors["a"]
    wrong: list[int] = []
    with open_reader(checkpoint, door) as source:

        def work(seed: int) -> None:
            chance = random.Random(seed)
            for _ in range(60):
                start = chance.randrange(SIZE)
                stop = min(SIZE, start + chance.randrange(200_000))
                if bytes(source.view(tensor, start, stop)) != data[start:stop]:
                    wrong.append(start)
                source.release(tensor, start, stop)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    assert not wrong


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("change", ["grow", "replace", "remove", "touch"])
def test_a_file_that_changed_before_its_first_use(checkpoint: Checkpoint, door: Door, change: str) -> None:
    file = checkpoint.files[0]
    if change == "grow":
        file.write_bytes(file.read_bytes() + b"x")
    elif change == "replace":
        (file.parent / "new").write_bytes(file.read_bytes())
        os.replace(file.parent / "new", file)
    elif change == "remove":
        file.unlink()
    else:
        os.utime(file)
    with open_reader(checkpoint, door) as source, pytest.raises(SourceChanged, match=r"model\.safetensors"):
        source.view(checkpoint.tensors["a"], 0, 1)


@pytest.mark.parametrize("door", DOORS)
def test_a_file_that_is_truncated_while_it_is_read(checkpoint: Checkpoint, door: Door) -> None:
    """Through mmap this is an error too where the kernel can populate pages, not a signal."""
    tensor = checkpoint.tensors["a"]
    with open_reader(checkpoint, door) as source:
        view = source.view(tensor, 0, 10)
        if door == "mmap" and advise(address_of(view) // PAGE * PAGE, PAGE, MADV_POPULATE_READ) != 0:
            pytest.skip("this kernel has no MADV_POPULATE_READ: a truncated map is a signal")
        os.truncate(checkpoint.files[0], 2 * GRANULE)
        with pytest.raises(SourceChanged, match="source changed or unreadable"):
            source.view(tensor, 3 * GRANULE, 3 * GRANULE + 10)


def cached_pages(path: Path) -> int:
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapping:
        flags = resident_pages(address_of(mapping), len(mapping))
    assert flags is not None
    return sum(flags)


def evict(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(handle)
    if cached_pages(path):
        pytest.skip("this file system does not drop pages (tmpfs?)")


@pytest.mark.parametrize("door", DOORS)
def test_only_pages_that_this_job_brought_are_dropped(checkpoint: Checkpoint, door: Door) -> None:
    tensor, file = checkpoint.tensors["a"], checkpoint.files[0]
    evict(file)
    with open_reader(checkpoint, door) as source:
        bytes(source.view(tensor, 0, SIZE))
        assert cached_pages(file) * PAGE >= SIZE
        source.release(tensor, 0, SIZE)
        assert cached_pages(file) <= 2

    warm = os.open(file, os.O_RDONLY)
    os.posix_fadvise(warm, 0, 0, os.POSIX_FADV_RANDOM)
    os.pread(warm, 2 * GRANULE, 0)
    os.close(warm)
    before = cached_pages(file)
    with open_reader(checkpoint, door) as source:
        bytes(source.view(tensor, 0, SIZE))
        source.release(tensor, 0, SIZE)
    assert before <= cached_pages(file) <= before + GRANULE // PAGE + 2


@pytest.mark.parametrize("door", DOORS)
def test_a_warm_file_stays_warm(checkpoint: Checkpoint, door: Door) -> None:
    tensor, file = checkpoint.tensors["a"], checkpoint.files[0]
    file.read_bytes()
    before = cached_pages(file)
    with open_reader(checkpoint, door) as source:
        bytes(source.view(tensor, 0, SIZE))
        source.release(tensor, 0, SIZE)
    assert cached_pages(file) == before


def test_released_maps_leave_this_process(checkpoint: Checkpoint) -> None:
    def resident() -> int:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("RssFile"):
                return int(line.split()[1]) * 1024
        pytest.skip("no RssFile in /proc/self/status")

    tensor = checkpoint.tensors["a"]
    with open_reader(checkpoint, "mmap") as source:
        source.view(tensor, 0, SIZE)
        full = resident()
        source.release(tensor, 0, SIZE)
        assert full - resident() > 5 * GRANULE


def test_the_door_is_chosen_by_the_file_system(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "mountinfo"
    folder = str(checkpoint.files[0].parent)
    monkeypatch.setattr(mounts, "MOUNTINFO", table)
    line = "36 35 0:50 / {} rw,noatime shared:1 - {} server:/x rw\n"
    for kind, door in (("ext4", "mmap"), ("nfs4", "pread"), ("fuse.sshfs", "pread"), ("tmpfs", "mmap")):
        table.write_text(line.format("/", "overlay") + line.format(folder.replace(" ", "\\040"), kind))
        assert mounts.file_system(checkpoint.files[0]) == kind
        assert open_reader(checkpoint, "auto").door == door
    table.write_text("nonsense\n\n1 2 3\n")
    assert open_reader(checkpoint, "auto").door == "mmap"
    table.unlink()
    assert open_reader(checkpoint, "auto").door == "mmap"
    with pytest.raises(UsageError, match="teleport"):
        open_reader(checkpoint, "teleport")  # type: ignore[arg-type]


def test_an_old_kernel_without_populate(
    checkpoint: Checkpoint, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def refuse(address: int, size: int, advice: int) -> int:
        calls.append(advice)
        return 22

    monkeypatch.setattr(reader, "advise", refuse)
    with open_reader(checkpoint, "mmap") as source:
        for _ in range(3):
            assert bytes(source.view(checkpoint.tensors["a"], 0, SIZE)) == data
    assert calls == [MADV_POPULATE_READ]


def test_what_is_cached_is_known_on_old_kernels_too(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = checkpoint.files[0]
    evict(file)
    size = file.stat().st_size
    handle = os.open(file, os.O_RDONLY)
    try:
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_RANDOM)
        answers = []
        for offset in (None, 2 * GRANULE, 0):
            if offset is not None:
                os.pread(handle, 10, offset)
            new = cached_granules(handle, size)
            with monkeypatch.context() as patch:
                patch.setattr(page_cache, "cached_pages", lambda *_: None)
                assert cached_granules(handle, size) == new
                patch.setattr(page_cache, "resident_pages", lambda *_: None)
                assert cached_granules(handle, size) == b"\1" * 7
            answers.append(new)
        assert answers == [b"\0\0\0\0\0\0\0", b"\0\0\1\0\0\0\0", b"\1\0\1\0\0\0\0"]
        file.read_bytes()
        assert cached_granules(handle, size) == b"\1" * 7
    finally:
        os.close(handle)


def test_parts_that_were_not_cached() -> None:
    cached = bytes([0, 0, 1, 0])
    whole = 4 * GRANULE
    assert uncached_parts(cached, 0, whole) == [(0, 2 * GRANULE), (3 * GRANULE, whole)]
    assert uncached_parts(cached, PAGE, 2 * PAGE) == [(PAGE, 2 * PAGE)]
    assert uncached_parts(cached, 2 * GRANULE, 3 * GRANULE) == []
    assert uncached_parts(b"\0" * 4, GRANULE - PAGE, GRANULE + PAGE) == [(GRANULE - PAGE, GRANULE + PAGE)]


@pytest.mark.parametrize(("kilobytes", "asked"), [("128", 1), ("8192", 0), ("nonsense", 1), (None, 1)])
def test_pages_are_asked_for_only_where_the_kernel_reads_little_ahead(
    checkpoint: Checkpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kilobytes: str | None,
    asked: int,
) -> None:
    device = checkpoint.files[0].stat().st_dev
    folder = tmp_path / "bdi" / f"{os.major(device)}:{os.minor(device)}"
    folder.mkdir(parents=True)
    if kilobytes is not None:
        (folder / "read_ahead_kb").write_text(kilobytes + "\n")
    monkeypatch.setattr(mounts, "BDI", tmp_path / "bdi")
    calls: list[int] = []
    real = os.posix_fadvise

    def advise_file(handle: int, offset: int, length: int, advice: int) -> None:
        calls.append(advice)
        real(handle, offset, length, advice)

    with open_reader(checkpoint, "mmap") as source:
        source.view(checkpoint.tensors["a"], 0, 1)
        monkeypatch.setattr(os, "posix_fadvise", advise_file)
        source.prefetch(checkpoint.tensors["a"], 0, SIZE)
        source.prefetch(checkpoint.tensors["a"], 5, 5)
    assert calls == [os.POSIX_FADV_WILLNEED] * asked


def test_a_file_system_that_cannot_map(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(19, "No such device")

    monkeypatch.setattr(mmap, "mmap", refuse)
    with (
        open_reader(checkpoint, "mmap") as source,
        pytest.raises(SourceError, match="cannot be mapped") as caught,
    ):
        source.view(checkpoint.tensors["a"], 0, 1)
    assert "pread" in caught.value.hint
    with open_reader(checkpoint, "pread") as source:
        assert source.view(checkpoint.tensors["a"], 0, 1).nbytes == 1
