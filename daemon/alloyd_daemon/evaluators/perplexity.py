"""Perplexity: how well a model predicts whole texts, a byte, a word or a token at a time."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from alloyd.task_file import Record

from ..evaluator import EVALUATORS, Choices, ItemScore, Metric, Task
from ..scoring import answers as answered
from ..scoring.items import read_task
from ..scoring.requests import Answer, WholeText


class Perplexity:
    """Texts read in windows of the model's context, each token predicted once.

    Figures are sums over all texts, as lm-evaluation-harness has them: nats a byte of UTF-8 (``byte_perplexity``, and
    in bits ``bits_per_byte``), nats a word (``word_perplexity``; words are what runs of blanks part), nats a token
    (``token_perplexity``, which only models of one tokenizer can be compared by).
    """

    name = "perplexity"
    summary = "how well whole texts are predicted"
    options: Mapping[str, str] = {}
    metrics = (
        Metric("bits_per_byte", "lower", "nats", "bytes", "bits"),
        Metric("byte_perplexity", "lower", "nats", "bytes", "exp"),
        Metric("word_perplexity", "lower", "nats", "words", "exp"),
        Metric("token_perplexity", "lower", "nats", "tokens", "exp"),
    )

    def recognises(self, keys: frozenset[str]) -> bool:
        """Only this kind has a text."""
        return keys - {"id"} == {"text"}

    def read(self, source: str, choices: Choices) -> Task:
        """The texts of a JSONL file."""
        return read_task(self.name, source, choices, self.metrics, _text)

    def requests(self, task: Task) -> Sequence[tuple[WholeText, ...]]:
        """One whole text an item."""
        return [(WholeText(each.data),) for each in task.items]

    def score(self, task: Task, place: int, answers: Sequence[Answer]) -> ItemScore:
        """``nats``, ``bytes``, ``words`` and ``tokens`` of the text."""
        item = task.items[place]
        answer = answered.likelihood(answers[0], item.where, finite=True)
        values = {
            "nats": -answer.logprob,
            "bytes": float(len(item.data.encode())),
            "words": float(len(re.split(r"\s+", item.data))),
            "tokens": float(answer.tokens),
        }
        return ItemScore(item.id, values)


def _text(record: Record) -> str:
    record.only("text")
    return record.text("text")


EVALUATORS.register("perplexity", Perplexity())
