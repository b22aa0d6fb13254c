"""The text of a recipe file, read without loading a parser; what cannot be a recipe is not read to its end."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from .errors import UsageError

MAX_CHARACTERS: Final = 1 << 20
MAX_BYTES: Final = 4 * MAX_CHARACTERS


def read(path: Path, *, what: str = "recipe") -> str:
    """The text of a recipe file, or of another spec that messages call ``what``.

    Raises
    ------
    UsageError
        The file is absent, unreadable, larger than a recipe can be, or not text in UTF-8.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as wrong:
        why = wrong.strerror if isinstance(wrong, OSError) else wrong
        raise UsageError(
            f"the {what} {path} cannot be read: {why}", hint="Check the path.", path=str(path)
        ) from None
    return decode(data, str(path))


def decode(data: bytes, name: str) -> str:
    """The text of a recipe in ``data``, of which one byte more than ``MAX_BYTES`` is enough.

    Raises
    ------
    UsageError
        It is larger than a recipe can be, or not text in UTF-8; the message calls it ``name``.
    """
    what = f"is larger than {MAX_BYTES:,} bytes, too large for a recipe"
    if len(data) <= MAX_BYTES:
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as wrong:
            what = f"is not text in UTF-8: byte {wrong.start} cannot be decoded"
    raise UsageError(f"{name} {what}", hint="Is this the recipe, and not a model file?", path=name)
