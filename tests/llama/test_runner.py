"""The runner `gguf` from candidates and files to answers: right, the same after a crash, and never ended by one."""

from __future__ import annotations

import random
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from alloyd.errors import (
    AlloydError,
    ChildDied,
    MemoryTooSmall,
    PlanError,
    RecipeError,
    SourceError,
    TaskError,
)
from alloyd.jobs import PlanSpec
from alloyd_daemon.candidate import Candidate, GgufFile, Subject, from_checkpoint, from_recipe
from alloyd_daemon.gguf.types import file_types
from alloyd_daemon.llama import image
from alloyd_daemon.runner import RUNNERS, Answered, Lost, Outcome, RunOptions
from alloyd_daemon.scoring.encoding import encode
from alloyd_daemon.scoring.requests import (
    Answer,
    Continuation,
    Likelihood,
    Prompt,
    Request,
    WholeText,
    Written,
)
from alloyd_daemon.settings import Settings
from alloyd_daemon.warm import Warm
from checkpoint_factory import Model, write_checkpoint
from extras import need
from llama.conftest import ZOO, gguf_file, logprobs_of, reference

need("gguf", "llama_cpp", "gguf")

QUESTIONS = (
    "paul has 4 keys . gina has 9 keys . how many keys have gina and paul together ? # :",
    "paul has 4 keys . gina has 3 keys . how many keys have gina and paul together ? # :",
    "anna has 7 keys . how many keys has anna ? # :",
    "? # :",
)
REQUESTS: tuple[Request, ...] = (
    *(Continuation(question + " ", answer) for question in QUESTIONS for answer in ("13", "7", "1 3")),
    WholeText(" ".join(QUESTIONS)),
    *(Prompt(question) for question in QUESTIONS),
    Prompt(QUESTIONS[0], most_tokens=2),
    Prompt(QUESTIONS[0], stop=("+",)),
)
Answers = dict[int, dict[int, Answer]]


@pytest.fixture
def options(tmp_path: Path) -> RunOptions:
    """A float32 cache, so that figures compare with transformers'."""
    return RunOptions(scratch=tmp_path, memory=2**30, threads=2, quantise="F32", settings={"kv": "f32"})


def _run(subjects: list[Subject], options: RunOptions) -> Iterator[Outcome]:
    return RUNNERS.get("gguf").run(subjects, REQUESTS, options)


def _answers(outcomes: Iterator[Outcome]) -> tuple[Answers, dict[int, AlloydError]]:
    answers: Answers = {}
    lost: dict[int, AlloydError] = {}
    for outcome in outcomes:
        if isinstance(outcome, Answered):
            mine = answers.setdefault(outcome.candidate, {})
            assert outcome.request not in mine
            mine[outcome.request] = outcome.answer
        elif isinstance(outcome, Lost):
            lost[outcome.candidate] = outcome.error
    return answers, lost


def _engines() -> list[psutil.Process]:
    return [each for each in psutil.Process().children() if "alloyd_daemon.llama.process" in each.cmdline()]


def _check(answers: dict[int, Answer], folder: Path) -> None:
    """Hold ``answers`` to transformers' greedy loop and likelihoods over the model in ``folder``."""
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    encoded = encode(REQUESTS, tokenizer, 256)
    for span in encoded.spans:
        answer = answers[span.request]
        assert isinstance(answer, Likelihood)
        expected = logprobs_of(folder, span.ids[:-1])
        total = sum(expected[at - 1, span.ids[at]] for at in range(span.first, len(span.ids)))
        assert answer.logprob == pytest.approx(total, abs=1e-4 * max(1, abs(total)))
        assert answer.tokens == len(span.ids) - span.first
    for prompt in encoded.prompts:
        ids: list[int] = []
        while len(ids) < (prompt.most_tokens or 40):
            token = int(logprobs_of(folder, (*prompt.ids, *ids))[-1].argmax())
            if token == 2:
                break
            ids.append(token)
        text = tokenizer.decode(ids, skip_special_tokens=True)
        for stop in prompt.stop:
            text = text.partition(stop)[0]
        assert answers[prompt.request] == Written(text)


def test_a_checkpoint_answers_as_with_transformers(
    checkpoint: Callable[[str], Candidate], options: RunOptions
) -> None:
    answers, lost = _answers(_run([checkpoint("math"), checkpoint("base")], options))
    assert not lost
    _check(answers[0], ZOO / "math")
    _check(answers[1], ZOO / "base")
    assert not _engines()


def test_candidates_answer_alike_wherever_they_stand(
    checkpoint: Callable[[str], Candidate], mixture: Callable[[float], Candidate], options: RunOptions
) -> None:
    options = replace(options, quantise="Q4_K_M", settings={})
    subjects: list[Subject] = [mixture(0.5), checkpoint("base"), mixture(0.5), mixture(1.0)]
    answers, lost = _answers(_run(subjects, options))
    assert not lost
    assert answers[0] == answers[2]
    assert answers[0] != answers[1]
    for place in (1, 3):
        alone, _ = _answers(_run([subjects[place]], options))
        assert alone[0] == answers[place]


def test_a_crash_costs_one_candidate(mixture: Callable[[float], Candidate], options: RunOptions) -> None:
    subjects: list[Subject] = [mixture(0.5), mixture(1.0), mixture(0.25)]
    expected, _ = _answers(_run(subjects, options))
    running = _run(subjects, options)
    seen: list[Outcome] = []
    for outcome in running:
        seen.append(outcome)
        if isinstance(outcome, Answered) and outcome.candidate == 1 and len(_engines()) == 1:
            _engines()[0].send_signal(signal.SIGKILL)
            break
    answers, lost = _answers(iter([*seen, *running]))
    assert list(lost) == [1]
    assert isinstance(lost[1], ChildDied)
    assert "SIGKILL" in lost[1].message
    assert answers[0] == expected[0]
    assert answers[2] == expected[2]
    assert not _engines()


def test_an_engine_that_hangs_costs_one_candidate_its_time(
    mixture: Callable[[float], Candidate], options: RunOptions
) -> None:
    expected, _ = _answers(_run([mixture(0.5)], options))
    with Warm() as warm:
        options = replace(options, warm=warm)
        running = _run([mixture(1.0)], replace(options, seconds=2.0))
        seen: list[Outcome] = []
        for outcome in running:
            seen.append(outcome)
            if isinstance(outcome, Answered):
                _engines()[0].send_signal(signal.SIGSTOP)
                break
        _, lost = _answers(iter([*seen, *running]))
        assert isinstance(lost[0], ChildDied)
        assert "before the time was over" in lost[0].message
        assert not _engines()
        answers, lost = _answers(_run([mixture(0.5)], options))
    assert not lost
    assert answers == expected


def test_what_is_known_is_not_asked_and_changes_nothing(
    mixture: Callable[[float], Candidate], options: RunOptions
) -> None:
    subjects: list[Subject] = [mixture(0.5), mixture(1.0)]
    expected, _ = _answers(_run(subjects, options))
    pairs = [(place, request) for place in expected for request in expected[place]]
    for seed in range(3):
        known = frozenset(random.Random(seed).sample(pairs, len(pairs) * (seed + 1) // 4))
        answers, _ = _answers(_run(subjects, replace(options, known=known)))
        got = {(place, request): answers[place][request] for place in answers for request in answers[place]}
        assert got == {pair: expected[pair[0]][pair[1]] for pair in pairs if pair not in known}
    answers, _ = _answers(_run(subjects, replace(options, known=frozenset(pairs))))
    assert not answers


def test_a_file_answers_as_the_candidate_it_was_made_of(
    checkpoint: Callable[[str], Candidate], options: RunOptions, tmp_path: Path
) -> None:
    path = gguf_file(checkpoint("math"), tmp_path / "math.gguf")
    subjects: list[Subject] = [GgufFile("file", path, ZOO / "math"), checkpoint("math")]
    answers, lost = _answers(_run(subjects, options))
    assert not lost
    assert answers[0] == answers[1]
    settings = {"kv": "f32", "tokenizer": str(ZOO / "math")}
    named, _ = _answers(_run([GgufFile("file", path)], replace(options, settings=settings)))
    assert named[0] == answers[0]


def test_a_file_without_vocabulary_needs_a_tokenizer(
    checkpoint: Callable[[str], Candidate], options: RunOptions, tmp_path: Path
) -> None:
    path = gguf_file(checkpoint("base"), tmp_path / "base.gguf", "Q8_0")
    answers, lost = _answers(_run([GgufFile("file", path)], options))
    assert not answers
    assert isinstance(lost[0], SourceError)
    assert "--option tokenizer=" in lost[0].hint


def test_a_file_without_vocabulary_takes_the_tokenizer_beside_it(
    checkpoint: Callable[[str], Candidate], options: RunOptions, tmp_path: Path
) -> None:
    path = gguf_file(checkpoint("base"), tmp_path / "base.gguf", "Q8_0")
    named, _ = _answers(_run([GgufFile("file", path, ZOO / "base")], options))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(ZOO / "base" / name, tmp_path)
    beside, lost = _answers(_run([GgufFile("file", path)], options))
    assert not lost
    assert beside == named


@pytest.mark.parametrize("seed", range(6))
def test_a_damaged_file_is_one_clear_error(
    seed: int, checkpoint: Callable[[str], Candidate], options: RunOptions, tmp_path: Path
) -> None:
    path = gguf_file(checkpoint("base"), tmp_path / "base.gguf", "Q8_0")
    data = bytearray(path.read_bytes())
    draw = random.Random(seed)
    if seed == 0:
        data = data[: len(data) // 2]
    elif seed == 1:
        data = bytearray(b"no model at all")
    elif seed == 2:
        data = bytearray()
    else:
        for _ in range(20):
            data[draw.randrange(4, 3000)] = draw.randrange(256)
    path.write_bytes(data)
    subjects: list[Subject] = [GgufFile("damaged", path, ZOO / "base"), checkpoint("base")]
    answers, lost = _answers(_run(subjects, options))
    assert list(lost) == [0]
    assert isinstance(lost[0], SourceError | ChildDied)
    assert lost[0].hint
    assert len(answers[1]) == len(REQUESTS)


def test_a_file_that_lies_about_its_size_fells_nobody(
    checkpoint: Callable[[str], Candidate], options: RunOptions, tmp_path: Path
) -> None:
    path = gguf_file(checkpoint("base"), tmp_path / "base.gguf", "Q8_0")
    key = b"llama.vocab_size" + (4).to_bytes(4, "little")
    data = path.read_bytes()
    assert data.count(key) == 1
    at = data.index(key) + len(key)
    path.write_bytes(data[:at] + (2**31 - 1).to_bytes(4, "little") + data[at + 4 :])
    subjects: list[Subject] = [GgufFile("lies", path, ZOO / "base"), checkpoint("base")]
    answers, lost = _answers(_run(subjects, options))
    assert isinstance(lost[0], SourceError | ChildDied)
    assert len(answers[1]) == len(REQUESTS)


def test_a_model_that_llama_cpp_does_not_know_is_lost_and_others_go_on(
    checkpoint: Callable[[str], Candidate], options: RunOptions, tmp_path: Path
) -> None:
    strange = write_checkpoint(tmp_path / "strange", Model(hidden=256, vocab=256))
    text = (strange / "config.json").read_text().replace("LlamaForCausalLM", "StrangeForCausalLM")
    (strange / "config.json").write_text(text)
    one = from_checkpoint(strange, name="strange", home=tmp_path, settings=Settings())
    answers, lost = _answers(_run([one, checkpoint("base")], options))
    assert isinstance(lost[0], PlanError)
    assert "StrangeForCausalLM" in lost[0].message
    assert len(answers[1]) == len(REQUESTS)


def test_what_concerns_all_is_raised_before_work(
    checkpoint: Callable[[str], Candidate], options: RunOptions
) -> None:
    subject = checkpoint("base")
    with pytest.raises(RecipeError, match="Q4_K_X"):
        next(_run([subject], replace(options, quantise="Q4_K_X")))
    with pytest.raises(MemoryTooSmall) as raised:
        next(_run([subject], replace(options, memory=2**20)))
    assert isinstance(raised.value.facts["least"], int)
    long = Continuation("keys " * 300, "13")
    with pytest.raises(TaskError, match="request 0"):
        next(RUNNERS.get("gguf").run([subject], [long], options))


def test_on_disk_candidates_answer_as_in_memory(
    mixture: Callable[[float], Candidate], options: RunOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    subjects: list[Subject] = [mixture(0.5), mixture(1.0), mixture(0.5)]
    expected, _ = _answers(_run(subjects, options))

    with pytest.raises(MemoryTooSmall) as raised:
        next(_run(subjects, replace(options, memory=2**20)))
    least = raised.value.facts["least"]
    assert isinstance(least, int)
    places: list[Path | None] = []
    nameless = image._nameless
    monkeypatch.setattr(image, "_nameless", lambda folder: places.append(folder) or nameless(folder))
    answers, lost = _answers(_run(subjects, replace(options, memory=least)))
    assert not lost
    assert answers == expected
    assert places == [options.scratch]


def test_logits_that_are_no_numbers_cost_one_candidate(
    checkpoint: Callable[[str], Candidate], options: RunOptions, tmp_path: Path
) -> None:
    import numpy as np

    from checkpoint_factory import read_checkpoint, write_weights

    broken = tmp_path / "broken"
    broken.mkdir()
    for file in (ZOO / "base").iterdir():
        if file.suffix != ".safetensors":
            (broken / file.name).write_bytes(file.read_bytes())
    weights = read_checkpoint(ZOO / "base")
    weights["model.norm.weight"] = np.full_like(weights["model.norm.weight"], np.nan)
    write_weights(broken, weights)
    wrong = from_checkpoint(broken, name="wrong", home=tmp_path, settings=Settings())
    base = checkpoint("base")
    answers, lost = _answers(_run([base, wrong, base], options))
    assert "not numbers" in lost[1].message
    assert answers[2] == answers[0]


def test_it_takes_every_type_of_llama_cpp_and_no_other() -> None:
    check = RUNNERS.get("gguf").check_type
    assert check is not None
    for name in file_types():
        check(name)
    with pytest.raises(RecipeError, match="Q4_K_X"):
        check("Q4_K_X")


def test_how_many_prompts_are_answered_at_once_changes_no_text(
    checkpoint: Callable[[str], Candidate], options: RunOptions
) -> None:
    prompts = [Prompt(question) for question in QUESTIONS * 5]
    subjects = [checkpoint("base")]
    together, _ = _answers(RUNNERS.get("gguf").run(subjects, prompts, options))
    alone, _ = _answers(RUNNERS.get("gguf").run(subjects, prompts, replace(options, batch_size=1)))
    assert together == alone


def test_closing_ends_the_engine(mixture: Callable[[float], Candidate], options: RunOptions) -> None:
    running = _run([mixture(0.5)], options)
    for outcome in running:
        if isinstance(outcome, Answered):
            break
    assert len(_engines()) == 1
    running.close()
    assert not _engines()
    reference.cache_clear()


def test_what_is_warm_answers_as_what_is_not(
    tmp_path: Path, options: RunOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs that leave image and engine to the next give the same answers, with one image and one engine."""
    source = "{{model: {}, parameters: {{weight: {}}}}}"
    models = []
    for weight in (0.5, 2):
        both = f"{source.format(ZOO / 'math', 1)}, {source.format(ZOO / 'lang', weight)}"
        spec = PlanSpec(f"{{merge_method: linear, models: [{both}]}}", "/")
        models.append(from_recipe(spec, name=str(weight), home=tmp_path, settings=Settings()))
    cold = [_answers(_run([each], options))[0][0] for each in models]
    made: list[image.Image] = []

    class Counted(image.Image):
        def __init__(self, *words: object, **more: object) -> None:
            super().__init__(*words, **more)  # type: ignore[arg-type]
            made.append(self)

    monkeypatch.setattr("alloyd_daemon.llama.run.Image", Counted)
    with Warm() as warm:
        kept = replace(options, warm=warm)
        engines = set()
        for _ in range(2):
            for model, answers in zip(models, cold, strict=True):
                assert _answers(_run([model], kept))[0][0] == answers
                engines |= {each.pid for each in psutil.Process().children(recursive=True)}
        assert (len(made), len(engines)) == (1, 1)
        running = _run([models[0]], kept)
        for outcome in running:
            if isinstance(outcome, Answered):
                break
        running.close()
        assert _answers(_run([models[1]], kept))[0][0] == cold[1]
    assert made[0].handle == -1
    assert not psutil.Process().children(recursive=True)
