"""From staging folder to published output: who may write, what is committed, and how it appears in one step.

An output is built in ``.NAME.partial`` beside its final place (inside it, when that is a mount point or the
folder around it cannot be written). In there ``.alloyd/`` holds the lock, the journal and, once every byte is
on disk, ``sealed``: from then on the output is committed, and whoever comes next finishes what a dead process
left. Publishing moves the whole folder, ``.alloyd/`` included, and then removes that. What was published is
remembered in an extended attribute of the folder (where the file system has them), so that a job that died
after the last step finds its work done.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import time
from pathlib import Path
from typing import Final

import msgspec
from blake3 import blake3

from alloyd.errors import OutputError, OutputExists

from ..faults import reach
from .durable import errors_of, see_if_passing, sync_folder, write_file
from .libc import exchange
from .place import STATE, Place, check_occupants, check_output, exists, occupants

__all__ = [
    "STATE",
    "Place",
    "Sealed",
    "acquire",
    "already_published",
    "check_output",
    "discard",
    "discard_staging",
    "enter",
    "errors_of",
    "finish",
    "published_as",
    "recover",
    "release",
    "seal",
    "sync_folder",
    "write_file",
]

MARK: Final = "user.alloyd.published"
LOCK_WAIT: Final = 30.0
_POLL: Final = 0.05
_NO_LOCKS: Final = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)


class Sealed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A committed output: its identity, its files in the order they appear, whether it may replace
    another."""

    identity: str
    files: tuple[str, ...]
    force: bool


def already_published(final: Path, identity: str) -> bool:
    """Whether ``final`` holds the complete output of ``identity``, unchanged since; ask this before
    :func:`check_output`.

    Finishes first what a process that died while publishing left behind.

    Raises
    ------
    OutputError
        Another process is writing this output.
    """
    place = Place.of(final)
    recovered = None
    if place.staging.exists() or place.left.exists():
        with errors_of(place.final):
            lock = acquire(place)
            try:
                with contextlib.suppress(OutputExists):
                    recovered = recover(place, force=False)
            finally:
                release(place, lock)
    return identity in (recovered, published_as(place))


def discard_staging(final: Path) -> None:
    """Remove what an unfinished output left at ``final``; a published output stays.

    Raises
    ------
    OutputError
        Another process is writing this output.
    """
    place = Place.of(final)
    if place.staging.exists():
        with errors_of(place.staging):
            lock = acquire(place)
            try:
                discard(place)
            finally:
                release(place, lock)


def acquire(place: Place, wait: float = LOCK_WAIT) -> int:
    """Take the output's lock, creating the staging folder if need be; returns the open file.

    Raises
    ------
    OutputError
        Another process still holds it after ``wait`` seconds.
    """
    deadline = time.monotonic() + wait
    while True:
        handle = _try_lock(place)
        if handle is not None:
            return handle
        if time.monotonic() >= deadline:
            raise OutputError(
                f"another process is writing {place.final}",
                hint="Wait for it, cancel it, or choose another output.",
                path=str(place.final),
            )
        time.sleep(_POLL)


def enter(place: Place, identity: str, *, force: bool) -> int | None:
    """The lock on a staging folder that is not committed; ``None`` when the output of ``identity`` is published.

    What dead processes committed is finished first.

    Raises
    ------
    OutputExists, OutputError
        As :func:`recover` and :func:`acquire`.
    """
    while True:
        lock = acquire(place)
        try:
            recovered = recover(place, force=force)
        except BaseException:
            release(place, lock)
            raise
        if recovered != identity and _is_at(lock, place.state / "lock"):
            return lock
        release(place, lock)
        if identity in (recovered, published_as(place)):
            return None


def release(place: Place, lock: int) -> None:
    """Give the lock back; a staging folder that holds nothing but the lock goes too."""
    with contextlib.suppress(OSError):
        if os.listdir(place.staging) == [STATE] and os.listdir(place.state) == ["lock"]:
            os.unlink(place.state / "lock")
            os.rmdir(place.state)
            os.rmdir(place.staging)
    os.close(lock)


def seal(place: Place, sealed: Sealed) -> None:
    """Commit the staged output; every file of it must be on disk already."""
    fresh = place.state / "sealed.new"
    write_file(fresh, msgspec.msgpack.encode(sealed))
    sync_folder(place.staging)
    reach("after-fsync-staging")
    if not place.inside:
        _mark(place.staging, sealed)
    os.rename(fresh, place.state / "sealed")
    reach("after-rename-sealed")
    sync_folder(place.state)
    reach("after-fsync-sealed")


def recover(place: Place, *, force: bool) -> str | None:
    """Under the lock: finish a committed output and clean up after a published one; the identity of either.

    Raises
    ------
    OutputExists
        Neither ``force`` nor the seal allows to replace what is at the final place.
    """
    done = None
    if not place.inside and place.left.exists():
        done = read_sealed(place.left)
        _clean(place)
    sealed = read_sealed(place.state)
    if sealed is not None:
        done = Sealed(sealed.identity, sealed.files, sealed.force or force)
        finish(place, done)
    return done.identity if done else None


def read_sealed(state: Path) -> Sealed | None:
    """The seal in a state folder, or ``None``. Raises OSError where it cannot be opened at this moment."""
    try:
        return msgspec.msgpack.decode((state / "sealed").read_bytes(), type=Sealed)
    except OSError as wrong:
        see_if_passing(wrong)
        return None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def finish(place: Place, sealed: Sealed) -> None:
    """Publish a committed output; may be repeated after a kill at any moment.

    Raises
    ------
    OutputExists
        Something came to be at the final place that may not be replaced.
    """
    if place.inside:
        _move_files(place, sealed)
        return
    if place.final.exists() and occupants(place):
        check_occupants(place, sealed.force)
        if exchange(place.staging, place.final):
            reach("after-exchange")
        else:
            os.rename(place.final, place.replaced)
            reach("after-rename-old")
            os.rename(place.staging, place.final)
            reach("after-rename")
    else:
        try:
            os.rename(place.staging, place.final)
        except OSError as wrong:
            if wrong.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise exists(place) from None
            raise
        reach("after-rename")
    sync_folder(place.final.parent)
    reach("after-fsync-parent")
    _clean(place)


def discard(place: Place) -> None:
    """Under the lock: remove the staging folder, and what of it was already moved into a mount point."""
    sealed = read_sealed(place.state)
    if sealed is not None and place.inside:
        for name in sealed.files:
            if not (place.staging / name).exists():
                (place.final / name).unlink(missing_ok=True)
    if place.replaced.exists() and not place.final.exists():
        os.rename(place.replaced, place.final)
    shutil.rmtree(place.staging, ignore_errors=True)


def _try_lock(place: Place) -> int | None:
    moved = not place.inside and place.left.is_dir()
    path = (place.left if moved else place.state) / "lock"
    try:
        if not moved:
            path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except (FileNotFoundError, FileExistsError):
        # Another process removes the folder at this moment.
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    except OSError as wrong:
        if wrong.errno not in _NO_LOCKS:
            os.close(handle)
            raise
    # The folder may have been published, and the lock with it, between opening and locking.
    overtaken = not moved and not place.inside and place.left.is_dir()
    if overtaken or not _is_at(handle, path):
        os.close(handle)
        return None
    return handle


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _clean(place: Place) -> None:
    """Remove what was replaced and then the state that was moved along; the seal goes last but one."""
    if place.staging.exists():
        if place.replaced.exists():
            shutil.rmtree(place.replaced)
        os.rename(place.staging, place.replaced)
        reach("after-rename-replaced")
    if place.replaced.exists():
        shutil.rmtree(place.replaced)
        reach("after-remove-replaced")
    _remove_state(place.left)
    sync_folder(place.final)
    reach("after-fsync-final")


def _remove_state(state: Path) -> None:
    """Once the lock is gone, a process that waited may come and do the same; each ignores what the other removed."""
    with contextlib.suppress(FileNotFoundError):
        for name in sorted(os.listdir(state), key=lambda each: (each == "sealed", each)):
            (state / name).unlink(missing_ok=True)
            reach("after-unlink-state")
    with contextlib.suppress(OSError):
        os.rmdir(state)


def _move_files(place: Place, sealed: Sealed) -> None:
    """Onto a mount point: entry points of an old model go first, those of the new one come last."""
    waiting = [name for name in sealed.files if (place.staging / name).exists()]
    if not sealed.force and any((place.final / name).exists() for name in waiting):
        raise exists(place)
    if sealed.force and len(waiting) == len(sealed.files):
        for name in sorted(occupants(place), key=lambda each: not each.endswith(".json")):
            gone = place.final / name
            if gone.is_dir() and not gone.is_symlink():
                shutil.rmtree(gone)
            else:
                gone.unlink()
        reach("after-remove-old")
    entry = next((name for name in waiting if name.endswith(".index.json")), sealed.files[-1])
    for name in waiting:
        if name == entry:
            sync_folder(place.final)
            reach("after-fsync-files")
        (place.final / name).parent.mkdir(exist_ok=True)
        os.rename(place.staging / name, place.final / name)
        reach("after-rename-file")
    sync_folder(place.final)
    _mark(place.final, sealed)
    reach("after-fsync-final")
    for folder in {(place.staging / name).parent for name in sealed.files} - {place.staging}:
        shutil.rmtree(folder, ignore_errors=True)
    _remove_state(place.state)
    with contextlib.suppress(OSError):
        os.rmdir(place.staging)
    sync_folder(place.final)


def _listing(folder: Path) -> str:
    """A digest over name, size, modification time and inode of every file of a published folder."""
    lines = []
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(each for each in folders if not each.startswith("."))
        for name in sorted(files):
            status = os.stat(os.path.join(root, name))
            where = os.path.relpath(os.path.join(root, name), folder)
            lines.append(f"{where}\0{status.st_size}\0{status.st_mtime_ns}\0{status.st_ino}\n")
    return blake3("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _mark(folder: Path, sealed: Sealed) -> None:
    """Remember on the folder itself what it holds; a file system without attributes goes without."""
    with contextlib.suppress(OSError, AttributeError):
        os.setxattr(folder, MARK, f"{_listing(folder)} {sealed.identity}".encode())


def published_as(place: Place) -> str | None:
    """The identity whose output the final folder holds, if nothing there changed since."""
    try:
        listing, _, identity = os.getxattr(place.final, MARK).decode().partition(" ")
        return identity if listing == _listing(place.final) else None
    except (OSError, AttributeError, UnicodeDecodeError):
        return None
