"""A population scored in one pass: how much memory it holds at its worst, and how many bytes it reads and spills.

    sudo .venv/bin/python benchmarks/population.py --size 0.85B --population 16 --memory 2GiB

The sources are put out of the page cache first, so that what the process reads comes from the disk (read_bytes of
/proc/self/io). Beside that stand the bytes of the sources (one pass) and of as many passes as there are candidates,
which is what scoring one after the other reads. Where a memory cgroup can be made (root, usually) the run is confined
to one of the budget's size, page cache included.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from candidate import CHILD, give_tokenizer, population, questions
from measure import cgroup, forget, megabytes, run
from shapes import of_size, write
from tools import weights

from alloyd.units import parse_size


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="0.85B")
    parser.add_argument("--method", default="ties")
    parser.add_argument("--population", type=int, default=16)
    parser.add_argument("--memory", default="2GiB")
    parser.add_argument("--items", type=int, default=100)
    parser.add_argument("--tokens", type=int, default=4400)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quantise")
    parser.add_argument("--folder", type=Path, help="where the models are kept (default: a temporary folder)")
    parser.add_argument("--json", type=Path, help="write all figures there")
    options = parser.parse_args()
    budget = parse_size(options.memory)
    with tempfile.TemporaryDirectory(prefix="alloyd-population-", dir=options.folder) as name:
        workspace = Path(name)
        shape = of_size(options.size)
        models = write((options.folder or workspace) / f"models-{options.size}", shape, models=3)
        for each in models:
            give_tokenizer(each, shape.vocab)
        spec = {
            "way": "stream",
            "recipes": population(models, options.method, options.population),
            "items": questions(options.items, options.tokens, shape.vocab),
            "threads": options.threads,
            "memory": budget,
            "quantise": options.quantise,
            "home": str(workspace / "home"),
        }
        (workspace / "home").mkdir()
        file = workspace / "spec.json"
        file.write_text(json.dumps(spec))
        files = weights(models)
        forget(files)
        with contextlib.ExitStack() as stack:
            group = None
            try:
                group = stack.enter_context(cgroup(budget))
            except OSError as refused:
                print(f"without a cgroup: {refused}", file=sys.stderr)
            done = run([sys.executable, str(CHILD), str(file)], memory=True, inside=group)
            kills = group.kills() if group is not None else 0
        shutil.rmtree(workspace / "home")
        if done.status:
            raise SystemExit(f"failed with {done.status} ({kills} kills):\n{done.said[-3000:]}")
        found: dict[str, Any] = json.loads(done.said.strip().splitlines()[-1])
        one_pass = sum(each.stat().st_size for each in files)
        figures = {
            "population": options.population,
            "budget": budget,
            "anonymous": done.anonymous,
            "private": done.private,
            "charged": done.cgroup,
            "kills": kills,
            "read_bytes": found["read_bytes"],
            "one_pass": one_pass,
            "naive": one_pass * options.population,
            "seconds": done.seconds,
            "forward": found["forward"],
            "merging": found["merging"],
            "notes": found["notes"],
        }
        print(
            f"{options.method} of 3 x {options.size}, population {options.population}, budget {options.memory}"
        )
        for note in found["notes"]:
            print(f"  {note}")
        print(
            f"  anonymous {megabytes(done.anonymous)}, private {megabytes(done.private)},"
            f" charged {megabytes(done.cgroup)}, kills {kills}"
        )
        print(
            f"  read {found['read_bytes'] / 1e9:.2f} GB; one pass {one_pass / 1e9:.2f} GB,"
            f" {options.population} passes {figures['naive'] / 1e9:.1f} GB"
        )
        print(
            f"  {done.seconds:.0f} s, of which forward {found['forward']:.0f}, merging beside it {found['merging']:.0f}"
        )
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
