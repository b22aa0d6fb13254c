"""Shared prefixes are right on every family, sliding windows and experts included: likelihoods are transformers'."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from alloyd_daemon.candidate import from_checkpoint
from alloyd_daemon.llama.engine import Engine
from alloyd_daemon.llama.likelihood import score
from alloyd_daemon.llama.messages import Load
from alloyd_daemon.llama.packing import cells, pack
from alloyd_daemon.scoring.encoding import Span, SpanScore
from alloyd_daemon.settings import Settings
from extras import need
from gguf_support.tiny_models import VOCABULARY, write_model
from llama.conftest import gguf_file, logprobs_of, reference

need("gguf", "llama_cpp", "gguf", "sentencepiece")


@pytest.mark.parametrize("name", ["llama", "mixtral", "qwen2", "qwen3", "gemma2", "gemma3", "phi3"])
def test_choices_that_share_a_long_question(name: str, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", name, dtype="float32")
    one = from_checkpoint(folder, name=name, home=tmp_path, settings=Settings())
    path = gguf_file(one, tmp_path / "model.gguf")
    draw = random.Random(name)
    # Longer than the window of 32 tokens that Gemma's layers have here.
    question = tuple(draw.randrange(3, VOCABULARY - 120) for _ in range(70))
    choices = [tuple(draw.randrange(3, VOCABULARY - 120) for _ in range(length)) for length in (1, 1, 2, 40)]
    spans = [Span(0, (*question, *choice), len(question)) for choice in choices]
    packs = pack([span.ids[:-1] for span in spans])
    assert len(packs) == 1
    assert cells(packs) == 70 + 1 + 39
    found: dict[int, SpanScore] = {}
    with Engine() as engine:
        order = Load(
            path=str(path),
            cells=256,
            batch=48,
            sequences=8,
            logits=2**20,
            threads=1,
            flash=False,
            full_cache=True,
            gpu_layers=0,
        )
        loaded = engine.load(order)
        assert loaded.branches
        for each in packs:
            found |= score(engine, each, spans, batch=48, outputs=loaded.outputs)
    for place, span in enumerate(spans):
        expected = logprobs_of(folder, span.ids[:-1])
        total = sum(expected[at - 1, span.ids[at]] for at in range(span.first, len(span.ids)))
        assert found[place].logprob == pytest.approx(total, abs=1e-4 * max(1, abs(total)))
    reference.cache_clear()
