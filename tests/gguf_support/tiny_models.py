"""Small models of every family as transformers itself builds and saves them, with tokenizers trained on the spot."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from alloyd_daemon.gguf import pretokenizer

VOCABULARY = 512
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": None,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 256}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 64,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
}
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "long_factor": [1.0 + n / 8 for n in range(32)],
    "short_factor": [1.0 + n / 64 for n in range(32)],
    "original_max_position_embeddings": 128,
}

# Name of the model: class, tokenizer, what its config says beside SHAPE.
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("Llama", "sentencepiece", {}),
    "llama3": ("Llama", "llama-bpe", {"rope_parameters": LLAMA3, "tie_word_embeddings": True}),
    "llama-biased": ("Llama", "sentencepiece", {"attention_bias": True}),
    "mistral": ("Mistral", "sentencepiece", {"sliding_window": None, "head_dim": 32}),
    "mixtral": ("Mixtral", "sentencepiece", {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "qwen2": ("Qwen2", "qwen2", {"tie_word_embeddings": True}),
    "qwen2-yarn": ("Qwen2", "qwen2", {"rope_parameters": YARN}),
    "qwen2moe": ("Qwen2Moe", "qwen2", {**EXPERTS, "shared_expert_intermediate_size": 512}),
    "qwen3": ("Qwen3", "qwen2", {"head_dim": 64}),
    "qwen3moe": ("Qwen3Moe", "qwen2", {**EXPERTS, "head_dim": 64, "norm_topk_prob": True}),
    "gemma": ("Gemma", "sentencepiece-gemma", {"head_dim": 64, "pad_token_id": 0}),
    "gemma2": (
        "Gemma2",
        "sentencepiece-gemma",
        {"head_dim": 64, "query_pre_attn_scalar": 64, "sliding_window": 32, "pad_token_id": 0},
    ),
    "gemma3": (
        "Gemma3",
        "sentencepiece-gemma",
        {
            "head_dim": 64,
            "query_pre_attn_scalar": 64,
            "sliding_window": 32,
            "num_hidden_layers": 7,
            "pad_token_id": 0,
        },
    ),
    "phi3": ("Phi3", "sentencepiece", {"pad_token_id": 0, "original_max_position_embeddings": 256}),
    "phi3-long": ("Phi3", "sentencepiece", {"pad_token_id": 0, "rope_parameters": LONGROPE}),
}

TEXT = (
    "The quick brown fox jumps over the lazy dog; 1234567890 times, it's said. "
    "Ein Bär läuft über die Straße, naïve café. 東京で寿司を食べる。 Привет, мир! "
    "def f(x):\n    return x ** 2\n\n"
)
ODD_TEXTS = (
    "",
    " ",
    "hello",
    " hello  world   ",
    "It's 12345 o'clock, I'LL say; we'd've...",
    "tabs\tand\nnew\n\nlines\r\n",
    "naïve café — “quotes” …",
    "東京タワー 寿司🍣 👩\u200d👩\u200d👧",
    "Привет\u00a0мир\u2028x",
    "x=3.14159e-10;\n\tif(a&&b){}\n",
    "ﬁ ﬀ Ａ ① \u0301\u0302 e\u0301",
    "\x00\x01\x7f",
    "<s> not special </s>",
    "𝔘𝔫𝔦 ᚠᛇᚻ \U0001f9ff",
)


def write_model(
    folder: Path, name: str, *, dtype: str = "bfloat16", seed: int = 0, spread: float = 3
) -> Path:
    """Write the model called ``name`` with its tokenizer; its weights are ``spread`` times what transformers draws."""
    import torch
    import transformers

    family, tokenizer, changes = MODELS[name]
    config_class = getattr(transformers, f"{family}TextConfig" if family == "Gemma3" else f"{family}Config")
    config = config_class(**{**SHAPE, **changes})
    config.tie_word_embeddings = changes.get("tie_word_embeddings", "gemma" in name)
    torch.manual_seed(seed)
    model = getattr(transformers, f"{family}ForCausalLM")(config)
    with torch.no_grad():
        for key, values in model.named_parameters():
            if "norm" in key:
                values += 0.1 * torch.randn_like(values)
            elif key.endswith("bias"):
                values.copy_(0.1 * torch.randn_like(values))
            else:
                values *= spread
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    TOKENIZERS[tokenizer](folder)
    return folder


def train_sentencepiece(folder: Path, *, prefix: bool = True, **changes: object) -> None:
    """Write tokenizer.model and tokenizer_config.json; ``changes`` to the trainer's settings."""
    import io

    import sentencepiece

    made = io.BytesIO()
    settings = {
        "model_type": "bpe",
        "vocab_size": VOCABULARY - 112,
        "character_coverage": 1.0,
        "byte_fallback": True,
        "add_dummy_prefix": prefix,
        "split_digits": True,
        "allow_whitespace_only_pieces": True,
        "remove_extra_whitespaces": False,
        "normalization_rule_name": "identity",
        "hard_vocab_limit": False,
        "minloglevel": 2,
    }
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([TEXT] * 4), model_writer=made, **{**settings, **changes}
    )
    (folder / "tokenizer.model").write_bytes(made.getvalue())
    written = {
        "tokenizer_class": "LlamaTokenizer",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "add_bos_token": True,
        "add_eos_token": False,
        "legacy": False,
        "chat_template": "{% for m in messages %}{{ m['content'] }}{% endfor %}",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(written), encoding="utf-8")


def byte_level(steps: Sequence[Any], *, ignore_merges: bool) -> Callable[[Path], None]:
    """Writes a byte-level BPE whose text is cut by ``steps`` of ``tokenizers.pre_tokenizers``."""

    def write(folder: Path) -> None:
        import tokenizers
        from tokenizers import decoders, models, pre_tokenizers, processors, trainers

        tokenizer = tokenizers.Tokenizer(models.BPE(ignore_merges=ignore_merges))
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(list(steps)) if len(steps) > 1 else steps[0]
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=VOCABULARY - 100,
            special_tokens=["<|endoftext|>", "<|begin|>", "<|end|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator([TEXT] * 4, trainer)
        tokenizer.add_tokens(["<tool>", " spaced out "])
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<|begin|> $A", pair="<|begin|> $A <|begin|> $B", special_tokens=[("<|begin|>", 1)]
        )
        tokenizer.save(str(folder / "tokenizer.json"))
        written = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<|begin|>",
            "eos_token": "<|end|>",
            "clean_up_tokenization_spaces": False,
        }
        (folder / "tokenizer_config.json").write_text(json.dumps(written), encoding="utf-8")
        (folder / "chat_template.jinja").write_text("{{ messages[0]['content'] }}", encoding="utf-8")

    return write


def steps_of(rules: Sequence[tuple[str, ...]]) -> list[Any]:
    """The rules of alloyd_daemon.gguf.pretokenizer as steps of the tokenizers' library."""
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Punctuation, Split

    make: dict[str, Callable[..., Any]] = {
        "bytes": lambda: ByteLevel(add_prefix_space=False, use_regex=False),
        "gpt-2": lambda: ByteLevel(add_prefix_space=False, use_regex=True),
        "digits": lambda how: Digits(individual_digits=how == "each"),
        "punctuation": lambda how: Punctuation(how.lower()),
        "split": lambda expression: Split(Regex(expression), "isolated"),
    }
    return [make[kind](*given) for kind, *given in rules]


def _named(name: str) -> Callable[[Path], None]:
    """Writes a tokenizer with the rules that llama.cpp calls ``name``."""

    def write(folder: Path) -> None:
        rules, whole = next(key for key, found in pretokenizer._NAMES.items() if found == name)
        byte_level(steps_of(rules), ignore_merges=whole)(folder)

    return write


TOKENIZERS: dict[str, Callable[[Path], None]] = {
    "sentencepiece": train_sentencepiece,
    "sentencepiece-gemma": lambda folder: train_sentencepiece(folder, prefix=False),
    **{name: _named(name) for name in pretokenizer._NAMES.values()},
}


def copy_without(folder: Path, target: Path, *names: str) -> Path:
    """A copy of a model folder without the files ``names``."""
    shutil.copytree(folder, target, ignore=lambda _, found: [name for name in found if name in names])
    return target
