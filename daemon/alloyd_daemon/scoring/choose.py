"""Which runner runs what: the one that was named, or what suits the models and what they are asked."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from alloyd.errors import AlloydError, UsageError, did_you_mean

from ..candidate import GgufFile, Subject
from ..runner import RUNNERS, Runner

AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Group:
    """Subjects that one runner runs together."""

    runner: Runner
    subjects: tuple[Subject, ...]


def group(
    subjects: Sequence[Subject], *, runner: str, quantise: str | None, generates: bool
) -> tuple[Group, ...]:
    """The runners of ``subjects``. ``generates``: whether text must be written.

    A GGUF file is scored as it is; ``quantise`` is for the others.

    ``auto`` gives GGUF files to `gguf`, and all others to one runner, so that their scores compare: recipes of which
    only likelihoods are asked to `stream`, else to `resident`, or to the first that can quantise as asked.

    Raises
    ------
    UsageError
        The runner cannot do what is asked of it; none can.
    RecipeError
        It is unknown, or a library that it needs is missing.
    """
    files = tuple(each for each in subjects if isinstance(each, GgufFile))
    others = tuple(each for each in subjects if not isinstance(each, GgufFile))
    if files and quantise and not others:
        raise UsageError(
            f"{files[0].name} is a GGUF file, which is scored as it is",
            hint="Leave --quantise out, or score the models that it was made from.",
        )
    if runner != AUTO:
        chosen = RUNNERS.get(runner)
        _check(chosen, quantise, generates)
        return (Group(chosen, tuple(subjects)),)
    groups = []
    if others:
        recipes = any(each.checkpoint is None for each in others)
        groups.append(Group(_suited(recipes, quantise, generates), others))
    if files:
        groups.append(Group(RUNNERS.get("gguf"), files))
    return tuple(groups)


def _suited(recipes: bool, quantise: str | None, generates: bool) -> Runner:
    order = ("stream", "resident", "gguf") if recipes and not generates else ("resident", "stream", "gguf")
    able = [RUNNERS.get(name) for name in order if name in RUNNERS.names()]
    able = [each for each in able if each.generates or not generates]
    if not able:
        raise UsageError("no runner here can write text", hint="pip install 'alloyd[score]'")
    refusals = [_refusal(each, quantise) for each in able]
    for each, refusal in zip(able, refusals, strict=True):
        if refusal is None:
            return each
    near = difflib.get_close_matches(str(quantise), [name for each in able for name in each.quantises], n=1)
    if near:
        raise UsageError(f"nothing quantises to '{quantise}'", hint=f"Did you mean '{near[0]}'?")
    raise refusals[-1] or UsageError(f"nothing quantises to '{quantise}'")


def _check(runner: Runner, quantise: str | None, generates: bool) -> None:
    if generates and not runner.generates:
        able = ", ".join(name for name, each in RUNNERS.items() if each.generates)
        raise UsageError(
            f"the runner '{runner.name}' measures likelihoods and writes no text, which a task asks for",
            hint=f"Runners that write: {able}.",
        )
    refusal = _refusal(runner, quantise)
    if refusal is not None:
        raise refusal


def _refusal(runner: Runner, quantise: str | None) -> AlloydError | None:
    """Why ``runner`` cannot quantise to the type ``quantise``; ``None`` where it can, or none is asked for."""
    if quantise is None or quantise in runner.quantises:
        return None
    if runner.check_type is not None:
        try:
            runner.check_type(quantise)
        except AlloydError as refusal:
            return refusal
        return None
    hint = did_you_mean(quantise, runner.quantises) or "Leave --quantise out."
    return UsageError(f"the runner '{runner.name}' does not quantise to '{quantise}'", hint=hint)
