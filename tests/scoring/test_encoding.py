"""Requests are cut into tokens exactly as lm-evaluation-harness cuts them, whatever the tokenizer does at the edges."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import tokenizers
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

from alloyd.errors import SourceError, TaskError
from alloyd_daemon.scoring.encoding import SpanScore, context_length, encode, first_token
from alloyd_daemon.scoring.requests import Continuation, Likelihood, Prompt, WholeText
from plain_answers import model_and_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore")  # the harness and its libraries warn about themselves

CORPUS = ["the cat sat on the mat .", "two and two are four", "2 + 2 = 4\n\nso there", "答えは13です"] * 3
ROOM = 8
KINDS = ("byte-level", "byte-level with a first token", "metaspace with a first token", "zoo")


@cache
def tokenizer_of(kind: str) -> Any:
    """A tokenizer of bytes (as GPT-2's and Llama 3's), of words with a leading blank (as Llama 2's), or the zoo's."""
    if kind == "zoo":
        return model_and_tokenizer("math")[1]
    made = tokenizers.Tokenizer(models.BPE(unk_token="<unk>"))
    if kind.startswith("metaspace"):
        made.pre_tokenizer = pre_tokenizers.Metaspace()
        made.decoder = decoders.Metaspace()
        alphabet = []
    else:
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<unk>", "<s>", "</s>"],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    made.train_from_iterator(CORPUS, trainer)
    if "first" in kind:
        made.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", made.token_to_id("<s>"))]
        )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


@cache
def harness(kind: str) -> tuple[Any, list[Any]]:
    """The harness's model of that tokenizer, and a list that it puts token requests into instead of running them."""
    from lm_eval.models.huggingface import HFLM

    model = HFLM(
        pretrained=model_and_tokenizer("math")[0], tokenizer=tokenizer_of(kind), max_length=ROOM, device="cpu"
    )
    asked: list[Any] = []

    def record(requests: Any, **_: Any) -> list[tuple[float, bool]]:
        asked.extend((list(context), list(text)) for _, context, text in requests)
        return [(0.0, True)] * len(requests)

    model._loglikelihood_tokens = record
    return model, asked


def instance(*arguments: str) -> Any:
    from lm_eval.api.instance import Instance

    return Instance("loglikelihood", {}, arguments, 0)


def spans(kind: str, request: Any, room: int | None = ROOM) -> list[tuple[list[int], list[int]]]:
    encoded = encode([request], tokenizer_of(kind), room)
    return [(list(span.ids[: span.first]), list(span.ids[span.first :])) for span in encoded.spans]


words = st.sampled_from(["the", "cat", " ", "  ", "\n", "2", "+", "four", "<s>", "mat.", "答え"])
texts = st.lists(words, min_size=1, max_size=12).map("".join)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(context=texts | st.just(""), text=texts)
def test_pairs_are_cut_as_the_harness_cuts_them(kind: str, context: str, text: str) -> None:
    model, asked = harness(kind)
    asked.clear()
    try:
        model.loglikelihood([instance(context, text)], disable_tqdm=True)
    except IndexError:  # a text without a token after an empty context
        asked.append(([], []))
    ((before, after),) = asked
    if not before and after and not context.strip():
        # The harness fails on a context of blanks alone; here it is an empty one.
        before = [tokenizer_of(kind).bos_token_id]
    if not before or not after:
        with pytest.raises(TaskError, match="tokens"):
            spans(kind, Continuation(context, text), None)
        return
    assert spans(kind, Continuation(context, text), None) == [(before, after)]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(text=st.lists(words, min_size=1, max_size=40).map("".join))
def test_windows_are_cut_as_the_harness_cuts_them(kind: str, text: str) -> None:
    model, asked = harness(kind)
    asked.clear()
    model.loglikelihood_rolling([instance(text)], disable_tqdm=True)
    if not asked:
        with pytest.raises(TaskError, match="no tokens"):
            spans(kind, WholeText(text))
        return
    assert spans(kind, WholeText(text)) == asked


def test_an_answer_is_whole_when_all_its_spans_are_known() -> None:
    encoded = encode(
        [WholeText("the cat sat " * 8), Continuation("the", " cat")], tokenizer_of("byte-level"), ROOM
    )
    assert len(encoded.spans) > 2
    scores = {place: SpanScore(-1.0, True) for place in range(len(encoded.spans))}
    whole = encoded.likelihoods(scores)
    tokens = len(tokenizer_of("byte-level").encode("the cat sat " * 8))
    assert whole[0] == Likelihood(-(len(encoded.spans) - 1.0), True, tokens)
    scores[0] = SpanScore(-1.0, False)
    assert not encoded.likelihoods(scores)[0].greedy
    del scores[0]
    assert set(encoded.likelihoods(scores)) == {1}


def test_what_does_not_fit_is_named() -> None:
    tokenizer = tokenizer_of("byte-level")
    with pytest.raises(
        TaskError, match=r"a\.jsonl, line 7: the item has \d+ tokens, the model's context holds 8"
    ):
        encode([Continuation("the cat " * 9, "sat")], tokenizer, ROOM, where=lambda _: "a.jsonl, line 7")
    with pytest.raises(TaskError, match=r"request 0: the prompt has \d+"):
        encode([Prompt("the cat " * 9)], tokenizer, ROOM)
    with pytest.raises(TaskError, match="request 0: the prompt has no tokens"):
        encode([Prompt("")], tokenizer, ROOM)
    # The last token is only predicted: a context full to the brim still holds it.
    room = len(tokenizer.encode("the cat sat"))
    assert encode([Continuation("the cat sat", " on")], tokenizer, room).spans


def test_a_tokenizer_needs_a_first_token() -> None:
    bare = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizers.Tokenizer(models.BPE()))
    with pytest.raises(SourceError, match="neither a beginning-of-sequence"):
        first_token(bare)


@pytest.mark.parametrize(
    ("config", "room"),
    [
        ({"max_position_embeddings": 64}, 64),
        ({"n_positions": 32}, 32),
        ({"text_config": {"max_position_embeddings": 16}}, 16),
        ({"max_position_embeddings": None}, None),
        ({"max_position_embeddings": "long", "n_ctx": 0}, None),
    ],
)
def test_the_context_is_read_from_the_config(config: dict[str, Any], room: int | None) -> None:
    assert context_length(config) == room
