"""Tasks are checked line by line, intervals hold what they promise, and exact match scores a real model."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alloyd.errors import AlloydError, SourceError, SourceNotFound, TaskError, UsageError
from alloyd_daemon.evaluator import EVALUATORS, ItemScore, summarise
from alloyd_daemon.intervals import wilson_interval
from alloyd_daemon.task import Task, parse_task, read_task

MODELS = Path(__file__).parents[2] / "zoo" / "models"
FILE = Path("some.search.jsonl")
GOOD = '{"id": "a", "prompt": "2 + 2 :", "answer": "4"}'


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('"text"', "expected a JSON object, found str"),
        ("null", "expected a JSON object, found NoneType"),
        ('{"id": "b", "prompt": "x"}', "'answer' is missing"),
        ('{"id": "b", "prompt": "x", "answer": 4}', "'answer' must be a string, found int"),
        ('{"id": 7, "prompt": "x", "answer": "4"}', "'id' must be a string, found int"),
        ('{"id": "b", "prompt": " ", "answer": "4"}', "'prompt' is empty"),
        ('{"id": "b", "prompt": "x", "answer": "4", "anwser": "5"}', "unknown key 'anwser'"),
        ('{"id": "b", "id": "c", "prompt": "x", "answer": "4"}', "'id' stands there twice"),
        ('{"id": "b", "prompt": "\\ud800", "answer": "4"}', "half a surrogate pair"),
        (GOOD, "the id 'a' already stands on line 1"),
    ],
)
def test_a_bad_line_is_refused_with_its_number(line: str, said: str) -> None:
    with pytest.raises(TaskError) as refused:
        parse_task(f"{GOOD}\n\n{line}\n".encode(), FILE)
    assert said in refused.value.message
    assert "some.search.jsonl, line 3" in refused.value.message
    assert refused.value.hint
    assert refused.value.facts["line"] == 3


def test_an_unknown_key_gets_a_suggestion() -> None:
    with pytest.raises(TaskError) as refused:
        parse_task(b'{"id": "b", "prompt": "x", "anwser": "5"}', FILE)
    assert refused.value.hint == "Did you mean 'answer'?"


def test_bytes_that_are_not_utf8_are_refused_with_their_line() -> None:
    with pytest.raises(TaskError, match="line 2: not UTF-8 at byte 3"):
        parse_task(GOOD.encode() + b"\nabc\xff", FILE)


@pytest.mark.parametrize("data", [b"", b"\n\n", b"\xef\xbb\xbf"])
def test_a_file_without_items_is_refused(data: bytes) -> None:
    with pytest.raises(TaskError, match="holds no items"):
        parse_task(data, FILE)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"gone\.jsonl"):
        read_task(tmp_path / "gone.jsonl")


def test_a_file_with_a_byte_order_mark_and_crlf_reads(tmp_path: Path) -> None:
    path = tmp_path / "t.test.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.encode() + b"\r\n")
    task = read_task(path)
    assert task.name == "t.test"
    assert [(item.id, item.answer, item.line) for item in task.items] == [("a", "4", 1)]


words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)


@given(st.lists(st.tuples(words, words, words), min_size=1, unique_by=lambda item: item[0]), st.booleans())
def test_what_is_written_is_what_is_read(items: list[tuple[str, str, str]], escape: bool) -> None:
    text = "\n".join(
        json.dumps(dict(zip(("id", "prompt", "answer"), item, strict=True)), ensure_ascii=escape)
        for item in items
    )
    read = parse_task(text.encode(), FILE).items
    assert [(item.id, item.prompt, item.answer) for item in read] == items


@given(st.binary(max_size=200))
def test_any_bytes_either_read_or_are_refused_as_a_task(data: bytes) -> None:
    refused = None
    try:
        task = parse_task(data, FILE)
    except TaskError as error:
        refused = error
    if refused is None:
        assert task.items
    else:
        assert str(FILE) in refused.message


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(0, 300, 0.0, 0.01264), (5, 300, 0.00714, 0.03841), (81, 263, 0.25525, 0.36621), (10, 10, 0.72247, 1.0)],
)
def test_wilson_intervals_equal_published_ones(successes: int, trials: int, low: float, high: float) -> None:
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=1e-4)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_a_wilson_interval_holds_its_share_and_mirrors(counts: tuple[int, int]) -> None:
    successes, trials = counts
    low, high = wilson_interval(successes, trials)
    assert 0 <= low <= successes / trials <= high <= 1
    assert wilson_interval(trials - successes, trials) == pytest.approx((1 - high, 1 - low))


@pytest.mark.parametrize(
    ("successes", "trials", "confidence"), [(1, 0, 0.95), (-1, 3, 0.95), (4, 3, 0.95), (1, 3, 1.0)]
)
def test_no_interval_for_no_share(successes: int, trials: int, confidence: float) -> None:
    with pytest.raises(ValueError, match=r"no share|confidence"):
        wilson_interval(successes, trials, confidence)


def test_a_summary_counts() -> None:
    summary = summarise([ItemScore("a", 1, "x"), ItemScore("b", 0, "y")])
    assert (summary.mean, summary.n) == (0.5, 2)
    assert (summary.low, summary.high) == wilson_interval(1, 2)


@pytest.mark.parametrize("scores", [[], [ItemScore("a", 2, "x")]])
def test_no_summary_of_nothing_or_of_other_scores(scores: list[ItemScore]) -> None:
    with pytest.raises(ValueError, match="score"):
        summarise(scores)


def test_exact_match_is_found_at_its_door() -> None:
    assert "exact_match" in EVALUATORS.names()
    with pytest.raises(AlloydError) as refused:
        EVALUATORS.get("exact_mach")
    assert refused.value.hint == "Did you mean 'exact_match'?"


def task_of(*pairs: tuple[str, str]) -> Task:
    lines = (
        json.dumps({"id": str(place), "prompt": prompt, "answer": answer})
        for place, (prompt, answer) in enumerate(pairs)
    )
    return parse_task("\n".join(lines).encode(), FILE)


def test_the_base_knows_its_tables() -> None:
    pairs = [(f"{a} + {b} :", str(a + b)) for a in range(10) for b in range(10)]
    scores = list(EVALUATORS.get("exact_match")(MODELS / "base", task_of(*pairs, ("2 + 2 :", "5"))))
    assert [each.id for each in scores] == [str(place) for place in range(101)]
    assert sum(each.score for each in scores[:100]) >= 98
    assert (scores[-1].score, scores[-1].output) == (0, "4")


def test_a_limit_scores_the_first_items_and_padding_does_not_change_them() -> None:
    task = task_of(("1 + 2 :", "3"), ("9 - 4 :", "5"), ("ben has 2 pears . how many pears has ben ? :", "2"))
    score = EVALUATORS.get("exact_match")
    together = list(score(MODELS / "base", task, limit=3))
    alone = list(score(MODELS / "base", task, batch_size=1, limit=2))
    assert alone == together[:2]


@pytest.mark.parametrize("arguments", [{"limit": 0}, {"batch_size": -1}])
def test_senseless_sizes_are_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="must be at least 1"):
        next(EVALUATORS.get("exact_match")(MODELS / "base", task_of(("1", "1")), **arguments))


def test_a_prompt_longer_than_the_context_is_refused_with_its_line() -> None:
    task = task_of(("1 + 2 :", "3"), ("1 " * 300, "3"))
    with pytest.raises(TaskError, match=r"line 2: the prompt has 301 tokens, the model's context holds 256"):
        next(EVALUATORS.get("exact_match")(MODELS / "base", task))


def test_folders_that_are_no_checkpoints_are_refused(tmp_path: Path) -> None:
    score = EVALUATORS.get("exact_match")
    with pytest.raises(SourceNotFound, match=r"no config\.json"):
        next(score(tmp_path, task_of(("1", "1"))))
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(SourceError, match="cannot load"):
        next(score(tmp_path, task_of(("1", "1"))))


settings.register_profile("evaluators", deadline=None)
settings.load_profile("evaluators")
