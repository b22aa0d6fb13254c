"""Pages that follow from the code are what it makes of them, and what is written by hand names every error."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from alloyd import errors
from docs.generate import PAGES
from house.tree import ROOT

DOCS = ROOT / "docs"


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_what_the_code_makes(name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == PAGES[name](), "`make docs` writes it anew"


def test_every_error_has_an_entry_on_what_to_do() -> None:
    page = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    entries = re.findall(r"^### `(E_\w+)`\n\n(.+)$", page, re.MULTILINE)
    named = [code for code, _ in entries]
    assert sorted(named) == sorted(errors.REGISTRY)
    assert len(named) == len(set(named))


def test_the_manual_page_is_well_formed() -> None:
    if shutil.which("groff") is None:
        pytest.skip("groff is not installed")
    command = ["groff", "-man", "-Tutf8", "-ww", str(DOCS / "alloy.1")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not done.stderr
    assert "ALLOY(1)" in done.stdout


def test_the_cookbook_has_every_recipe() -> None:
    page = (DOCS / "cookbook.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\]\(\.\./configs/recipes/([\w.-]+)\)", page))
    assert named == {file.name for file in (ROOT / "configs" / "recipes").iterdir()}
