"""Every registered runner gives what a plain transformers loop gives, in any batches, after any stop."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers")

from transformers import AutoTokenizer, PreTrainedTokenizerFast

from alloyd.errors import AlloydError, TaskError
from alloyd.jobs import Progress
from alloyd_daemon.candidate import Candidate
from alloyd_daemon.runner import RUNNERS, Answered, Lost, RunOptions
from alloyd_daemon.scoring.requests import (
    Answer,
    Continuation,
    Likelihood,
    Prompt,
    Request,
    WholeText,
    Written,
)
from checkpoint_factory import (
    ARCHITECTURES,
    Architecture,
    Model,
    read_safetensors,
    write_family,
    write_safetensors,
)
from zoo_candidates import MODELS, Plain, checkpoint, recipe, recipe_text, written

STORY = "anna has 5 apples . ben has 2 apples . how many apples has anna ? :"
LIKELIHOODS: tuple[Request, ...] = (
    *(Continuation("2 + 2 :", f" {n}") for n in (3, 4, 5)),
    Continuation(STORY, " 5"),
    Continuation(STORY, " 2"),
    Continuation(STORY, " 5 apples"),
    Continuation(STORY, " 2 pears ."),
    WholeText("anna has 5 apples . ben has 2 pears ."),
    Continuation("", "anna has 5 apples ."),
)
PROMPTS: tuple[Request, ...] = (Prompt("2 + 2 :"), Prompt(STORY), Prompt("9 - 4 :"), Prompt("1 + 7 :"))

GENERATING = [name for name, each in RUNNERS.items() if each.generates]
# What llama.cpp computes differs from transformers in the order of sums and in the type of its cache.
TOLERANCE = {"gguf": 5e-2}


def runners(*, generating: bool = False) -> Any:
    return pytest.mark.parametrize("runner", GENERATING if generating else RUNNERS.names())


def run(
    runner: str,
    candidates: Sequence[Candidate],
    requests: Sequence[Request],
    scratch: Path,
    **options: Any,
) -> tuple[dict[tuple[int, int], Answer], dict[int, AlloydError]]:
    chosen = RunOptions(scratch=scratch, memory=6 << 30, threads=1, **options)
    answers: dict[tuple[int, int], Answer] = {}
    lost: dict[int, AlloydError] = {}
    done = 0
    for outcome in RUNNERS.get(runner).run(candidates, requests, chosen):
        if isinstance(outcome, Answered):
            answers[outcome.candidate, outcome.request] = outcome.answer
        elif isinstance(outcome, Lost):
            lost[outcome.candidate] = outcome.error
        elif isinstance(outcome, Progress):
            assert done <= outcome.done <= outcome.total
            done = outcome.done
    return answers, lost


def close(one: Answer, other: Answer, tolerance: float) -> bool:
    if isinstance(one, Likelihood) and isinstance(other, Likelihood):
        alike = (one.greedy, one.tokens) == (other.greedy, other.tokens)
        return alike and one.logprob == pytest.approx(other.logprob, abs=tolerance, rel=tolerance)
    return one == other


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A merge in float32, written."""
    place = tmp_path_factory.mktemp("merged")
    return written(recipe_text(1.0), place / "home", place / "merged")


@pytest.fixture(scope="module")
def plain(merged: Path) -> Plain:
    return Plain(merged)


@runners()
def test_likelihoods_are_those_of_a_plain_loop_written_or_not(
    runner: str, merged: Path, plain: Plain, tmp_path: Path
) -> None:
    candidates = [checkpoint(merged, tmp_path), recipe(recipe_text(1.0), tmp_path)]
    answers, lost = run(runner, candidates, LIKELIHOODS, tmp_path)
    assert not lost
    tolerance = TOLERANCE.get(runner, 1e-4)
    for number, request in enumerate(LIKELIHOODS):
        assert isinstance(request, Continuation | WholeText)
        logprob, greedy = plain.likelihood(request)
        answer = answers[0, number]
        assert isinstance(answer, Likelihood)
        assert answer.logprob == pytest.approx(logprob, abs=tolerance, rel=tolerance)
        assert answer.greedy == greedy
        assert answers[1, number] == answer


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_is_run_as_transformers_runs_it(
    architecture: Architecture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = write_family(tmp_path / "family", Model(architecture=architecture, dtype="F32"))
    models = "".join(f"  - {{model: {each}, parameters: {{weight: 0.5}}}}\n" for each in family[1:])
    text = f"merge_method: linear\nmodels:\n{models}dtype: float32\n"
    out = written(text, tmp_path / "home", tmp_path / "out")
    words = " ".join(f"word{n}" for n in range(12))
    asked = (
        *(Continuation(words, f" {ending}") for ending in ("word1 word2", "word1 word3 word4", "word7")),
        WholeText(f"{words} {words}"),
    )
    # For some architectures transformers makes a tokenizer of another kind than the file's.
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(out / "tokenizer.json"), **names)
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", lambda *_, **__: tokenizer)
    candidates = [checkpoint(out, tmp_path), recipe(text, tmp_path)]
    answers, lost = run("resident", candidates, asked, tmp_path)
    assert not lost
    plain = Plain(out)
    for number, request in enumerate(asked):
        logprob, greedy = plain.likelihood(request)
        for candidate in range(2):
            answer = answers[candidate, number]
            assert isinstance(answer, Likelihood)
            assert answer.logprob == pytest.approx(logprob, rel=1e-4)
            assert answer.greedy == greedy


@runners()
def test_batches_do_not_decide(runner: str, merged: Path, tmp_path: Path) -> None:
    candidates = [checkpoint(merged, tmp_path)]
    together, _ = run(runner, candidates, LIKELIHOODS, tmp_path / "together")
    for size in (1, 3):
        (tmp_path / str(size)).mkdir()
        some, _ = run(runner, candidates, LIKELIHOODS, tmp_path / str(size), batch_size=size)
        assert some.keys() == together.keys()
        assert all(close(some[each], together[each], TOLERANCE.get(runner, 1e-4)) for each in some)


@runners()
def test_a_run_that_goes_on_gives_the_very_same_answers(runner: str, tmp_path: Path) -> None:
    requests = LIKELIHOODS + (PROMPTS if runner in GENERATING else ())
    candidates = [
        recipe(recipe_text(math, dtype="bfloat16"), tmp_path, name=f"math {math}") for math in (0.5, 1.0)
    ]
    whole, _ = run(runner, candidates, requests, tmp_path / "whole", batch_size=2)
    assert len(whole) == 2 * len(requests)
    for known in (
        {(0, number) for number in range(len(requests))},
        {key for place, key in enumerate(sorted(whole)) if place % 3},
    ):
        scratch = tmp_path / f"known {len(known)}"
        some, _ = run(runner, candidates, requests, scratch, batch_size=2, known=frozenset(known))
        assert set(whole) - known <= set(some)
        assert all(some[each] == whole[each] for each in some)
    nothing, _ = run(runner, candidates, requests, tmp_path / "all", batch_size=2, known=frozenset(whole))
    assert not nothing


@runners()
def test_a_candidate_comes_back_as_it_was(runner: str, tmp_path: Path) -> None:
    first, other = recipe_text(1.0, dtype="bfloat16"), recipe_text(0.3, dtype="bfloat16")
    candidates = [
        recipe(text, tmp_path, name=name) for name, text in (("a", first), ("b", other), ("c", first))
    ]
    answers, _ = run(runner, candidates, LIKELIHOODS, tmp_path)
    assert [answers[0, n] for n in range(len(LIKELIHOODS))] == [
        answers[2, n] for n in range(len(LIKELIHOODS))
    ]
    assert answers[0, 0] != answers[1, 0]


@runners()
def test_a_candidate_of_nan_is_lost_alone(runner: str, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(MODELS / "base", broken)
    weights = read_safetensors(broken / "model.safetensors")
    name = next(each for each in weights if each.endswith("layers.1.input_layernorm.weight"))
    weights[name] = weights[name].copy()
    weights[name][0] = float("nan")
    write_safetensors(broken / "model.safetensors", weights)
    candidates = [checkpoint(broken, tmp_path), checkpoint(MODELS / "base", tmp_path)]
    answers, lost = run(runner, candidates, LIKELIHOODS, tmp_path)
    assert list(lost) == [0]
    assert {number for candidate, number in answers if candidate == 1} == set(range(len(LIKELIHOODS)))
    if runner in GENERATING:
        (tmp_path / "write").mkdir()
        answers, lost = run(runner, candidates, PROMPTS, tmp_path / "write")
        assert list(lost) == [0]
        assert {number for candidate, number in answers if candidate == 1} == set(range(len(PROMPTS)))


@runners()
def test_what_does_not_fit_is_refused_before_work(runner: str, tmp_path: Path) -> None:
    long = Continuation("1 " * 300, "2")
    with pytest.raises(TaskError, match=r"request 1: the item has \d+ tokens, the model's context holds 256"):
        run(runner, [checkpoint(MODELS / "base", tmp_path)], [LIKELIHOODS[0], long], tmp_path)


@runners(generating=True)
def test_generation_is_that_of_a_plain_loop(runner: str, merged: Path, plain: Plain, tmp_path: Path) -> None:
    candidates = [checkpoint(merged, tmp_path), recipe(recipe_text(1.0), tmp_path)]
    for size in (None, 1):
        scratch = tmp_path / str(size)
        scratch.mkdir()
        answers, lost = run(runner, candidates, PROMPTS, scratch, batch_size=size)
        assert not lost
        for number, request in enumerate(PROMPTS):
            assert isinstance(request, Prompt)
            wanted = plain.write(request.text)
            for candidate in range(2):
                answer = answers[candidate, number]
                assert isinstance(answer, Written)
                assert answer.text.split() == wanted.split()


@runners(generating=True)
def test_answers_end_where_they_are_told_to(runner: str, merged: Path, plain: Plain, tmp_path: Path) -> None:
    # Without its end tokens the model writes on.
    endless = tmp_path / "endless"
    shutil.copytree(merged, endless)
    path = endless / "generation_config.json"
    facts = json.loads(path.read_text())
    config = json.loads((endless / "config.json").read_text())
    facts["eos_token_id"] = config["eos_token_id"] = len(plain.tokenizer) - 1
    path.write_text(json.dumps(facts))
    (endless / "config.json").write_text(json.dumps(config))
    candidates = [checkpoint(endless, tmp_path)]
    asked = [Prompt(STORY, most_tokens=8)]
    answers, _ = run(runner, candidates, asked, tmp_path)
    whole = answers[0, 0]
    assert isinstance(whole, Written)
    words = whole.text.split()
    assert 1 < len(words) <= 8
    stop = words[-1]
    stopped = [
        Prompt(STORY, most_tokens=8, stop=(stop,)),
        Prompt("2 + 2 :", most_tokens=8, stop=("nowhere",)),
    ]
    (tmp_path / "stop").mkdir()
    answers, _ = run(runner, candidates, stopped, tmp_path / "stop")
    cut = answers[0, 0]
    assert isinstance(cut, Written)
    assert cut.text == whole.text[: whole.text.index(stop)]
    other = answers[0, 1]
    assert isinstance(other, Written)
    assert len(other.text.split()) > len(cut.text.split()) or other.text
