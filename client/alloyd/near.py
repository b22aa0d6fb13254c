"""Paths as short as they can be said where a command is given: what lies below the folder it is in, and below home."""

from __future__ import annotations

import os


def near(path: str) -> str:
    """``path`` as seen from the working folder, or with ``~``; what lies elsewhere, or is no path, stays as it is."""
    try:
        here = os.getcwd()
    except FileNotFoundError:
        here = ""
    for folder, short in ((here, ""), (os.path.expanduser("~"), "~/")):
        if folder not in ("", "/") and path.startswith(folder + "/"):
            return short + path[len(folder) + 1 :]
    return path
