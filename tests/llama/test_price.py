"""The benchmark of warm candidates runs, and finds that only what changed is merged."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.shapes import of_size, write
from extras import need

need("gguf", "llama_cpp", "gguf")

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_K_M"])
def test_prices_are_told_candidate_by_candidate(kind: str, tmp_path: Path) -> None:
    write(tmp_path, of_size("4M"), models=3)
    script = ROOT / "benchmarks" / "warm_gguf.py"
    options = (
        "--type",
        kind,
        "--candidates",
        "2",
        "--items",
        "3",
        "--tokens",
        "8",
        "--one-layer",
        "--threads",
        "1",
    )
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), *options], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert 0 < second["merged"] < first["merged"]
    assert first["tokens"] == second["tokens"] == 24
