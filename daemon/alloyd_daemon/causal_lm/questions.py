"""What candidates are asked, in their tokens and batches, and the answers of a model to it."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alloyd.errors import AlloydError, SourceError

from ..candidate import Candidate
from ..scoring.encoding import Encoded, EncodedPrompt, context_length, encode
from ..scoring.packing import Batch, compose
from ..scoring.requests import Answer, Request, Written
from ..warm import Warm
from .generation import padding, prompt_batches, write
from .likelihood import span_scores
from .loading import load_tokenizer


@dataclass(frozen=True, slots=True)
class Questions:
    """Requests in the tokens of one kind of candidate; batches follow from them and from nothing else."""

    tokenizer: Any
    room: int | None
    encoded: Encoded
    spans: tuple[Batch, ...]
    prompts: tuple[tuple[EncodedPrompt, ...], ...]

    def answers(self, model: Any, known: Collection[int]) -> Generator[tuple[int, Answer], None, None]:
        """(request, answer) of ``model`` as they come; a batch is run whole or, if all of it is ``known``, not at all.

        Raises SourceError where logits are NaN or infinite.
        """
        spans = self.encoded.spans
        gathered = self.encoded.gather()
        for batch in self.spans:
            if all(spans[wanted.span].request in known for wanted in batch.wanted):
                continue
            for place, score in sorted(span_scores(model, batch).items()):
                whole = gathered.add(place, score)
                if whole is not None:
                    yield spans[place].request, whole
        for prompts in self.prompts:
            if all(prompt.request in known for prompt in prompts):
                continue
            texts = write(model, self.tokenizer, prompts, self.room)
            for prompt, text in zip(prompts, texts, strict=True):
                yield prompt.request, Written(text)


def questions_of(
    candidates: Sequence[Candidate],
    requests: Sequence[Request],
    *,
    batch_size: int | None,
    where: Callable[[int], str],
    warm: Warm | None = None,
) -> list[Questions]:
    """What each candidate is asked; those of one config and one folder share it. ``warm`` keeps tokenizers.

    Raises
    ------
    SourceError
        A candidate without a config.json or tokenizer, or with one that cannot begin or pad what it must.
    TaskError
        A request that does not fit into a candidate's context.
    """
    warm = warm or Warm()
    found: dict[tuple[str, str], Questions] = {}
    asked = []
    for candidate in candidates:
        config = candidate.config
        if not config:
            raise SourceError(
                f"{candidate.folder} has no config.json, without which a model cannot be run",
                hint="Put the model's config.json beside its weights.",
                path=str(candidate.folder),
            )
        key = (str(candidate.folder), json.dumps(config, sort_keys=True))
        if key not in found:
            tokenizer, room = _tokenizer(candidate, warm), context_length(config)
            encoded = encode(requests, tokenizer, room, where=where)
            if encoded.prompts:
                padding(tokenizer)  # told before work
            found[key] = Questions(
                tokenizer,
                room,
                encoded,
                _span_batches(candidate, encoded, batch_size, warm),
                tuple(prompt_batches(encoded.prompts, batch_size)),
            )
        asked.append(found[key])
    return asked


def _tokenizer(candidate: Candidate, warm: Warm) -> Any:
    folder = candidate.folder
    return warm.recall(("tokenizer", folder), lambda: load_tokenizer(folder))


def _span_batches(
    candidate: Candidate, encoded: Encoded, batch_size: int | None, warm: Warm
) -> tuple[Batch, ...]:
    """The batches that the streamed forward has too; a model that cannot be taken apart shares no rows."""
    if not encoded.spans:
        return ()
    shapes = {each.name: each.shape for each in candidate.prepared.plan.tensors}
    config = candidate.config
    key = ("rows", json.dumps(config, sort_keys=True), tuple(sorted(shapes.items())))
    shares, window = warm.recall(key, lambda: _rows(config, shapes))
    return compose(encoded.spans, share=shares, window=window, batch_size=batch_size)


def _rows(config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> tuple[bool, int | None]:
    """Whether requests may share rows of such a model, and the window of its attention."""
    from ..streaming.anatomy import Anatomy  # needs torch

    try:
        anatomy = Anatomy(config, shapes)
    except AlloydError:
        return False, None
    return anatomy.shares, anatomy.window
