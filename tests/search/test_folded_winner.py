"""A folded path is a checkpoint like any other: unwritten in every runner, written in transformers and llama.cpp."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers")

from alloyd.search_schema import DataFlow
from alloyd_daemon.checkpoints.checkpoint import open_checkpoint
from alloyd_daemon.llama.engine import Engine
from alloyd_daemon.llama.likelihood import score
from alloyd_daemon.llama.messages import Load
from alloyd_daemon.llama.packing import pack as pack_of
from alloyd_daemon.runner import RUNNERS, Answered, Lost, RunOptions
from alloyd_daemon.scoring.encoding import Span
from alloyd_daemon.scoring.requests import (
    Answer,
    Continuation,
    Likelihood,
    Prompt,
    Request,
    WholeText,
    Written,
)
from alloyd_daemon.search.genome import check, first_point
from alloyd_daemon.search.space import PlainRecipe
from alloyd_daemon.search.spaces.data_flow import DataFlowSpace
from extras import need
from gguf_support.tiny_models import VOCABULARY, write_model
from llama.conftest import gguf_file, logprobs_of, reference
from zoo_candidates import MODELS, Plain, recipe, written

STORY = "paul has 4 keys . gina has 9 keys . how many keys have gina and paul together ? # :"
ASKED: tuple[Request, ...] = (
    Continuation(STORY, " 13"),
    Continuation(STORY, " 7"),
    WholeText(STORY),
    Prompt(STORY, most_tokens=24),
    Prompt("2 + 2 :", most_tokens=24),
)


def path(folders: list[Path], *, repeated: bool = True) -> PlainRecipe:
    """Layers of both models, one of them repeated (or not), scales of both signs, in float32."""
    space = DataFlowSpace(
        DataFlow(repeat=2, scale=(0.05, 3.0), sign=True), [open_checkpoint(each) for each in folders]
    )
    first, second = (each.name for each in folders)
    point = dict(first_point(space.genome)) | {
        f"take.{second}.1.r1": 1,
        f"scale.{second}.1.r1": -1.2,
        f"take.{second}.1.r2": int(repeated),
        f"scale.{second}.1.r2": 0.7,
        f"scale.{first}.1.r1": 1.5,
    }
    check(space.genome, point)
    found = space.recipe(point)
    assert len(found["slices"]) > 2
    return found | {"dtype": "float32"}


def answers(runner: str, text: str, asked: tuple[Request, ...], home: Path) -> dict[int, Answer]:
    (found,) = answers_of(runner, [text], asked, home)
    return found


def answers_of(
    runner: str, texts: list[str], asked: tuple[Request, ...], home: Path
) -> list[dict[int, Answer]]:
    """What the candidates of several recipes answer, in one run."""
    options: dict[str, Any] = {"quantise": "F32", "settings": {"kv": "f32"}} if runner == "gguf" else {}
    chosen = RunOptions(scratch=home, memory=6 << 30, threads=1, **options)
    found: list[dict[int, Answer]] = [{} for _ in texts]
    for outcome in RUNNERS.get(runner).run([recipe(text, home) for text in texts], asked, chosen):
        assert not isinstance(outcome, Lost), outcome
        if isinstance(outcome, Answered):
            found[outcome.candidate][outcome.request] = outcome.answer
    return found


def hold(found: dict[int, Answer], asked: tuple[Request, ...], plain: Plain) -> None:
    """Hold ``found`` to what a plain transformers loop says."""
    for number, request in enumerate(asked):
        answer = found[number]
        if isinstance(request, Prompt):
            assert answer == Written(plain.write(request.text, most=request.most_tokens or 0))
        else:
            logprob, _ = plain.likelihood(request)
            assert isinstance(answer, Likelihood)
            assert answer.logprob == pytest.approx(logprob, rel=1e-4, abs=1e-4)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Plain]:
    """The recipe of a path over two models of the zoo, and transformers' model of the checkpoint that it writes."""
    text = json.dumps(path([MODELS / "math", MODELS / "lang"]))
    home = tmp_path_factory.mktemp("zoo")
    return text, Plain(written(text, home, home / "folded"))


@pytest.mark.parametrize("runner", RUNNERS.names())
def test_an_unwritten_path_answers_as_the_written_one(
    runner: str, zoo: tuple[str, Plain], tmp_path: Path
) -> None:
    if runner == "gguf":
        need("gguf", "llama_cpp", "gguf")
    text, plain = zoo
    asked = ASKED if RUNNERS.get(runner).generates else ASKED[:3]
    hold(answers(runner, text, asked, tmp_path), asked, plain)


@pytest.mark.parametrize("runner", RUNNERS.names())
def test_paths_of_different_lengths_share_a_run(runner: str, zoo: tuple[str, Plain], tmp_path: Path) -> None:
    if runner == "gguf":
        need("gguf", "llama_cpp", "gguf")
    long = zoo[0]
    short = json.dumps(path([MODELS / "math", MODELS / "lang"], repeated=False))
    asked = ASKED[:3]
    first, second, third = answers_of(runner, [long, short, long], asked, tmp_path)
    assert first == third != second
    assert second == answers(runner, short, asked, tmp_path)


@pytest.mark.parametrize("name", ["mixtral", "qwen2moe", "qwen3", "gemma2", "gemma3"])
def test_llama_cpp_runs_a_folded_path_of_every_shape_of_fold(name: str, tmp_path: Path) -> None:
    need("gguf", "llama_cpp", "gguf", "sentencepiece")
    folders = [
        write_model(tmp_path / label, name, dtype="float32", seed=seed) for seed, label in enumerate("ab")
    ]
    text = json.dumps(path(folders))
    file = gguf_file(recipe(text, tmp_path), tmp_path / "folded.gguf")
    draw = random.Random(name)
    ids = tuple(draw.randrange(3, VOCABULARY - 120) for _ in range(40))
    spans = [Span(0, ids, 20)]
    order = Load(
        path=str(file),
        cells=64,
        batch=64,
        sequences=1,
        logits=2**20,
        threads=1,
        flash=False,
        full_cache=True,
        gpu_layers=0,
    )
    with Engine() as engine:
        loaded = engine.load(order)
        (pack,) = pack_of([ids[:-1]])
        found = dict(score(engine, pack, spans, batch=64, outputs=loaded.outputs))
    expected = logprobs_of(written(text, tmp_path, tmp_path / "folded"), ids[:-1])
    total = sum(expected[at - 1, ids[at]] for at in range(20, len(ids)))
    assert found[0].logprob == pytest.approx(total, rel=1e-4)
    reference.cache_clear()
