"""How far a folded path is from the scaled path that it stands for, at the models' own eps and weight type.

    .venv/bin/python benchmarks/folding_gap.py

The path is the zoo's `math` with layer 1 of its `lang` between its layers 1 and 2; the embedding is multiplied by a
scale. The reference is transformers' own layers, run hop by hop, with the whole stream multiplied. Printed for each
scale: the mean divergence (nats a token) of the folded model's next-token distributions from the reference's, and the
share of tokens on which both name the same one first: in float32 with eps = 0, in float32 with the models' own eps, and
with bfloat16 weights.
"""

from __future__ import annotations

import argparse
import copy
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from alloyd.jobs import MergeSpec
from alloyd.search_schema import DataFlow
from alloyd_daemon.checkpoints.checkpoint import open_checkpoint
from alloyd_daemon.job import JOBS, Context
from alloyd_daemon.search.genome import first_point
from alloyd_daemon.search.spaces.data_flow import DataFlowSpace
from alloyd_daemon.settings import Settings

ZOO = Path(__file__).resolve().parents[1] / "zoo"
SCALES = (0.05, 0.2, 0.5, 2.0, 5.0, -1.0)


def load(folder: Path, eps: float | None) -> Any:
    """A model in float64, so that only what folding does differs."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval().double()
    if eps is not None:
        for module in model.modules():
            if hasattr(module, "variance_epsilon"):
                module.variance_epsilon = eps
    return model


def unfolded(scale: float, eps: float | None) -> Any:
    """The path as it is defined: the layers as they stand, what enters the first multiplied."""
    whole, other = load(ZOO / "models" / "math", eps), load(ZOO / "models" / "lang", eps)
    layers = [copy.deepcopy(each) for each in whole.model.layers]
    layers.insert(2, copy.deepcopy(other.model.layers[1]))
    layers[0].register_forward_pre_hook(lambda module, inputs: (inputs[0] * scale, *inputs[1:]))
    whole.model.layers = torch.nn.ModuleList(layers)
    whole.config.num_hidden_layers = len(layers)
    return whole


def folded(scale: float, dtype: str, eps: float | None, home: Path) -> Any:
    """The checkpoint of the folded path."""
    models = [open_checkpoint(ZOO / "models" / name) for name in ("math", "lang")]
    # In a row all free layers of `math` come before those of `lang`: to go back takes a second repetition.
    space = DataFlowSpace(DataFlow(repeat=2, scale=(0.05, 20.0), sign=True), models)
    point = dict(first_point(space.genome)) | {
        "take.math.2.r1": 0,
        "take.lang.1.r1": 1,
        "take.math.2.r2": 1,
        "scale.math.0.r1": scale,
    }
    out = home / f"{scale}-{dtype}"
    if not out.exists():
        recipe = json.dumps(space.recipe(point) | {"dtype": dtype})
        spec = MergeSpec(recipe=recipe, base_dir="/", out=str(out))
        list(JOBS.get("merge").run(spec, Context(home, Settings(), out.name)))
    return load(out, eps)


def compare(reference: Any, other: Any, texts: list[list[int]]) -> tuple[float, float]:
    """Mean divergence in nats a token, share of tokens with the same first choice."""
    divergence, same, count = 0.0, 0, 0
    with torch.inference_mode():
        for ids in texts:
            expected, found = (
                torch.log_softmax(model(torch.tensor([ids]), use_cache=False).logits[0], -1)
                for model in (reference, other)
            )
            divergence += float((expected.exp() * (expected - found)).sum())
            same += int((expected.argmax(-1) == found.argmax(-1)).sum())
            count += len(ids)
    return divergence / count, same / count


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--texts", type=int, default=100, help="prompts of l2_arithmetic's search split")
    parser.add_argument("--scales", type=float, nargs="+", default=SCALES)
    options = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(ZOO / "models" / "math")
    lines = (ZOO / "tasks" / "l2_arithmetic.search.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [tokenizer.encode(json.loads(line)["prompt"]) for line in lines[: options.texts]]
    print("scale | eps = 0, float32 | own eps, float32 | own eps, bfloat16")
    with tempfile.TemporaryDirectory() as home:
        for scale in options.scales:
            columns = []
            for eps, dtype in ((0.0, "float32"), (None, "float32"), (None, "bfloat16")):
                nats, same = compare(unfolded(scale, eps), folded(scale, dtype, eps, Path(home)), texts)
                columns.append(f"{nats:.2g} nats, {same:.1%}")
            print(" | ".join([f"{scale:g}", *columns]))


if __name__ == "__main__":
    main()
