"""What a candidate costs in the warm llama.cpp engine: to merge, quantise and write what changed, and to run it.

    python benchmarks/shapes.py MODELS --size 0.85B --models 3
    python benchmarks/warm_gguf.py MODELS --type Q4_K_M --candidates 3

Candidates are ties merges of MODELS/{base,tune-0,tune-1} that differ in every weight, or with --one-layer in the
feed-forward matrices of one layer. Each answers --items token sequences of --tokens tokens, half of them scored.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from alloyd.jobs import PlanSpec
from alloyd_daemon.candidate import Candidate, from_recipe
from alloyd_daemon.engine.in_memory import population
from alloyd_daemon.gguf.layout import describe
from alloyd_daemon.llama.image import Image
from alloyd_daemon.llama.language import Language
from alloyd_daemon.llama.options import EngineOptions
from alloyd_daemon.llama.questions import ask, compose
from alloyd_daemon.llama.warm import WarmEngine
from alloyd_daemon.scoring.encoding import Encoded, Span
from alloyd_daemon.settings import Settings


@dataclass(frozen=True, slots=True)
class Price:
    """Seconds of one candidate: ``make`` to merge, quantise and write ``merged`` bytes of weights, ``load`` to have the
    engine ready, ``run`` to put ``tokens`` tokens through the model. Those that end in ``_cpu`` are processor seconds,
    which other work on the machine moves less. ``private``: bytes of the engine's process that no file backs.
    """

    name: str
    make: float
    make_cpu: float
    merged: int
    load: float
    run: float
    run_cpu: float
    tokens: int
    private: int


def candidates(models: Path, number: int, *, one_layer: bool, threads: int, home: Path) -> list[Candidate]:
    """``number`` ties merges of the three models in ``models``."""
    found = []
    for place in range(number):
        density = 0.5 + 0.4 * place / max(1, number - 1)
        layer = (
            {"density": [{"filter": "layers.1.mlp", "value": density}, {"value": 0.5}]}
            if one_layer
            else {"density": density}
        )
        recipe = {
            "merge_method": "ties",
            "base_model": str(models / "base"),
            "models": [
                {"model": str(models / f"tune-{tune}"), "parameters": {"weight": 0.5, **layer}}
                for tune in (0, 1)
            ],
            "dtype": "float32",
            "out_dtype": "bfloat16",
        }
        spec = PlanSpec(json.dumps(recipe), "/", threads=threads, recipe_name=f"ties {density:.2f}")
        found.append(from_recipe(spec, name=f"ties {density:.2f}", home=home, settings=Settings()))
    return found


def spans(items: int, tokens: int, vocabulary: int) -> tuple[Span, ...]:
    """Sequences of random tokens whose second half is scored."""
    draw = random.Random(0)
    return tuple(
        Span(item, tuple(draw.randrange(3, vocabulary) for _ in range(tokens + 1)), tokens // 2)
        for item in range(items)
    )


def prices(
    chosen: list[Candidate],
    asked: tuple[Span, ...],
    kind: str,
    *,
    threads: int,
    scratch: Path,
    in_memory: bool = True,
) -> Iterator[Price]:
    """The price of each candidate in turn, in one warm engine."""
    one = chosen[0]
    tensors = [(each.name, each.dtype, each.shape) for each in one.prepared.plan.tensors]
    layout = describe(tensors, one.config, one.folder, kind, filename="candidate")
    questions = compose(Encoded(asked, ()), Language(None, (), 1), None, batch_size=None)
    tokens = sum(len(each.nodes) for each in questions.likely)
    with (
        Image(layout, scratch, in_memory=in_memory) as image,
        WarmEngine(image.handle) as warm,
        population(chosen) as sources,
    ):
        order = questions.load(image.path, threads, EngineOptions())
        for weights in sources.members:
            begun, cpu = time.monotonic(), time.process_time()
            steps = image.become(weights)
            try:
                while True:
                    next(steps)
            except StopIteration as end:
                merged = end.value
            made, cpu = time.monotonic(), time.process_time() - cpu
            engine, loaded = warm.ready(order, changed=True)
            ready, process = time.monotonic(), psutil.Process(engine.pid)
            before = sum(process.cpu_times()[:2])
            answers = dict(ask(engine, questions, (), loaded.outputs))
            done = time.monotonic()
            assert len(answers) == len(asked)
            yield Price(
                name=weights.candidate.name,
                make=made - begun,
                make_cpu=cpu,
                merged=merged,
                load=ready - made,
                run=done - ready,
                run_cpu=sum(process.cpu_times()[:2]) - before,
                tokens=tokens,
                private=anonymous(engine.pid),
            )


def anonymous(pid: int) -> int:
    """Bytes of a process's memory that no file backs."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("Anonymous:"))


def main() -> None:
    """Print one line of JSON a candidate."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", type=Path)
    parser.add_argument("--type", default="Q4_K_M")
    parser.add_argument("--candidates", type=int, default=3)
    parser.add_argument("--items", type=int, default=100)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--one-layer", action="store_true")
    parser.add_argument("--on-disk", action="store_true")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        models = chosen.models.absolute()
        found = candidates(
            models, chosen.candidates, one_layer=chosen.one_layer, threads=chosen.threads, home=home
        )
        vocabulary = int(found[0].config["vocab_size"])
        asked = spans(chosen.items, chosen.tokens, vocabulary)
        for price in prices(
            found, asked, chosen.type, threads=chosen.threads, scratch=home, in_memory=not chosen.on_disk
        ):
            print(json.dumps({"type": chosen.type, **asdict(price)}), flush=True)


if __name__ == "__main__":
    main()
