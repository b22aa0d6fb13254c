"""The models in a watched folder as its entries show them: which there are, when they changed, what is unfinished.

A model is a folder of its own, or one in a folder that holds nothing but folders (``ORG/NAME``), or a snapshot of a
Hugging Face cache (``models--ORG--NAME``). No file is opened here.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Final

from alloyd.watch_schema import WatchSettings

from . import ignored

SOUPS: Final = "soups"
CACHED: Final = "models--"
_HALF_COPIED: Final = re.compile(r"\..+\.(safetensors|json|jinja|txt|model|bin)(\..+)?")
"""How rsync and others hide a file of a model until it is whole."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A folder that may be a model.

    ``signature`` changes with the name, size, time or inode of any of its files, and stays when the folder is renamed.
    ``changed`` is when the newest file was written. ``held`` says what about it is surely unfinished; empty if nothing.
    """

    name: str
    path: Path
    signature: str
    changed: float
    held: str
    empty: bool = False


def soups_folder(folder: str, settings: WatchSettings) -> Path:
    """Where the running soups of a watched folder are."""
    return Path(settings.out or folder, SOUPS)


def candidates(folder: str, settings: WatchSettings) -> Iterator[Candidate]:
    """Every folder in the watched ``folder`` that may be a model, by name; outputs of its own are none.

    Raises
    ------
    OSError
        The folder cannot be read.
    """
    ignore = ignored.read_mergeignore(Path(folder))
    real = os.path.realpath(folder)
    own = {os.path.relpath(os.path.realpath(settings.out), real), "out", SOUPS} - {"."}

    def skip(name: str) -> bool:
        return name in own or ignored.passed_over(name.rpartition("/")[2]) or ignore(name)

    yield from _below(Path(folder), "", skip)


def _below(folder: Path, prefix: str, skip: Callable[[str], bool]) -> Iterator[Candidate]:
    for each in _folders(folder):
        name = f"{prefix}{each}"
        if skip(name):
            continue
        if each.startswith(CACHED) and not prefix:
            yield from _snapshots(folder / each)
            continue
        if ignored.not_text(name):
            yield Candidate(ignored.readable(name), folder / each, "", 0.0, ignored.NOT_TEXT)
            continue
        found = look(name, folder / each)
        if found is None:
            continue
        if found.empty and not found.held and not prefix:
            # A folder of models, or one whose first file is still to come.
            inner: list[Candidate] = []
            with contextlib.suppress(OSError):  # it went away meanwhile
                inner = list(_below(folder / each, f"{name}/", skip))
            if inner:
                yield from inner
                continue
        yield found


def _folders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(each.name for each in entries if each.is_dir())


def _snapshots(repository: Path) -> Iterator[Candidate]:
    """The snapshots of a repository in a Hugging Face cache, held while one of its blobs is being fetched."""
    name = repository.name.removeprefix(CACHED).replace("--", "/", 1)
    held = _incomplete(repository / "blobs")
    try:
        commits = _folders(repository / "snapshots")
    except OSError:
        commits = []
    for commit in commits:
        found = look(name, repository / "snapshots" / commit)
        if found is not None:
            yield Candidate(
                found.name, found.path, found.signature, found.changed, held or found.held, found.empty
            )


def _incomplete(folder: Path) -> str:
    try:
        with os.scandir(folder) as entries:
            return next(
                (f"the download of {each.name} has not ended" for each in entries if _is_blob(each.name)), ""
            )
    except OSError:
        return ""


def _is_blob(name: str) -> bool:
    return name.endswith(".incomplete")


def look(name: str, path: Path) -> Candidate | None:
    """One folder as it is now; ``None`` when it is not there."""
    facts: list[tuple[str, int, int, int, int]] = []
    held, changed, empty = "", 0.0, True
    try:
        with os.scandir(path) as entries:
            for entry in sorted(entries, key=lambda each: each.name):
                half = ignored.unfinished(entry.name) or _HALF_COPIED.fullmatch(entry.name) is not None
                if entry.name == ".cache":
                    held = held or _incomplete(path / ".cache" / "huggingface" / "download")
                if (entry.name.startswith(".") and not half) or entry.is_dir():
                    continue
                empty = False
                try:
                    seen = entry.stat()
                except FileNotFoundError:
                    held = held or f"{entry.name} is a link that leads nowhere"
                    seen = entry.stat(follow_symlinks=False)
                if half:
                    held = held or f"{entry.name} is not finished"
                facts.append((entry.name, seen.st_size, seen.st_mtime_ns, seen.st_ino, seen.st_dev))
                changed = max(changed, seen.st_mtime)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as wrong:
        held = f"it cannot be read: {wrong.strerror}"
    digest = blake2b(repr((facts, held)).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
    return Candidate(name, path, digest, changed, held, empty)
