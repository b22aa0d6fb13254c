"""Find the real mergekit's interpreter and run recipes in it; nothing of mergekit is imported here."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RUNNER = Path(__file__).with_name("mergekit_runner.py")


def interpreter() -> Path | None:
    """The python of the venv that has mergekit: ALLOYD_MERGEKIT_PYTHON, else what `make mergekit` made."""
    named = os.environ.get("ALLOYD_MERGEKIT_PYTHON")
    found = Path(named) if named else ROOT / ".mergekit-venv" / "bin" / "python"
    return found if found.exists() else None


def needed(what: str) -> Path:
    """The interpreter; a test of ``what`` is skipped without one, and fails where CI says that there must be one."""
    python = interpreter()
    if python is None:
        reason = f"parity with {what}: mergekit is not installed; `make mergekit` installs it"
        if "mergekit" in os.environ.get("ALLOYD_REQUIRE", ""):
            pytest.fail(reason)
        pytest.skip(reason)
    return python


def run(
    python: Path, recipes: Mapping[Path, str], workspace: Path, *, options: Sequence[str] = ()
) -> dict[Path, str | None]:
    """Merge each recipe into its output folder; return what mergekit said of each, ``None`` for success.

    ``options`` are more of mergekit's.
    """
    jobs = []
    for place, (out, text) in enumerate(recipes.items()):
        file = workspace / f"recipe-{place}.yaml"
        file.write_text(text, encoding="utf-8")
        jobs.append({"recipe": str(file), "out": str(out), "options": list(options)})
    batch = workspace / "jobs.json"
    batch.write_text(json.dumps(jobs), encoding="utf-8")
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        # Without base_model mergekit takes its donor from a set; a fixed hash seed makes that the same each
        # run.
        "PYTHONHASHSEED": "0",
    }
    with (workspace / "mergekit.log").open("wb") as log:
        done = subprocess.run(
            [str(python), "-P", str(RUNNER), str(batch)],
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
            check=False,
            timeout=1200,
        )
    if done.returncode:
        raise RuntimeError(
            f"mergekit ended with {done.returncode}: {(workspace / 'mergekit.log').read_text()[-2000:]}"
        )
    lines = [json.loads(line) for line in done.stdout.decode().splitlines() if line.startswith('{"out"')]
    return {Path(line["out"]): line["error"] for line in lines}
