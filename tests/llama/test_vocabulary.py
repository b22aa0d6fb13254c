"""A GGUF file's own vocabulary serves as its Hugging Face tokenizer does: the same ids, the same answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from alloyd_daemon.candidate import GgufFile, from_checkpoint
from alloyd_daemon.llama.engine import Engine
from alloyd_daemon.llama.language import Language, from_file, from_folder
from alloyd_daemon.llama.messages import Load
from alloyd_daemon.runner import RUNNERS, Answered, RunOptions
from alloyd_daemon.scoring.requests import Continuation, Prompt, Request, WholeText
from alloyd_daemon.settings import Settings
from extras import need
from gguf_support.tiny_models import ODD_TEXTS, write_model
from llama.conftest import gguf_file

need("gguf", "llama_cpp", "gguf")

MODELS = ("llama3", "qwen2")
# llama.cpp does not compose characters before it cuts text, as the tokenizer of Qwen2 does.
TEXTS = [text for text in ODD_TEXTS if "\u0301" not in text]


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A checkpoint folder and its F32 file."""
    place = tmp_path_factory.mktemp(request.param)
    folder = write_model(place / "model", request.param)
    one = from_checkpoint(folder, name=request.param, home=place, settings=Settings())
    return folder, gguf_file(one, place / "model.gguf")


@pytest.fixture
def languages(model: tuple[Path, Path]) -> Iterator[tuple[Language, Language]]:
    """That of the folder, and that of the file."""
    order = Load(
        path=str(model[1]),
        cells=256,
        batch=256,
        sequences=1,
        logits=0,
        threads=1,
        flash=False,
        full_cache=True,
        gpu_layers=0,
    )
    with Engine() as engine:
        loaded = engine.load(order)
        yield from_folder(model[0]), from_file(engine, loaded, "model")


def test_ids_are_those_of_the_tokenizer(languages: tuple[Language, Language]) -> None:
    folder, file = (each.tokenizer for each in languages)
    for text in TEXTS:
        assert list(file.encode(text)) == list(folder.encode(text)), repr(text)
        plain: Any = folder.encode(text, add_special_tokens=False)
        assert list(file.encode(text, add_special_tokens=False)) == list(plain), repr(text)
    assert (file.bos_token_id, file.bos_token) == (folder.bos_token_id, folder.bos_token)
    assert file.eos_token_id == folder.eos_token_id
    assert folder.eos_token_id in languages[1].ends


def test_text_comes_back(languages: tuple[Language, Language]) -> None:
    folder, file = languages
    for text in TEXTS:
        ids = folder.tokenizer.encode(text, add_special_tokens=False)
        assert file.text_of(ids) == folder.text_of(ids), repr(text)


def test_answers_are_the_same_by_either(model: tuple[Path, Path], tmp_path: Path) -> None:
    requests: list[Request] = [
        Continuation("The quick brown", " fox"),
        Continuation("", "It's 12345"),
        WholeText("naïve café — “quotes” 東京 " * 40),
        Prompt("The lazy", most_tokens=12),
    ]
    files = [GgufFile("own", model[1]), GgufFile("folder", model[1], model[0])]
    found: dict[int, dict[int, object]] = {0: {}, 1: {}}
    options = RunOptions(scratch=tmp_path, memory=2**30, threads=1, settings={"kv": "f32"})
    for outcome in RUNNERS.get("gguf").run(files, requests, options):
        if isinstance(outcome, Answered):
            found[outcome.candidate][outcome.request] = outcome.answer
    assert len(found[0]) == len(requests)
    assert found[0] == found[1]
