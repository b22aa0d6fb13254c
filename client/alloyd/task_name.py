"""How people name a task: ``SOURCE`` or ``EVALUATOR:SOURCE``, a file or a name that an evaluator knows."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from .paths import expanded
from .task_file import SUFFIX

_NAMED: Final = re.compile(r"([a-z][a-z0-9_]*):(.+)", re.DOTALL)
_FILES: Final = (SUFFIX, ".yaml", ".yml")
_OPTIONS: Final = ("imatrix", "tokenizer")
"""Options of evaluators and runners that are paths."""


def split(text: str) -> tuple[str, str]:
    """Evaluator (empty where none is named) and source of a task's name.

    A file whose name looks like ``EVALUATOR:SOURCE`` is meant by ``./NAME``.
    """
    found = _NAMED.fullmatch(text)
    return (found[1], found[2]) if found else ("", text)


def absolute(text: str, base: Path) -> str:
    """The task's name with its file, where it is one, seen from the folder ``base``."""
    evaluator, source = split(text)
    path = base / expanded(source)
    if not source.endswith(_FILES) and not os.path.isfile(path):
        return text
    return f"{evaluator}:{path}" if evaluator else str(path)


def absolute_options(options: Mapping[str, str], base: Path) -> dict[str, str]:
    """Options of a scoring with those that are paths seen from the folder ``base``."""
    paths = {key: os.path.normpath(base / options[key]) for key in _OPTIONS if key in options}
    return {**options, **paths}
