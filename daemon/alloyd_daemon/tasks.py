"""Tasks by the names that people give them: which evaluator each is for, and its items, checked before work begins."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from alloyd import task_file, task_name
from alloyd.errors import TaskError, UsageError, did_you_mean

from .evaluator import EVALUATORS, Choices, Evaluator, Task


def resolve(names: Sequence[str], choices: Choices) -> tuple[tuple[Evaluator, Task], ...]:
    """Evaluator and task of each of ``names``: ``EVALUATOR:SOURCE``, or a JSONL file whose keys tell.

    An evaluator takes of ``choices.options`` those that it knows.

    Raises
    ------
    UsageError
        No name, one twice, a limit below 1, an option that no evaluator of these tasks knows.
    RecipeError
        An unknown evaluator, or one whose library is missing.
    TaskError
        A file whose keys tell of no evaluator, and what ``Evaluator.read`` raises.
    """
    if not names or len(set(names)) != len(names):
        raise UsageError("a score needs one task or more, each named once", hint="Give --task FILE.")
    if choices.limit is not None and choices.limit < 1:
        raise UsageError(
            f"the limit must be at least 1, not {choices.limit}", hint="Leave it out to score all items."
        )
    parts = [task_name.split(name) for name in names]
    evaluators = [EVALUATORS.get(name) if name else _recognised(source) for name, source in parts]
    known = {option for each in evaluators for option in each.options}
    for option in choices.options:
        if option not in known:
            kinds = " or ".join(sorted({f"'{each.name}'" for each in evaluators}))
            hint = did_you_mean(option, known) or "These take no options."
            raise UsageError(f"{kinds} has no option '{option}'", hint=hint, key=option)
    return tuple(
        (each, each.read(source, choices)) for each, (_, source) in zip(evaluators, parts, strict=True)
    )


def _recognised(source: str) -> Evaluator:
    """The evaluator that a JSONL file without a name of one is for."""
    first = task_file.read(Path(source))[0]
    keys = frozenset(first.fields)
    found = [each for _, each in EVALUATORS.items() if each.recognises(keys)]
    if len(found) == 1:
        return found[0]
    hint = f"Name one of {', '.join(EVALUATORS.names())}: EVALUATOR:{Path(source).name}."
    raise TaskError(
        f"{first.where}: the keys {', '.join(sorted(keys))} do not tell which evaluator the file is for",
        hint=hint,
        path=source,
        line=first.line,
    )
