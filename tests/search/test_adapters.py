"""Adapters in a search: every kind of it takes them as models, and scores them as it would their merged checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from adapter_factory import write_adapter
from alloyd.errors import RecipeError
from alloyd.jobs import Finished, MergeSpec, Planned, SearchSpec
from alloyd.search_reader import read
from alloyd_daemon.job import JOBS, Context
from alloyd_daemon.search.baselines import baselines
from alloyd_daemon.search.history import History
from alloyd_daemon.search.naming import referred
from alloyd_daemon.search.phases import Phases, phases_of
from alloyd_daemon.search.trial import VALIDATION
from alloyd_daemon.settings import Settings
from checkpoint_factory import Model, tensors, write_checkpoint

ROOT = Path(__file__).parents[2]
BASE = "zoo/models/base"
MATH, LANG = (f"{BASE}+zoo/adapters/{each}" for each in ("math", "lang"))
KNOB = "parameters: {weight: {low: 0, high: 2, start: 1}}"
THREE = f"""
  models:
    - {{model: {MATH}, {KNOB}}}
    - {{model: {{model: {{path: {BASE}}}, lora: {{path: zoo/adapters/lang}}}}, {KNOB}}}
    - {{model: zoo/models/lang, {KNOB}}}
"""
MERGE = f"recipe:\n  merge_method: task_arithmetic\n  base_model: {BASE}\n  dtype: float32{THREE}"
SOUP = f"recipe:\n  merge_method: linear\n  dtype: float32{THREE}"


def split(folder: Path, name: str, items: int) -> Path:
    """The first items of a split of the zoo's arithmetic in L2, each scored by how likely its answer is."""
    lines = (ROOT / f"zoo/tasks/l2_arithmetic.{name}.jsonl").read_text(encoding="utf-8").splitlines()[:items]
    plain = ({"context": each["prompt"], "answer": each["answer"]} for each in map(json.loads, lines))
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in plain))
    return path


def search(text: str, home: Path, items: int, *, base_dir: Path = ROOT, **more: Any) -> dict[str, Any]:
    """The results of a search over the first items, with a word of ``more`` in the place of what the spec says."""
    home.mkdir(parents=True, exist_ok=True)
    spec = {"budget": {"candidates": 4}, "finalists": 2, "runner": "toy"} | more
    tasks = {each: [str(split(home, each, items))] for each in ("search", "validation")}
    whole = f"{text}\n" + "\n".join(
        f"{key}: {json.dumps(each)}" for key, each in (spec | {"tasks": tasks}).items()
    )
    job = SearchSpec(whole, str(base_dir), threads=1, memory=6 << 30)
    said = list(JOBS.get("search").run(job, Context(home, Settings(), "search-1")))
    assert isinstance(said[0], Planned)
    assert isinstance(said[-1], Finished)
    found: dict[str, Any] = json.loads((home / "searches" / "search-1" / "results.json").read_bytes())
    return found | {"planned": said[0].summary}


@pytest.mark.usefixtures("toy")
def test_the_winner_over_adapters_is_a_previous_one_of_the_next_search(tmp_path: Path) -> None:
    won = search(MERGE, tmp_path, 10)
    found = search(
        MERGE, tmp_path / "next", 10, previous=[str(tmp_path / "searches" / "search-1")], baselines=False
    )
    first = found["trials"][0]
    assert (first["origin"], first["genes"]) == ("previous", won["winner"]["genes"])
    assert first["identity"] == next(
        each["identity"] for each in won["trials"] if each["trial"] == won["winner"]["trial"]
    )


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize(
    "what",
    [
        MERGE,
        MERGE + "optimiser: {name: evolver}\n",
        MERGE + "optimiser: {name: kinship}\n",
        MERGE + "optimiser: {name: greedy-soup}\n",
        MERGE + "path: {after: true}\n",
        SOUP + "path: {scale: [0.5, 2]}\n",
        f"path: {{models: [{MATH}, '{ROOT / BASE}+{ROOT}/zoo/adapters/lang', zoo/models/lang]}}\n",
        MERGE + "goal: pareto\nobjectives: [{metric: greedy}, {metric: logprob}]\n",
    ],
    ids=["recipe", "evolver", "kinship", "soup", "after", "hybrid", "path", "pareto"],
)
def test_every_kind_of_search_takes_adapters_as_models(tmp_path: Path, what: str) -> None:
    found = search(what, tmp_path, 10, budget={"candidates": 3})
    names = [each["name"] for each in found["baselines"]]
    assert names[:3] == ["base+math", "base+lang", "lang"]
    assert found["winner"]["figures"]
    sources = found["lineage"]["sources"]
    assert all(
        (each["adapter"] is not None) == ("+" in each["name"])
        for each in sources
        if "pool" not in each["path"]
    )
    digests = [each["digest"] for each in sources]
    assert None not in digests
    assert len(set(digests)) == len(digests), "a model has other weights with each of its adapters"
    assert all(each["state"] != "failed" for each in found["trials"])
    assert [each["name"] for each in found["planned"]["models"]][:3] == names[:3]
    assert [each["adapter"] for each in found["planned"]["models"]][:3] == [
        str(ROOT / "zoo/adapters/math"),
        str(ROOT / "zoo/adapters/lang"),
        None,
    ]


def opened_phases(tmp_path: Path, architecture: str, more: str = "") -> Phases:
    """A search over a GPT-2 whose square weights an adapter changes, said to be of another ``architecture``."""
    model = Model(architecture="gpt2", hidden=32)
    write_checkpoint(tmp_path / "base", model)
    write_adapter(tmp_path / "one", tensors(model), modules=("c_proj",), turned=True)
    said = f"override_architecture: {architecture}"
    models = (
        f"[{{model: {{model: base, lora: one, {said}}}, {KNOB}}}, {{model: {{model: base, {said}}}, {KNOB}}}]"
    )
    text = f"recipe:\n  merge_method: linear\n  models: {models}\n"
    spec = read(text + more + "tasks: {search: a, validation: b}\nbudget: {candidates: 1}\n")
    context = Context(tmp_path / "home", Settings(), "search-1")
    return phases_of(spec, base_dir=tmp_path, folder=tmp_path, context=context, memory=2**30)


def test_what_the_architecture_is_said_to_be_goes_with_a_source(tmp_path: Path) -> None:
    """By it an adapter's product is laid into square weights, so a baseline must not do without."""
    models = opened_phases(tmp_path, "GPTBigCodeForCausalLM").models
    held, _ = baselines({str(number): ref for number, ref in enumerate(models.sources)}, None, {})
    (entry,) = held[0].recipe["models"]
    assert entry["model"]["override_architecture"] == "GPTBigCodeForCausalLM"
    assert referred(entry["model"]) == next(iter(models.sources))
    with pytest.raises(RecipeError, match="override_architecture"):
        opened_phases(tmp_path, "GPTBigCodeForCausalLM", "path: {after: true}\n")


# What an adapter makes of a model scores as the checkpoint that it was merged to


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the zoo's base, and what its adapters make of it, in float32: no bit is lost on the way."""
    folder = tmp_path_factory.mktemp("merged")
    for name, source in (("base", BASE), ("base-math", MATH), ("base-lang", LANG)):
        text = f"merge_method: passthrough\nmodels: [{{model: {source}}}]\nout_dtype: float32\n"
        spec = MergeSpec(recipe=text, base_dir=str(ROOT), out=str(folder / name), threads=1)
        list(JOBS.get("merge").run(spec, Context(folder / "home", Settings(), "merge-1")))
    return folder


def pair(base: str, math: str, lang: str, method: str = "task_arithmetic") -> str:
    return f"""
recipe:
  merge_method: {method}
  base_model: {base}
  models:
    - {{model: {math}, {KNOB}}}
    - {{model: {lang}, {KNOB}}}
  dtype: float32
  out_dtype: bfloat16
"""


def table(home: Path) -> list[Any]:
    """Every trial of a search, with what each of its items scored."""
    history = History.read(home / "searches" / "search-1" / "history.db")
    return [
        (each.origin, each.losses, *(history.scores(each.number, rung) for rung in (0, VALIDATION)))
        for each in history.trials()
    ]


@pytest.mark.parametrize("runner", ["resident", "stream", "gguf"])
def test_scores_are_those_of_the_merged_checkpoints(tmp_path: Path, merged: Path, runner: str) -> None:
    pytest.importorskip("transformers")
    pytest.importorskip("llama_cpp" if runner == "gguf" else "torch")
    whole = (
        runner == "resident"
    )  # the baselines, too: those that are one source are told apart from their base
    how: dict[str, Any] = {"runner": runner, "budget": {"candidates": 3}, "finalists": 1, "baselines": whole}
    search(pair(BASE, MATH, LANG), tmp_path / "adapters", 3, **how)
    plain = pair(*(str(merged / each) for each in ("base", "base-math", "base-lang")))
    search(plain, tmp_path / "merged", 3, **how)
    found = table(tmp_path / "adapters")
    assert found == table(tmp_path / "merged")
    losses = [losses for _, losses, *_ in found]
    assert None not in losses
    assert len(set(losses)) > (8 if whole else 2), "models that are not alike score differently"
