"""Imports of large optional libraries at the moment they are needed, and the one sentence where one is missing."""

from __future__ import annotations

from importlib import import_module, metadata
from typing import Any

from alloyd.errors import UsageError


def library(name: str, *, user: str, extra: str) -> Any:
    """The module called ``name``, imported now because it takes seconds and a plain merge does without.

    ``user`` is what needs it, in the words of the message; ``extra`` the extra of alloyd that installs it.

    Raises UsageError where the library, or one that it needs, is not installed.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as missing:
        raise _absent(str(missing.name), user, extra) from None


def version(name: str, *, user: str, extra: str) -> str:
    """The version of the library called ``name``, which is not loaded. Raises UsageError where it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        raise _absent(name, user, extra) from None


def _absent(name: str, user: str, extra: str) -> UsageError:
    return UsageError(
        f"{user} needs the library '{name}', which is not installed",
        hint=f"pip install 'alloyd[{extra}]'",
        library=name,
    )
