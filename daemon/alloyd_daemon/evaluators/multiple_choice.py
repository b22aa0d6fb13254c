"""Multiple choice: the most likely choice must be the right one, with and without allowance for its length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from alloyd.task_file import Record, kind_of

from ..evaluator import EVALUATORS, Choices, ItemScore, Metric, Task
from ..scoring import answers as answered
from ..scoring import options
from ..scoring.items import read_task
from ..scoring.requests import Answer, Continuation

CONTEXT: Final = ("context", "question", "prompt")


@dataclass(frozen=True, slots=True)
class Question:
    """A context, what may follow it, and the place of what is right."""

    context: str
    choices: tuple[str, ...]
    gold: int


class MultipleChoice:
    """One likelihood a choice, after the same context, as lm-evaluation-harness asks and scores.

    ``acc`` takes the choice of the greatest log-likelihood, ``acc_norm`` that of the greatest one a character (of the
    choice as it stands in the file), ``acc_bytes`` a byte of UTF-8. Of equals the first counts as chosen.
    """

    name = "multiple_choice"
    summary = "the most likely of several choices must be the right one"
    options: Mapping[str, str] = {"delimiter": "text between context and choice (default: one blank)"}
    metrics = (Metric("acc"), Metric("acc_norm"), Metric("acc_bytes"))

    def recognises(self, keys: frozenset[str]) -> bool:
        """Only this kind has choices."""
        return "choices" in keys

    def read(self, source: str, choices: Choices) -> Task:
        """The questions of a JSONL file."""
        delimiter = options.text(choices.options, "delimiter", " ")
        return read_task(self.name, source, choices, self.metrics, _question, delimiter)

    def requests(self, task: Task) -> Sequence[tuple[Continuation, ...]]:
        """A continuation a choice."""
        return [
            tuple(Continuation(each.data.context, task.data + choice) for choice in each.data.choices)
            for each in task.items
        ]

    def score(self, task: Task, place: int, answers: Sequence[Answer]) -> ItemScore:
        """1 or 0 a metric; the output is the choice that ``acc`` takes."""
        item = task.items[place]
        question: Question = item.data
        logprobs = [answered.likelihood(each, item.where).logprob for each in answers]
        lengths = {
            "acc": [1] * len(logprobs),
            "acc_norm": [len(choice) for choice in question.choices],
            "acc_bytes": [len(choice.encode()) for choice in question.choices],
        }
        chosen = {
            name: _first_greatest([logprob / length for logprob, length in zip(logprobs, each, strict=True)])
            for name, each in lengths.items()
        }
        values = {name: float(best == question.gold) for name, best in chosen.items()}
        return ItemScore(item.id, values, question.choices[chosen["acc"]])


def _question(record: Record) -> Question:
    record.only(*CONTEXT, "choices", "answer")
    given = record.value("choices")
    if not isinstance(given, list) or len(given) < 2:
        raise record.refuse(
            "'choices' must be an array of at least two texts", 'Write ["4", "5"].', "choices"
        )
    choices = tuple(record.checked_text(each, "choices") for each in given)
    for place, choice in enumerate(choices):
        if choice in choices[:place]:
            raise record.refuse(f"the choice {choice!r} stands there twice", "Keep one of them.", "choices")
    return Question(record.question(*CONTEXT), choices, _gold(record, choices))


def _gold(record: Record, choices: tuple[str, ...]) -> int:
    answer = record.value("answer")
    if isinstance(answer, str) and answer in choices:
        return choices.index(answer)
    if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(choices):
        return answer
    found = repr(answer) if isinstance(answer, str | int) else kind_of(answer)
    raise record.refuse(
        f"the answer {found} is not among the choices",
        f"Write the text of one, or its place from 0 to {len(choices) - 1}.",
        "answer",
    )


def _first_greatest(values: Sequence[float]) -> int:
    return max(range(len(values)), key=values.__getitem__)


EVALUATORS.register("multiple_choice", MultipleChoice())
