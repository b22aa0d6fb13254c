"""Generation, scored by what the model writes: one row for each way to tell a right answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from alloyd.errors import UsageError
from alloyd.task_file import Record

from ..evaluator import EVALUATORS, Choices, ItemScore, Metric, Task
from ..scoring import answers as answered
from ..scoring import language, options
from ..scoring.items import read_task
from ..scoring.numbers import last_number
from ..scoring.patterns import compiled, found
from ..scoring.requests import Answer, Prompt

PROMPT: Final = ("prompt", "question", "context")

Given = Mapping[str, Any]
Rule = Callable[[str, str], bool]
"""Whether what was written, given first, is the answer, given second."""


@dataclass(frozen=True, slots=True)
class Exercise:
    """What the model is to continue, and the answers that are right."""

    prompt: str
    answers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Marking:
    """How a task's items are asked and judged."""

    rule: Rule
    language: language.Wanted
    stop: tuple[str, ...]
    most_tokens: int | None


@dataclass(frozen=True, slots=True)
class Generation:
    """Greedy generation; ``rule`` makes of the options what tells whether an answer is right.

    ``score`` is 1 where the answer is right and, if a language is asked for, in that language; its two parts are kept
    beside it. ``answer_problem`` says what is wrong with an answer in the file that nothing written could equal.
    """

    name: str
    summary: str
    rule: Callable[[Given], Rule]
    own: Given = field(default_factory=dict)
    answer_problem: Callable[[str], str] = lambda answer: ""

    @property
    def options(self) -> Given:
        """The row's own options, then those of all rows."""
        return {
            **self.own,
            **language.OPTIONS,
            "stop": "text that ends the answer (several as a list)",
            "most_tokens": "tokens an answer may have (default: the model's own setting)",
        }

    def recognises(self, keys: frozenset[str]) -> bool:
        """A prompt and its answer are scored by exact match unless another row is named."""
        wanted = {"answer"} <= keys and bool(keys & {"prompt", "question"}) and "choices" not in keys
        return self.name == "exact_match" and wanted

    def read(self, source: str, choices: Choices) -> Task:
        """The prompts of a JSONL file, and what the options make of them."""
        given = choices.options
        marking = Marking(
            self.rule(given),
            language.wanted(given),
            options.texts(given, "stop"),
            options.count(given, "most_tokens"),
        )
        parts = (Metric("answer_right"), Metric("language_right")) if marking.language else ()
        return read_task(self.name, source, choices, (Metric("score"), *parts), self._exercise, marking)

    def requests(self, task: Task) -> Sequence[tuple[Prompt, ...]]:
        """One prompt an item."""
        marking: Marking = task.data
        return [(Prompt(each.data.prompt, marking.stop, marking.most_tokens),) for each in task.items]

    def score(self, task: Task, place: int, answers: Sequence[Answer]) -> ItemScore:
        """1 or 0, with the parts of it; the output is what the model wrote."""
        item = task.items[place]
        marking: Marking = task.data
        output = answered.written(answers[0], item.where)
        right = any(marking.rule(output, answer) for answer in item.data.answers)
        if not marking.language:
            return ItemScore(item.id, {"score": float(right)}, output)
        parts = {"answer_right": float(right), **marking.language.judge(output)}
        score = parts["answer_right"] * parts["language_right"]
        return ItemScore(item.id, {"score": score, **parts}, output)

    def _exercise(self, record: Record) -> Exercise:
        record.only(*PROMPT, "answer")
        given = record.value("answer")
        several = given if isinstance(given, list) and given else [given]
        answers = tuple(record.checked_text(each, "answer") for each in several)
        for answer in answers:
            if problem := self.answer_problem(answer):
                raise record.refuse(
                    f"the answer {answer!r} {problem}", f"'{self.name}' could never find it.", "answer"
                )
        return Exercise(record.question(*PROMPT), answers)


def _blanks_as_one(given: Given) -> Callable[[str], str]:
    """Makes runs of blanks one and, if the options say so, capitals small."""
    small = options.one_of(given, "case", ("exact", "ignore")) == "ignore"
    return lambda text: " ".join((text.casefold() if small else text).split())


def _exact_match(given: Given) -> Rule:
    plain = _blanks_as_one(given)
    return lambda output, answer: plain(output) == plain(answer)


def _contains(given: Given) -> Rule:
    plain = _blanks_as_one(given)
    return lambda output, answer: plain(answer) in plain(output)


def _regex(given: Given) -> Rule:
    plain = _blanks_as_one(given)
    if not options.text(given, "pattern"):
        raise UsageError(
            "'regex' needs the option 'pattern'", hint=r"Such as pattern='answer is (\w+)'.", key="pattern"
        )
    pattern = compiled(options.text(given, "pattern"), "pattern")
    which = options.one_of(given, "match", ("first", "last"))

    def rule(output: str, answer: str) -> bool:
        part = found(pattern, output, which)
        return part is not None and plain(part) == plain(answer)

    return rule


def _last_number(given: Given) -> Rule:
    return lambda output, answer: last_number(output) == last_number(answer)


def _no_number(answer: str) -> str:
    return "" if last_number(answer) is not None else "is no number"


CASE: Final = {"case": "exact or ignore (default: exact)"}

for row in (
    Generation("exact_match", "the whole output must be the answer", _exact_match, CASE),
    Generation("contains", "the answer must stand in the output", _contains, CASE),
    Generation(
        "regex",
        "what a regular expression finds in the output must be the answer",
        _regex,
        {
            "pattern": "regular expression; its first group that matches, else all of it, is compared",
            "match": "first or last match in the output (default: first)",
            **CASE,
        },
    ),
    Generation(
        "last_number",
        "the last number in the output must be the answer",
        _last_number,
        answer_problem=_no_number,
    ),
):
    EVALUATORS.register(row.name, row)
