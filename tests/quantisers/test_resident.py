"""A resident model: equal to the checkpoint that it stands for, small while it is filled, changed in place, strict."""

from __future__ import annotations

import json
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from alloyd.errors import JobError, PlanError, ShapeMismatch, UsageError
from alloyd_daemon.quantiser import quantiser
from alloyd_daemon.resident import Resident
from alloyd_daemon.skeleton import Skeleton
from checkpoint_factory import ARCHITECTURES, Architecture, write_checkpoint
from quantised_driver import config_of, live_bytes, loaded, logits, model_of, torch_tensors

KINDS = [None, "nf4", "fp4", "int8"]


def resident_of(folder: Path, name: str | None = None, **options: Any) -> Resident:
    made = None if name is None else quantiser(name, options)
    resident = Resident(config_of(folder), quantiser=made)
    resident.fill(torch_tensors(folder))
    return resident


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dtype", ["BF16", "F32"])
def test_without_a_quantiser_it_is_the_checkpoint(
    architecture: Architecture, dtype: str, tmp_path: Path
) -> None:
    folder = write_checkpoint(tmp_path, model_of(architecture, dtype=dtype))
    assert torch.equal(logits(resident_of(folder).model), logits(loaded(folder)))


@pytest.mark.parametrize("tied", [True, False])
def test_tied_weights_are_one(tied: bool, tmp_path: Path) -> None:
    model = resident_of(write_checkpoint(tmp_path, model_of("llama", tied=tied)), "nf4").model
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == tied


def test_a_head_that_a_checkpoint_holds_beside_the_embeddings_is_kept(tmp_path: Path) -> None:
    """transformers does not tie what the config says is tied and the checkpoint says is not."""
    folder = write_checkpoint(tmp_path, model_of("llama", tied=False))
    config = config_of(folder) | {"tie_word_embeddings": True}
    resident = Resident(config)
    resident.fill(torch_tensors(folder))
    assert torch.equal(logits(resident.model), logits(loaded(folder)))


@pytest.mark.parametrize("name", KINDS)
def test_a_changed_tensor_is_taken_up_also_after_a_forward(name: str | None, tmp_path: Path) -> None:
    one = write_checkpoint(tmp_path / "one", model_of("qwen2"), seed=1)
    other = write_checkpoint(tmp_path / "other", model_of("qwen2"), seed=2)
    resident = resident_of(one, name)
    first, second = logits(resident.model), logits(resident_of(other, name).model)
    changed = dict(torch_tensors(other))
    some = [key for key in changed if "layers.1" in key]
    resident.update((key, changed.pop(key)) for key in some)
    between = logits(resident.model)
    assert not torch.equal(between, first)
    resident.update(changed.items())
    assert torch.equal(logits(resident.model), second)
    resident.update(torch_tensors(one))
    assert torch.equal(logits(resident.model), first)


class Watched:
    """A checkpoint's tensors, and the most bytes of them that were alive when the next was asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.most = 0
        self._alive: list[tuple[weakref.ref[Any], int]] = []

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        for name, tensor in torch_tensors(self.folder):
            self._alive.append((weakref.ref(tensor), tensor.nbytes))
            yield name, tensor
            del tensor
            self.most = max(self.most, sum(size for each, size in self._alive if each() is not None))


@pytest.mark.parametrize("name", ["nf4", "int8"])
def test_no_tensor_outlives_its_turn_and_none_keeps_its_precision(name: str, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, model_of("llama", layers=4))
    made = quantiser(name)
    resident = Resident(config_of(folder), quantiser=made)
    watched = Watched(folder)
    resident.fill(watched)
    largest = max(each.nbytes for _, each in torch_tensors(folder))
    assert watched.most <= 2 * largest
    model = live_bytes(resident.model)
    assert model <= resident.held_bytes <= 1.1 * model
    linears = {name for name, each in resident.model.named_parameters() if "proj" in name}
    for name, each in resident.model.named_parameters():
        assert each.element_size() == (1 if name in linears else 2)


MEASURE = """
import json, math, sys
from pathlib import Path
import torch
from alloyd_daemon.checkpoints.libc import release_heap
from alloyd_daemon.quantiser import quantiser
from alloyd_daemon.resident import Resident

def status(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) * 1024

torch.set_num_threads(1)
measured = {}
for name in ("nf4", "int8"):
    for layers in (1, 16):
        made = Resident(json.loads(sys.argv[1]) | {"num_hidden_layers": layers}, quantiser=quantiser(name))
        shapes = dict(made._skeleton.shapes)
        release_heap()
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted anew
        before = status("VmRSS")
        made.fill((key, torch.randn(shape, dtype=torch.bfloat16)) for key, shape in shapes.items())
        full = sum(2 * math.prod(shape) for shape in shapes.values())
        measured[name] = [status("VmHWM") - before, full, made.held_bytes, made.filling_bytes]
print(json.dumps(measured))
"""


def test_filling_takes_the_quantised_model_and_one_tensor(tmp_path: Path) -> None:
    """The peak of the process, as the kernel counts it, for a model of 16 layers and 100 MB in bfloat16."""
    config = config_of(write_checkpoint(tmp_path, model_of("llama", vocab=256)))
    config |= {"hidden_size": 512, "intermediate_size": 1536, "head_dim": 128, "max_position_embeddings": 64}
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, json.dumps(config)],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": ":".join(path for path in sys.path if path)},
    )
    assert done.returncode == 0, done.stderr
    for grown, full, held, filling in json.loads(done.stdout).values():
        assert held < 0.6 * full
        assert grown < held + filling


@pytest.mark.parametrize("name", [None, "nf4"])
def test_a_missing_tensor_is_named(name: str | None, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, model_of("llama"))
    lacking = "model.layers.1.mlp.up_proj.weight"
    made = None if name is None else quantiser(name)
    with pytest.raises(PlanError, match=rf"'{lacking}' of LlamaForCausalLM got no tensor"):
        Resident(config_of(folder), quantiser=made).fill(
            (key, each) for key, each in torch_tensors(folder) if key != lacking
        )


def test_a_model_without_a_head_is_refused(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, model_of("qwen2", tied=True))
    with pytest.raises(PlanError, match=r"'lm_head\.weight' of Qwen2ForCausalLM and 1 more got no tensor"):
        Resident(config_of(folder)).fill(
            (key, each) for key, each in torch_tensors(folder) if "embed" not in key
        )


def test_a_tensor_that_fits_nowhere_is_named(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, model_of("llama"))
    resident = resident_of(folder)
    with pytest.raises(PlanError, match="fits nowhere in LlamaForCausalLM") as refused:
        resident.update([("model.layers.0.mlp.up_porj.weight", torch.zeros(1))])
    assert "up_proj" in refused.value.hint
    resident.update([("model.layers.0.self_attn.rotary_emb.inv_freq", torch.zeros(16))])


@pytest.mark.parametrize("name", KINDS)
def test_a_tensor_of_another_shape_is_named(name: str | None, tmp_path: Path) -> None:
    resident = resident_of(write_checkpoint(tmp_path, model_of("llama")), name)
    with pytest.raises(
        ShapeMismatch, match=r"'model\.layers\.0\.mlp\.up_proj\.weight' has the shape \[64, 64\]"
    ):
        resident.update([("model.layers.0.mlp.up_proj.weight", torch.zeros(64, 64))])


def test_values_that_cannot_be_quantised_are_named(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, model_of("llama"))
    resident = resident_of(folder, "int8")
    key, tensor = next((key, each) for key, each in torch_tensors(folder) if "up_proj" in key)
    with pytest.raises(JobError, match="up_proj"):
        resident.update([(key, tensor * float("inf"))])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_type": "lama"}, "does not know a model_type 'lama'"),
        ({"model_type": None}, "does not know a model_type None"),
        ({"hidden_size": "wide"}, "cannot make a causal language model of this llama config"),
        ({"hidden_act": "none such"}, "cannot make a causal language model"),
    ],
)
def test_a_config_that_lies_is_refused_in_one_sentence(
    change: dict[str, Any], said: str, tmp_path: Path
) -> None:
    config = config_of(write_checkpoint(tmp_path, model_of("llama"))) | change
    with pytest.raises(PlanError) as refused:
        Skeleton(config)
    assert said in refused.value.message
    assert "\n" not in refused.value.message
    assert refused.value.hint


def test_code_that_a_config_names_is_not_run(tmp_path: Path) -> None:
    config = config_of(write_checkpoint(tmp_path, model_of("llama")))
    config["auto_map"] = {"AutoModelForCausalLM": "evil--modeling.Evil"}
    assert type(Skeleton(config).model).__name__ == "LlamaForCausalLM"


@pytest.mark.parametrize(("library", "extra"), [("bitsandbytes", "bitsandbytes"), ("transformers", "score")])
def test_a_missing_library_is_one_sentence_with_its_extra(
    library: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(write_checkpoint(tmp_path, model_of("llama")))
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(UsageError, match=f"needs the library '{library}', which is not installed") as refused:
        Resident(config, quantiser=quantiser("nf4"))
    assert refused.value.hint == f"pip install 'alloyd[{extra}]'"


@pytest.mark.gpu
@pytest.mark.parametrize("name", KINDS)
def test_on_a_gpu_it_is_what_transformers_loads_there(name: str | None, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, model_of("llama"))
    made = None if name is None else quantiser(name)
    resident = Resident(config_of(folder), quantiser=made, device="cuda")
    resident.fill(torch_tensors(folder))
    assert resident.model.device.type == "cuda"
    assert torch.equal(logits(resident.model), logits(loaded(folder, made).to("cuda")))


def test_nothing_heavy_is_loaded_by_importing_a_resident() -> None:
    code = (
        "import sys; import alloyd_daemon.resident, alloyd_daemon.quantised_layout\n"
        "from alloyd_daemon.quantiser import quantiser; quantiser('nf4').stored('a', 'BF16', (32, 64))\n"
        "assert not {'torch', 'transformers', 'bitsandbytes'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
