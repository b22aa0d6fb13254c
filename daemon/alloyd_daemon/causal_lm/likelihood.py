"""Log-likelihoods of token spans under a resident model: one forward a batch, logits only where a span asks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

from alloyd.errors import SourceError

from ..scoring.encoding import SpanScore
from ..scoring.packing import Batch
from .loading import library

LOGITS_BYTES: Final = 64 * 1024 * 1024
"""Logits are computed for as many tokens at a time as fit into this in float32."""


def span_scores(model: Any, batch: Batch) -> dict[int, SpanScore]:
    """The score of every span that ``batch`` wants, by the span's place among all.

    Log-probabilities are of float32 logits, summed in float64.

    Raises SourceError where logits are NaN or infinite.
    """
    torch = library("torch")
    asks = [
        (wanted.span, wanted.row, position, target)
        for wanted in batch.wanted
        for position, target in zip(wanted.positions, wanted.targets, strict=True)
    ]
    at = torch.tensor([(row, position) for _, row, position, _ in asks], device=model.device)
    targets = torch.tensor([target for *_, target in asks], device=model.device)
    logprobs, best = [], []
    with torch.no_grad():
        for start, logits in _logits(model, _inputs(model, batch), at):
            wanted = targets[start : start + len(logits), None]
            total = torch.logsumexp(logits, dim=-1)
            if not bool(torch.isfinite(total).all()):
                raise not_a_number()
            logprobs.append((logits.gather(1, wanted)[:, 0] - total).double())
            best.append(logits.argmax(dim=-1) == wanted[:, 0])
    values, greedy = torch.cat(logprobs).tolist(), torch.cat(best).tolist()
    found: dict[int, SpanScore] = {}
    for (span, *_), value, right in zip(asks, values, greedy, strict=True):
        one = found.get(span, SpanScore(0.0, True))
        found[span] = SpanScore(one.logprob + value, one.greedy and right)
    return found


def not_a_number() -> SourceError:
    """The error of a model whose logits cannot be compared."""
    return SourceError(
        "the model's logits are NaN or infinite",
        hint="Look at the recipe's weights; float16 overflows where bfloat16 does not.",
    )


def _inputs(model: Any, batch: Batch) -> dict[str, Any]:
    """What the model is called with; only shared rows need a mask, for what stands behind a row's end is not asked."""
    torch = library("torch")
    found = {"input_ids": torch.from_numpy(batch.ids).to(model.device), "use_cache": False}
    seen = batch.seen()
    if seen is not None:
        mask = torch.zeros(seen.shape, dtype=model.dtype)
        mask.masked_fill_(torch.from_numpy(~seen), torch.finfo(model.dtype).min)
        found["attention_mask"] = mask[:, None].to(model.device)
        found["position_ids"] = torch.from_numpy(batch.positions).to(model.device)
    return found


def _logits(model: Any, inputs: Mapping[str, Any], at: Any) -> Iterator[tuple[int, Any]]:
    """Logits in float32 at the (row, position) pairs ``at``: pieces of (first pair's number, [pairs, vocabulary]).

    The body runs once; the model's own forward then makes logits of the hidden states that are asked for.
    """
    body = model.base_model
    piece = max(1, LOGITS_BYTES // (4 * int(model.config.get_text_config().vocab_size)))
    if body is model:
        logits = model(**inputs).logits
        for start in range(0, len(at), piece):
            some = at[start : start + piece]
            yield start, logits[some[:, 0], some[:, 1]].float()
        return
    output = body(**inputs)
    hidden = output.last_hidden_state[at[:, 0], at[:, 1]]
    with _answering(body, output):
        for start in range(0, len(at), piece):
            output.last_hidden_state = hidden[None, start : start + piece]
            yield start, model(input_ids=inputs["input_ids"], use_cache=False).logits[0].float()


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
