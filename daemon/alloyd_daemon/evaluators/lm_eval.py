"""Tasks of lm-evaluation-harness, by name or from a task file: its prompts, its filters, its values of each item."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from alloyd import task_file
from alloyd.errors import TaskError, did_you_mean

from ..evaluator import EVALUATORS, Choices, Item, ItemScore, Metric, Task
from ..late import library
from ..scoring import answers as answered
from ..scoring import options
from ..scoring.requests import Answer, Continuation, Prompt, Request, WholeText

FEWSHOT_SEED: Final = 1234
"""What draws the examples in a prompt; the harness's own."""
MOST_TOKENS: Final = 256
"""Tokens an answer may have where the task does not say; the harness's own."""
FILES: Final = (".yaml", ".yml")
_FILE_FORMATS: Final = {"json", "csv", "parquet", "text", "arrow", "xml"}


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
        _harness("lm_eval.tasks")
        with _offline(), contextlib.redirect_stderr(io.StringIO()) as said:
            try:
                task = _loaded(source)
                _check(source, task)
                _set_fewshot(task, shots)
                task.build_all_requests(limit=choices.limit)
            except TaskError:
                raise
            except Exception as wrong:
                raise _refused(source, wrong, said.getvalue()) from wrong
        harness = Harness(task, _parts(source, task))
        items = tuple(_items(source, task.instances))
        return Task(task.config.task or source, self.name, tuple(harness.parts.values()), items, harness)

    def requests(self, task: Task) -> Sequence[tuple[Request, ...]]:
        """One request an instance."""
        return [
            tuple(_request(each.where, instance) for instance in each.data.instances) for each in task.items
        ]

    def score(self, task: Task, place: int, answers: Sequence[Answer]) -> ItemScore:
        """The values of one document, as the harness's ``process_results`` has them."""
        item = task.items[place]
        document: Document = item.data
        harness: Harness = task.data
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
            for each in harness.task._filters:
                each.apply(filled)
            for name in dict.fromkeys(name for name, _ in harness.parts):
                results = harness.task.process_results(
                    document.doc, [instance.filtered_resps[name] for instance in filled]
                )
                for (of, metric), named in harness.parts.items():
                    if of == name:
                        values |= _values(named, results[metric])
        except Exception as wrong:
            raise TaskError(
                f"{item.where}: lm-evaluation-harness cannot score the answer ({type(wrong).__name__}: {wrong})",
                item=item.id,
            ) from wrong
        output = next((str(each.text) for _, each in pairs if hasattr(each, "text")), "")
        return ItemScore(item.id, values, output)


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """Nothing is fetched by name while this is open, whatever was imported before."""
    names = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    places = [
        (_harness(module), name)
        for module, name in (
            ("huggingface_hub.constants", "HF_HUB_OFFLINE"),
            ("datasets.config", "HF_HUB_OFFLINE"),
            ("datasets.config", "HF_DATASETS_OFFLINE"),
        )
    ]
    kept = [(module, name, getattr(module, name)) for module, name in places if hasattr(module, name)]
    for module, name, _ in kept:
        setattr(module, name, True)
    try:
        yield
    finally:
        for module, name, value in kept:
            setattr(module, name, value)
        for name, text in before.items():
            if text is None:
                del os.environ[name]
            else:
                os.environ[name] = text


def _loaded(source: str) -> Any:
    """The harness's task called ``source``; of a YAML file, with data files looked for beside it."""
    if not source.endswith(FILES):
        return _manager().load(_single(source))["tasks"][source]
    path = Path(source)
    if not path.is_file():
        raise TaskError(f"the task file {path} does not exist", hint="Check the path.", path=source)
    config = _harness("lm_eval.tasks._yaml_loader").load_yaml(path)
    if not isinstance(config, dict) or not isinstance(config.get("task"), str):
        raise TaskError(f"{path} is no task: it has no name under 'task'", hint="Give one task a file.")
    manager = _harness("lm_eval.tasks").TaskManager(include_defaults=False)
    return manager.load(_with_paths(config, path.parent))["tasks"][config["task"]]


def _single(source: str) -> str:
    """The name of one task, and not of a group of them."""
    manager = _manager()
    if source not in manager.all_tasks:
        raise TaskError(
            f"lm-evaluation-harness knows no task '{source}'", hint=did_you_mean(source, manager.all_tasks)
        )
    if source not in manager.all_subtasks:
        entry = manager.task_index[source]
        members = (entry.cfg or {}).get("task") or sorted(entry.tags)
        names = [each if isinstance(each, str) else str(each.get("task")) for each in members]
        raise TaskError(
            f"'{source}' is a group of tasks of lm-evaluation-harness",
            hint=f"Name one or several of its tasks: {', '.join(names[:8])}{'...' if len(names) > 8 else '.'}",
        )
    return source


@cache
def _manager() -> Any:
    """The index of all tasks that the harness comes with; it takes seconds to make."""
    return _harness("lm_eval.tasks").TaskManager()


def _harness(module: str) -> Any:
    return library(module, user="the evaluator 'lm_eval'", extra="lm-eval")


def _with_paths(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """``config`` with the files of its data set, where it reads files, seen from the task file's ``folder``."""

    def seen(value: Any) -> Any:
        if isinstance(value, str):
            return value if "://" in value else str(folder / value)
        if isinstance(value, list):
            return [seen(each) for each in value]
        return {key: seen(each) for key, each in value.items()} if isinstance(value, dict) else value

    arguments = dict(config.get("dataset_kwargs") or {})
    if config.get("dataset_path") in _FILE_FORMATS:
        arguments |= {key: seen(arguments[key]) for key in ("data_files", "data_dir") if key in arguments}
    return {**config, "dataset_kwargs": arguments} if arguments else config


def _check(source: str, task: Any) -> None:
    if getattr(task, "UNSAFE_CODE", False):
        raise TaskError(
            f"'{source}' runs what the model writes as a program, which alloyd does not do",
            hint="Score it with lm-evaluation-harness itself, in a sandbox.",
        )
    if getattr(task, "MULTIMODAL", False):
        raise TaskError(f"'{source}' shows the model more than text", hint="Choose a task of text alone.")


def _set_fewshot(task: Any, shots: int | None) -> None:
    own = task.config.num_fewshot
    # The harness holds on to a task's own 0: its prompt then is written for no examples.
    if own is None or (shots is not None and own != 0):
        task.set_config(key="num_fewshot", value=shots or 0)
    task.set_fewshot_seed(seed=FEWSHOT_SEED)


def _parts(source: str, task: Any) -> dict[tuple[str, str], Metric]:
    """The metric of each (filter, metric of the harness) that is a mean or a ratio of sums over documents."""
    registry = _harness("lm_eval.api.registry")
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
    models = _harness("lm_eval.models.utils")
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


def _refused(source: str, wrong: Exception, said: str) -> TaskError:
    reason = " ".join(str(wrong).split()) or " ".join(said.split())[-300:]
    lacks_data = isinstance(wrong, OSError) or "ffline" in reason
    hint = "Its data must be on this machine: load it once with the library datasets." if lacks_data else ""
    return TaskError(
        f"lm-evaluation-harness cannot load '{source}' ({type(wrong).__name__}: {reason[:500]})", hint=hint
    )


EVALUATORS.register("lm_eval", HarnessTask())
