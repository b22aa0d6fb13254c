"""Does a quantised candidate's score rank candidates as its bfloat16 score does? Kendall and Spearman, with intervals.

    .venv/bin/python benchmarks/rank_correlation.py --work WORK [--count 36] [--validation 300]

Candidates are those of the replay's table (racing_replay.py, same WORK) at evenly spaced ranks, so that they span the
space from useless to best. Each type is scored as the ladder scores it: NF4 and int8 by the runner `resident`, types of
llama.cpp by `gguf`. Held against it: the same bfloat16 weights by llama.cpp (the engine alone), and bfloat16 scores of
other items (chance alone).
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
from racing_replay import table
from search_zoo import TASK, arguments
from zoo_ground import Array, Ground, paper, wide_pair

from alloyd_daemon.search.correlation import Correlation, correlation

TYPES = (
    ("BF16", "gguf"),
    ("Q8_0", "gguf"),
    ("Q4_K_M", "gguf"),
    ("int8", "resident"),
    ("nf4", "resident"),
)


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=36, help="candidates")
    parser.add_argument("--candidates", type=int, default=210, help="candidates of the table")
    parser.add_argument("--table", type=int, default=600, help="items of the table")
    options = arguments(parser)
    models, base = wide_pair(options.work)
    ground = Ground(options.work, models, base, options.threads)
    asked = paper(options.work, TASK, "validation", options.validation)
    losses, _, recipes = table(ground, paper(options.work, TASK, "search", options.table), options.candidates)
    ranked = np.argsort(losses.mean(axis=1), kind="stable")
    chosen = ranked[np.linspace(0, len(ranked) - 1, options.count).round().astype(int)]
    picked = [recipes[each] for each in chosen]
    exact = ground.table(picked, asked)
    good = np.argsort(-exact.mean(axis=1), kind="stable")[: options.count // 2]
    print(
        f"{len(picked)} candidates, {exact.shape[1]} items, bfloat16: {100 * exact.mean(axis=1).min():.1f} to"
        f" {100 * exact.mean(axis=1).max():.1f} % right;"
        f" the better half from {100 * exact.mean(axis=1)[good].min():.1f} %"
    )
    print(
        "| against bfloat16 | Kendall | Spearman | Kendall, better half | items that flip | right, mean change |"
        " loss of its best | s a candidate |"
    )
    print("|---|---|---|---|---|---|---|---|")
    figures: dict[str, Any] = {}
    other = 1 - losses[chosen]
    figures["bf16, other items"] = _row("bf16, other items", exact, other, good, flips=False, seconds=None)
    for quantise, runner in TYPES:
        ground.seconds.clear()
        started = time.perf_counter()
        rows = ground.table(picked, asked, quantise=quantise, runner=runner)
        fresh = len(ground.seconds)
        took = (time.perf_counter() - started) / fresh if fresh else None
        figures[quantise] = _row(quantise, exact, rows, good, flips=True, seconds=took)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def _row(
    name: str, exact: Array, rows: Array, good: Array, *, flips: bool, seconds: float | None
) -> dict[str, Any]:
    ours, theirs = exact.mean(axis=1), rows.mean(axis=1)
    whole, half = correlation(ours, theirs), correlation(ours[good], theirs[good])
    flipped = float((exact != rows).mean()) if flips else None
    lost = float(ours.max() - ours[theirs.argmax()])
    print(
        f"| {name} | {_said(whole, 'kendall')} | {_said(whole, 'spearman')} | {_said(half, 'kendall')} |"
        f" {'' if flipped is None else f'{100 * flipped:.1f} %'} | {100 * (theirs - ours).mean():+.1f} |"
        f" {100 * lost:.1f} | {'' if seconds is None else f'{seconds:.2f}'} |",
        flush=True,
    )
    return {
        "kendall": [whole.kendall, whole.kendall_low, whole.kendall_high],
        "spearman": [whole.spearman, whole.spearman_low, whole.spearman_high],
        "kendall_better_half": [half.kendall, half.kendall_low, half.kendall_high],
        "flips": flipped,
        "change": float((theirs - ours).mean()),
        "lost": lost,
        "values": [[float(each) for each in ours], [float(each) for each in theirs]],
    }


def _said(found: Correlation, measure: str) -> str:
    value, low, high = (getattr(found, measure + end) for end in ("", "_low", "_high"))
    return "none" if value is None else f"{value:.2f} ({low:.2f}-{high:.2f})"


if __name__ == "__main__":
    main()
