"""Every page does what it says: its commands run, parse, and name what exists; its links lead somewhere."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from alloyd import cli
from alloyd.errors import UsageError
from house.tree import ROOT
from pages.page import Block, Clone, blocks

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ONE = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
COMMANDS = ("", "sh")
"""Languages of blocks whose lines are commands; an older page names none."""


def runs(page: Path, *, soak: bool) -> bool:
    return any(block.runs(soak=soak) for block in blocks(page.read_text("utf-8")))


@pytest.mark.parametrize(
    "page", [each for each in PAGES if runs(each, soak=False)], ids=lambda page: page.name
)
def test_the_commands_of_a_page_run_as_printed(page: Path, tmp_path: Path) -> None:
    Clone(tmp_path).run(blocks(page.read_text("utf-8")), soak=False, seconds=840)


@pytest.mark.soak
@pytest.mark.parametrize(
    "page",
    [each for each in PAGES if any("soak" in block.words for block in blocks(each.read_text("utf-8")))],
    ids=lambda page: page.name,
)
def test_the_slow_commands_of_a_page_run_as_printed(page: Path, tmp_path: Path) -> None:
    Clone(tmp_path).run(blocks(page.read_text("utf-8")), soak=True, seconds=3600)


def commands(page: Path) -> Iterator[tuple[int, list[str]]]:
    """Every command of a page's blocks that begins with ``alloy``, with the line it stands in."""
    for block in blocks(page.read_text("utf-8")):
        if block.language not in COMMANDS:
            continue
        text = re.sub(r"\\\n *", " ", block.text)
        for number, line in enumerate(text.splitlines(), block.line + 1):
            for part in re.split(r"[;|&()]+|(?<= )#", line):
                found = re.match(r"^ *(?:\w+=\$)?alloy (.*)$", part)
                if found and "<" not in part:
                    yield number, shlex.split(re.sub(r"\d?>+ ?\S+", "", found[1]))


@ONE
def test_every_command_of_a_page_is_one(page: Path) -> None:
    for line, words in commands(page):
        try:
            _, extra = cli.parser().parse_known_args(words)
        except UsageError as wrong:
            pytest.fail(f"{page.name}:{line}: {wrong}")
        except SystemExit:  # --help, --version
            continue
        assert not extra, f"{page.name}:{line}: {extra}"


def options() -> dict[str, set[str]]:
    """The options of each verb."""
    (verbs,) = (each for each in cli.parser()._actions if isinstance(each, argparse._SubParsersAction))
    return {name: set(verb._option_string_actions) for name, verb in verbs.choices.items()}


@ONE
def test_every_command_in_running_text_is_one(page: Path) -> None:
    known = options()
    prose = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    for code in re.findall(r"`alloy ([a-z].*?)`", prose, re.DOTALL):
        verb, *words = code.split()
        assert verb in known, f"{page.name}: `alloy {code}`"
        unknown = {word.partition("=")[0] for word in words if word.startswith("--")} - known[verb]
        assert not unknown, f"{page.name}: `alloy {code}`: {unknown}"


def anchors(page: Path) -> set[str]:
    """What GitHub makes of a page's headings."""
    prose = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    heads = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def links(page: Path) -> list[str]:
    """The links of a page that lead into the repository."""
    found = re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8"))
    return [link for link in found if "://" not in link and not link.startswith("mailto:")]


@ONE
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    for link in links(page):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{page.name}: {link}"
        if anchor:
            assert anchor in anchors(target), f"{page.name}: {link}"


def test_the_map_leads_to_every_page_and_example() -> None:
    index = ROOT / "docs" / "index.md"
    mapped = {(index.parent / link.partition("#")[0]).resolve() for link in links(index)}
    assert set(PAGES) - mapped - {index, ROOT / "README.md"} == set()


@ONE
def test_every_target_of_make_that_a_page_names_exists(page: Path) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    text = page.read_text("utf-8")
    named = re.findall(r"`make ([a-z-]+)", text)
    for block in blocks(text):
        named += (
            re.findall(r"^make ([a-z-]+)", block.text, re.MULTILINE) if block.language in COMMANDS else []
        )
    assert set(named) <= targets


def python_blocks() -> list[tuple[str, Block]]:
    return [
        (page.name, block)
        for page in PAGES
        for block in blocks(page.read_text("utf-8"))
        if block.language == "python"
    ]


@pytest.mark.parametrize(
    ("page", "block"), python_blocks(), ids=lambda each: str(getattr(each, "line", each))
)
def test_every_python_block_is_python(page: str, block: Block) -> None:
    compile(block.text, f"{page}:{block.line}", "exec")
