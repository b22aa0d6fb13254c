"""Tasks of lm-evaluation-harness, by name or from a task file: its prompts, its filters, its values of each item."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from alloyd import task_file
from alloyd.errors import TaskError

from ..evaluator import EVALUATORS, Choices, Item, ItemScore, Metric, Task
from ..scoring import answers as answered
from ..scoring import harness, options
from ..scoring.requests import Answer, Continuation, Prompt, Request, WholeText

MOST_TOKENS: Final = 256
"""Tokens an answer may have where the task does not say; the harness's own."""


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a task: the harness's object, and its instances (one a request) in their order."""

    doc: Any
    instances: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Harness:
    """A task of the harness, and how to take the values of a document apart: by filter and metric."""

    task: Any
    parts: Mapping[tuple[str, str], Metric]


class HarnessTask:
    """Requests come from the harness's task, answers go through its filters and its ``process_results``.

    A metric goes by its own name, or ``METRIC,FILTER`` where the task has several filters. Metrics that the harness
    computes over all documents at once (f1, bleu...) have no value an item and are left out. Data is never downloaded.
    """

    name = "lm_eval"
    summary = "a task of lm-evaluation-harness, by its name or its YAML file"
    options: Mapping[str, str] = {"num_fewshot": "examples in the prompt (default: the task's own number)"}

    def recognises(self, keys: frozenset[str]) -> bool:
        """Never: its tasks are not JSONL files."""
        return False

    def read(self, source: str, choices: Choices) -> Task:
        """The documents of the harness's task ``source``: a name that it knows, or a YAML file."""
        shots = options.count(choices.options, "num_fewshot", least=0)
        task = harness.load(source, shots=shots, limit=choices.limit)
        whole = Harness(task, _parts(source, task))
        items = tuple(_items(source, task.instances))
        return Task(task.config.task or source, self.name, tuple(whole.parts.values()), items, whole)

    def requests(self, task: Task) -> Sequence[tuple[Request, ...]]:
        """One request an instance."""
        return [
            tuple(_request(each.where, instance) for instance in each.data.instances) for each in task.items
        ]

    def score(self, task: Task, place: int, answers: Sequence[Answer]) -> ItemScore:
        """The values of one document, as the harness's ``process_results`` has them."""
        item = task.items[place]
        document: Document = item.data
        whole: Harness = task.data
        pairs = list(zip(document.instances, answers, strict=True))
        filled = [
            dataclasses.replace(
                instance,
                resps=[_response(instance, answer, item.where)] * (instance.repeats or 1),
                filtered_resps={},
            )
            for instance, answer in pairs
        ]
        values: dict[str, float] = {}
        try:
            for each in whole.task._filters:
                each.apply(filled)
            for name in dict.fromkeys(name for name, _ in whole.parts):
                results = whole.task.process_results(
                    document.doc, [instance.filtered_resps[name] for instance in filled]
                )
                for (of, metric), named in whole.parts.items():
                    if of == name:
                        values |= _values(named, results[metric])
        except Exception as wrong:
            raise TaskError(
                f"{item.where}: lm-evaluation-harness cannot score the answer ({type(wrong).__name__}: {wrong})",
                item=item.id,
            ) from wrong
        output = next((str(each.text) for _, each in pairs if hasattr(each, "text")), "")
        return ItemScore(item.id, values, output)


def _parts(source: str, task: Any) -> dict[tuple[str, str], Metric]:
    """The metric of each (filter, metric of the harness) that is a mean or a ratio of sums over documents."""
    registry = harness.module("lm_eval.api.registry")
    known = {function: name for name, function in registry.AGGREGATION_REGISTRY.items()}
    better = task.higher_is_better()
    filters = [each.name for each in task._filters]
    parts: dict[tuple[str, str], Metric] = {}
    for name in filters:
        for metric, function in task.aggregation().items():
            whole = metric if len(filters) == 1 else f"{metric},{name}"
            found = _metric(whole, known.get(function, ""), "higher" if better.get(metric, True) else "lower")
            if found is not None:
                parts[name, metric] = found
    if not parts:
        names = ", ".join(task.aggregation())
        raise TaskError(
            f"'{source}' has no metric with a value for each item ({names})", hint="Choose another task."
        )
    return parts


def _metric(name: str, aggregation: str, better: Any) -> Metric | None:
    nats, weight = f"{name}.nats", f"{name}.weight"
    match aggregation:
        case "mean":
            return Metric(name, better)
        case "perplexity":
            return Metric(name, better, nats, scale="exp")
        case "weighted_perplexity":
            return Metric(name, better, nats, weight, "exp")
        case "bits_per_byte":
            return Metric(name, better, nats, weight, "bits")
    return None


def _values(metric: Metric, result: Any) -> dict[str, float]:
    """A document's result as the values that ``metric`` sums; log-likelihoods become nats."""
    if metric.weight:
        logprob, weight = result
        found = {metric.value: -float(logprob), metric.weight: float(weight)}
    else:
        found = {metric.value: -float(result)} if metric.value else {metric.name: float(result)}
    for name, value in found.items():
        if not math.isfinite(value):
            raise ValueError(f"'{name}' is {value}")
    return found


def _items(source: str, instances: Sequence[Any]) -> Iterator[Item]:
    """An item a document; ids follow from what the documents hold, repeated ones are counted."""
    grouped: dict[int, list[Any]] = {}
    for instance in instances:
        grouped.setdefault(instance.doc_id, []).append(instance)
    seen: dict[str, int] = {}
    for number, group in grouped.items():
        doc = group[0].doc
        fields = json.loads(json.dumps(doc, default=str))
        content = task_file.content_of(fields if isinstance(fields, dict) else {"text": fields})
        name = task_file.id_of(content)
        seen[name] = seen.get(name, 0) + 1
        document = Document(doc, tuple(sorted(group, key=lambda each: each.idx)))
        again = f"#{seen[name]}" if seen[name] > 1 else ""
        yield Item(name + again, content, f"{source}, document {number}", document)


def _request(where: str, instance: Any) -> Request:
    match instance.request_type, instance.args:
        case "loglikelihood", (str(context), str(text)):
            return Continuation(context, text)
        case "loglikelihood_rolling", (str(text),):
            return WholeText(text)
        case "generate_until", (str(context), dict(settings)):
            return _prompt(where, context, settings)
    raise TaskError(f"{where}: alloyd cannot ask a '{instance.request_type}' request of this form")


def _prompt(where: str, context: str, settings: Mapping[str, Any]) -> Prompt:
    models = harness.module("lm_eval.models.utils")
    chosen = models.normalize_gen_kwargs(dict(settings), MOST_TOKENS)
    if chosen.get("do_sample"):
        raise TaskError(
            f"{where}: the task draws its answers at random, alloyd generates greedily",
            hint="Set do_sample: false in the task's generation_kwargs.",
        )
    stop = models.handle_stop_sequences(chosen.get("until"), eos=None)
    return Prompt(context, tuple(each for each in stop if each), int(chosen["max_gen_toks"]))


def _response(instance: Any, answer: Answer, where: str) -> Any:
    """An answer as the harness's models give it."""
    if instance.request_type == "generate_until":
        return answered.written(answer, where)
    found = answered.likelihood(answer, where)
    return (
        found.logprob if instance.request_type == "loglikelihood_rolling" else (found.logprob, found.greedy)
    )


EVALUATORS.register("lm_eval", HarnessTask())
