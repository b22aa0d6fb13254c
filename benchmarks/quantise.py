"""What it costs to store a merge quantised in its own pass: seconds, processor time and memory, form by form.

    .venv/bin/python benchmarks/quantise.py --size 0.85B --forms safetensors Q8_0 Q4_K_M nf4

Three models are merged by ties. Processor time is of the whole process tree and says more than seconds where other work
runs on the machine. `anonymous` is memory that nothing but this process tree holds, at its worst; `predicted` is the
plan's peak.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from measure import megabytes, run
from shapes import of_size, write
from tools import alloy, recipe

BITSANDBYTES = ("nf4", "fp4", "int8")


def options_of(form: str) -> list[str]:
    """The command's words for a form: safetensors, a type of bitsandbytes, or a GGUF type."""
    if form == "safetensors":
        return []
    return ["--bitsandbytes" if form in BITSANDBYTES else "--gguf", form]


def measured(form: str, text: str, workspace: Path, memory: str) -> dict[str, Any]:
    """Merge into the form and report."""
    file, out = workspace / "recipe.yaml", workspace / "out"
    file.write_text(text)
    shutil.rmtree(out, ignore_errors=True)
    command = [str(alloy()), "--home", str(workspace / "home"), "merge", str(file), str(out), "--json"]
    before = os.times()
    done = run([*command, "--no-daemon", "--memory", memory, *options_of(form)], memory=True)
    after = os.times()
    if done.status:
        raise SystemExit(f"{form} failed with {done.status}:\n{done.said}")
    lines = [json.loads(line) for line in done.said.splitlines() if line.startswith("{")]
    job = next(line["value"] for line in lines if line["type"] == "result")
    processor = after.children_user + after.children_system - before.children_user - before.children_system
    found = {
        "form": form,
        "seconds": done.seconds,
        "processor": processor,
        "anonymous": done.anonymous,
        "predicted": job["summary"]["peak_memory"],
        "written": job["result"]["bytes_written"],
    }
    print(
        f"{form:<12} {done.seconds:7.1f} s  processor {processor:7.1f} s  anonymous {megabytes(done.anonymous)}"
        f"  predicted {megabytes(found['predicted'])}  written {megabytes(found['written'])}",
        flush=True,
    )
    shutil.rmtree(out)
    return found


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--forms", nargs="+", default=["safetensors", "Q8_0", "Q4_K_M", "nf4"])
    parser.add_argument("--size", default="0.85B", help="of each model")
    parser.add_argument("--memory", default="1200MiB", help="alloyd's --memory")
    parser.add_argument("--folder", type=Path, help="where the models are kept (default: a temporary folder)")
    parser.add_argument("--json", type=Path, help="write all figures there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="alloyd-quantise-") as temporary:
        models = write(options.folder or Path(temporary) / "models", of_size(options.size), models=3)
        text, _ = recipe("ties", models)
        found = [measured(form, text, Path(temporary), options.memory) for form in options.forms]
    if options.json:
        options.json.write_text(json.dumps({"size": options.size, "results": found}, indent=1))


if __name__ == "__main__":
    main()
