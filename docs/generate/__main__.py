"""Writes the pages that follow from the code: ``python -m docs.generate`` at the root of the repository."""

from __future__ import annotations

from pathlib import Path

from docs.generate import PAGES

DOCS = Path(__file__).resolve().parents[1]

if __name__ == "__main__":
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")
