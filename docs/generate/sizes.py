"""The table in docs/70b.md: what `alloy plan` says of merges of 70B models, over sparse checkpoints of that shape."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from alloyd.errors import MemoryTooSmall
from alloyd.jobs import PlanSpec
from alloyd.units import format_duration, format_size
from alloyd_daemon.engine.prepare import prepare
from alloyd_daemon.settings import Settings
from benchmarks.shapes import of_size, write

MARK = "<!-- made by python -m docs.generate -->\n"
DENSITY = {"weight": 0.5, "density": 0.5}
# Method, number of fine-tunes, whether there is a base, parameters of a model, what else the recipe says.
ROWS: tuple[tuple[str, int, bool, dict[str, Any], dict[str, Any]], ...] = (
    ("linear", 2, False, {"weight": 0.5}, {}),
    ("linear", 4, False, {"weight": 0.25}, {}),
    ("slerp", 2, True, {}, {"parameters": {"t": 0.5}}),
    ("task_arithmetic", 2, True, {"weight": 0.5}, {}),
    ("ties", 2, True, DENSITY, {}),
    ("ties", 4, True, DENSITY, {}),
    ("dare_ties", 2, True, DENSITY, {}),
    ("ties", 2, True, DENSITY, {"out": {"format": "bitsandbytes", "type": "nf4"}}),
)
THREADS = 3
MEMORY = 2**31


def page() -> str:
    """docs/70b.md as it is, with its table made anew."""
    text = (Path(__file__).resolve().parents[1] / "70b.md").read_text(encoding="utf-8")
    before, _, after = text.split(MARK)
    with tempfile.TemporaryDirectory() as folder:
        return before + MARK + _table(Path(folder)) + MARK + after


def _table(folder: Path) -> str:
    models = write(folder, of_size("70B"), models=5, sparse=True)
    lines = [
        "| method | models | read | passes | read in all | written | disk needed "
        "| least memory | in 2 GiB | time at 1 GB/s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for method, number, based, each, whole in ROWS:
        recipe = _recipe(method, models, number, based=based, each=each, whole=whole)
        plan = _summary(recipe, folder, MEMORY)
        cells = (
            f"`{method}`" + (f" to {plan['format']}" if "out" in whole else ""),
            str(number) + (" and a base" if based and method != "slerp" else ""),
            format_size(plan["bytes_read"]),
            str(plan["passes"]),
            format_size(plan["bytes_swept"]),
            format_size(plan["bytes_write"]),
            format_size(plan["disk_needed"]),
            format_size(_least(recipe, folder)),
            format_size(plan["peak_memory"]),
            format_duration(plan["seconds"]),
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _recipe(
    method: str,
    models: Sequence[Path],
    number: int,
    *,
    based: bool,
    each: dict[str, Any],
    whole: dict[str, Any],
) -> str:
    """A recipe over the first ``number`` fine-tunes; slerp's base is one of its two models."""
    used = models[:number] if method == "slerp" else models[1 : number + 1]
    fields: dict[str, Any] = {"merge_method": method, "dtype": "bfloat16"} | whole
    fields["models"] = [{"model": str(model), "parameters": each} for model in used]
    return json.dumps(fields | ({"base_model": str(models[0])} if based else {}))


def _summary(recipe: str, folder: Path, memory: int) -> dict[str, Any]:
    spec = PlanSpec(recipe, str(folder), memory=memory, threads=THREADS)
    return prepare(spec, home=folder, settings=Settings())[-1].summary()


def _least(recipe: str, folder: Path) -> int:
    """The least private memory that works, as the refusal of a smaller budget says."""
    try:
        _summary(recipe, folder, 1)
    except MemoryTooSmall as refused:
        return int(str(refused.facts["least"]))
    raise AssertionError("a budget of one byte was taken")
