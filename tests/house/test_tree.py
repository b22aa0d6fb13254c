"""What the tree must not hold: paths of one machine, hosts of registries, large files, names that shadow."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from house.tree import PARTS, ROOT, text_files, tracked_files

# Spelt in pieces, so that this file passes its own test. The system's temporary folder itself is no one
# machine's.
MACHINE_PATHS = re.compile(
    r"(?<![\w.~$}/-])/(?:tm" + r"p|wor" + r"k|ro" + r"ot|far" + r"m)/(?!alloyd-)[\w.-]+"
)
HOSTS = re.compile(
    r"pypi\.o" + r"rg|pythonho" + r"sted|/opt/(?:whe" + r"els|py" + r"pi)|download\.py" + r"torch"
)
LARGEST = 2_000_000
LARGEST_WEIGHTS = 40_000_000


@pytest.mark.parametrize("pattern", [MACHINE_PATHS, HOSTS], ids=["machine path", "registry host"])
def test_nothing_names_one_machine(pattern: re.Pattern[str]) -> None:
    found = {
        (str(file.relative_to(ROOT)), number, match.group())
        for file in text_files()
        for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        for match in pattern.finditer(line)
    }
    assert not found


def test_no_link_leads_out_of_the_tree() -> None:
    """One in a folder's place would take that folder from whoever checks it out."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--stage"], cwd=ROOT, stdout=subprocess.PIPE, check=True
    )
    entries = [each.split("\t", 1) for each in listed.stdout.decode().split("\0") if each]
    links = [ROOT / name for mode, name in entries if mode.startswith("120000")]
    targets = {link: Path(os.path.normpath(link.parent / link.readlink())) for link in links}
    assert [link for link, target in targets.items() if not target.is_relative_to(ROOT)] == []


def test_large_files_are_the_zoos_weights_only() -> None:
    large = [file for file in tracked_files() if file.stat().st_size > LARGEST]
    assert all(file.is_relative_to(ROOT / "zoo" / "models") for file in large)
    weights = (ROOT / "zoo" / "models").rglob("*.safetensors")
    assert sum(file.stat().st_size for file in weights) <= LARGEST_WEIGHTS


def test_source_roots_shadow_nothing() -> None:
    """An __init__.py in kernels/ or daemon/ itself would hide installed packages of those names."""
    for home in PARTS.values():
        assert not (home.parent / "__init__.py").exists()
        assert [child.name for child in home.parent.iterdir() if child.name != "__pycache__"] == [home.name]
    assert not (ROOT / "tests" / "__init__.py").exists()
