"""Scores the zoo with the real evaluator: `python -m zoo.score` writes zoo/scores.json and prints its
tables.

Weights are chosen on the search split alone. Validation then compares the chosen few; the locked test split
is opened once, at the end, for the parents and for the merges named before.
"""

import argparse
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import torch

from alloyd_daemon.candidate import from_checkpoint
from alloyd_daemon.evaluator import Choices
from alloyd_daemon.runner import RUNNERS, RunOptions
from alloyd_daemon.scoring.run import InMemory, Posed, Questions
from alloyd_daemon.scoring.run import score as score_candidates
from alloyd_daemon.scoring.summary import Figure, summarise
from alloyd_daemon.settings import Settings
from alloyd_daemon.tasks import resolve

from .merges import Merge, Tensors, merged, read_tensors, write_checkpoint
from .problems import TASKS, Split
from .tasks import FOLDER
from .train import MODELS

SCORES: Final = Path(__file__).parent / "scores.json"
NAMES: Final = ("base", "math", "lang", "distractor", "math_wide", "lang_wide")
GOAL: Final = "l2_arithmetic"
BATCH_SIZE: Final = 100
STEPS: Final = (0.5, 0.75, 1.0, 1.25, 1.5)
"""Weights of `math` and of `lang` on the grid."""

UNTUNED: Final = (
    Merge("linear", {"math": 1, "lang": 1}),
    Merge("linear", {"math": 1, "lang": 1, "distractor": 1}),
    Merge("task_arithmetic", {"math": 1, "lang": 1}),
    Merge("task_arithmetic", {"math": 1, "lang": 1, "distractor": 1}),
    Merge("ties", {"math": 1, "lang": 1}, density=0.5),
    Merge("ties", {"math": 1, "lang": 1, "distractor": 1}, density=0.5),
)
"""Merges as one would first write them, with no weight chosen by any score."""

GRID: Final = (
    *(Merge("task_arithmetic", {"math": m, "lang": n}) for m in STEPS for n in STEPS),
    *(Merge("ties", {"math": m, "lang": 1}, density=d) for m in (0.5, 1, 2) for d in (0.2, 0.5, 0.8)),
    *(Merge("task_arithmetic", {"math": 1, "lang": 1, "distractor": x}) for x in (-0.5, 0.25, 0.5)),
)

Score = dict[str, Any]


def score(directory: Path, task: str, split: Split) -> Score:
    """Exact match of one checkpoint folder on one committed task file."""
    figure = exact_match(directory, FOLDER / f"{task}.{split}.jsonl")
    return {
        "score": round(figure.value, 4),
        "low": round(figure.low or 0.0, 4),
        "high": round(figure.high or 0.0, 4),
        "n": figure.n,
    }


def exact_match(directory: Path, file: Path) -> Figure:
    """Exact match of one checkpoint folder on one task file."""
    settings = Settings()
    questions = Questions([Posed(*each) for each in resolve([f"exact_match:{file}"], Choices())])
    with TemporaryDirectory() as home:
        candidate = from_checkpoint(directory, name=directory.name, home=Path(home), settings=settings)
        options = RunOptions(
            scratch=Path(home),
            memory=settings.memory_bytes(),
            threads=torch.get_num_threads(),
            batch_size=BATCH_SIZE,
        )
        running = score_candidates([candidate], questions, RUNNERS.get("resident"), options, InMemory())
        try:
            while True:
                next(running)
        except StopIteration as end:
            (scored,) = end.value
    if scored.error is not None:
        raise scored.error
    return summarise(questions.tasks[0].task.metrics, scored.items[0])[0]


def score_merge(
    merge: Merge, base: Tensors, models: dict[str, Tensors], tasks: Iterable[str], split: Split
) -> dict[str, Score]:
    """Write a merge to a temporary folder and score it."""
    with TemporaryDirectory() as folder:
        write_checkpoint(merged(base, models, merge), MODELS / "base", Path(folder))
        return {task: score(Path(folder), task, split) for task in tasks}


def tables() -> Iterator[tuple[str, dict[str, dict[str, Score]]]]:
    """Parents, untuned merges and grid on search; then the parents, the untuned and the best of the grid on
    the other splits.
    """
    tensors = {name: read_tensors(MODELS / name) for name in NAMES}
    base = tensors.pop("base")
    yield "distances", {name: {"from base": _distance(base, each)} for name, each in tensors.items()}
    yield (
        "parents, search",
        {name: {task: score(MODELS / name, task, "search") for task in TASKS} for name in NAMES},
    )
    grid = {
        merge.label: score_merge(merge, base, tensors, (GOAL, "l1_arithmetic"), "search")
        for merge in (*UNTUNED, *GRID)
    }
    yield "merges, search", grid
    final = {merge.label: merge for merge in UNTUNED}
    for method in ("task_arithmetic", "ties"):
        tried = (merge for merge in GRID if merge.method == method)
        best = max(tried, key=lambda merge: grid[merge.label][GOAL]["score"])
        final[best.label] = best
    for split in ("validation", "test"):
        found = {name: {task: score(MODELS / name, task, split) for task in TASKS} for name in NAMES}
        for merge in final.values():
            found[merge.label] = score_merge(merge, base, tensors, TASKS, split)
        yield f"parents and chosen merges, {split}", found


def _distance(base: Tensors, model: Tensors) -> Score:
    """Norm of the task vector over the norm of the base, over all weights."""
    moved = sum(float((model[name] - base[name]).double().square().sum()) for name in base)
    return {
        "score": round((moved / sum(float(each.double().square().sum()) for each in base.values())) ** 0.5, 4)
    }


def _show(title: str, rows: dict[str, dict[str, Score]]) -> str:
    columns = list(next(iter(rows.values())))
    lines = [f"### {title}", "", f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name, scores in rows.items():
        cells = (
            f"{100 * each['score']:.1f} ({100 * each['low']:.1f}-{100 * each['high']:.1f})"
            if "n" in each
            else f"{each['score']}"
            for each in scores.values()
        )
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Score everything and write zoo/scores.json."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch")
    torch.set_num_threads(parser.parse_args().threads)
    found: dict[str, dict[str, dict[str, Score]]] = {}
    for title, rows in tables():
        print(_show(title, rows), flush=True)
        found[title] = rows
    SCORES.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
