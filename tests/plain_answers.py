"""What a model answers, by the plainest loop over transformers: no batches, no cache, float32; the truth of tests."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers

from alloyd_daemon.scoring.encoding import SpanScore, context_length, encode
from alloyd_daemon.scoring.requests import Answer, Request, Written

MODELS = Path(__file__).parents[1] / "zoo" / "models"


@cache
def model_and_tokenizer(name: str) -> tuple[Any, Any]:
    """A model of the zoo in float32, with its tokenizer."""
    model = transformers.AutoModelForCausalLM.from_pretrained(MODELS / name, dtype=torch.float32)
    return model.eval(), transformers.AutoTokenizer.from_pretrained(MODELS / name)


@torch.inference_mode()
def answers(name: str, requests: Sequence[Request], *, most_tokens: int = 16) -> list[Answer]:
    """The zoo's model ``name`` asked one request after the other."""
    model, tokenizer = model_and_tokenizer(name)
    encoded = encode(requests, tokenizer, context_length(model.config.to_dict()))
    scores = {}
    for place, span in enumerate(encoded.spans):
        logits = model(torch.tensor([span.ids[:-1]])).logits[0, span.first - 1 :]
        logprobs = torch.log_softmax(logits.double(), -1)
        asked = torch.tensor(span.ids[span.first :])
        total = logprobs.gather(1, asked[:, None]).sum().item()
        scores[place] = SpanScore(total, bool((logprobs.argmax(-1) == asked).all()))
    found: dict[int, Answer] = dict(encoded.likelihoods(scores))
    for prompt in encoded.prompts:
        found[prompt.request] = Written(
            _written(model, tokenizer, prompt.ids, prompt.most_tokens or most_tokens)
        )
    return [found[number] for number in range(len(requests))]


def _written(model: Any, tokenizer: Any, ids: Sequence[int], most_tokens: int) -> str:
    end = model.generation_config.eos_token_id
    ends = set(end if isinstance(end, list) else [end])
    written: list[int] = []
    while len(written) < most_tokens:
        token = int(model(torch.tensor([[*ids, *written]])).logits[0, -1].argmax())
        if token in ends:
            break
        written.append(token)
    return str(tokenizer.decode(written, skip_special_tokens=True)).strip()
