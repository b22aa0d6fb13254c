"""Who may import whom: the daemon stands on client and kernels, which do not know each other."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from house.tree import PARTS, imports, modules, python_files

MAY_IMPORT = {
    "alloyd": {"msgspec", "zmq", "yaml", "rich", "h11"},
    "alloyd_kernels": {"numpy", "ml_dtypes", "numba", "llvmlite", "torch", "triton"},
    "alloyd_daemon": {
        "alloyd",
        "alloyd_kernels",
        "msgspec",
        "zmq",
        "numpy",
        "ml_dtypes",
        "blake3",
        "torch",
        "transformers",
        "tokenizers",
        "gguf",
        "llama_cpp",
        "sentencepiece",
        "cmaes",
        "pymoo",
        "scipy",
        "skopt",
        "sklearn",
        "threadpoolctl",
        "watchdog",
    },
}
DOORS = (
    "methods",
    "quantisers",
    "architectures",
    "optimisers",
    "evaluators",
    "jobs",
    "output_formats",
    "runners",
)
LONGEST = 500


def _name(file: Path) -> str:
    return "/".join(file.parts[-3:])


@pytest.mark.parametrize("part", PARTS)
def test_each_part_imports_only_what_it_may(part: str) -> None:
    found = {
        (_name(file), name)
        for file in modules(part)
        for name in (full.partition(".")[0] for full in imports(file))
        if name not in MAY_IMPORT[part] | {part} and name not in sys.stdlib_module_names
    }
    assert not found


@pytest.mark.parametrize("part", PARTS)
def test_inside_a_part_imports_are_relative(part: str) -> None:
    """A dot means home, a full name means crossing a wall."""
    found = {
        (_name(file), node.module)
        for file in modules(part)
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] == part
    }
    assert not found


def test_nobody_imports_a_leaf_by_name() -> None:
    """A plug-in is reached through its door: delete the file and only its name is missing."""
    found = set()
    for part in PARTS:
        for file in modules(part):
            for name in imports(file):
                for door in DOORS:
                    inside = f"alloyd_daemon.{door}."
                    if name.startswith(inside) and (PARTS["alloyd_daemon"] / door).is_dir():
                        leaf = name.removeprefix(inside).split(".")[0]
                        if (PARTS["alloyd_daemon"] / door / f"{leaf}.py").exists() and not leaf.startswith(
                            "_"
                        ):
                            found.add((_name(file), name))
    assert not found


def test_no_import_is_tried() -> None:
    """A missing package is told at the door it bars, not swallowed where it is imported."""
    found = set()
    for part in PARTS:
        for file in modules(part):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Try) and any(
                    isinstance(child, ast.Import | ast.ImportFrom) for child in node.body
                ):
                    caught = {ast.unparse(handler.type) for handler in node.handlers if handler.type}
                    silent = [h for h in node.handlers if all(isinstance(c, ast.Pass) for c in h.body)]
                    if silent and caught & {"ImportError", "ModuleNotFoundError", "Exception"}:
                        found.add((_name(file), node.lineno))
    assert not found


@pytest.mark.parametrize("file", python_files(), ids=_name)
def test_every_file_says_what_it_is_for_and_stays_small(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    docstring = ast.get_docstring(ast.parse(text))
    assert docstring, "the first line of a file says what the file is for"
    assert len(text.splitlines()) <= LONGEST


@pytest.mark.parametrize("name", ["utils.py", "common.py", "base.py", "helpers.py"])
def test_no_drawer_for_everything(name: str) -> None:
    assert not [file for file in python_files() if file.name == name]
