"""How likely a model finds spans: packs of them through the engine, and the answers put together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from alloyd.errors import JobError

from ..scoring.encoding import Span, SpanScore
from .engine import Engine
from .messages import Decoded
from .packing import Pack, orders


def score(
    engine: Engine, pack: Pack, spans: Sequence[Span], *, batch: int, outputs: int
) -> Iterator[tuple[int, SpanScore]]:
    """Place and score of each span of ``pack``, which was made of all tokens of ``spans`` but their last.

    Raises
    ------
    JobError
        The model answers with numbers that are none.
    ChildDied
        The engine crashed.
    """
    wanted: dict[int, dict[int, int]] = {}  # node -> token asked after it -> its number among them
    for place, path in zip(pack.members, pack.paths, strict=True):
        span = spans[place]
        for position in range(span.first, len(span.ids)):
            asked = wanted.setdefault(path[position - 1], {})
            asked.setdefault(span.ids[position], len(asked))
    tokens = {node: tuple(asked) for node, asked in wanted.items()}
    best: dict[int, int] = {}
    logprobs: dict[int, Sequence[float]] = {}
    for order, nodes in orders(pack.nodes, tokens, batch=batch, outputs=outputs, fresh=True):
        reply = engine.decode(order)
        check(reply)
        found = np.frombuffer(reply.logprobs, np.float64).tolist()
        for node, token in zip(nodes, np.frombuffer(reply.best, np.int32).tolist(), strict=True):
            best[node] = token
            logprobs[node], found = found[: len(tokens[node])], found[len(tokens[node]) :]
    for place, path in zip(pack.members, pack.paths, strict=True):
        span = spans[place]
        total, greedy = 0.0, True
        for position in range(span.first, len(span.ids)):
            node, token = path[position - 1], span.ids[position]
            total += logprobs[node][wanted[node][token]]
            greedy = greedy and best[node] == token
        yield place, SpanScore(total, greedy)


def check(reply: Decoded) -> None:
    """Refuse logits that are no numbers. Raises JobError."""
    if reply.broken:
        raise JobError(
            "the model's logits are not numbers (NaN or infinity)",
            hint="Weights that are not finite, or too large for the type they were quantised to, do this.",
        )
