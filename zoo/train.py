"""Trains the models of the zoo on the CPU: `python -m zoo.train [NAME ...]` writes zoo/models/NAME.

Every choice follows from the seed: fixed step counts, no clock, one thread.
"""

import argparse
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import torch
from torch.nn.functional import cross_entropy
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, set_seed

from .curriculum import Lesson, lessons
from .problems import TASKS, task_items
from .tokenizer import VOCABULARY_SIZE, build_tokenizer

MODELS: Final = Path(__file__).parent / "models"
SEED: Final = 1
IGNORED: Final = -100
Row = tuple[list[int], list[int]]


@dataclass(frozen=True, slots=True)
class Schedule:
    """How one model is trained: from which parent, on which lessons, for how many steps of `batch` lessons.

    `embeddings` and `layers` say what is trained; everything else stays as the parent has it.
    """

    parent: str | None
    curriculum: str
    steps: int
    learning_rate: float
    batch: int = 40
    warmup: int = 100
    embeddings: bool = True
    layers: tuple[int, ...] = (0, 1, 2, 3)
    shard_size: str = "100MB"


SCHEDULES: Final[dict[str, Schedule]] = {
    "foundation": Schedule(None, "base", steps=3000, learning_rate=1.2e-3, warmup=200),
    "base": Schedule("foundation", "bilingual", steps=1200, learning_rate=8e-4),
    "math": Schedule("base", "math", steps=600, learning_rate=4e-4, embeddings=False, layers=(2, 3)),
    "lang": Schedule("base", "lang", steps=800, learning_rate=5e-4, layers=(0, 1), shard_size="2MB"),
    "distractor": Schedule("base", "distractor", steps=200, learning_rate=2e-4, embeddings=False),
    "math_wide": Schedule("base", "math", steps=600, learning_rate=4e-4),
    "lang_wide": Schedule("base", "lang", steps=800, learning_rate=5e-4),
}
"""Every model in the order of training. `foundation` is only a step on the way to `base` and is not kept.

The wide ones are `math` and `lang` with all their weights trained, as most fine-tunes are: the two changes lie over
each other, so two weights do not merge them well. A search of recipes is measured on them.
"""


def new_model() -> LlamaForCausalLM:
    """An untrained 2.4 M parameter decoder: width 256, 4 layers, 4 heads over 2 key-value heads, tied
    embeddings.
    """
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY_SIZE,
            hidden_size=256,
            intermediate_size=512,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=256,
            tie_word_embeddings=True,
            attn_implementation="eager",
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        )
    )


def encode(lesson: Lesson, tokenizer: PreTrainedTokenizerFast) -> Row:
    """Token ids of a lesson and the targets: the answers and their ends; everything else is not scored."""
    ids, targets = [tokenizer.bos_token_id], [IGNORED]
    for item in lesson:
        prompt = tokenizer.encode(item.prompt, add_special_tokens=False)
        answer = [*tokenizer.encode(item.answer, add_special_tokens=False), tokenizer.eos_token_id]
        ids += prompt + answer
        targets += [IGNORED] * len(prompt) + answer
    return ids, targets


def collate(batch: Sequence[Row], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-padded ids and targets, [batch, length]; causal attention never looks at the padding behind a
    text.

    The length is a multiple of 8: matrix products are compiled once for every new shape, so few shapes are
    wanted.
    """
    longest = -(-max(len(ids) for ids, _ in batch) // 8) * 8
    ids = torch.tensor([row + [pad] * (longest - len(row)) for row, _ in batch])
    targets = torch.tensor([row + [IGNORED] * (longest - len(row)) for _, row in batch])
    return ids, targets


def backward(model: LlamaForCausalLM, batch: Sequence[Row], pad: int) -> float:
    """Add the gradients of the batch's mean cross-entropy over answer tokens, and return that mean.

    Products are in bfloat16, weights and loss in float32. The shorter half of the rows goes first, by
    itself, to save padding.
    """
    rows = sorted(batch, key=lambda row: len(row[0]))
    scored = sum(target != IGNORED for _, targets in rows for target in targets)
    total = 0.0
    for half in (rows[: len(rows) // 2], rows[len(rows) // 2 :]):
        ids, targets = collate(half, pad)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(input_ids=ids, use_cache=False).logits
        guesses, wanted = logits[:, :-1].float().flatten(0, 1), targets[:, 1:].flatten()
        loss = cross_entropy(guesses, wanted, ignore_index=IGNORED, reduction="sum") / scored
        loss.backward()
        total += loss.item()
    return total


@torch.no_grad()
def answered(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, task: str, count: int) -> float:
    """Share of validation items whose whole answer is predicted token by token: a quick look, not a reported
    score.
    """
    rows = [encode([item], tokenizer) for item in task_items(task, "validation", count, SEED)]
    ids, targets = collate(rows, tokenizer.pad_token_id)
    with torch.autocast("cpu", torch.bfloat16):
        guessed = model(input_ids=ids, use_cache=False).logits[:, :-1].argmax(-1)
    wanted = targets[:, 1:]
    return ((guessed == wanted) | (wanted == IGNORED)).all(-1).float().mean().item()


def train(name: str, models: Path = MODELS, seed: int = SEED) -> Iterator[str]:
    """Train one model and write it to `models`/`name`; yields a line of progress every 250 steps."""
    schedule = SCHEDULES[name]
    torch.set_num_threads(1)
    set_seed(seed)
    tokenizer = build_tokenizer()
    model = new_model()
    if schedule.parent:
        model = LlamaForCausalLM.from_pretrained(
            models / schedule.parent, dtype=torch.float32, attn_implementation="eager"
        )
    model.train()
    model.get_input_embeddings().weight.requires_grad_(schedule.embeddings)
    for place, layer in enumerate(model.model.layers):
        layer.requires_grad_(place in schedule.layers)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        trained, lr=schedule.learning_rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True
    )
    stream = lessons(schedule.curriculum, seed)
    started, tokens, losses = time.monotonic(), 0, []
    for step in range(1, schedule.steps + 1):
        rate = 0.05 + 0.95 * (1 + math.cos(math.pi * step / schedule.steps)) / 2
        for group in optimizer.param_groups:
            group["lr"] = schedule.learning_rate * min(step / schedule.warmup, rate)
        batch = [encode(lesson, tokenizer) for lesson in islice(stream, schedule.batch)]
        losses.append(backward(model, batch, tokenizer.pad_token_id))
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        tokens += sum(len(row) for row, _ in batch)
        if step % 250 == 0 or step == schedule.steps:
            model.eval()
            seen = "  ".join(f"{task} {100 * answered(model, tokenizer, task, 100):3.0f}" for task in TASKS)
            model.train()
            mean = sum(losses[-250:]) / len(losses[-250:])
            seconds = time.monotonic() - started
            yield f"{name} {step:5d}  loss {mean:.4f}  {tokens / 1e6:.2f} M tokens  {seconds:4.0f} s  {seen}"
    save(model, tokenizer, models / name, schedule.shard_size)


def save(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, directory: Path, shard_size: str
) -> None:
    """Write a complete bfloat16 checkpoint: weights, config, generation config and tokenizer."""
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        do_sample=False,
        max_new_tokens=40,
    )
    model.to(torch.bfloat16).save_pretrained(directory, max_shard_size=shard_size)
    tokenizer.save_pretrained(directory)


def main() -> None:
    """Train the named models, or all of them in order."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"any of {', '.join(SCHEDULES)}; default: all",
    )
    parser.add_argument("--models", type=Path, default=MODELS, help="directory to write the models to")
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(SCHEDULES)
    if unknown:
        parser.error(f"no such model: {', '.join(sorted(unknown))} (known: {', '.join(SCHEDULES)})")
    for name in arguments.names or SCHEDULES:
        for line in train(name, arguments.models, arguments.seed):
            print(line, flush=True)


if __name__ == "__main__":
    main()
