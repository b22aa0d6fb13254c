"""The files of the house, as its tests walk them."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PARTS = {
    "alloyd": ROOT / "client" / "alloyd",
    "alloyd_kernels": ROOT / "kernels" / "alloyd_kernels",
    "alloyd_daemon": ROOT / "daemon" / "alloyd_daemon",
}


def modules(part: str) -> Iterator[Path]:
    """Every Python file of a part."""
    return iter(sorted(PARTS[part].rglob("*.py")))


def python_files() -> list[Path]:
    """Every Python file that is written by hand: the parts, the zoo, tests and benchmarks."""
    folders = [*PARTS.values(), *(ROOT / name for name in ("zoo", "tests", "benchmarks", "configs"))]
    return sorted(file for folder in folders for file in folder.rglob("*.py"))


def text_files() -> list[Path]:
    """Every text file that a commit would hold."""
    files = _listed("--cached", "--others", "--exclude-standard")
    return [file for file in files if b"\0" not in file.read_bytes()[:4096]]


def tracked_files() -> list[Path]:
    """Every file that git holds; what a user merged into the checkout is none of them."""
    return _listed("--cached")


def _listed(*which: str) -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z", *which], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    files = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    return [file for file in files if file.is_file()]


def imports(file: Path) -> Iterator[str]:
    """The absolute names of all that ``file`` imports, anywhere in it; relative ones are resolved."""
    part, home = next((name, home) for name, home in PARTS.items() if file.is_relative_to(home))
    package = [part, *file.relative_to(home).parent.parts]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            stem = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*stem, *([node.module] if node.module else [])])
            yield source
            yield from (f"{source}.{alias.name}" for alias in node.names)
