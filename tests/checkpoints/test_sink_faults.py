"""A system that refuses for a moment, or a disk that refused once: staged work is neither lost nor believed blindly."""

from __future__ import annotations

import builtins
import errno
import os
from pathlib import Path
from typing import Any

import pytest

from alloyd.errors import OutputError
from alloyd_daemon.checkpoints import staged_files
from checkpoints.sink_driver import SIDE_FILES, expected, files, make, write_all


@pytest.fixture
def final(tmp_path: Path) -> Path:
    return tmp_path / "models" / "merged"


@pytest.mark.parametrize("name", ["journal", "model-00001-of-00003.safetensors", "sealed"])
def test_a_file_that_cannot_be_opened_for_a_moment_costs_no_staged_work(
    final: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    sink = make(final)
    assert write_all(sink, sink.open()) == 6
    sink.close()

    def refuse(path: Any) -> None:
        if os.fspath(path).endswith(f"/{name}"):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(path))

    read, enter = Path.read_bytes, builtins.open
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", lambda path: refuse(path) or read(path))
        patch.setattr(builtins, "open", lambda path, *how: refuse(path) or enter(path, *how))
        with pytest.raises(OutputError, match="Too many open files") as refused:
            make(final).open()
    assert "ulimit -n" in refused.value.hint
    again = make(final)
    assert len(again.open()) == 6
    again.publish(SIDE_FILES)
    assert files(final) == expected()


def test_what_a_disk_refused_is_not_taken_from_the_page_cache(
    final: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failed fsync the kernel holds pages, clean and whole, of which the disk has nothing."""
    sink = make(final)
    assert write_all(sink, sink.open()) == 6

    def refuse(handle: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(staged_files.os, "fsync", refuse)
        with pytest.raises(OutputError, match="Input/output error"):
            sink.checkpoint()
    sink.close()

    def drop(handle: int, offset: int, size: int, advice: int) -> None:
        """What a look past the cache shows: zeros."""
        assert advice == os.POSIX_FADV_DONTNEED
        os.pwrite(handle, bytes(size), offset)

    with monkeypatch.context() as patch:
        patch.setattr(staged_files.os, "posix_fadvise", drop)
        again = make(final)
        assert again.open() == ()
    write_all(again, ())
    again.publish(SIDE_FILES)
    assert files(final) == expected()
