"""Optional libraries: a test that needs an absent one is skipped out loud, or fails where ALLOYD_REQUIRE names it."""

from __future__ import annotations

import importlib.util
import os
from typing import NoReturn

import pytest


def need(extra: str, *modules: str) -> None:
    """Go on only if every one of ``modules`` is installed; for the head of a test or of a test module."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            cure = "`make install-gguf`" if extra == "gguf" else f"alloyd[{extra}]"
            absent(extra, f"the library '{module}' is not installed; {cure} brings it")


def absent(extra: str, why: str) -> NoReturn:
    """Skip, or fail where this extra is required."""
    if extra in os.environ.get("ALLOYD_REQUIRE", "").split(","):
        pytest.fail(f"{extra}: {why}", pytrace=False)
    pytest.skip(f"{extra}: {why}", allow_module_level=True)
