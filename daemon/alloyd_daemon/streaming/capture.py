"""Hands out what enters the layers of candidates, for statistics over activations (Gram matrices, feature tracking)."""

from __future__ import annotations

from collections.abc import Collection, Generator, Sequence

from ..candidate import Candidate
from ..runner import RunOptions
from ..scoring.requests import Request
from .ready import make_ready
from .sweep import LayerInput, sweep


def layer_inputs(
    candidates: Sequence[Candidate],
    requests: Sequence[Request],
    options: RunOptions,
    *,
    layers: Collection[int],
) -> Generator[LayerInput, None, None]:
    """The inputs of ``layers`` for every candidate on the texts of ``requests``, layer by layer, batch by batch.

    One pass over the sources up to the deepest of ``layers``; candidates whose layers are equal so far come together.
    What all items begin with stands once. A candidate that is lost on the way comes no more. Raises what
    :func:`.ready.make_ready` raises.
    """
    for each in sweep(make_ready(candidates, requests, options), capture=frozenset(layers)):
        if isinstance(each, LayerInput):
            yield each
