"""The zoo as the ground of search benchmarks: papers (items of one task and split), recipes, and scores that are kept.

Items come from the zoo's own generator. The search and validation papers begin with the committed files; the locked
ones begin behind all test items that were looked at before, so that nobody has chosen anything by them. `leaks` says
whether any two papers share an item. Scores are the project's own (`scoring/run.py` and a runner, in one warm
process); each row is kept under recipe, paper and type in `WORK/scores.db`, so that a run that was stopped goes on.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import sqlite3
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from alloyd import splits, task_file  # noqa: E402
from alloyd.jobs import PlanSpec  # noqa: E402
from alloyd_daemon import tasks as task_names  # noqa: E402
from alloyd_daemon.candidate import from_recipe  # noqa: E402
from alloyd_daemon.engine.findings import FindingCache  # noqa: E402
from alloyd_daemon.evaluator import Choices  # noqa: E402
from alloyd_daemon.runner import RUNNERS, RunOptions  # noqa: E402
from alloyd_daemon.scoring.intervals import bootstrap_interval  # noqa: E402
from alloyd_daemon.scoring.paired import mcnemar  # noqa: E402
from alloyd_daemon.scoring.run import InMemory, Posed, Questions, score  # noqa: E402
from alloyd_daemon.settings import Settings  # noqa: E402
from alloyd_daemon.warm import Warm  # noqa: E402
from zoo.language import render  # noqa: E402
from zoo.problems import ALL, Split, sentences, split_of, task_items  # noqa: E402
from zoo.tasks import SEED, size  # noqa: E402

LAYERS: Final = 4
LOOKED_AT: Final = 4000
"""Items behind the committed test items that were scored while models, goal and ranges were chosen."""
Array = NDArray[np.float64]
PlainRecipe = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Paper:
    """Items of one task in one split, in a file. ``values`` names what the evaluator says of an item, first the one
    that counts."""

    task: str
    split: str
    path: Path
    evaluator: str = "gold_answer"
    values: tuple[str, ...] = ("greedy", "logprob")

    @property
    def name(self) -> str:
        """What a search spec calls it."""
        return f"{self.evaluator}:{self.path}"

    @property
    def items(self) -> int:
        """How many items it has."""
        return sum(1 for line in self.path.open(encoding="utf-8") if line.strip())


def wide_pair(work: Path, *, distractor: bool = False) -> tuple[dict[str, Path], Path]:
    """The zoo's `math_wide` and `lang_wide`, as math and lang, and the base: copies of them, below ``work``.

    ``distractor`` adds the zoo's own.
    """
    names = {"base": "base", "math": "math_wide", "lang": "lang_wide"}
    found = {}
    for name, kept in names.items():
        found[name] = work / "models" / kept
        if not found[name].exists():
            shutil.copytree(ROOT / "zoo" / "models" / kept, found[name])
    if distractor:
        found["distractor"] = ROOT / "zoo" / "models" / "distractor"
    base = found.pop("base")
    return found, base


def paper(work: Path, task: str, split: Split, count: int, *, locked: bool = False) -> Paper:
    """Write a paper of ``count`` items of one of the zoo's tasks; ``locked``: behind all that were ever looked at."""
    skip = size(task, split) + LOOKED_AT if locked else 0
    name = "locked" if locked else split
    path = (
        work / "papers" / f"{task}.{name}.{skip}.{count}.jsonl"
        if locked
        else work / "papers" / f"{task}.{name}.{count}.jsonl"
    )
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [
            json.dumps({"id": each.id, "prompt": each.prompt, "answer": each.answer}, ensure_ascii=False)
            + "\n"
            for each in islice(task_items(task, split, skip + count, SEED), skip, None)
        ]
        fresh = path.with_suffix(".new")
        fresh.write_text("".join(lines), encoding="utf-8")
        fresh.replace(path)
    return Paper(task, "locked" if locked else split, path)


def text_paper(work: Path, split: Split, count: int) -> Paper:
    """Write a paper of ``count`` different L2 texts of one or two sentences, whose stories are of the split."""
    path = work / "papers" / f"l2_text.{split}.{count}.jsonl"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        draws, texts = random.Random(f"l2_text {split} {SEED}"), dict[str, None]()
        while len(texts) < count:
            story = sentences(draws, ALL)
            if split_of(story) == split:
                texts[" ".join(render(each, "l2") for each in story)] = None
        fresh = path.with_suffix(".new")
        fresh.write_text(
            "".join(json.dumps({"text": each}, ensure_ascii=False) + "\n" for each in texts), encoding="utf-8"
        )
        fresh.replace(path)
    return Paper("l2_text", split, path, "perplexity", ("nats", "bytes"))


def check_leaks(papers: Iterable[Paper]) -> str:
    """A line that says that no two papers, and none but a beginning and a committed file, share an item.

    Raises SystemExit where some do. `alloy leaks FILE...` checks the same.
    """
    paths = [each.path for each in papers]
    locked = [each.path for each in papers if each.split == "locked"]
    committed = sorted((ROOT / "zoo" / "tasks").glob("*.jsonl"))
    found = splits.leaks([task_file.read(each) for each in paths])
    found += splits.leaks([task_file.read(each) for each in [*locked, *committed]])
    if found:
        raise SystemExit(f"{len(found)} items stand in several papers, the first at {found[0].other.where}")
    return (
        f"no leaks among {len(paths)} papers, nor between {len(locked)} locked ones and the committed files"
    )


@dataclass(slots=True)
class Ground:
    """The models by name, and a warm scorer. ``asked`` counts the items of all scores asked for, kept ones included."""

    work: Path
    models: Mapping[str, Path]
    base: Path
    threads: int = 1
    asked: int = 0
    seconds: list[float] = field(default_factory=list)
    _store: sqlite3.Connection = field(init=False)
    _findings: FindingCache = field(init=False, default_factory=FindingCache)
    _warm: Warm = field(init=False, default_factory=Warm)

    def __post_init__(self) -> None:
        self.work.mkdir(parents=True, exist_ok=True)
        self._store = sqlite3.connect(self.work / "scores.db", timeout=60)
        self._store.execute("CREATE TABLE IF NOT EXISTS rows (key TEXT PRIMARY KEY, row BLOB, seconds REAL)")

    def merge(
        self, method: str, models: Mapping[str, Mapping[str, Any]], *, seed: int = 0, **parameters: Any
    ) -> PlainRecipe:
        """A recipe over the base: ``models`` gives the parameters of each model by its name."""
        recipe: PlainRecipe = {"merge_method": method}
        if seed:
            recipe["seed"] = seed
        if method not in ("linear", "passthrough"):
            recipe["base_model"] = str(self.base)
        recipe["models"] = [
            {"model": str(self.models[name]), "parameters": dict(each)} for name, each in models.items()
        ]
        if parameters:
            recipe["parameters"] = parameters
        return {**recipe, "dtype": "bfloat16"}

    def alone(self, name: str) -> PlainRecipe:
        """One model as it stands; ``base`` is one."""
        path = self.base if name == "base" else self.models[name]
        return {"merge_method": "passthrough", "models": [{"model": str(path)}], "dtype": "bfloat16"}

    def rows(
        self,
        recipes: Sequence[PlainRecipe],
        asked: Paper,
        *,
        quantise: str | None = None,
        runner: str = "resident",
    ) -> NDArray[np.float64]:
        """What every item of a paper is worth to every recipe, float64 [recipes, values, items]."""
        text = asked.path.read_bytes()
        keys = [_key(recipe, text, asked.evaluator, quantise, runner) for recipe in recipes]
        known = {key: self._kept(key, len(asked.values)) for key in keys}
        missing = {key: recipe for key, recipe in zip(keys, recipes, strict=True) if known[key] is None}
        if missing:
            known |= self._score(missing, asked, quantise, runner)
        found = np.stack([np.asarray(known[key]) for key in keys])
        self.asked += found.shape[0] * found.shape[2]
        return found

    def table(self, recipes: Sequence[PlainRecipe], asked: Paper, **how: Any) -> Array:
        """The value that counts, float64 [recipes, items]."""
        return self.rows(recipes, asked, **how)[:, 0]

    def _kept(self, key: str, values: int) -> Array | None:
        row = self._store.execute("SELECT row FROM rows WHERE key = ?", (key,)).fetchone()
        return None if row is None else np.frombuffer(row[0]).reshape(values, -1)

    def _score(
        self, recipes: Mapping[str, PlainRecipe], asked: Paper, quantise: str | None, runner: str
    ) -> dict[str, Array]:
        settings = Settings()
        evaluator, task = task_names.resolve([asked.name], Choices())[0]
        questions = Questions([Posed(evaluator, task)])
        candidates = [
            from_recipe(
                PlanSpec(recipe=json.dumps(recipe), base_dir="/", threads=self.threads, recipe_name=key[:12]),
                name=key,
                home=self.work,
                settings=settings,
            )
            for key, recipe in recipes.items()
        ]
        scratch = self.work / "scratch"
        scratch.mkdir(exist_ok=True)
        options = RunOptions(
            scratch=scratch,
            memory=settings.memory_bytes(),
            threads=self.threads,
            quantise=quantise,
            findings=self._findings,
            warm=self._warm,
        )
        started = time.perf_counter()
        running = score(candidates, questions, RUNNERS.get(runner), options, InMemory())
        with contextlib.closing(running):
            while True:
                try:
                    next(running)
                except StopIteration as end:
                    scored = end.value
                    break
        seconds = (time.perf_counter() - started) / len(candidates)
        found = {}
        for candidate, each in zip(candidates, scored, strict=True):
            if each.error is not None:
                raise each.error
            found[candidate.name] = np.array(
                [[item.values[value] for item in each.items[0]] for value in asked.values]
            )
        self.seconds += [seconds] * len(found)
        with self._store:
            self._store.executemany(
                "INSERT OR REPLACE INTO rows VALUES (?, ?, ?)",
                [(key, row.tobytes(), seconds) for key, row in found.items()],
            )
        return found


def by_layer(groups: Sequence[float]) -> list[float]:
    """Values of neighbouring groups of layers as a gradient with one point a layer, which is each layer's own value."""
    return [float(groups[layer * len(groups) // LAYERS]) for layer in range(LAYERS)]


@dataclass(frozen=True, slots=True)
class Difference:
    """A mean difference over paired items, its 95 % bootstrap interval, and McNemar's p where items are 0 or 1."""

    difference: float
    low: float
    high: float
    p: float | None

    @property
    def better(self) -> bool:
        """Whether the interval lies above 0, and the test agrees."""
        return self.low > 0 and (self.p is None or self.p < 0.05)

    def __str__(self) -> str:
        said = f"{100 * self.difference:+.1f} ({100 * self.low:+.1f} to {100 * self.high:+.1f})"
        return said if self.p is None else f"{said} p={self.p:.2g}"


def paired(ours: Array, theirs: Array) -> Difference:
    """``ours`` less ``theirs`` over the same items."""
    gains = ours - theirs
    low, high = bootstrap_interval(lambda rows: gains[rows].mean(axis=1), len(gains))
    shares = np.isin(ours, (0, 1)).all() and np.isin(theirs, (0, 1)).all()
    p = mcnemar(int((gains > 0).sum()), int((gains < 0).sum())) if shares else None
    return Difference(float(gains.mean()), low, high, p)


def _key(recipe: PlainRecipe, text: bytes, *how: str | None) -> str:
    said = json.dumps([recipe, *how], sort_keys=True).encode()
    return sha256(said + b"\0" + sha256(text).digest()).hexdigest()
