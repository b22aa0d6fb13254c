"""The score and the search that the soak asks for, over the zoo, and what of their results no clock tells."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from alloyd import Client
from alloyd.jobs import Job, ScoreSpec, SearchSpec
from alloyd.specs import score_spec, search_spec

ZOO: Final = Path(__file__).parents[2] / "zoo"
SPLITS: Final = ("search", "validation", "test")
ITEMS: Final = 12


def write_tasks(folder: Path) -> None:
    """The first items of the zoo's arithmetic, so that even a search is soon over."""
    for split in SPLITS:
        lines = (ZOO / "tasks" / f"l2_arithmetic.{split}.jsonl").read_text().splitlines(keepends=True)
        (folder / f"{split}.jsonl").write_text("".join(lines[:ITEMS]))


def score(folder: Path) -> ScoreSpec:
    models = [ZOO / "models" / name for name in ("base", "math")]
    return score_spec(models, folder / "validation.jsonl", {"threads": 1}, far=False)


def search(folder: Path) -> SearchSpec:
    weight = {"low": 0, "high": 1.5, "start": 0.8}
    spec: dict[str, Any] = {
        "recipe": {
            "merge_method": "task_arithmetic",
            "base_model": str(ZOO / "models" / "base"),
            "models": [
                {"model": str(ZOO / "models" / name), "parameters": {"weight": weight}}
                for name in ("math", "lang")
            ],
            "dtype": "float32",
        },
        "tasks": {split: [str(folder / f"{split}.jsonl")] for split in SPLITS},
        "optimiser": "random",
        "budget": {"candidates": 4},
        "seed": 1,
        "runner": "resident",
    }
    return search_spec(spec, {"threads": 1}, far=False)


def told_by_score(job: Job) -> list[Any]:
    return [] if job.result is None else [each["scores"] for each in job.result["models"]]


def told_by_search(client: Client, job: Job) -> dict[str, Any]:
    told = client.results(job.id)
    return {
        "trials": [[each["name"], each["genes"], each["state"], each["losses"]] for each in told["trials"]],
        "winner": told["winner"]["recipe"],
    }
