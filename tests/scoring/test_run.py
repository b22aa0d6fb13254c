"""Scoring puts every request once, scores items as answers come, and goes on from its records."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from alloyd.errors import JobError, TaskError
from alloyd.jobs import Progress
from alloyd_daemon.candidate import GgufFile
from alloyd_daemon.evaluator import Choices, ItemScore, Task
from alloyd_daemon.runner import RunOptions
from alloyd_daemon.scoring.requests import Answer
from alloyd_daemon.scoring.run import InMemory, Posed, Questions, Scored, score
from alloyd_daemon.tasks import resolve
from trial_runner import TrialRunner

CANDIDATES = [GgufFile(name, Path(name)) for name in ("a", "b")]


@pytest.fixture
def questions(tmp_path: Path) -> Questions:
    choices = tmp_path / "choices.jsonl"
    asked = [{"question": f"{n} + 1 =", "choices": ["1", "2", "3"], "answer": n % 3} for n in range(4)]
    choices.write_text("\n".join(json.dumps(each) for each in asked))
    sums = tmp_path / "sums.jsonl"
    sums.write_text(
        "\n".join(json.dumps({"id": str(n), "prompt": f"{n} + 1 :", "answer": "4"}) for n in range(5))
    )
    found = resolve([f"multiple_choice:{choices}", f"exact_match:{sums}"], Choices())
    return Questions([Posed(*each) for each in found])


def run(
    questions: Questions, runner: TrialRunner, records: InMemory, tmp_path: Path, stop: int = 10**9
) -> tuple[Scored, ...]:
    options = RunOptions(scratch=tmp_path, memory=1 << 30, threads=1)
    running = score(CANDIDATES, questions, runner.runner(), options, records)
    try:
        while True:
            said = next(running)
            assert isinstance(said, Progress)
            if said.done >= stop:
                running.close()
                return ()
    except StopIteration as end:
        scored: tuple[Scored, ...] = end.value
        return scored


def test_every_item_of_every_task_is_scored_in_order(questions: Questions, tmp_path: Path) -> None:
    runner = TrialRunner()
    scored = run(questions, runner, InMemory(), tmp_path)
    assert len(questions.requests) == 4 * 3 + 5 == len(runner.ran) / 2
    assert questions.prompts == 5
    for each in scored:
        assert [len(items) for items in each.items] == [4, 5]
        assert [item.id for item in each.items[1]] == list("01234")
    assert scored[0] != scored[1]


def test_messages_name_the_line_of_a_request(questions: Questions, tmp_path: Path) -> None:
    assert [questions.where(n).rpartition("line ")[2] for n in (0, 2, 3, 12, 16)] == ["1", "1", "2", "1", "5"]


@pytest.mark.parametrize("stop", [1, 4, 9, 17, 18, 30])
def test_a_stopped_score_goes_on_with_what_is_missing(
    questions: Questions, tmp_path: Path, stop: int
) -> None:
    whole = run(questions, TrialRunner(), InMemory(), tmp_path)
    records = InMemory()
    first, second = TrialRunner(), TrialRunner()
    run(questions, first, records, tmp_path, stop)
    assert run(questions, second, records, tmp_path) == whole
    # The first batch asks the second item half: it is run again.
    assert len(second.ran) < 2 * len(questions.requests) or stop <= 4
    third = TrialRunner()
    assert run(questions, third, records, tmp_path) == whole
    assert third.ran == []


def test_a_lost_candidate_costs_itself_and_is_not_run_again(questions: Questions, tmp_path: Path) -> None:
    records = InMemory()
    scored = run(questions, TrialRunner(broken=["a"]), records, tmp_path)
    assert scored[0].error is not None
    assert (scored[0].items, len(scored[1].items)) == ((), 2)
    again = TrialRunner()
    assert run(questions, again, records, tmp_path)[0].error is scored[0].error
    assert again.ran == []


def test_an_answer_that_cannot_be_scored_loses_its_candidate(questions: Questions, tmp_path: Path) -> None:
    class Picky:
        """Scores as its original does, but not the third item of "a"."""

        def __init__(self, posed: Posed) -> None:
            self.inner = posed.evaluator
            self.name, self.summary, self.options = self.inner.name, self.inner.summary, self.inner.options
            self.recognises, self.read, self.requests = (
                self.inner.recognises, self.inner.read, self.inner.requests
            )  # fmt: skip
            self.scored = 0

        def score(self, task: Task, place: int, answers: Sequence[Answer]) -> ItemScore:
            self.scored += 1
            if self.scored == 3:
                raise TaskError("no number")
            return self.inner.score(task, place, answers)

    posed = [replace(questions.tasks[0], evaluator=Picky(questions.tasks[0])), questions.tasks[1]]
    scored = run(Questions(posed), TrialRunner(), InMemory(), tmp_path)
    assert isinstance(scored[0].error, TaskError)
    assert scored[1].error is None


def test_a_runner_that_leaves_items_unanswered_is_found_out(questions: Questions, tmp_path: Path) -> None:
    class Lazy(TrialRunner):
        def run(self, candidates, requests, options):  # type: ignore[no-untyped-def]
            return super().run(candidates, requests[:-1], options)

    with pytest.raises(JobError, match="gave no answer"):
        run(questions, Lazy(), InMemory(), tmp_path)


def test_tasks_of_one_name_are_told_by_their_evaluators_or_numbered(
    questions: Questions, tmp_path: Path
) -> None:
    assert questions.names == ["choices", "sums"]
    assert Questions([questions.tasks[0]] * 2).names == ["choices (1)", "choices (2)"]
    (tmp_path / "other").mkdir()
    sums, others = tmp_path / "sums.jsonl", tmp_path / "other" / "sums.jsonl"
    shutil.copy(sums, others)
    found = resolve([f"exact_match:{sums}", f"contains:{sums}", f"contains:{others}"], Choices())
    assert Questions([Posed(*each) for each in found]).names == ["exact_match:sums", "sums (2)", "sums (3)"]
