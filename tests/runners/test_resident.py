"""The resident runner writes only what differs, drops what it cannot trust, and refuses what memory cannot hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers")

from alloyd.errors import MemoryTooSmall, SourceError
from alloyd_daemon.candidate import Candidate
from alloyd_daemon.causal_lm import questions
from alloyd_daemon.causal_lm.likelihood import span_scores
from alloyd_daemon.causal_lm.warm import WarmModel, check_memory
from alloyd_daemon.engine.in_memory import Weights, population
from alloyd_daemon.runner import RUNNERS, Answered, Lost, RunOptions
from alloyd_daemon.scoring.requests import Continuation, Request
from checkpoint_factory import Model, read_checkpoint, write_family, write_weights
from zoo_candidates import MODELS, checkpoint, recipe

ASKED: tuple[Request, ...] = (Continuation("word1 word2", " word3"), Continuation("word4", " word5"))


@pytest.fixture
def family(tmp_path: Path) -> list[Path]:
    return write_family(tmp_path / "family", Model(layers=3))


@pytest.fixture
def merged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the tensors that were merged."""
    names: list[str] = []
    whole = Weights.of

    def of(self: Weights, asked: Any) -> Any:
        asked = list(asked)
        names.extend(asked)
        return whole(self, asked)

    monkeypatch.setattr(Weights, "of", of)
    return names


def mixed(family: list[Path], home: Path, *weights: float) -> Candidate:
    """A linear merge whose weight differs by layer."""
    text = "merge_method: linear\ndtype: bfloat16\nmodels:\n"
    text += f"  - {{model: {family[1]}, parameters: {{weight: 1.0}}}}\n"
    layers = ", ".join(f"{{filter: layers.{n}., value: {weight}}}" for n, weight in enumerate(weights))
    text += f"  - {{model: {family[2]}, parameters: {{weight: [{layers}, {{value: 1.0}}]}}}}\n"
    return recipe(text, home, name=f"mixed {weights}")


def run(
    candidates: list[Candidate], scratch: Path, **options: Any
) -> tuple[dict[tuple[int, int], Any], list[int]]:
    answers, lost = {}, []
    chosen = RunOptions(scratch=scratch, memory=6 << 30, threads=1, **options)
    for outcome in RUNNERS.get("resident").run(candidates, ASKED, chosen):
        if isinstance(outcome, Answered):
            answers[outcome.candidate, outcome.request] = outcome.answer
        elif isinstance(outcome, Lost):
            lost.append(outcome.candidate)
    return answers, lost


@pytest.mark.parametrize("quantise", [None, "nf4", "int8"])
def test_only_what_differs_is_merged_and_the_result_is_that_of_a_fresh_model(
    quantise: str | None, family: list[Path], tmp_path: Path, merged: list[str]
) -> None:
    if quantise:
        pytest.importorskip("bitsandbytes")
    first, second = mixed(family, tmp_path, 1.0, 1.0, 1.0), mixed(family, tmp_path, 1.0, 0.2, 1.0)
    tensors = [each.name for each in first.prepared.plan.tensors]
    warm, lost = run([first, second, first], tmp_path, quantise=quantise)
    assert not lost
    assert merged[: len(tensors)] == tensors
    changed = [name for name in tensors if ".layers.1." in name]
    assert merged[len(tensors) :] == changed * 2
    fresh, _ = run([second], tmp_path, quantise=quantise)
    assert [fresh[0, n] for n in range(2)] == [warm[1, n] for n in range(2)]
    assert [warm[0, n] for n in range(2)] == [warm[2, n] for n in range(2)]
    assert warm[0, 0] != warm[1, 0]


@pytest.mark.parametrize("quantise", [None, "nf4", "int8"])
def test_biases_that_a_forward_has_seen_take_new_values(quantise: str | None, tmp_path: Path) -> None:
    """bitsandbytes puts new tensors into a module at its first forward."""
    if quantise:
        pytest.importorskip("bitsandbytes")
    models = write_family(tmp_path / "gpt2", Model(architecture="gpt2", hidden=64, intermediate=128))
    text = "merge_method: linear\nmodels:\n  - {{model: {}, parameters: {{weight: 1.0}}}}\n"
    text += "  - {{model: {}, parameters: {{weight: {}}}}}\n"
    first, second = (recipe(text.format(*models[1:], weight), tmp_path) for weight in (0.2, 3.0))
    warm, lost = run([first, second], tmp_path, quantise=quantise)
    assert not lost
    fresh, _ = run([second], tmp_path, quantise=quantise)
    assert [fresh[0, n] for n in range(2)] == [warm[1, n] for n in range(2)]


def test_a_model_is_not_gone_on_with_after_a_failure(
    family: list[Path], tmp_path: Path, merged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def fail_once(model: Any, batch: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")
        return span_scores(model, batch)

    monkeypatch.setattr(questions, "span_scores", fail_once)
    candidates = [mixed(family, tmp_path, 1.0, weight, 1.0) for weight in (1.0, 0.5, 0.2)]
    answers, lost = run(candidates, tmp_path)
    assert lost == [1]
    assert {number for number, _ in answers} == {0, 2}
    assert merged[-len(candidates[0].prepared.plan.tensors) :] == [
        each.name for each in candidates[0].prepared.plan.tensors
    ]


def test_a_budget_that_holds_no_model_is_refused_before_work(family: list[Path], tmp_path: Path) -> None:
    candidate = checkpoint(MODELS / "base", tmp_path)
    with pytest.raises(MemoryTooSmall, match=r"base needs [\d,]+ bytes of memory") as refused:
        check_memory(candidate, None, 100 << 20)
    least = refused.value.facts["least"]
    assert isinstance(least, int)
    check_memory(candidate, None, least)
    with pytest.raises(MemoryTooSmall):
        check_memory(candidate, None, least - 1)
    with pytest.raises(MemoryTooSmall) as merging:
        check_memory(mixed(family, tmp_path, 1.0), None, 1)
    assert merging.value.hint


def test_folders_without_config_or_tokenizer_are_refused_before_work(
    family: list[Path], tmp_path: Path
) -> None:
    (family[0] / "tokenizer.json").unlink()
    (family[0] / "tokenizer_config.json").unlink()
    with pytest.raises(SourceError, match="cannot load the tokenizer"):
        run([checkpoint(family[1], tmp_path), checkpoint(family[0], tmp_path)], tmp_path)
    (family[1] / "config.json").unlink()
    with pytest.raises(SourceError, match=r"no config\.json"):
        run([checkpoint(family[1], tmp_path)], tmp_path)


def test_a_checkpoint_that_lacks_a_weight_is_lost(family: list[Path], tmp_path: Path) -> None:
    weights = read_checkpoint(family[1])
    del weights["model.norm.weight"]
    write_weights(family[1], weights)
    answers, lost = run([checkpoint(family[1], tmp_path), checkpoint(family[0], tmp_path)], tmp_path)
    assert lost == [0]
    assert {number for number, _ in answers} == {1}


def test_a_warm_model_takes_the_end_tokens_of_each_candidate(family: list[Path], tmp_path: Path) -> None:
    first = mixed(family, tmp_path, 1.0)
    model = WarmModel(None, writes=True)
    (asked,) = questions.questions_of([first], ASKED, batch_size=None, where=str)
    with population([first]) as opened:
        model.become(first, opened.members[0], asked.tokenizer)
        assert model.model.generation_config.eos_token_id == 2
        path = first.folder / "generation_config.json"
        path.write_text(json.dumps({"eos_token_id": [5, 6], "max_new_tokens": 3, "temperature": 0.5}))
        model.become(first, opened.members[0], asked.tokenizer)
        settings = model.model.generation_config
        assert (settings.eos_token_id, settings.max_new_tokens, settings.do_sample) == ([5, 6], 3, False)
        path.unlink()
        model.become(first, opened.members[0], asked.tokenizer)
        assert model.model.generation_config.eos_token_id == 2
