"""Runs what a page of the documentation says: its shell blocks, in order, in a folder like a clean clone.

A block fenced as ``sh`` is run; words behind it say how: ``skip`` (shown only), ``soak`` (by ``make soak`` alone),
``status=5`` (it must end so). A ``text`` block behind it is what it prints, see :func:`alike`. A block whose first line
is a comment with a file's name, ``# ties.yaml: what for``, is written to that file.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from alloyd_kernels import compiled
from house.tree import PARTS, ROOT

CLONE: Final = ("zoo", "configs", "docs", "benchmarks", "README.md")
_FENCE = re.compile(r"^( *)```(.*)$")
_FILE = re.compile(r"^(?:#|//) ([\w./-]+\.(?:yaml|yml|toml|py|js|jsonl?|txt))(?::.*)?$")
_NUMBER = re.compile(r"[-+−]?\d[\d.,]*(?:e[-+]?\d+)?(?: ?(?:[kKMGT]i?B|B|ms|s|m|min|h|d)\b)?(?:/s\b)?")


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block: the line it starts at, its language, the words behind that, its text."""

    line: int
    language: str
    words: tuple[str, ...]
    text: str

    @property
    def file(self) -> str:
        """The file that it is; empty if it is none."""
        named = _FILE.match(self.text.partition("\n")[0])
        return named[1] if named and self.language != "sh" else ""

    @property
    def status(self) -> int:
        """The exit status that it ends with."""
        return next((int(word[7:]) for word in self.words if word.startswith("status=")), 0)

    def runs(self, *, soak: bool) -> bool:
        """Whether it is a command to run now."""
        return self.language == "sh" and "skip" not in self.words and (soak or "soak" not in self.words)


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found: list[Block] = []
    inside: list[str] | None = None
    opening, start, indent = "", 0, 0
    for number, line in enumerate(text.splitlines(), 1):
        fence = _FENCE.match(line)
        if fence is None:
            if inside is not None:
                inside.append(line[min(indent, len(line) - len(line.lstrip())) :])
        elif inside is None:
            inside, opening, start, indent = [], fence[2], number, len(fence[1])
        else:
            language, *words = opening.split() or [""]
            found.append(Block(start, language, tuple(words), "\n".join(inside) + "\n"))
            inside = None
    assert inside is None, f"the block of line {start} is not closed"
    return found


def alike(promised: str, printed: str) -> bool:
    """Whether ``printed`` is what ``promised`` says, line by line.

    Numbers, their units and runs of blanks may be any. ``...`` in a line stands for any text, as a line for any lines.
    """
    pattern = ""
    for line in promised.splitlines():
        if line.strip() == "...":
            pattern += r"(?:.*\n)*?"
        else:
            pattern += ".*".join(re.escape(part) for part in _plain(line).split("...")) + r"\n"
    return re.fullmatch(pattern, "".join(f"{_plain(line)}\n" for line in printed.splitlines())) is not None


def _plain(line: str) -> str:
    words = " ".join(_NUMBER.sub("#", line).split())
    return re.sub(r"#(?: #)+", "#", words)


def _unfinished(_: str, names: list[str]) -> list[str]:
    return [name for name in names if not name.endswith(".kernel")]


class Clone:
    """A folder that looks like a clean clone, with a home of its own for the user; what it started ends with it."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "alloyd"
        self.home = root / "user"
        self.outputs = root / "outputs"
        for each in (self.folder, self.home, self.outputs):
            each.mkdir()
        for name in CLONE:
            (self.folder / name).symlink_to(ROOT / name)
        commands = root / "bin"
        commands.mkdir()
        for name, module in (("alloy", "-m alloyd.cli"), ("alloyd", "-m alloyd_daemon"), ("python", "")):
            (commands / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {module} "$@"\n')
            (commands / name).chmod(0o755)
        # Compiling kernels takes seconds each; a copy of those that are there, for a page may remove its own.
        known = compiled._folder()
        if known is not None:
            # Other processes are putting some there, under other names until they are whole.
            shutil.copytree(known, self.home / ".cache" / "alloyd" / known.name, ignore=_unfinished)
        self.runtime = tempfile.mkdtemp(prefix="alloyd-", dir="/tmp")
        hidden = ("ALLOYD_", "XDG_", "PYTHON", "PYTEST_")
        self.environ = {name: value for name, value in os.environ.items() if not name.startswith(hidden)} | {
            "HOME": str(self.home),
            "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join(str(part.parent) for part in PARTS.values()),
            "XDG_RUNTIME_DIR": self.runtime,
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "120",
        }

    def run(self, page: Sequence[Block], *, soak: bool, seconds: float) -> None:
        """Run the blocks of a page; AssertionError with what was printed where one does not do as it says."""
        script = "".join(self._lines(page, soak=soak))
        process = subprocess.Popen(
            ["bash", "-c", script],
            cwd=self.folder,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            status = process.wait(seconds)
        finally:
            self._end(process)
        ran = sorted(self.outputs.iterdir(), key=lambda file: int(file.name))
        assert status == 0, f"the block of line {ran[-1].name} failed:\n{self._printed(ran[-1])}"
        for command, after in zip(page, [*page[1:], Block(0, "", (), "")], strict=True):
            if command.runs(soak=soak) and after.language == "text":
                printed = self._printed(self.outputs / str(command.line))
                assert alike(after.text, printed), f"line {after.line}: the commands printed\n{printed}"

    def _lines(self, page: Sequence[Block], *, soak: bool) -> Iterator[str]:
        yield "set -euo pipefail\n"
        for block in page:
            if block.file:
                yield f"cat > {block.file} <<'END-OF-FILE'\n{block.text}END-OF-FILE\n"
            elif block.runs(soak=soak):
                output = f"> {self.outputs}/{block.line} 2>&1\n"
                if block.status:
                    yield f"set +e\n(\nset -e\n{block.text}) {output}"
                    yield f"[ $? -eq {block.status} ] || exit 1\nset -e\n"
                else:
                    yield f"{{\n{block.text}}} {output}"

    def _printed(self, file: Path) -> str:
        text = file.read_text(encoding="utf-8", errors="replace")
        return text.replace(str(self.home), "/home/you").replace(str(self.folder), "/home/you/alloyd")

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """Stop daemons, wherever the page put their homes, and what it left in the background."""
        for lock in self.folder.parent.rglob("daemon.lock"):
            command = [sys.executable, "-m", "alloyd.cli", "--home", str(lock.parent), "stop", "--now"]
            subprocess.run(command, env=self.environ, capture_output=True, check=False)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        shutil.rmtree(self.runtime, ignore_errors=True)
