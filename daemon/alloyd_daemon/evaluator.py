"""What an evaluator is (a kind of task: what it asks of a model, and what the answers are worth) and its door."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

from .plugins import Door
from .scoring.requests import Answer, Request


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a task.

    ``id`` is unique in its task and stays with the item wherever it is moved; ``content`` is what the item is made
    of, for leakage checks and splits (two items of equal content are the same item); ``where`` is file and line,
    for messages; ``data`` is the evaluator's own.
    """

    id: str
    content: str
    where: str
    data: Any


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure that items are scored by.

    The figure of a model is the sum of its items' values called ``value`` (the metric's own name where that is empty)
    over the sum of those called ``weight`` (their number where that is empty): a mean, or nats a byte. ``scale`` makes
    of it what people call the metric: ``exp`` a perplexity, ``bits`` a figure in bits from one in nats.
    """

    name: str
    better: Literal["higher", "lower"] = "higher"
    value: str = ""
    weight: str = ""
    scale: Literal["identity", "exp", "bits"] = "identity"


@dataclass(frozen=True, slots=True)
class Task:
    """Items of one kind, in the order of their file.

    ``metrics`` come most important first; empty, where only the scores will tell what they hold (a user's function).
    ``data`` is the evaluator's own, for all items: what the user chose, checked and made ready. ``code`` is a digest of
    code of the user's that scores, if there is any.
    """

    name: str
    evaluator: str
    metrics: tuple[Metric, ...]
    items: tuple[Item, ...]
    data: Any = None
    code: str = ""


@dataclass(frozen=True, slots=True)
class ItemScore:
    """One item's values by metric (and weight), and what the model wrote or chose."""

    id: str
    values: Mapping[str, float]
    output: str = ""


@dataclass(frozen=True, slots=True)
class Choices:
    """What the user chose for a task. ``options`` are the evaluator's own, by name, as given (text or plain data);
    ``functions`` are the user's scoring functions that the daemon's config lists, name to file and function."""

    limit: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    functions: Mapping[str, str] = field(default_factory=dict)


class Evaluator(Protocol):
    """One kind of task."""

    @property
    def name(self) -> str:
        """What users call it."""

    @property
    def summary(self) -> str:
        """One line on how it scores."""

    @property
    def options(self) -> Mapping[str, str]:
        """Options by name, with what each does."""

    def recognises(self, keys: frozenset[str]) -> bool:
        """Whether a JSONL file is of this kind where nobody says so, from the keys of its first item."""

    def read(self, source: str, choices: Choices) -> Task:
        """The task at ``source`` (a file's path, or a name that the evaluator knows), checked whole.

        Raises TaskError naming file, line and key, and UsageError for an option's value or a missing library.
        """

    def requests(self, task: Task) -> Sequence[tuple[Request, ...]]:
        """What each item asks, in the order of the items."""

    def score(self, task: Task, place: int, answers: Sequence[Answer]) -> ItemScore:
        """What the answers to the requests of item number ``place`` are worth.

        Raises TaskError for an answer that cannot be scored, such as a log-likelihood that is no number.
        """


EVALUATORS: Final[Door[Evaluator]] = Door("evaluator", "alloyd_daemon.evaluators")
