"""The folders that the documents of a recipe end in."""

from __future__ import annotations

import contextlib
from pathlib import Path

from alloyd import recipe as recipes


def finals(out: Path, text: str, *, lenient: bool) -> list[Path]:
    """``out``, and the place of each other document that the recipe ``text`` names; of one that is no recipe, none."""
    found = [out]
    if "name" not in text:  # as in nearly every recipe, which need not be read then
        return found
    with contextlib.suppress(Exception):
        named = [each.name for each in recipes.load(text, lenient=lenient) if each.name is not None]
        found += [out.with_name(f"{out.name}.parts") / name for name in named]
    return found
