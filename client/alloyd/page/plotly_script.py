"""Finds the script that draws the plots: that of the installed package plotly, whose Python is not loaded."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

from ..errors import UsageError


def plotly_script() -> str:
    """The text of ``plotly.min.js``. Raises UsageError where plotly is not installed."""
    return _read(_file())


def plotly_file() -> Path:
    """Where ``plotly.min.js`` lies. Raises UsageError where plotly is not installed."""
    return _file()


def _file() -> Path:
    found = find_spec("plotly")
    for folder in (found.submodule_search_locations or ()) if found is not None else ():
        file = Path(folder) / "package_data" / "plotly.min.js"
        if file.is_file():
            return file
    raise UsageError(
        "the page needs the library 'plotly', which is not installed", hint="pip install 'alloyd[page]'"
    )


@cache
def _read(file: Path) -> str:
    text = file.read_text(encoding="utf-8")
    if "</script" in text.lower():
        raise UsageError(
            f"{file} cannot stand in a page", hint="pip install --force-reinstall 'alloyd[page]'"
        )
    return text
