"""A word-level tokenizer over the whole vocabulary of both languages, saved as a real tokenizer.json."""

from typing import Final

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from .language import vocabulary

PAD: Final = "<pad>"
BOS: Final = "<bos>"
EOS: Final = "<eos>"
UNK: Final = "<unk>"
VOCABULARY_SIZE: Final = 256
"""Rows of the embedding: the words in use, filled up with reserved ones so that every quantisation type
divides it.
"""


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer all models of the zoo share: one token a word, `<bos>` put in front."""
    words = [PAD, BOS, EOS, UNK, *vocabulary()]
    words += [f"<reserved-{index}>" for index in range(VOCABULARY_SIZE - len(words))]
    ids = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(WordLevel(ids, unk_token=UNK))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.post_processor = TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, ids[BOS])])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNK,
        padding_side="left",
        model_max_length=256,
        clean_up_tokenization_spaces=False,
    )
