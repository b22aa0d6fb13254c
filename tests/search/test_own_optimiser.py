"""The scripts and the page for people with an optimiser of their own: each runs a real search over the zoo."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "search_with_your_own_optimiser.md").read_text(encoding="utf-8")
SMALL = {
    "--generations": "2",
    "--population": "2",
    "--batches": "2",
    "--batch": "2",
    "--items": "8",
    "--check": "8",
}


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A home whose daemon all scripts share."""
    path = os.pathsep.join(each for each in sys.path if each)
    with tempfile.TemporaryDirectory(prefix="alloyd-") as runtime:
        variables = {
            **os.environ,
            "ALLOYD_HOME": str(tmp_path_factory.mktemp("home")),
            "XDG_RUNTIME_DIR": runtime,
            "PYTHONPATH": path,
            "OMP_NUM_THREADS": "1",
        }
        yield variables
        subprocess.run([sys.executable, "-m", "alloyd.cli", "stop", "--now"], env=variables, check=True)


def run(words: list[str], environ: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "line", re.findall(r"^python (docs/examples/.+)$", PAGE, re.MULTILINE), ids=lambda line: line.split()[0]
)
def test_a_script_searches_the_zoo(line: str, environ: dict[str, str]) -> None:
    script, *options = line.split()
    assert set(options[::2]) <= set(SMALL)
    usable = {option for option in SMALL if option in (ROOT / script).read_text()}
    words = [word for option in sorted(usable) for word in (option, SMALL[option])]
    said = run([script, *words], environ)
    best = [float(each) for each in re.findall(r"best (\d\.\d+) of the items right", said)]
    assert len(best) == 2
    assert best == sorted(best)
    named = re.findall(r"^(\w+) +\d\.\d+ \(", said, re.MULTILINE)
    assert named == ["winner", "math", "lang", "untuned"]
    assert said.count("than the winner: ") == 3


def test_every_script_is_on_the_page() -> None:
    for script in (ROOT / "docs" / "examples").glob("*.py"):
        assert f"docs/examples/{script.name}" in PAGE


def test_the_page_scores_what_it_shows(environ: dict[str, str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    said = run(["-c", code], environ)
    assert re.fullmatch(r"first \d\.\d+\nsecond \d\.\d+\n", said)
