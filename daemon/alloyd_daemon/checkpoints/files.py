"""The files that a merged model takes from its donor as they are: tokenizer, templates, processors, code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from blake3 import blake3

from alloyd.errors import SourceError

from .file_names import OTHER_FILES, TOKENIZER_FILES
from .small_file import read_small

TEMPLATES: Final = "additional_chat_templates"


def side_files(folder: Path) -> dict[str, bytes]:
    """Name to bytes of every file that is taken from the donor's ``folder`` as it is, sorted by name.

    Besides the lists of :mod:`.file_names`: every ``*.jinja``, ``additional_chat_templates/*.jinja``, ``*.tiktoken``,
    and, if config or tokenizer name classes of the model's own (``auto_map``), its ``*.py``. Nothing is executed.

    Raises
    ------
    SourceError
        One of them cannot be read.
    """
    names = {name for name in TOKENIZER_FILES + OTHER_FILES if (folder / name).is_file()}
    for pattern in (
        "*.jinja",
        f"{TEMPLATES}/*.jinja",
        "*.tiktoken",
        *(("*.py",) if _has_code(folder) else ()),
    ):
        names.update(
            each.relative_to(folder).as_posix()
            for each in folder.glob(pattern)
            if each.is_file() and not each.name.startswith(".")
        )
    found: dict[str, bytes] = {}
    for name in sorted(names):
        try:
            found[name] = read_small(folder / name)
        except OSError as wrong:
            path = str(folder / name)
            raise SourceError(
                f"{path} cannot be read ({wrong.strerror})",
                hint="Check its rights; it is copied into the output.",
                path=path,
            ) from None
    return found


def side_digest(folder: Path) -> str:
    """BLAKE3 (hex) of the names and bytes of :func:`side_files`. Raises SourceError as that does."""
    digest = blake3()
    for name, data in side_files(folder).items():
        digest.update(f"{name}\0{len(data)}\0".encode("utf-8", "surrogateescape"))
        digest.update(data)
    return digest.hexdigest()


def _has_code(folder: Path) -> bool:
    for name in ("config.json", "tokenizer_config.json", "preprocessor_config.json", "processor_config.json"):
        try:
            config = json.loads(read_small(folder / name))
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(config, dict) and config.get("auto_map"):
            return True
    return False
