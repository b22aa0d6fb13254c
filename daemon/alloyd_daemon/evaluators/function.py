"""The user's own function: what the model writes, scored by code that the daemon's configuration names."""

from __future__ import annotations

import importlib.util
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path
from typing import Any

from blake3 import blake3

from alloyd.errors import TaskError, UsageError, did_you_mean
from alloyd.task_file import Record

from ..evaluator import EVALUATORS, Choices, ItemScore, Task
from ..scoring import answers as answered
from ..scoring import options
from ..scoring.items import read_task
from ..scoring.requests import Answer, Prompt


@dataclass(frozen=True, slots=True)
class Marking:
    """The function, what it is called, and how items are asked."""

    name: str
    call: Callable[[dict[str, Any], str], Any]
    stop: tuple[str, ...]
    most_tokens: int | None


class Function:
    """``function(item, output)``: gets the item's JSON object and what the model wrote to its ``prompt``.

    It returns a number, or a mapping of metric to number; the means of these are the figures, higher is better. Only
    functions that the daemon's configuration lists are run: ``[scoring] functions = {name = "/file.py:function"}``.
    """

    name = "function"
    summary = "the user's own function scores what the model writes"
    options: Mapping[str, str] = {
        "function": "name of the function in the configuration (default: the only one)",
        "stop": "text that ends the answer (several as a list)",
        "most_tokens": "tokens an answer may have (default: the model's own setting)",
    }

    def recognises(self, keys: frozenset[str]) -> bool:
        """Never: code is run where it is asked for."""
        return False

    def read(self, source: str, choices: Choices) -> Task:
        """The items of a JSONL file, each with a ``prompt`` and whatever else the function wants."""
        name = _chosen(choices)
        marking = Marking(
            name,
            load(name, choices.functions[name]),
            options.texts(choices.options, "stop"),
            options.count(choices.options, "most_tokens"),
        )
        task = read_task(self.name, source, choices, (), _fields, marking)
        path, _, _ = choices.functions[name].rpartition(":")
        return replace(task, code=blake3(Path(path).read_bytes()).hexdigest())

    def requests(self, task: Task) -> Sequence[tuple[Prompt, ...]]:
        """One prompt an item."""
        marking: Marking = task.data
        return [(Prompt(each.data["prompt"], marking.stop, marking.most_tokens),) for each in task.items]

    def score(self, task: Task, place: int, answers: Sequence[Answer]) -> ItemScore:
        """What the function returns, ``score`` where that is one number."""
        item = task.items[place]
        marking: Marking = task.data
        output = answered.written(answers[0], item.where)
        process = os.getpid()
        try:
            returned = marking.call(dict(item.data), output)
        except Exception as wrong:
            raise TaskError(
                f"{item.where}: the function '{marking.name}' raised {type(wrong).__name__}: {wrong}",
                hint="Correct the function, or the item.",
                item=item.id,
            ) from wrong
        if os.getpid() != process:
            os._exit(0)  # the function forked; two processes must not go on with one job
        values = returned if isinstance(returned, Mapping) else {"score": returned}
        return ItemScore(
            item.id,
            {
                _metric(marking.name, key, item): _number(marking.name, key, value, item)
                for key, value in values.items()
            },
            output,
        )


def load(name: str, place: str) -> Callable[[dict[str, Any], str], Any]:
    """The function at ``place``, ``/path/file.py:function``.

    Raises UsageError where the file is absent, does not load, or has no such function.
    """
    path, _, function = place.rpartition(":")
    key = f"scoring.functions.{name}"
    module_name = f"alloyd_function_{name}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None or not Path(path).is_file():
        raise UsageError(f"{key} names {path}, which is no Python file", hint="Check the path.", key=key)
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as wrong:
        raise UsageError(f"{key}: {path} does not load ({type(wrong).__name__}: {wrong})", key=key) from wrong
    found: Any = getattr(module, function, None)
    if not callable(found):
        known = [each for each, value in vars(module).items() if callable(value)]
        raise UsageError(
            f"{key}: {path} has no function '{function}'", hint=did_you_mean(function, known), key=key
        )
    call: Callable[[dict[str, Any], str], Any] = found
    return call


def _chosen(choices: Choices) -> str:
    name = options.text(choices.options, "function") or (
        next(iter(choices.functions)) if len(choices.functions) == 1 else ""
    )
    if name in choices.functions:
        return name
    if not choices.functions:
        hint = 'Write [scoring] functions = {name = "/path/file.py:function"} into it.'
        raise UsageError("the daemon's configuration lists no scoring function", hint=hint, key="function")
    if not name:
        hint = f"Known: {', '.join(sorted(choices.functions))}."
        raise UsageError("the option 'function' must say which function scores", hint=hint, key="function")
    hint = did_you_mean(name, choices.functions)
    raise UsageError(
        f"the daemon's configuration lists no scoring function '{name}'", hint=hint, key="function"
    )


def _fields(record: Record) -> Mapping[str, Any]:
    record.text("prompt")
    return record.fields


def _metric(name: str, key: object, item: Any) -> str:
    found = str(key)
    if found and found.isprintable():
        return found
    raise TaskError(
        f"{item.where}: the function '{name}' returned a value for {found!a}, which is no name of a metric",
        hint="Name metrics by printable characters.",
        item=item.id,
    )


def _number(name: str, key: object, value: object, item: Any) -> float:
    try:
        if isinstance(value, Real) and math.isfinite(found := float(value)):
            return found
    except OverflowError:
        value = "a number too large"
    raise TaskError(
        f"{item.where}: the function '{name}' returned {value!r} as {key!r}, not a finite number",
        hint="Return a number, or a mapping of metric to number.",
        item=item.id,
    )


EVALUATORS.register("function", Function())
