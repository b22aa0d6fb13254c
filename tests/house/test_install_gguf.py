"""`make install-gguf`: what it says where it cannot build, and that its pins agree."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from house.tree import ROOT

SCRIPT = ROOT / "configs" / "gguf" / "install"
TOOLS = ("bash", "sed", "grep", "uname", "mkdir", "ls", "dirname", "cksum", "cut", "mktemp", "rm")


def install(tmp_path: Path, *, native: bool = False) -> subprocess.CompletedProcess[str]:
    """Run the script with an empty cache where there is no compiler, for an interpreter that has no libraries."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found is not None
        (tools / tool).symlink_to(found)
    bare = tmp_path / "python"
    bare.write_text(f'#!{tools / "bash"}\nexec "{sys.executable}" -I -S "$@"\n')
    bare.chmod(0o755)
    return subprocess.run(
        [str(tools / "bash"), str(SCRIPT), str(bare)],
        env={
            "PATH": str(tools),
            "HOME": str(tmp_path),
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
            "NATIVE": "1" if native else "",
        },
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("native", [False, True])
def test_without_a_compiler_it_says_so_and_fetches_nothing(tmp_path: Path, native: bool) -> None:
    done = install(tmp_path, native=native)
    assert done.returncode == 1
    assert "there is no compiler 'cc': install gcc and g++" in done.stderr
    assert not [name for _, _, names in os.walk(tmp_path / "cache") for name in names]


def test_the_version_is_pinned_once() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (wanted,) = [each for each in extras["gguf"] if each.startswith("llama-cpp-python")]
    assert wanted in (ROOT / "constraints.txt").read_text().splitlines()
    assert re.fullmatch(r"llama-cpp-python==\d+\.\d+\.\d+", wanted)
