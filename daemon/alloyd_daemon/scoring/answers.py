"""Answers as their evaluators take them: of the kind that was asked for, and numbers that are numbers."""

from __future__ import annotations

import math

from alloyd.errors import TaskError

from .requests import Answer, Likelihood, Written


def likelihood(answer: Answer, where: str, *, finite: bool = False) -> Likelihood:
    """The log-likelihood that answers the item at ``where``.

    Raises TaskError where it is no number, or is infinite and ``finite`` says that no figure can be made of that.
    """
    if not isinstance(answer, Likelihood):
        raise TypeError(f"{where} asked for a likelihood and was answered {answer!r}")
    if math.isnan(answer.logprob) or (finite and math.isinf(answer.logprob)):
        raise TaskError(
            f"{where}: the model's log-likelihood is {answer.logprob}, not a number that can be scored",
            hint="The model's logits overflow or hold NaN; check its weights, or score it in float32.",
        )
    return answer


def written(answer: Answer, where: str) -> str:
    """What the model wrote to the item at ``where``."""
    if not isinstance(answer, Written):
        raise TypeError(f"{where} asked for a text and was answered {answer!r}")
    return answer.text
