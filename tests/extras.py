"""Optional libraries: a test that needs an absent one is skipped out loud, or fails where ALLOYD_REQUIRE names it."""

from __future__ import annotations

import importlib.util
import os

import pytest


def need(extra: str, *modules: str) -> None:
    """Go on only if every one of ``modules`` is installed; for the head of a test or of a test module."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            reason = (
                f"{extra}: the library '{module}' is not installed; `make install-{extra}` or alloyd[{extra}]"
            )
            if extra in os.environ.get("ALLOYD_REQUIRE", "").split(","):
                pytest.fail(reason, pytrace=False)
            pytest.skip(reason, allow_module_level=True)
