"""Log-likelihoods of token spans under a resident model: one forward a batch, logits only where a span asks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Final

from alloyd.errors import SourceError

from ..scoring.encoding import Span, SpanScore
from ..scoring.rows import Row
from .loading import library

LOGITS_BYTES: Final = 64 * 1024 * 1024
"""Logits are computed for as many tokens at a time as fit into this in float32."""


def span_scores(model: Any, rows: Sequence[Row], spans: Sequence[Span], pad: int) -> dict[int, SpanScore]:
    """The scores of all spans that ``rows`` answer, by their place in ``spans``.

    Rows are padded on the right with the token ``pad``. Log-probabilities are of float32 logits, summed in float64.

    Raises SourceError where logits are NaN or infinite.
    """
    torch = library("torch")
    longest = max(len(row.ids) for row in rows)
    ids = torch.tensor([(*row.ids, *(pad,) * (longest - len(row.ids))) for row in rows])
    mask = torch.tensor([(1,) * len(row.ids) + (0,) * (longest - len(row.ids)) for row in rows])
    asks = [
        (place, number, position)
        for number, row in enumerate(rows)
        for place in row.spans
        for position in range(spans[place].first, len(spans[place].ids))
    ]
    targets = torch.tensor([spans[place].ids[position] for place, _, position in asks], device=model.device)
    at = torch.tensor([(number, position - 1) for _, number, position in asks], device=model.device)
    logprobs, best = [], []
    with torch.inference_mode():
        for start, logits in _logits(model, ids.to(model.device), mask.to(model.device), at):
            wanted = targets[start : start + len(logits), None]
            total = torch.logsumexp(logits, dim=-1)
            if not bool(torch.isfinite(total).all()):
                raise not_a_number()
            logprobs.append((logits.gather(1, wanted)[:, 0] - total).double())
            best.append(logits.argmax(dim=-1) == wanted[:, 0])
    values, greedy = torch.cat(logprobs).tolist(), torch.cat(best).tolist()
    found: dict[int, SpanScore] = {}
    for (place, _, _), value, right in zip(asks, values, greedy, strict=True):
        one = found.get(place, SpanScore(0.0, True))
        found[place] = SpanScore(one.logprob + value, one.greedy and right)
    return found


def not_a_number() -> SourceError:
    """The error of a model whose logits cannot be compared."""
    return SourceError(
        "the model's logits are NaN or infinite",
        hint="Look at the recipe's weights; float16 overflows where bfloat16 does not.",
    )


def _logits(model: Any, ids: Any, mask: Any, at: Any) -> Iterator[tuple[int, Any]]:
    """Logits in float32 at the (row, position) pairs ``at``: pieces of (first pair's number, [pairs, vocabulary]).

    The body runs once; the model's own forward then makes logits of the hidden states that are asked for.
    """
    body = model.base_model
    piece = max(1, LOGITS_BYTES // (4 * int(model.config.get_text_config().vocab_size)))
    if body is model:
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        for start in range(0, len(at), piece):
            some = at[start : start + piece]
            yield start, logits[some[:, 0], some[:, 1]].float()
        return
    output = body(input_ids=ids, attention_mask=mask, use_cache=False)
    hidden = output.last_hidden_state[at[:, 0], at[:, 1]]
    with _answering(body, output):
        for start in range(0, len(at), piece):
            output.last_hidden_state = hidden[None, start : start + piece]
            yield start, model(input_ids=ids, attention_mask=mask, use_cache=False).logits[0].float()


@contextlib.contextmanager
def _answering(module: Any, output: Any) -> Iterator[None]:
    """Let ``module`` answer ``output`` to every call."""
    before = module.__dict__.get("forward")
    module.forward = lambda *_, **__: output
    try:
        yield
    finally:
        del module.forward
        if before is not None:
            module.forward = before
