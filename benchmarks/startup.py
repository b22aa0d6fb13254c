"""How long `alloy --help` and `import alloyd` take, beside an empty interpreter, and what they import.

.venv/bin/python benchmarks/startup.py
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from statistics import median

from measure import run
from tools import alloy


def milliseconds(command: list[str], runs: int) -> float:
    """The median wall time of ``command``."""
    found = [run(command) for _ in range(runs)]
    if any(each.status for each in found):
        raise SystemExit(f"{command} failed:\n{found[0].said}")
    return 1000 * median(each.seconds for each in found)


def slowest_imports(code: str, most: int) -> list[tuple[float, str]]:
    """(milliseconds of its own, module) of the modules that cost the most when ``code`` runs."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, check=True
    )
    rows = []
    for line in done.stderr.splitlines():
        own, _, name = line.removeprefix("import time:").split("|")
        if own.strip().isdigit():
            rows.append((int(own) / 1000, name.strip()))
    return sorted(rows, reverse=True)[:most]


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=20)
    options = parser.parse_args()
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "import alloyd": [sys.executable, "-c", "import alloyd"],
        "alloy --help": [str(alloy()), "--help"],
    }
    for name, command in commands.items():
        print(f"{name:18}{milliseconds(command, options.runs):8.0f} ms")
    print("\ndearest imports of `alloy`, in ms of their own")
    for cost, name in slowest_imports("import alloyd.cli", 12):
        print(f"{cost:8.1f}  {name}")


if __name__ == "__main__":
    main()
