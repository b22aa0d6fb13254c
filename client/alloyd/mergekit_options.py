"""What a user of ``mergekit-yaml`` says where ``alloy merge`` does otherwise, and what to do instead."""

from __future__ import annotations

from typing import Final

_PROCESSOR: Final = "Leave it out: a merge is bound by the disk, and computed on the processor."
_STREAMED: Final = "Leave it out: tensors are always streamed, and no model is loaded."

INSTEAD: Final = {
    "--allow-crimes": "--lenient merges models of different architectures, by equal names and shapes.",
    "--async-write": _STREAMED,
    "--clone-tensors": "Leave it out: each tensor of the output is written for itself.",
    "--copy-tokenizer": "Leave it out: the tokenizer is always copied.",
    "--cuda": _PROCESSOR,
    "--device": _PROCESSOR,
    "--gpu-rich": _PROCESSOR,
    "--lazy-unpickle": _STREAMED,
    "--lora-merge-cache": "Leave it out: an adapter is applied block by block, and nowhere copied.",
    "--lora-merge-dtype": "Leave it out: an adapter is applied in float32.",
    "--low-cpu-memory": "--memory SIZE bounds what a merge takes.",
    "--multi-gpu": _PROCESSOR,
    "--num-threads": "--threads N",
    "--out-shard-size": "--shard-size SIZE, in bytes: mergekit's 5B is 5GB here.",
    "--random-seed": "Write seed: N into the recipe.",
    "--read-to-gpu": _PROCESSOR,
    "--safe-serialization": "Leave it out: safetensors is what is written.",
    "--transformers-cache": "Set HF_HOME, or models.hf_home in the configuration.",
    "--trust-remote-code": "Leave it out: no code of a model is ever run.",
    "--write-model-card": "Leave it out: the model card is always written.",
}
"""mergekit's options that alloy lacks; ``--no-`` before a switch is answered as the switch is."""


def instead(option: str) -> str:
    """What to do instead of an ``option`` of mergekit; empty for any other word."""
    return INSTEAD.get(option) or INSTEAD.get(option.replace("--no-", "--", 1), "")
