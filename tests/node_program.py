"""The example client in JavaScript, copied beside its library, and run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

from extras import absent
from house.tree import ROOT

LIBRARIES = ROOT / ".node" / "node_modules"


def install(folder: Path) -> Path:
    """``merge.js`` in a new ``folder``; skips out loud where Node or the library is absent."""
    if shutil.which("node") is None:
        absent("node", "there is no node on the path")
    if not (LIBRARIES / "zeromq").is_dir():
        absent("node", "the npm package zeromq is not installed; `make node` brings it")
    shutil.copytree(
        ROOT / "docs" / "examples" / "node", folder, ignore=shutil.ignore_patterns("node_modules")
    )
    (folder / "node_modules").symlink_to(LIBRARIES)
    return folder / "merge.js"


def merge(
    script: Path, out: str, *options: str, recipe: object, **environ: str
) -> subprocess.CompletedProcess[str]:
    """Run ``merge.js`` on a throw-away recipe."""
    file = script.parent / "recipe.json"
    file.write_text(json.dumps(recipe))
    return subprocess.run(
        ["node", str(script), str(file), out, *options],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def told(said: str) -> list[int]:
    """The numbers of the stored events that ``merge.js`` told."""
    return [int(line.split()[0]) for line in said.splitlines() if " merge-" in line]
