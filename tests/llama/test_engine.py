"""The process with the model: its likelihoods are transformers', a crash is told, it never outlives its parent."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from alloyd.errors import ChildDied, EngineRefused
from alloyd_daemon.candidate import Candidate
from alloyd_daemon.engine.in_memory import population
from alloyd_daemon.gguf.architecture import architecture_of
from alloyd_daemon.gguf.hyperparameters import Hyperparameters
from alloyd_daemon.gguf.layout import describe
from alloyd_daemon.llama.engine import Engine
from alloyd_daemon.llama.image import Image
from alloyd_daemon.llama.likelihood import score
from alloyd_daemon.llama.messages import Load, Loaded
from alloyd_daemon.llama.needs import engine_bytes
from alloyd_daemon.llama.packing import pack
from alloyd_daemon.scoring.encoding import Span, SpanScore
from extras import need
from llama.conftest import ZOO, logprobs_of

need("gguf", "llama_cpp", "gguf")

TEXT = (1, *(3 + (7 * n * n) % 250 for n in range(180)))


def _load(path: str, room: int = 512) -> Load:
    return Load(
        path=path,
        cells=room,
        batch=64,
        sequences=16,
        logits=2**16,
        threads=1,
        flash=False,
        full_cache=True,
        gpu_layers=0,
    )


@pytest.fixture
def image(checkpoint: Callable[[str], Candidate], tmp_path: Path) -> Iterator[Image]:
    """The zoo's `base` as an F32 file in memory."""
    one = checkpoint("base")
    tensors = [(each.name, each.dtype, each.shape) for each in one.prepared.plan.tensors]
    layout = describe(tensors, one.config, one.folder, "F32", filename="base")
    with Image(layout, tmp_path, in_memory=True) as made, population([one]) as sources:
        for _ in made.become(sources.members[0]):
            pass
        yield made


@pytest.fixture
def path(image: Image, tmp_path: Path) -> str:
    """The same file on disk."""
    found = tmp_path / "base.gguf"
    found.write_bytes(os.pread(image.handle, image.layout.size, 0))
    return str(found)


def _spans() -> list[Span]:
    question = TEXT[:40]
    choices = [Span(0, (*question, *TEXT[at : at + 3]), 40) for at in (60, 70, 80, 90)]
    return [Span(1, TEXT, 1), *choices, Span(2, TEXT[:9], 8), Span(3, TEXT[:9], 8), Span(4, TEXT[100:], 2)]


def _scores(engine: Engine, loaded: Loaded, spans: list[Span], *, share: bool) -> dict[int, SpanScore]:
    found: dict[int, SpanScore] = {}
    for each in pack([span.ids[:-1] for span in spans], share=share, room=256):
        found |= score(engine, each, spans, batch=64, outputs=loaded.outputs)
    return found


def _check(found: dict[int, SpanScore], spans: list[Span]) -> None:
    for place, span in enumerate(spans):
        expected = logprobs_of(ZOO / "base", span.ids[:-1])
        steps = range(span.first, len(span.ids))
        total = sum(expected[at - 1, span.ids[at]] for at in steps)
        assert found[place].logprob == pytest.approx(total, abs=1e-4 * max(1, abs(total)))
        assert found[place].greedy == all(expected[at - 1].argmax() == span.ids[at] for at in steps)


def test_likelihoods_are_those_of_transformers(image: Image) -> None:
    spans = _spans()
    with Engine(image.handle) as engine:
        loaded = engine.load(_load(image.path))
        assert (loaded.vocabulary, loaded.context, loaded.texts) == (256, 256, False)
        assert loaded.outputs == 64
        shared = _scores(engine, loaded, spans, share=True)
        alone = _scores(engine, loaded, spans, share=False)
        again = _scores(engine, loaded, spans, share=True)
    _check(shared, spans)
    _check(alone, spans)
    assert again == shared
    for place in range(len(spans)):
        assert shared[place].logprob == pytest.approx(alone[place].logprob, rel=1e-5)


def test_it_takes_no_more_memory_than_was_allowed_for(
    image: Image, checkpoint: Callable[[str], Candidate]
) -> None:
    spans = _spans()
    config = checkpoint("base").config
    with Engine(image.handle) as engine:
        loaded = engine.load(_load(image.path))
        _scores(engine, loaded, spans, share=True)
        used = psutil.Process(engine.pid).memory_full_info().uss
    shape = Hyperparameters(config, architecture_of(config).defaults)
    assert used < engine_bytes(shape, 512, full_cache=True)


def test_a_row_of_logits_at_a_time_is_all_it_needs(path: str) -> None:
    spans = _spans()
    with Engine() as engine:
        order = Load(**{**{name: getattr(_load(path), name) for name in Load.__struct_fields__}, "logits": 0})
        loaded = engine.load(order)
        assert loaded.outputs == 16
        _check(_scores(engine, loaded, spans, share=True), spans)


def test_one_engine_opens_one_file_after_another(path: str, image: Image) -> None:
    with Engine(image.handle) as engine:
        for each in (path, image.path, path):
            assert engine.load(_load(each)).vocabulary == 256


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_a_crash_is_told_with_its_signal(path: str, how: signal.Signals) -> None:
    spans = _spans()
    with Engine() as engine:
        loaded = engine.load(_load(path))
        os.kill(engine.pid, how)
        with pytest.raises(ChildDied, match=how.name) as raised:
            _scores(engine, loaded, spans, share=True)
        assert raised.value.hint
    with Engine() as engine:
        _check(_scores(engine, engine.load(_load(path)), spans, share=True), spans)


def test_what_is_no_model_is_refused_in_words(tmp_path: Path, path: str) -> None:
    wrong = tmp_path / "wrong.gguf"
    wrong.write_bytes(b"GGUF" + bytes(100))
    with Engine() as engine:
        with pytest.raises(EngineRefused, match="bad GGUF version"):
            engine.load(_load(str(wrong)))
        with pytest.raises(EngineRefused, match="failed to open"):
            engine.load(_load(str(tmp_path / "none.gguf")))
        assert engine.load(_load(path)).vocabulary == 256


def test_nonsense_from_the_process_is_its_death(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for said in (b"\xff" * 9, b"\0\0\0\1\xc0", b"\0\0\0\5abc"):
        code = f"import os; os.read(0, 9); os.write(1, {said!r}); os.close(1); os.read(0, 1)"
        monkeypatch.setattr("alloyd_daemon.llama.engine.COMMAND", (sys.executable, "-c", code))
        monkeypatch.setattr("alloyd_daemon.llama.engine.FAREWELL", 0.2)
        with Engine() as engine, pytest.raises(ChildDied) as raised:
            engine.load(_load(path))
        assert raised.value.hint


def test_a_process_that_hangs_is_given_up_when_the_time_is_over(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spans = _spans()
    monkeypatch.setattr("alloyd_daemon.llama.engine.FAREWELL", 120.0)
    with Engine() as engine:
        engine.until = time.monotonic() + 120
        loaded = engine.load(_load(path))
        os.kill(engine.pid, signal.SIGSTOP)
        engine.until = time.monotonic() + 0.2
        with pytest.raises(ChildDied, match="gave no answer before the time was over"):
            _scores(engine, loaded, spans, share=True)
        pid, left = engine.pid, time.monotonic()
    assert time.monotonic() - left < 120, (
        "it was killed, and is not waited for as one that may leave by itself"
    )
    assert not psutil.pid_exists(pid)


def test_the_process_ends_with_whoever_started_it(path: str) -> None:
    code = (
        "import sys, time\n"
        "from alloyd_daemon.llama.engine import Engine\n"
        "from llama.test_engine import _load\n"
        "engine = Engine()\n"
        "engine.load(_load(sys.argv[1]))\n"
        "print(engine.pid, flush=True)\n"
        "time.sleep(60)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    parent = subprocess.Popen(
        [sys.executable, "-c", code, path], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    assert child.is_running()
    parent.kill()
    parent.wait()
    parent.stdout.close()
    child.wait(60)


def _holds_memory_files() -> bool:
    for each in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if "alloyd candidate" in str(each.readlink()):
                return True
    return False


def test_nothing_stays_open(path: str, image: Image) -> None:
    me = psutil.Process()
    before = me.num_fds()
    for _ in range(3):
        with Engine(image.handle) as engine:
            engine.load(_load(image.path))
    assert me.num_fds() == before
    assert not [each for each in me.children() if "alloyd_daemon.llama" in " ".join(each.cmdline())]
    assert _holds_memory_files()
    image.close()
    assert not _holds_memory_files()
