"""docs/search.md: its commands are words that `alloy` knows, its Python is what the client has."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import alloyd
from alloyd import cli
from alloyd.jobs import SearchSpec
from alloyd_daemon.search import baselines, ladder

PAGE = (Path(__file__).parents[2] / "docs" / "search.md").read_text(encoding="utf-8")


def test_every_command_is_understood() -> None:
    commands = re.findall(r"^alloy (.*?)(?: +#.*)?$", PAGE, re.MULTILINE)
    assert len(commands) >= 5
    for command in commands:
        cli.parser().parse_args(command.split())
    for option in re.findall(r"`alloy (search [^`]+)`", PAGE):
        cli.parser().parse_args(option.split())


def test_the_python_uses_what_the_client_has() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    compile(code, "docs/search.md", "exec")
    for verb in re.findall(r"client\.(\w+)\(", code):
        assert callable(getattr(alloyd.Client, verb))
        assert inspect.iscoroutinefunction(getattr(alloyd.AsyncClient, verb)) or verb == "events"
    (options,) = re.findall(r"client\.search\([^,]+, (.*?)\)", code)
    assert {each.split("=")[0] for each in options.split(", ")} <= set(SearchSpec.__struct_fields__)


def test_its_numbers_are_the_code_s() -> None:
    assert f"weights {baselines.GRID[0]:g} to {baselines.GRID[-1]:g}" in PAGE
    names = {4: "four", 12: "twelve"}
    assert f"the first {names[ladder.CALIBRATE_ONE]} answer everything" in PAGE
    assert f"The first {names[ladder.CALIBRATE_SEVERAL]} candidates climb all rungs" in PAGE
