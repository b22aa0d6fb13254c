"""Score candidates in one process and say where its time went; run by candidate.py and population.py.

    python benchmarks/score_child.py SPEC.json

SPEC.json holds ``way`` (``plain``: transformers loads a checkpoint folder and scores it batch by batch; else a runner),
``recipes`` (texts) or ``folder``, ``items`` ([context, text] pairs), ``quantise``, ``memory``, ``threads``, ``home``.
The last line of output is a JSON object: seconds of the whole process from its first import, of the forward alone,
of merging in the background, processor seconds, bytes read from disk, and the log-probabilities.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

STARTED = time.perf_counter()


class Stopwatch:
    """Seconds spent in functions, by a name of ours."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function``, timed."""

        def timed(*args: Any, **keywords: Any) -> Any:
            begun = time.perf_counter()
            try:
                return function(*args, **keywords)
            finally:
                self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begun

        return timed

    def patch(self, name: str, place: str, attribute: str) -> None:
        """Time every call of an attribute of a module, or of a class in it (``module:class``)."""
        module, _, inner = place.partition(":")
        owner = import_module(module)
        owner = getattr(owner, inner) if inner else owner
        setattr(owner, attribute, self.around(name, getattr(owner, attribute)))


def watch(way: str) -> Stopwatch:
    """A stopwatch on the forward of a runner."""
    found = Stopwatch()
    if way == "stream":
        found.patch("forward", "alloyd_daemon.streaming.sweep", "scores_of")
        found.patch("forward", "alloyd_daemon.streaming.anatomy:Anatomy", "embed")
        found.patch("merging", "alloyd_daemon.streaming.ahead", "_merge")
        anatomy = import_module("alloyd_daemon.streaming.anatomy").Anatomy
        layer = anatomy.layer
        anatomy.layer = lambda *args: found.around("forward", layer(*args))
    elif way == "resident":
        found.patch("forward", "alloyd_daemon.causal_lm.questions", "span_scores")
    elif way == "gguf":
        found.patch("forward", "alloyd_daemon.llama.engine:Engine", "decode")
    return found


def by_runner(spec: dict[str, Any]) -> tuple[list[list[float]], Stopwatch, list[str]]:
    """Log-probabilities by candidate and item, what the forward took, and the runner's notes."""
    from alloyd.jobs import Note, PlanSpec
    from alloyd_daemon.candidate import from_checkpoint, from_recipe
    from alloyd_daemon.runner import RUNNERS, Answered, Lost, RunOptions
    from alloyd_daemon.scoring.requests import Continuation
    from alloyd_daemon.settings import Settings

    stopwatch = watch(spec["way"])
    home = Path(spec["home"])
    memory = int(spec["memory"])
    candidates = [
        from_recipe(
            PlanSpec(recipe=text, base_dir="/", memory=memory, threads=spec["threads"]),
            name=f"candidate {number}",
            home=home,
            settings=Settings(),
        )
        for number, text in enumerate(spec["recipes"])
    ]
    if spec.get("folder"):
        candidates = [
            from_checkpoint(Path(spec["folder"]), name="checkpoint", home=home, settings=Settings())
        ]
    asked = [Continuation(context, text) for context, text in spec["items"]]
    scratch = home / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    options = RunOptions(
        scratch=scratch, memory=memory, threads=spec["threads"], quantise=spec.get("quantise")
    )
    found = [[float("nan")] * len(asked) for _ in candidates]
    notes: list[str] = []
    for each in RUNNERS.get(spec["way"]).run(candidates, asked, options):
        if isinstance(each, Answered):
            found[each.candidate][each.request] = each.answer.logprob
        elif isinstance(each, Lost):
            raise SystemExit(f"candidate {each.candidate} was lost: {each.error}")
        elif isinstance(each, Note):
            notes.append(each.text)
    return found, stopwatch, notes


def plain(spec: dict[str, Any]) -> tuple[list[list[float]], Stopwatch, list[str]]:
    """What people do with a merged folder: load it with transformers, score right-padded batches."""
    import torch
    import transformers

    torch.set_num_threads(spec["threads"])
    stopwatch = Stopwatch()
    folder = spec["folder"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()
    pairs = [(tokenizer.encode(context), tokenizer.encode(context + text)) for context, text in spec["items"]]
    scores: list[float] = []
    size = 32

    @torch.inference_mode()
    def forward(batch: list[tuple[list[int], list[int]]]) -> list[float]:
        width = max(len(whole) for _, whole in batch)
        ids = torch.tensor([whole + [0] * (width - len(whole)) for _, whole in batch])
        mask = torch.tensor([[1] * len(whole) + [0] * (width - len(whole)) for _, whole in batch])
        hidden = model.base_model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        found = []
        for row, (context, whole) in enumerate(batch):
            logits = model.lm_head(hidden[row, len(context) - 1 : len(whole) - 1]).float()
            targets = torch.tensor(whole[len(context) :])
            found.append(float(logits.log_softmax(-1).gather(1, targets[:, None]).sum()))
        return found

    timed = stopwatch.around("forward", forward)
    for start in range(0, len(pairs), size):
        scores += timed(pairs[start : start + size])
    return [scores], stopwatch, []


def read_bytes() -> int:
    """Bytes that this process had read from disks."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["read_bytes"])


def main() -> None:
    spec = json.loads(Path(sys.argv[1]).read_text())
    found, stopwatch, notes = plain(spec) if spec["way"] == "plain" else by_runner(spec)
    times = os.times()
    print(
        json.dumps(
            {
                "seconds": time.perf_counter() - STARTED,
                "forward": stopwatch.seconds.get("forward", 0.0),
                "merging": stopwatch.seconds.get("merging", 0.0),
                "processor": times.user + times.system + times.children_user + times.children_system,
                "read_bytes": read_bytes(),
                "notes": notes,
                "logprobs": found,
            }
        )
    )


if __name__ == "__main__":
    main()
