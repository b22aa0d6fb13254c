"""Exact match: greedy generation, and the whole output must be the answer."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from alloyd.errors import SourceError, SourceNotFound, TaskError, UsageError

from ..evaluator import EVALUATORS, ItemScore
from ..task import Task, TaskItem

BATCH_SIZE: Final = 64
MOST_NEW_TOKENS: Final = 64
"""Tokens an answer may have where the model's generation_config does not say ``max_new_tokens``."""


@EVALUATORS.named("exact_match")
def exact_match(
    model_dir: Path, task: Task, *, batch_size: int | None = None, limit: int | None = None
) -> Iterator[ItemScore]:
    """Score a transformers causal language model by greedy generation; 1 where output equals answer, else 0.

    Blanks at the ends and runs of blanks inside do not count. Batches are consecutive items of the task,
    padded on the left, so that (checkpoint, task, batch size, limit) decide what is computed. Runs on the
    GPU where torch finds one, in the checkpoint's own dtype. Sampling settings of the model are ignored; its
    end-of-sequence tokens count.

    Raises UsageError for a batch size or limit below 1, SourceNotFound or SourceError for a checkpoint that
    does not load, TaskError for a prompt that leaves no room for an answer in the model's context.
    """
    for name, value in (("batch size", batch_size), ("limit", limit)):
        if value is not None and value < 1:
            raise UsageError(
                f"the {name} must be at least 1, not {value}", hint=f"Leave the {name} out for all."
            )
    model, tokenizer = _load(model_dir)
    items = task.items[:limit]
    _check_lengths(items, tokenizer, model, task.path)
    size = batch_size or BATCH_SIZE
    for start in range(0, len(items), size):
        batch = items[start : start + size]
        outputs = _generate([item.prompt for item in batch], model, tokenizer)
        for item, output in zip(batch, outputs, strict=True):
            yield ItemScore(item.id, int(output.split() == item.answer.split()), output)


def _libraries() -> tuple[Any, Any]:
    """torch and transformers, imported late: they take seconds, and a daemon that only merges lacks them.

    Raises UsageError where one is not installed.
    """
    try:
        return import_module("torch"), import_module("transformers")
    except ModuleNotFoundError as missing:
        raise UsageError(
            f"the evaluator 'exact_match' needs the library '{missing.name}', which is not installed",
            hint="pip install 'alloyd[score]'",
        ) from None


def _load(model_dir: Path) -> tuple[Any, Any]:
    """Model (in its own dtype, safetensors only, no remote code) and left-padding tokenizer of a local folder."""
    if not (model_dir / "config.json").is_file():
        raise SourceNotFound(
            f"{model_dir} is no checkpoint folder: it has no config.json",
            hint="Give the folder that holds config.json, the tokenizer and the weights.",
            path=str(model_dir),
        )
    torch, transformers = _libraries()
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            model_dir, local_files_only=True, padding_side="left"
        )
        model = transformers.AutoModelForCausalLM.from_pretrained(
            model_dir, local_files_only=True, use_safetensors=True, dtype="auto"
        )
    except Exception as error:
        reason = " ".join(str(error).split())
        raise SourceError(
            f"transformers cannot load {model_dir}: {reason}",
            hint="It needs config.json, safetensors weights and a tokenizer.",
            path=str(model_dir),
        ) from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token_id is None:
        raise SourceError(
            f"the tokenizer of {model_dir} has neither a padding nor an end-of-sequence token",
            hint="Name a pad_token in tokenizer_config.json.",
            path=str(model_dir),
        )
    model.generation_config = _greedy(model, tokenizer)
    return model.eval().to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer


def _greedy(model: Any, tokenizer: Any) -> Any:
    """Greedy decoding with the model's own end tokens and answer length, and nothing else of its settings.

    It has to replace the model's settings: `generate` fills what a call leaves open from them.
    """
    _, transformers = _libraries()
    own = model.generation_config
    return transformers.GenerationConfig(
        do_sample=False,
        max_new_tokens=own.max_new_tokens or MOST_NEW_TOKENS,
        bos_token_id=own.bos_token_id,
        eos_token_id=tokenizer.eos_token_id if own.eos_token_id is None else own.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _check_lengths(items: tuple[TaskItem, ...], tokenizer: Any, model: Any, path: Path) -> None:
    room = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if not room:
        return
    for item in items:
        length = len(tokenizer(item.prompt)["input_ids"])
        if length >= room:
            raise TaskError(
                f"{path}, line {item.line}: the prompt has {length} tokens, the model's context holds {room}",
                hint="Shorten the prompt or score a model with a longer context.",
                path=str(path),
                line=item.line,
            )


def _generate(prompts: list[str], model: Any, tokenizer: Any) -> list[str]:
    """What the model writes after each prompt, without special tokens."""
    torch, _ = _libraries()
    encoded = tokenizer(prompts, return_tensors="pt", padding=True, return_token_type_ids=False).to(
        model.device
    )
    with torch.inference_mode():
        written = model.generate(**encoded)
    answers = written[:, encoded["input_ids"].shape[1] :]
    return [text.strip() for text in tokenizer.batch_decode(answers, skip_special_tokens=True)]
