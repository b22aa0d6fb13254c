"""Greedy generation with a resident model: left-padded batches, the model's own end tokens, stop strings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from alloyd.errors import SourceError

from ..scoring.encoding import EncodedPrompt
from .likelihood import not_a_number
from .loading import library

BATCH_SIZE: Final = 32
"""Prompts of a batch, where nobody chose."""

MOST_NEW_TOKENS: Final = 64
"""Tokens of an answer, where neither the request nor the model's generation config says."""


def prompt_batches(
    prompts: Sequence[EncodedPrompt], batch_size: int | None = None
) -> list[tuple[EncodedPrompt, ...]]:
    """``prompts`` in batches of one answer length, longest prompts first: made from the prompts alone."""
    lengths = sorted({prompt.most_tokens for prompt in prompts}, key=lambda most: (most is None, most or 0))
    size = batch_size or BATCH_SIZE
    batches: list[tuple[EncodedPrompt, ...]] = []
    for most in lengths:
        alike = sorted(
            (prompt for prompt in prompts if prompt.most_tokens == most),
            key=lambda prompt: (-len(prompt.ids), prompt.request),
        )
        batches += [tuple(alike[start : start + size]) for start in range(0, len(alike), size)]
    return batches


def padding(tokenizer: Any) -> int:
    """The token that stands before short prompts of a batch. Raises SourceError where the tokenizer names none."""
    for token in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    raise SourceError(
        "the tokenizer has neither a padding nor an end-of-sequence token",
        hint="Name a pad_token in tokenizer_config.json.",
    )


def greedy(model: Any, tokenizer: Any) -> Any:
    """Greedy decoding with the model's own end tokens and answer length, and nothing else of its settings."""
    own = model.generation_config
    return library("transformers").GenerationConfig(
        do_sample=False,
        max_new_tokens=own.max_new_tokens or MOST_NEW_TOKENS,
        bos_token_id=own.bos_token_id,
        eos_token_id=tokenizer.eos_token_id if own.eos_token_id is None else own.eos_token_id,
        pad_token_id=padding(tokenizer),
    )


def write(model: Any, tokenizer: Any, prompts: Sequence[EncodedPrompt], room: int | None) -> list[str]:
    """What ``model`` writes after each of ``prompts`` (of one answer length), without special tokens and stop strings.

    The model's own generation config must be :func:`greedy`'s: `generate` fills what a call leaves open from it.
    ``room``: tokens that the model's context holds; an answer ends where it is full.

    Raises SourceError where logits are NaN.
    """
    torch, transformers = library("torch"), library("transformers")
    longest = max(len(prompt.ids) for prompt in prompts)
    pad = padding(tokenizer)
    ids = torch.tensor([((pad,) * (longest - len(each.ids)) + each.ids) for each in prompts])
    mask = torch.tensor([((0,) * (longest - len(each.ids)) + (1,) * len(each.ids)) for each in prompts])
    config = greedy(model, tokenizer)
    config.max_new_tokens = prompts[0].most_tokens or config.max_new_tokens
    if room is not None:
        config.max_new_tokens = max(1, min(config.max_new_tokens, room - longest))
    stops = [prompt.stop for prompt in prompts]
    with torch.no_grad():
        written = model.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            generation_config=config,
            logits_processor=transformers.LogitsProcessorList([_refuse_nan]),
            stopping_criteria=transformers.StoppingCriteriaList(
                [_Stopped(tokenizer, stops, longest)] if any(stops) else []
            ),
        )
    texts = tokenizer.batch_decode(written[:, longest:], skip_special_tokens=True)
    return [_cut(text, stop) for text, stop in zip(texts, stops, strict=True)]


def _refuse_nan(_: Any, scores: Any) -> Any:
    if bool(scores.isnan().any()):
        raise not_a_number()
    return scores


class _Stopped:
    """Says of each row whether one of its stop strings has been written."""

    def __init__(self, tokenizer: Any, stops: Sequence[tuple[str, ...]], start: int) -> None:
        self._tokenizer = tokenizer
        self._stops = stops
        self._start = start
        # A token adds at least one byte of text, so that a stop string ends within its own bytes' number of tokens.
        self._tail = 1 + max(len(stop.encode()) for row in stops for stop in row)

    def __call__(self, ids: Any, scores: Any, **_: Any) -> Any:
        torch = library("torch")
        tail = ids[:, max(self._start, ids.shape[1] - self._tail) :]
        texts = self._tokenizer.batch_decode(tail, skip_special_tokens=True)
        done = [any(stop in text for stop in row) for text, row in zip(texts, self._stops, strict=True)]
        return torch.tensor(done, device=ids.device)


def _cut(text: str, stops: Sequence[str]) -> str:
    """``text`` up to where its first stop string begins."""
    return text[: min([len(text), *(place for stop in stops if (place := text.find(stop)) >= 0)])]
