"""Whether a path still leads to the folder that was added: an unmounted or emptied one is unknown, not empty."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from pathlib import Path
from typing import Final

from alloyd.errors import UsageError

from ..checkpoints.durable import sync_folder, write_file
from .ledger import Folder, Ledger

WORK: Final = ".work"


class Unknown(Exception):
    """The folder cannot be seen as it was: nothing may be concluded from what is not there."""


def identity(path: str) -> tuple[int, int]:
    """Device and inode of a folder that is to be watched.

    Raises
    ------
    UsageError
        It does not exist or is no folder.
    """
    try:
        facts = os.stat(path)
    except OSError as wrong:
        text = f"the folder {path} cannot be watched: {wrong.strerror}"
        raise UsageError(text, hint="Make it first, or check the spelling.", path=path) from None
    if not stat.S_ISDIR(facts.st_mode):
        raise UsageError(f"{path} is no folder", hint="Name the folder that holds it.", path=path)
    return facts.st_dev, facts.st_ino


def mark(folder: Folder, ledger: Ledger) -> Folder:
    """Leave a mark in a new folder, by which it is known when a mount gives it other numbers; not if read-only."""
    place = _mark(folder)
    try:
        place.parent.mkdir(exist_ok=True)
        write_file(place, json.dumps({"alloyd": "watched folder", "path": folder.path}).encode() + b"\n")
        sync_folder(place.parent)
    except OSError:
        return folder
    ledger.recognise(folder.id, folder.device, folder.inode, marked=True)
    return next(each for each in ledger.folders() if each.id == folder.id)


def check(folder: Folder, ledger: Ledger) -> bool:
    """See that ``folder`` is the one that was added; whether it has other numbers than before, as after a mount.

    Raises
    ------
    Unknown
        It is not there, cannot be read, or is another one.
    """
    try:
        facts = os.stat(folder.path)
        if folder.marked:
            os.stat(_mark(folder))
        else:
            os.listdir(folder.path)
    except (FileNotFoundError, NotADirectoryError):
        if os.path.isdir(folder.path):
            raise Unknown(
                f"{folder.path} is not the folder that was added (unmounted, or emptied);"
                f" 'alloy watch add {folder.path}' takes it as it is now"
            ) from None
        raise Unknown(f"{folder.path} is not there (unmounted?)") from None
    except OSError as wrong:
        raise Unknown(f"{folder.path} cannot be seen: {wrong.strerror}") from None
    if (facts.st_dev, facts.st_ino) == (folder.device, folder.inode):
        return False
    if not folder.marked:
        raise Unknown(
            f"another folder or file system is at {folder.path};"
            f" 'alloy watch add {folder.path}' takes it as it is now"
        )
    ledger.recognise(folder.id, facts.st_dev, facts.st_ino, marked=True)
    return True


def unmark(folder: Folder) -> None:
    """Take the mark away again, and the folder it lies in when nothing else does."""
    with contextlib.suppress(OSError):
        _mark(folder).unlink(missing_ok=True)
        _mark(folder).parent.rmdir()


def _mark(folder: Folder) -> Path:
    return Path(folder.path, WORK, f"folder-{folder.id}.json")
