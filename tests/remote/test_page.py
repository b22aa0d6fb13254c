"""The commands of docs/remote.md, run as printed, on a port that is free."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from house.tree import ROOT
from remote.conftest import free_ports

BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_commands_of_the_page(tmp_path: Path) -> None:
    port = free_ports()
    text = (ROOT / "docs" / "remote.md").read_text(encoding="utf-8").replace("5757", str(port))
    (tmp_path / "zoo").symlink_to(ROOT / "zoo")
    home, bin_folder, runtime = tmp_path / "home", tmp_path / "bin", tmp_path / "run"
    for folder in (home, bin_folder, runtime):
        folder.mkdir(mode=0o700)
    for name, module in (("alloy", "alloyd.cli"), ("alloyd", "alloyd_daemon")):
        script = bin_folder / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n')
        script.chmod(0o755)
    environ = {
        **os.environ,
        "HOME": str(home),
        "ALLOYD_HOME": str(home / "state"),
        "XDG_RUNTIME_DIR": str(runtime),
        "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(each for each in sys.path if each),
    }
    ran = 0
    try:
        for language, words, body in BLOCK.findall(text):
            if language == "toml":
                (tmp_path / body.split()[1].rstrip(":")).write_text(body)
            if language != "sh":
                continue
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", body],
                cwd=tmp_path,
                env=environ,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=120,
            )
            wanted = int(words.strip().removeprefix("status=") or 0)
            assert done.returncode == wanted, body + done.stdout
            ran += 1
    finally:
        subprocess.run(["alloy", "stop", "--now"], cwd=tmp_path, env=environ, capture_output=True, timeout=60)
    assert ran >= 8
