"""Our files in llama.cpp: the logits transformers computes, the ids that the tokenizer's own library gives."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from extras import need
from gguf_support.gguf_files import write_gguf
from gguf_support.llama_model import open_model
from gguf_support.tiny_models import (
    MODELS,
    ODD_TEXTS,
    TOKENIZERS,
    copy_without,
    train_sentencepiece,
    write_model,
)

need("gguf", "llama_cpp", "gguf")
torch = pytest.importorskip("torch", reason="needs torch (make install)")
IDS = [int(each) for each in np.random.default_rng(0).integers(3, 250, size=100)]


class _TabledGelu(torch.nn.Module):
    """GELU as ggml computes it: looked up in a table of F16."""

    def forward(self, values: Any) -> Any:
        looked_up = torch.nn.functional.gelu(values.half().float(), approximate="tanh").half().float()
        return torch.where(
            values <= -10, torch.zeros_like(values), torch.where(values >= 10, values, looked_up)
        )


def _logits(folder: Path, *, gelu: bool) -> np.ndarray:
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    if gelu:
        for layer in model.model.layers:
            layer.mlp.act_fn = _TabledGelu()
    with torch.inference_mode():
        found: np.ndarray = model(torch.tensor([IDS])).logits[0].numpy()
    return found


@pytest.mark.parametrize("name", [*MODELS, "zoo"])
@pytest.mark.filterwarnings("ignore")
def test_logits_are_those_of_transformers(name: str, models: Callable[[str], Path], tmp_path: Path) -> None:
    gemma = name.startswith("gemma")
    # A value beside a step of the table falls on either side of it; small weights keep that small.
    folder = write_model(tmp_path / "model", name, spread=1) if gemma else models(name)
    write_gguf(folder, tmp_path / "model.gguf", "F32")
    wanted = _logits(folder, gelu=gemma)
    with open_model(tmp_path / "model.gguf") as model:
        found = model.logits(IDS)
    assert np.abs(wanted).max() > 0.1
    np.testing.assert_allclose(found, wanted, atol=5e-4 if gemma else 1e-4, rtol=0)


def _sentencepiece(folder: Path) -> Callable[[str], list[int]]:
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    return lambda text: [1, *processor.encode(text)]


def _fast(folder: Path) -> Callable[[str], list[int]]:
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    return lambda text: list(tokenizer.encode(text).ids)


def _with_tokenizer(model: Path, target: Path, tokenizer: str) -> Path:
    copy_without(
        model, target, "tokenizer.model", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"
    )
    TOKENIZERS[tokenizer](target)
    return target


@pytest.mark.parametrize("tokenizer", sorted(TOKENIZERS))
def test_ids_are_those_of_the_tokenizers_library(
    tokenizer: str, models: Callable[[str], Path], tmp_path: Path
) -> None:
    base = models("gemma2" if tokenizer == "sentencepiece-gemma" else "llama")
    folder = _with_tokenizer(base, tmp_path / "model", tokenizer)
    layout = write_gguf(folder, tmp_path / "model.gguf", "F16")
    assert not layout.warnings
    fast = not tokenizer.startswith("sentencepiece")
    encode = _fast(folder) if fast else _sentencepiece(folder)
    with open_model(tmp_path / "model.gguf") as model:
        for text in ODD_TEXTS:
            # SentencePiece has no control tokens in its text; llama.cpp has where it is told to look for them.
            assert model.ids(text, control=fast) == encode(text), text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "unigram"}, "no SentencePiece tokenizer of the kind unigram"),
        ({"normalization_rule_name": "nmt_nfkc"}, "does not normalise text"),
        ({"remove_extra_whitespaces": True}, "does not normalise text"),
    ],
)
def test_a_sentencepiece_that_llama_cpp_would_cut_otherwise_is_told(
    changes: dict[str, object], said: str, models: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = copy_without(models("llama"), tmp_path / "model")
    train_sentencepiece(folder, **changes)
    layout = write_gguf(folder, tmp_path / "model.gguf", "F16")
    assert [warning for warning in layout.warnings if said in warning]


def test_a_space_before_the_text_is_the_models(models: Callable[[str], Path], tmp_path: Path) -> None:
    folder = copy_without(models("llama"), tmp_path / "model")
    train_sentencepiece(folder, prefix=False)
    write_gguf(folder, tmp_path / "model.gguf", "F16")
    with open_model(tmp_path / "model.gguf") as model:
        assert model.ids("hello") == _sentencepiece(folder)("hello")


@pytest.mark.parametrize("prefix", [True, False])
def test_a_sentencepiece_in_tokenizer_json_is_cut_alike(
    prefix: bool, models: Callable[[str], Path], tmp_path: Path
) -> None:
    """A BPE with byte fallback, as the conversions of Llama's and Gemma's tokenizers are."""
    folder = copy_without(models("llama"), tmp_path / "model")
    if not prefix:
        TOKENIZERS["sentencepiece-gemma"](folder)
    _write_fast_form(folder, prefix=prefix)
    (folder / "tokenizer.model").unlink()
    layout = write_gguf(folder, tmp_path / "model.gguf", "F16")
    assert not layout.warnings
    encode = _fast(folder)
    with open_model(tmp_path / "model.gguf") as model:
        for text in ODD_TEXTS:
            if text:
                assert model.ids(text) == [1, *encode(text)], text


def _write_fast_form(folder: Path, *, prefix: bool) -> None:
    """tokenizer.json of tokenizer.model: every way to join two pieces, the best-scored result first."""
    import sentencepiece
    import tokenizers
    from tokenizers import decoders, models, normalizers

    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    pieces = [processor.IdToPiece(number) for number in range(processor.vocab_size())]
    numbers = {piece: number for number, piece in enumerate(pieces)}
    joined = [
        (-processor.GetScore(number), piece[:cut], piece[cut:])
        for number, piece in enumerate(pieces)
        for cut in range(1, len(piece))
        if piece[:cut] in numbers and piece[cut:] in numbers and not processor.IsControl(number)
    ]
    merges = [(left, right) for _, left, right in sorted(joined, key=lambda each: each[0])]
    tokenizer = tokenizers.Tokenizer(
        models.BPE(numbers, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    replace = normalizers.Replace(" ", "▁")
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), replace]) if prefix else replace
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(
        [tokenizers.AddedToken(piece, normalized=False) for piece in ("<s>", "</s>")]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
