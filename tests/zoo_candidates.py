"""Candidates of the zoo's models, and what a plain transformers loop says of them: no code of the runners is used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from alloyd.jobs import MergeSpec, PlanSpec
from alloyd_daemon.candidate import Candidate, from_checkpoint, from_recipe
from alloyd_daemon.job import JOBS, Context
from alloyd_daemon.scoring.requests import Continuation, WholeText
from alloyd_daemon.settings import Settings

MODELS = Path(__file__).parents[1] / "zoo" / "models"


def recipe_text(math: float, lang: float = 1.0, dtype: str = "float32") -> str:
    """`math` and `lang` added to their base, which gives a model that scores in both languages."""
    return f"""\
merge_method: task_arithmetic
base_model: {MODELS / "base"}
models:
  - {{model: {MODELS / "math"}, parameters: {{weight: {math}}}}}
  - {{model: {MODELS / "lang"}, parameters: {{weight: {lang}}}}}
dtype: {dtype}
"""


def checkpoint(folder: Path, home: Path) -> Candidate:
    """The candidate that a folder is, called by its name."""
    return from_checkpoint(folder, name=folder.name, home=home, settings=Settings())


def recipe(text: str, home: Path, name: str = "recipe") -> Candidate:
    """The candidate of a recipe, never written."""
    spec = PlanSpec(recipe=text, base_dir="/")
    return from_recipe(spec, name=name, home=home, settings=Settings())


def written(text: str, home: Path, out: Path) -> Path:
    """The recipe's checkpoint, merged to disk."""
    spec = MergeSpec(recipe=text, base_dir="/", out=str(out))
    list(JOBS.get("merge").run(spec, Context(home, Settings(), "merge-1")))
    return out


class Plain:
    """A model as transformers loads it, asked one thing at a time."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()

    def likelihood(self, request: Continuation | WholeText) -> tuple[float, bool]:
        """Log-probability of what is asked for, and whether each of its tokens is the most likely one."""
        first = 1
        if isinstance(request, WholeText):
            # The token that begins a sequence stands before all that the tokenizer makes of a text, as lm-eval has it.
            ids = [self.tokenizer.bos_token_id, *self.tokenizer.encode(request.text)]
        else:
            ids = self.tokenizer.encode(request.context + request.text)
            first = max(1, len(self.tokenizer.encode(request.context)))
        rows = torch.log_softmax(self.logits(ids), dim=-1)
        total = sum(float(rows[place - 1, ids[place]]) for place in range(first, len(ids)))
        return total, all(int(rows[place - 1].argmax()) == ids[place] for place in range(first, len(ids)))

    def logits(self, ids: list[int]) -> torch.Tensor:
        with torch.inference_mode():
            found: torch.Tensor = self.model(input_ids=torch.tensor([ids])).logits[0].double()
        return found

    def write(self, prompt: str, most: int = 64) -> str:
        """Greedy: the most likely token again and again, until the model ends."""
        ids = list(self.tokenizer.encode(prompt))
        ends = self.model.generation_config.eos_token_id
        ends = set(ends if isinstance(ends, list) else [ends])
        written: list[int] = []
        while len(written) < most:
            token = int(self.logits(ids + written)[-1].argmax())
            if token in ends:
                break
            written.append(token)
        return str(self.tokenizer.decode(written, skip_special_tokens=True))
