"""Make adapters with the real PEFT and merge them with it, in one process of its interpreter.

Usage: ``python -P peft_runner.py JOBS.json``, a list of ``{"base": path, "adapter": path, "out": path, "config": keys
of LoraConfig}``. Adapters get random weights, and are read back from disk before ``merge_and_unload``; all in float32.
This file is never imported by the project.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM


def base_of(job: dict[str, Any]) -> Any:
    return AutoModelForCausalLM.from_pretrained(job["base"], dtype=torch.float32)


def train(job: dict[str, Any]) -> None:
    """Save an adapter whose every trainable weight was moved a little."""
    model = get_peft_model(base_of(job), LoraConfig(task_type="CAUSAL_LM", **job["config"]))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight += torch.randn_like(weight) * 0.05
    model.save_pretrained(job["adapter"])


def main(jobs_file: str) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    with open(jobs_file, encoding="utf-8") as file:
        jobs = json.load(file)
    for job in jobs:
        train(job)
        merged = PeftModel.from_pretrained(base_of(job), job["adapter"]).merge_and_unload()
        merged.save_pretrained(job["out"])


if __name__ == "__main__":
    main(sys.argv[1])
