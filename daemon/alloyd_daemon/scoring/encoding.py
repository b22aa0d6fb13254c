"""Requests as token ids: spans whose likelihood is asked, prompts to be continued, and their answers put together.

Contexts, continuations and rolling windows are cut as lm-evaluation-harness 0.4.13 cuts them for causal models
(``TemplateLM._encode_pair``, ``get_rolling_token_windows`` with one token of context), so that scores compare.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alloyd.errors import SourceError, TaskError

from .requests import Continuation, Likelihood, Prompt, Request, WholeText


@dataclass(frozen=True, slots=True)
class Span:
    """How likely are ``ids[first:]`` after ``ids[:first]``? ``first`` is at least 1; ``request`` is who asks."""

    request: int
    ids: tuple[int, ...]
    first: int


@dataclass(frozen=True, slots=True)
class SpanScore:
    """Natural log-probability of a span's scored tokens, and whether each is the most likely one at its place."""

    logprob: float
    greedy: bool


@dataclass(frozen=True, slots=True)
class EncodedPrompt:
    """A prompt's token ids; ``request`` is who asks."""

    request: int
    ids: tuple[int, ...]
    stop: tuple[str, ...]
    most_tokens: int | None


@dataclass(frozen=True, slots=True)
class Encoded:
    """All requests as tokens: ``spans`` in the order of the requests, ``prompts`` likewise."""

    spans: tuple[Span, ...]
    prompts: tuple[EncodedPrompt, ...]

    def likelihoods(self, scores: Mapping[int, SpanScore]) -> dict[int, Likelihood]:
        """The answers to requests all of whose spans (by place in ``spans``) are in ``scores``."""
        whole: dict[int, list[tuple[Span, SpanScore | None]]] = {}
        for place, span in enumerate(self.spans):
            whole.setdefault(span.request, []).append((span, scores.get(place)))
        answers: dict[int, Likelihood] = {}
        for request, parts in whole.items():
            known = [(span, score) for span, score in parts if score is not None]
            if len(known) == len(parts):
                answers[request] = Likelihood(
                    logprob=sum(score.logprob for _, score in known),
                    greedy=all(score.greedy for _, score in known),
                    tokens=sum(len(span.ids) - span.first for span, _ in known),
                )
        return answers

    def gather(self) -> Gathering:
        """An empty gathering of span scores."""
        return Gathering(self)


class Gathering:
    """Puts scores of spans together: a request is answered when the last of its spans is."""

    def __init__(self, encoded: Encoded) -> None:
        self._spans = encoded.spans
        self._missing: dict[int, int] = {}
        for span in encoded.spans:
            self._missing[span.request] = self._missing.get(span.request, 0) + 1
        self._found: dict[int, dict[int, SpanScore]] = {}

    def add(self, place: int, score: SpanScore) -> Likelihood | None:
        """Take the score of span number ``place``, which was not taken before; its request's answer, if that is it."""
        request = self._spans[place].request
        found = self._found.setdefault(request, {})
        found[place] = score
        self._missing[request] -= 1
        if self._missing[request]:
            return None
        del self._found[request]
        parts = sorted(found.items())  # added in one order, whatever order they came in
        return Likelihood(
            logprob=sum(score.logprob for _, score in parts),
            greedy=all(score.greedy for _, score in parts),
            tokens=sum(len(self._spans[place].ids) - self._spans[place].first for place, _ in parts),
        )


def encode(
    requests: Sequence[Request],
    tokenizer: Any,
    context_length: int | None,
    *,
    where: Callable[[int], str] = "request {}".format,
) -> Encoded:
    """Cut ``requests`` into tokens with a transformers ``tokenizer``.

    ``context_length`` is the model's, in tokens (``None``: unbounded). ``where`` names a request in messages, such as
    file and line.

    Raises
    ------
    TaskError
        A continuation or prompt that does not fit into the context (a whole text is read in windows), or that has
        no tokens; names the place.
    SourceError
        The tokenizer has no token that begins a sequence, and one is needed.
    """
    spans: list[Span] = []
    prompts: list[EncodedPrompt] = []
    for number, request in enumerate(requests):
        if isinstance(request, Prompt):
            ids = tuple(tokenizer.encode(request.text))
            if not ids:
                raise TaskError(
                    f"{where(number)}: the prompt has no tokens", hint="Write one, or remove the item."
                )
            _check_room(len(ids) + 1, context_length, where(number), "prompt")
            prompts.append(EncodedPrompt(number, ids, request.stop, request.most_tokens))
        elif isinstance(request, WholeText):
            spans += _windows(number, request, tokenizer, context_length, where(number))
        else:
            span = _pair(number, request, tokenizer, where(number))
            # The last token is only ever predicted, so it takes no room.
            _check_room(len(span.ids) - 1, context_length, where(number), "item")
            spans.append(span)
    return Encoded(tuple(spans), tuple(prompts))


def first_token(tokenizer: Any) -> int:
    """The token that stands before everything: beginning of sequence, else end of sequence.

    Raises SourceError where the tokenizer has neither.
    """
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    raise SourceError(
        "the tokenizer has neither a beginning-of-sequence nor an end-of-sequence token",
        hint="Name a bos_token in tokenizer_config.json.",
    )


def context_length(config: Mapping[str, Any]) -> int | None:
    """Tokens that a model's context holds, from its config.json; ``None`` where that does not say."""
    text = config.get("text_config")
    for part in (config, text if isinstance(text, Mapping) else {}):
        for key in ("max_position_embeddings", "n_positions", "n_ctx", "max_sequence_length"):
            if isinstance(part.get(key), int) and part[key] > 0:
                return int(part[key])
    return None


def _check_room(tokens: int, room: int | None, where: str, what: str) -> None:
    if room is not None and tokens > room:
        raise TaskError(
            f"{where}: the {what} has {tokens} tokens, the model's context holds {room}",
            hint="Shorten it, or score a model with a longer context.",
        )


def _pair(number: int, request: Continuation, tokenizer: Any, where: str) -> Span:
    context, text = request.context, request.text
    if context:
        blanks = len(context) - len(context.rstrip())
        if blanks:
            context, text = context[:-blanks], context[-blanks:] + text
    if context:
        before = _ids(context, tokenizer)
        first = len(before)
        # Where a token would span the seam the context keeps its own, so that all that follows it shares it.
        whole = (*before, *_ids(context + text, tokenizer)[first:])
    else:
        ids = tuple(tokenizer.encode(text, add_special_tokens=False))
        begin = first_token(tokenizer)
        whole = ids if ids[:1] == (begin,) else (begin, *ids)
        first = 1
    if first < 1 or first >= len(whole):
        raise TaskError(
            f"{where}: {'the context' if first < 1 else repr(request.text)} has no tokens of its own",
            hint="Put a blank or a word where context and continuation meet.",
        )
    return Span(number, whole, first)


def _ids(text: str, tokenizer: Any) -> tuple[int, ...]:
    """The ids of a text, its beginning-of-sequence token not doubled where the text says it itself."""
    begin = tokenizer.bos_token
    if begin and text.startswith(begin):
        return tuple(tokenizer.encode(text, add_special_tokens=False))
    return tuple(tokenizer.encode(text))


def _windows(number: int, request: WholeText, tokenizer: Any, room: int | None, where: str) -> list[Span]:
    ids = _ids(request.text, tokenizer)
    begin = first_token(tokenizer)
    if not ids:
        raise TaskError(f"{where}: the text has no tokens", hint="Remove the item.")
    room = room or len(ids)
    spans = [Span(number, (begin, *ids[:room]), 1)]
    for start in range(room, len(ids), room):
        stop = min(start + room, len(ids))
        # The last window reaches back, so that its first tokens see as much as fits.
        left = stop - room - 1
        spans.append(Span(number, ids[left:stop], start - left))
    return spans
