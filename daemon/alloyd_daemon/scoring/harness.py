"""Tasks of lm-evaluation-harness, loaded without a network: by name, or from a YAML file with its data beside it."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

from alloyd.errors import TaskError, did_you_mean

from ..late import library

FEWSHOT_SEED: Final = 1234
"""What draws the examples in a prompt; the harness's own."""
FILES: Final = (".yaml", ".yml")
_FILE_FORMATS: Final = {"json", "csv", "parquet", "text", "arrow", "xml"}


def load(source: str, *, shots: int | None, limit: int | None) -> Any:
    """The harness's task ``source``, its requests built for the first ``limit`` documents.

    ``source`` is a name that the harness knows, or a YAML file; ``shots`` the examples in a prompt, ``None`` for the
    task's own number.

    Raises
    ------
    UsageError
        The harness is not installed.
    TaskError
        It knows no such task, cannot load it or its data from this machine, or alloyd cannot score it.
    """
    module("lm_eval.tasks")
    with _offline(), contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            task = _loaded(source)
            _check(source, task)
            _set_fewshot(task, shots)
            task.build_all_requests(limit=limit)
        except TaskError:
            raise
        except Exception as wrong:
            raise _refused(source, wrong, said.getvalue()) from wrong
    return task


def module(name: str) -> Any:
    """A module of the harness, or of what it needs. Raises UsageError where it is not installed."""
    return library(name, user="the evaluator 'lm_eval'", extra="lm-eval")


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """Nothing is fetched by name while this is open, whatever was imported before."""
    places = [
        (module(place), name)
        for place, name in (
            ("huggingface_hub.constants", "HF_HUB_OFFLINE"),
            ("datasets.config", "HF_HUB_OFFLINE"),
            ("datasets.config", "HF_DATASETS_OFFLINE"),
        )
    ]
    kept = [(place, name, getattr(place, name)) for place, name in places if hasattr(place, name)]
    before = {name: os.environ.get(name) for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")}
    os.environ.update(dict.fromkeys(before, "1"))
    for place, name, _ in kept:
        setattr(place, name, True)
    try:
        yield
    finally:
        for place, name, value in kept:
            setattr(place, name, value)
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
    config = module("lm_eval.tasks._yaml_loader").load_yaml(path)
    if not isinstance(config, dict) or not isinstance(config.get("task"), str):
        raise TaskError(f"{path} is no task: it has no name under 'task'", hint="Give one task a file.")
    manager = module("lm_eval.tasks").TaskManager(include_defaults=False)
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
    return module("lm_eval.tasks").TaskManager()


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


def _refused(source: str, wrong: Exception, said: str) -> TaskError:
    reason = " ".join(str(wrong).split()) or " ".join(said.split())[-300:]
    lacks_data = isinstance(wrong, OSError) or "ffline" in reason
    hint = "Its data must be on this machine: load it once with the library datasets." if lacks_data else ""
    return TaskError(
        f"lm-evaluation-harness cannot load '{source}' ({type(wrong).__name__}: {reason[:500]})", hint=hint
    )
