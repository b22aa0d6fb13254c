"""Gold answer: how likely the right answer is, whether or not the model would have chosen it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from alloyd.task_file import Record

from ..evaluator import EVALUATORS, Choices, ItemScore, Metric, Task
from ..scoring import answers as answered
from ..scoring import options
from ..scoring.items import read_task
from ..scoring.requests import Answer, Continuation

CONTEXT: Final = ("context", "prompt", "question")


class GoldAnswer:
    """Log-likelihood of the right answer after its context: a smooth figure where a share of right answers has steps.

    ``logprob_per_token`` is the sum over all answers over the sum of their tokens, ``logprob`` the mean of whole
    answers, both in nats; ``greedy`` the share of answers that greedy generation would write word for word.
    """

    name = "gold_answer"
    summary = "how likely the right answer is"
    options: Mapping[str, str] = {"delimiter": "text between context and answer (default: one blank)"}
    metrics = (
        Metric("logprob_per_token", value="logprob", weight="tokens"),
        Metric("logprob"),
        Metric("greedy"),
    )

    def recognises(self, keys: frozenset[str]) -> bool:
        """A context and its answer; under ``prompt`` the answer is one to be written."""
        return {"context", "answer"} <= keys and "choices" not in keys

    def read(self, source: str, choices: Choices) -> Task:
        """Contexts and answers of a JSONL file."""
        delimiter = options.text(choices.options, "delimiter", " ")
        return read_task(self.name, source, choices, self.metrics, _exercise, delimiter)

    def requests(self, task: Task) -> Sequence[tuple[Continuation, ...]]:
        """One continuation an item."""
        return [(Continuation(each.data[0], task.data + each.data[1]),) for each in task.items]

    def score(self, task: Task, place: int, answers: Sequence[Answer]) -> ItemScore:
        """``logprob``, ``tokens`` and ``greedy`` (1 or 0)."""
        item = task.items[place]
        answer = answered.likelihood(answers[0], item.where, finite=True)
        values = {
            "logprob": answer.logprob,
            "tokens": float(answer.tokens),
            "greedy": float(answer.greedy),
        }
        return ItemScore(item.id, values)


def _exercise(record: Record) -> tuple[str, str]:
    record.only(*CONTEXT, "answer")
    return record.question(*CONTEXT), record.text("answer")


EVALUATORS.register("gold_answer", GoldAnswer())
