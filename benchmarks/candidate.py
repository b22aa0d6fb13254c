"""What one candidate of a search costs: merged to disk and loaded, streamed, quantised for llama.cpp, resident in NF4.

    .venv/bin/python benchmarks/candidate.py --size 0.85B --populations 1 4 16

(a) mergekit writes the merge, transformers loads it and scores it; (b) the streamed forward scores whole populations;
(c) the warm GGUF engine and (d) the resident NF4 model score a few candidates each. All are asked the same items, each
one as whole processes. The forward is what the model computes; everything else is merging, writing, loading and
starting. Figures are per candidate. mergekit is left out where it is not installed (`make mergekit`).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from measure import megabytes, run
from shapes import of_size, write
from tools import mergekit, recipe

CHILD = Path(__file__).with_name("score_child.py")
WAYS = ("a", "b", "c", "d")


def give_tokenizer(folder: Path, words: int) -> None:
    """A word-level tokenizer beside a shape's weights: word N is token N + 3."""
    names = ["<unk>", "<s>", "</s>", *(f"w{each}" for each in range(words - 3))]
    special = [{"id": place, "content": names[place], "single_word": False, "lstrip": False, "rstrip": False,
                "normalized": False, "special": True} for place in range(3)]  # fmt: skip
    file = {
        "version": "1.0",
        "added_tokens": special,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "model": {
            "type": "WordLevel",
            "vocab": {name: place for place, name in enumerate(names)},
            "unk_token": "<unk>",
        },
    }
    facts = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "</s>",
        "unk_token": "<unk>",
    }
    (folder / "tokenizer.json").write_text(json.dumps(file))
    (folder / "tokenizer_config.json").write_text(json.dumps(facts))


def questions(count: int, tokens: int, vocabulary: int) -> list[tuple[str, str]]:
    """``count`` contexts with an answer each, ``tokens`` in all, from a fixed seed."""
    draws = np.random.Generator(np.random.PCG64(7))
    length = -(-tokens // count)
    words = draws.integers(0, vocabulary - 3, (count, length))
    return [
        (" ".join(f"w{each}" for each in row[:-4]), " " + " ".join(f"w{each}" for each in row[-4:]))
        for row in words
    ]


def population(models: Sequence[Path], method: str, count: int) -> list[str]:
    """``count`` recipes that differ in weight and density."""
    text, _ = recipe(method, models)
    found = []
    for number in range(count):
        share = 0.3 + 0.4 * number / max(1, count - 1)
        found.append(
            text.replace("weight: 0.6", f"weight: {share:.4f}").replace(
                "density: 0.5", f"density: {share:.4f}"
            )
        )
    return found


def child(workspace: Path, options: argparse.Namespace, **spec: Any) -> dict[str, Any]:
    """Run the child on ``spec``; its figures and the memory of its process tree."""
    home = workspace / "home"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    file = workspace / "spec.json"
    spec = {"recipes": [], "threads": options.threads, "memory": options.memory, "home": str(home)} | spec
    file.write_text(json.dumps(spec))
    done = run([sys.executable, str(CHILD), str(file)], memory=True)
    if done.status:
        raise SystemExit(f"{spec['way']} failed with {done.status}:\n{done.said[-3000:]}")
    found: dict[str, Any] = json.loads(done.said.strip().splitlines()[-1])
    return found | {"seconds": done.seconds, "anonymous": done.anonymous}


def by_disk(
    workspace: Path, recipes: Sequence[str], options: argparse.Namespace, **spec: Any
) -> dict[str, Any] | None:
    """(a): mergekit, then transformers; ``None`` without mergekit."""
    tool = mergekit()
    if tool is None:
        return None
    file, out = workspace / "recipe.yaml", workspace / "merged"
    shutil.rmtree(out, ignore_errors=True)
    file.write_text(recipes[0])
    merged = run([str(tool), str(file), str(out)])
    if merged.status:
        raise SystemExit(f"mergekit failed with {merged.status}:\n{merged.said[-3000:]}")
    shutil.copy(Path(options.folder) / "base" / "tokenizer.json", out)
    shutil.copy(Path(options.folder) / "base" / "tokenizer_config.json", out)
    scored = child(workspace, options, way="plain", folder=str(out), **spec)
    shutil.rmtree(out)
    return scored | {"seconds": scored["seconds"] + merged.seconds, "merge": merged.seconds}


def report(name: str, found: dict[str, Any], count: int, tokens: int) -> dict[str, Any]:
    forward, whole = found["forward"] / count, found["seconds"] / count
    row = {
        "way": name,
        "candidates": count,
        "seconds": whole,
        "forward": forward,
        "else": whole - forward,
        "processor": found["processor"] / count,
        "merging": found["merging"] / count,
        "tokens_per_second": tokens / forward if forward else None,
        "anonymous": found["anonymous"],
        "notes": found["notes"],
        "merge_to_disk": found.get("merge"),
    }
    print(
        f"  {name:<34} {whole:8.2f} s a candidate: forward {forward:7.2f} ({forward / whole:4.0%}), else"
        f" {whole - forward:7.2f}; {row['tokens_per_second'] or 0:6.0f} tokens/s; peak {megabytes(found['anonymous'])}",
        flush=True,
    )
    return row


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="0.85B")
    parser.add_argument("--method", default="ties")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--populations", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--warm", type=int, default=3, help="candidates of (c) and (d)")
    parser.add_argument("--type", default="Q4_K_M", help="llama.cpp type of (c)")
    parser.add_argument("--items", type=int, default=100)
    parser.add_argument("--tokens", type=int, default=4400)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--memory", type=int, default=2 << 30, help="budget of (b) in bytes")
    parser.add_argument("--folder", type=Path, help="where the models are kept (default: a temporary folder)")
    parser.add_argument("--json", type=Path, help="write all figures there")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="alloyd-candidate-", dir=options.folder) as name:
        workspace = Path(name)
        options.folder = (options.folder or workspace) / f"models-{options.size}"
        shape = of_size(options.size)
        models = write(options.folder, shape, models=3)
        for each in models:
            give_tokenizer(each, shape.vocab)
        items = questions(options.items, options.tokens, shape.vocab)
        print(
            f"{options.method} of 3 x {options.size}, {len(items)} items, {options.tokens} tokens,"
            f" {options.threads} threads, {platform.processor() or platform.machine()}",
            flush=True,
        )
        logprobs: dict[str, list[float]] = {}
        first = population(models, options.method, 1)
        if "a" in options.ways:
            found = by_disk(workspace, first, options, items=items)
            if found is not None:
                logprobs["mergekit"] = found["logprobs"][0]
                rows.append(report("(a) mergekit, disk, transformers", found, 1, options.tokens))
            else:
                print("  (a) left out: mergekit is not installed (make mergekit)")
        for count in options.populations if "b" in options.ways else ():
            recipes = population(models, options.method, count)
            found = child(workspace, options, way="stream", recipes=recipes, items=items)
            logprobs.setdefault("stream", found["logprobs"][0])
            rows.append(report(f"(b) stream, population {count}", found, count, options.tokens))
        if "c" in options.ways:
            recipes = population(models, options.method, options.warm)
            found = child(workspace, options, way="gguf", recipes=recipes, items=items, quantise=options.type,
                          memory=8 << 30)  # fmt: skip
            rows.append(report(f"(c) {options.type}, warm llama.cpp", found, options.warm, options.tokens))
        if "d" in options.ways:
            recipes = population(models, options.method, options.warm)
            found = child(workspace, options, way="resident", recipes=recipes, items=items, quantise="nf4",
                          memory=8 << 30)  # fmt: skip
            rows.append(report("(d) NF4, resident", found, options.warm, options.tokens))
    if len(logprobs) == 2:
        gap = max(abs(one - two) for one, two in zip(logprobs["mergekit"], logprobs["stream"], strict=True))
        print(f"  largest difference of an item's log-likelihood between (a) and (b): {gap:.3g} nats")
    if options.json:
        options.json.write_text(json.dumps({"rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
