"""What in a watched folder is nobody's recipe: unfinished, hidden, our own, of a model, or ignored by wish."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from fnmatch import fnmatchcase, translate
from pathlib import Path
from typing import Final

from ..checkpoints.file_names import OTHER_FILES, TOKENIZER_FILES
from ..checkpoints.small_file import read_small

NOT_TEXT: Final = "its name is not UTF-8; rename it"
MERGEIGNORE: Final = ".mergeignore"
UNFINISHED: Final = (
    "*.part",
    "*.partial",
    "*.tmp",
    "*.temp",
    "*.aria2",
    "*.crdownload",
    "*.download",
    "*.incomplete",
    "*.!qB",
    "*.filepart",
    "*.swp",
    ".~tmp~",
)
"""How browsers, download managers and copying programs name what they have not finished."""

OWN_FOLDERS: Final = (".work", "done", "failed")
OURS: Final = (*OWN_FOLDERS, "*.status.json", "*.error.json", "*.error.txt", "*.result.json")
RECIPES: Final = (".yaml", ".yml", ".json")
_OF_MODELS: Final = frozenset(
    {"config.json", "adapter_config.json", "params.json", "modules.json", *TOKENIZER_FILES, *OTHER_FILES}
)
_IN_PASSING: Final = r".*\.(safetensors|bin|gguf)\.[A-Za-z0-9]{6,}"
_UNFINISHED: Final = re.compile("|".join([*map(translate, UNFINISHED), _IN_PASSING]))


def unfinished(name: str) -> bool:
    """Whether a file of this name is still being written by somebody."""
    return _UNFINISHED.fullmatch(name) is not None


def passed_over(name: str) -> bool:
    """Whether nothing of this name is ever looked at: hidden, a backup, unfinished, or written by the watcher."""
    return (
        name.startswith((".", "~", "#"))
        or name.endswith("~")
        or name in ("Thumbs.db", "desktop.ini", "lost+found", "@eaDir")
        or unfinished(name)
        or any(fnmatchcase(name, pattern) for pattern in OURS)
    )


def sees(folder: str, out: str) -> bool:
    """Whether models that are put into the folder ``out`` are seen by rules of the watched ``folder``."""
    if not out:
        return False  # the folder "out" of the folder that makes them, which nobody looks into
    below = Path(os.path.relpath(os.path.normpath(out), folder)).parts
    return not below or (
        len(below) == 1 and below[0] not in ("..", "out", "soups") and not passed_over(below[0])
    )


def not_text(name: str) -> bool:
    """Whether a name is no UTF-8, so that no record and no message can hold it."""
    return readable(name) != name


def readable(name: str) -> str:
    """A name as people are told it."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def may_be_recipe(name: str) -> bool:
    """Whether a file of this name is taken as a recipe or search spec; the small files of a model are not."""
    return name.endswith(RECIPES) and name not in _OF_MODELS and not name.endswith(".index.json")


class MergeIgnore:
    """The patterns of ``.mergeignore``: one a line, ``#`` begins a comment, ``!`` takes something out again.

    A pattern without ``/`` is matched with the name, another one with the path as seen from the folder.
    """

    def __init__(self, lines: Iterable[str] = ()) -> None:
        stripped = (line.strip() for line in lines)
        self._patterns = tuple(each for each in stripped if each and not each.startswith("#"))

    def __call__(self, path: str) -> bool:
        """Whether ``path``, relative to the folder, is to be left alone; the last pattern that matches counts."""
        verdict = False
        for pattern in self._patterns:
            wanted = not pattern.startswith("!")
            glob = pattern.removeprefix("!").strip("/")
            subject = path if "/" in glob else path.rpartition("/")[2]
            if fnmatchcase(subject, glob) or fnmatchcase(path, f"{glob}/*"):
                verdict = wanted
        return verdict


def read_mergeignore(folder: Path) -> MergeIgnore:
    """The folder's ``.mergeignore``, which may be absent.

    Raises
    ------
    OSError
        It is there and cannot be read, so that nobody can know what was meant.
    """
    try:
        text = read_small(folder / MERGEIGNORE, at_most=1 << 20).decode("utf-8", "replace")
    except FileNotFoundError:
        return MergeIgnore()
    return MergeIgnore(text.splitlines())
