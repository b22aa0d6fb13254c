"""What is asked of a model, as packs of tokens: made from the requests alone, asked pack by pack."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ..scoring.encoding import Encoded, EncodedPrompt
from ..scoring.requests import Answer, Written
from .engine import Engine
from .language import Language
from .likelihood import score
from .messages import Load
from .options import EngineOptions
from .packing import MOST_SEQUENCES, Pack, cells, pack
from .writing import write

BATCH: Final = 512
"""Tokens of one call of llama.cpp."""
PROMPTS: Final = 16
"""Prompts that are answered at the same time, where nobody chose."""
CELLS_STEP: Final = 256
"""llama.cpp rounds the tokens of a context up to a multiple of this."""
LOGITS: Final = 64 * 2**20
"""Bytes of logits of one call."""


@dataclass(frozen=True, slots=True)
class Questions:
    """Requests in the tokens of one language, cut into packs.

    ``context``: tokens that the model's context holds; ``None`` is any number.
    """

    encoded: Encoded
    language: Language
    context: int | None
    likely: Sequence[Pack]
    written: Sequence[Pack]
    cells: int

    @property
    def sequences(self) -> int:
        """Sequences of the largest pack."""
        return max((len(each.members) for each in (*self.likely, *self.written)), default=1)

    def load(self, path: str, threads: int, options: EngineOptions, *, memory: int = 0) -> Load:
        """The order to open a model file for these questions, in a process of at most ``memory`` private bytes."""
        return Load(
            path=path,
            cells=self.cells,
            batch=min(BATCH, self.cells),
            sequences=self.sequences,
            logits=LOGITS,
            threads=threads,
            flash=options.flash,
            full_cache=options.full_cache,
            gpu_layers=options.gpu_layers,
            memory=memory,
        )


def compose(
    encoded: Encoded, language: Language, context: int | None, *, batch_size: int | None, share: bool = True
) -> Questions:
    """Cut requests into packs; ``share`` says whether sequences may share their first tokens."""
    most = batch_size or MOST_SEQUENCES
    likely = pack([each.ids[:-1] for each in encoded.spans], most=min(most, MOST_SEQUENCES), share=share)
    lengths = [_answer_length(each, language, context) for each in encoded.prompts]
    written = pack(
        [each.ids for each in encoded.prompts],
        most=min(batch_size or PROMPTS, MOST_SEQUENCES),
        extra=lengths,
        share=share,
    )
    need = max(cells(likely), cells(written, lengths), 1)
    return Questions(encoded, language, context, likely, written, -(-need // CELLS_STEP) * CELLS_STEP)


def ask(
    engine: Engine, questions: Questions, known: Collection[int], outputs: int
) -> Iterator[tuple[int, Answer]]:
    """Request and answer as they come; a pack whose requests are all ``known`` is passed over.

    Raises JobError where the model answers no numbers, ChildDied where the engine crashed.
    """
    spans, prompts = questions.encoded.spans, questions.encoded.prompts
    batch = min(BATCH, questions.cells)
    gathering = questions.encoded.gather()
    for each in questions.likely:
        if all(spans[place].request in known for place in each.members):
            continue
        for place, found in score(engine, each, spans, batch=batch, outputs=outputs):
            answer = gathering.add(place, found)
            if answer is not None and spans[place].request not in known:
                yield spans[place].request, answer
    for each in questions.written:
        if all(prompts[place].request in known for place in each.members):
            continue
        for place, text in write(
            engine,
            each,
            prompts,
            most=lambda prompt: _answer_length(prompt, questions.language, questions.context),
            ends=questions.language.ends,
            text_of=questions.language.text_of,
            batch=batch,
            outputs=outputs,
        ):
            if prompts[place].request not in known:
                yield prompts[place].request, Written(text)


def _answer_length(prompt: EncodedPrompt, language: Language, context: int | None) -> int:
    most = prompt.most_tokens or language.most_tokens
    return most if context is None else max(1, min(most, context - len(prompt.ids)))
