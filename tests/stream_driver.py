"""Drives streamed runs in tests: candidates over small families, and the same scores by plain transformers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from alloyd.jobs import Finished, MergeSpec, PlanSpec
from alloyd_daemon.candidate import Candidate, from_recipe
from alloyd_daemon.job import JOBS, Context
from alloyd_daemon.runner import RUNNERS, Answered, Lost, RunOptions
from alloyd_daemon.scoring.encoding import Span, SpanScore, context_length, encode
from alloyd_daemon.scoring.requests import Continuation, Likelihood, Request, WholeText
from alloyd_daemon.settings import Settings

GIB = 1 << 30


def requests(words: int = 90) -> list[Request]:
    """A few-shot prompt with questions of three answers each, gold answers with nothing in common, and a long text."""
    few_shot = " ".join(f"word{(7 * each) % words}" for each in range(16))
    found: list[Request] = []
    for item in range(4):
        question = f"{few_shot} word{item} word{(5 * item + 3) % words} word{(11 * item) % words}"
        found += [
            Continuation(
                question, " " + " ".join(f"word{(item + 13 * choice + k) % words}" for k in range(choice + 1))
            )
            for choice in range(3)
        ]
    found += [
        Continuation(f"word{29 * each % words} word{each}", f" word{17 * each % words}") for each in range(3)
    ]
    found += [
        Continuation("", "word4 word8"),
        WholeText(" ".join(f"word{k * k % words}" for k in range(100))),
    ]
    return found


def ties(family: Sequence[Path], number: int, **more: Any) -> str:
    """Recipe number ``number`` of a population over a family."""
    models = [
        {"model": each.name, "parameters": {"weight": 0.3 + 0.05 * number, "density": 0.2 + 0.04 * number}}
        for each in family[1:]
    ]
    return json.dumps({"merge_method": "ties", "base_model": family[0].name, "models": models} | more)


def candidate(family: Sequence[Path], recipe: str, name: str = "candidate", **how: Any) -> Candidate:
    home = family[0].parent / "home"
    home.mkdir(exist_ok=True)
    spec = PlanSpec(recipe=recipe, base_dir=str(family[0].parent), **how)
    return from_recipe(spec, name=name, home=home, settings=Settings())


def written(family: Sequence[Path], recipe: str, out: Path) -> Path:
    """The same recipe merged to disk by a merge job."""
    home = family[0].parent / "home"
    home.mkdir(exist_ok=True)
    spec = MergeSpec(recipe=recipe, base_dir=str(family[0].parent), out=str(out))
    reports = list(JOBS.get("merge").run(spec, Context(home, Settings(), "merge-1")))
    assert isinstance(reports[-1], Finished)
    return out


def word_level(folder: Path) -> Any:
    """The factory's tokenizer as its file says: for some architectures transformers makes another kind of it."""
    file = str(folder / "tokenizer.json")
    return transformers.PreTrainedTokenizerFast(
        tokenizer_file=file, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="</s>"
    )


def options(scratch: Path, **how: Any) -> RunOptions:
    scratch.mkdir(parents=True, exist_ok=True)
    return RunOptions(**{"scratch": scratch, "memory": 2 * GIB, "threads": 1} | how)


def run(
    candidates: Sequence[Candidate], asked: Sequence[Request], how: RunOptions
) -> tuple[dict[tuple[int, int], Likelihood], dict[int, Lost]]:
    """What the runner answers by (candidate, request), and whom it lost."""
    answers: dict[tuple[int, int], Likelihood] = {}
    lost: dict[int, Lost] = {}
    for each in RUNNERS.get("stream").run(candidates, asked, how):
        if isinstance(each, Answered):
            assert (each.candidate, each.request) not in answers
            assert isinstance(each.answer, Likelihood)
            answers[each.candidate, each.request] = each.answer
        elif isinstance(each, Lost):
            lost[each.candidate] = each
    return answers, lost


def resident(folder: Path, asked: Sequence[Request], **how: Any) -> dict[int, Likelihood]:
    """The answers of a checkpoint that transformers holds whole, one span at a time."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="auto", **how).eval()
    encoded = encode(
        asked, word_level(folder), context_length(json.loads((folder / "config.json").read_text()))
    )
    return encoded.likelihoods(plain_scores(model, encoded.spans))


@torch.no_grad()
def plain_scores(model: Any, spans: Sequence[Span]) -> dict[int, SpanScore]:
    """The scores of ``spans``, each run by itself."""
    scores: dict[int, SpanScore] = {}
    for place, span in enumerate(spans):
        logits = model(torch.tensor([span.ids[:-1]])).logits[0, span.first - 1 :].float()
        targets = torch.tensor(span.ids[span.first :])
        chosen = logits.log_softmax(-1)[torch.arange(len(targets)), targets]
        scores[place] = SpanScore(float(chosen.double().sum()), bool((logits.argmax(-1) == targets).all()))
    return scores
