"""Merge inside a memory cgroup of 1 GiB: does it finish, and how much did it hold at its worst?

    sudo .venv/bin/python benchmarks/memory.py ties giant-tensor 70B

- ties: three dense 0.85B models, --memory 512MiB
- giant-tensor: three models with one dense tensor of 2.4 GB each, --memory 512MiB
- 70B: three sparse models in the shape of Llama 70B; the plan's predicted peak, then the first layers merged

Making a cgroup takes root (or a delegated one); v1 and v2 are both understood. `anonymous` is memory that
nothing but this process tree holds; `charged` is what the kernel counted for the group, page cache included,
which it takes back under pressure: a charge at the limit with no kill is a merge that fits.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from measure import cgroup, megabytes, run
from shapes import of_size, write
from tools import alloy, recipe

LIMIT = 1 << 30
NO_CGROUP = 77
CASES = ("ties", "giant-tensor", "70B")


def sliced(models: Sequence[Path], layers: int) -> str:
    """A ties recipe over the first layers of the models; the pre and post tensors come along."""
    base, *tunes = (str(model) for model in models)
    sources = "".join(
        f"      - {{model: {model}, layer_range: [0, {layers}], parameters: {{weight: 0.5, density: 0.5}}}}\n"
        for model in tunes
    )
    return (
        f"merge_method: ties\nbase_model: {base}\nslices:\n  - sources:\n"
        f"      - {{model: {base}, layer_range: [0, {layers}]}}\n{sources}dtype: bfloat16\n"
    )


def plan(text: str, workspace: Path, memory: str) -> dict[str, Any]:
    """What `alloy plan --json` says of a recipe."""
    file = workspace / "plan.yaml"
    file.write_text(text)
    command = [
        str(alloy()),
        "--home",
        str(workspace / "home"),
        "plan",
        str(file),
        "--memory",
        memory,
        "--no-daemon",
    ]
    # Without an output: what a plan predicts does not depend on the room this disk has.
    done = run([*command, "--json"])
    if done.status:
        raise SystemExit(f"plan failed with {done.status}:\n{done.said}")
    found: dict[str, Any] = json.loads(done.said.strip().splitlines()[-1])["value"]["result"]
    return found


def merge(text: str, workspace: Path, memory: str, limit: int) -> dict[str, Any]:
    """Merge within a cgroup and report."""
    file = workspace / "recipe.yaml"
    file.write_text(text)
    out = workspace / "out"
    command = [
        str(alloy()),
        "--home",
        str(workspace / "home"),
        "merge",
        str(file),
        "--memory",
        memory,
        "--no-daemon",
    ]
    with cgroup(limit) as group:
        done = run([*command, "--out", str(out)], memory=True, inside=group)
        kills = group.kills()
    finished = done.status == 0
    shutil.rmtree(out, ignore_errors=True)
    print(
        f"  {'finished' if finished else f'FAILED with {done.status}'} in {done.seconds:.1f} s;"
        f" anonymous {megabytes(done.anonymous)}, private {megabytes(done.private)},"
        f" resident {megabytes(done.resident)}, charged {megabytes(done.cgroup)}, kills {kills}",
        flush=True,
    )
    if not finished:
        print(done.said[-3000:])
    return {
        "finished": finished,
        "seconds": done.seconds,
        "anonymous": done.anonymous,
        "private": done.private,
        "resident": done.resident,
        "charged": done.cgroup,
        "kills": kills,
    }


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", default=list(CASES), help=f"of {', '.join(CASES)}; default: all")
    parser.add_argument("--memory", default="512MiB", help="alloyd's --memory")
    parser.add_argument("--limit", type=int, default=LIMIT, help="the cgroup's limit in bytes")
    parser.add_argument("--size", default="0.85B", help="the dense models of the case ties")
    parser.add_argument("--layers", type=int, default=1, help="layers of the 70B that are merged")
    parser.add_argument("--folder", type=Path, help="where the models are kept (default: a temporary folder)")
    parser.add_argument("--json", type=Path, help="write all figures there")
    options = parser.parse_args()
    unknown = set(options.cases) - set(CASES)
    if unknown:
        parser.error(f"unknown case {', '.join(sorted(unknown))}; known: {', '.join(CASES)}")
    try:
        with cgroup(options.limit):
            pass
    except OSError as refused:
        print(f"no memory cgroup can be made here: {refused}", file=sys.stderr)
        raise SystemExit(NO_CGROUP) from None
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="alloyd-memory-", dir=options.folder) as name:
        workspace = Path(name)
        for case in options.cases:
            size = options.size if case == "ties" else case
            models = write(
                (options.folder or workspace) / f"models-{size}",
                of_size(size),
                models=3,
                sparse=case == "70B",
            )
            text, _ = recipe("ties", models)
            print(
                f"{case}: 3 x {size}, --memory {options.memory}, cgroup {megabytes(options.limit)}",
                flush=True,
            )
            planned = plan(text, workspace, options.memory)
            print(
                f"  plan: {planned['parameters'] / 1e9:.2f} B parameters, {planned['passes']} passes,"
                f" {planned['bytes_write'] / 1e9:.1f} GB to write,"
                f" predicted peak {megabytes(planned['peak_memory'])}"
            )
            if case == "70B":
                text = sliced(models, options.layers)
                planned["first_layers"] = plan(text, workspace, options.memory)
                print(f"  first layers: predicted peak {megabytes(planned['first_layers']['peak_memory'])}")
            results[case] = {"plan": planned, **merge(text, workspace, options.memory, options.limit)}
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")
    if not all(found["finished"] for found in results.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
