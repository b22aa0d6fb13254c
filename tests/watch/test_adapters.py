"""A rule that waits for adapters merges each into its base, with the real jobs of a real daemon."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adapter_factory import merged, write_adapter
from alloyd.recipe import load
from alloyd.watch_schema import Rule
from alloyd_daemon.service.child_process import CHILD
from alloyd_daemon.watch.template import fill
from checkpoint_factory import Model, read_checkpoint, read_safetensors, tensors, write_checkpoint
from trial_daemon import TrialDaemon, eventually

TEMPLATE = """\
merge_method: passthrough
models:
- model: {model: "{base}", lora: "{model}"}
dtype: float32
"""


@pytest.mark.parametrize("daemon", [CHILD], indirect=True)
def test_an_adapter_that_arrives_is_merged_into_its_base(daemon: TrialDaemon, tmp_path: Path) -> None:
    folder, base = tmp_path / "shelf", tmp_path / "base"
    folder.mkdir()
    weights = tensors(Model())
    write_checkpoint(base, Model(), weights=weights)
    wanted = Rule("apply", ("*-lora",), "recipe", TEMPLATE, str(base))
    with daemon.client() as client:
        client.watch_add(folder, settle=0.1, rescan=1, roots=(str(base),), rules=(wanted,))
        for name, mother in (("new+it-lora", str(base)), ("other-lora", "org/another")):
            write_adapter(tmp_path / "made" / name, weights, base_model_name_or_path=mother)
            (tmp_path / "made" / name).rename(folder / name)
        eventually(lambda: client.watches()[0].claims == {"done": 1}, seconds=120)
        (job,) = client.jobs()
        assert Path(str(job.out)).parent == folder / "out"
        factors = read_safetensors(folder / "new+it-lora" / "adapter_model.safetensors")
        found = read_checkpoint(Path(str(job.out)))
        for name, values in merged(weights, factors, 2.0).items():
            np.testing.assert_allclose(found[name], values, atol=1e-6)


@pytest.mark.parametrize(
    "written",
    ['{model: "{base}", lora: "{model}"}', "{model: {base}, lora: {model}}", '"{base}+{model}"'],
)
def test_the_ways_to_write_an_adapter_in_a_template(written: str) -> None:
    text = TEMPLATE.replace('{model: "{base}", lora: "{model}"}', written)
    (recipe,) = load(fill(text, "apply", {"model": "/shelf/a-lora", "base": "org/base"}))
    (ref,) = recipe.referenced_models()
    assert ref.lora is not None
    assert (ref.path, ref.lora.path) == ("org/base", "/shelf/a-lora")


def test_a_path_that_holds_signs_needs_the_long_form() -> None:
    (recipe,) = load(fill(TEMPLATE, "apply", {"model": "/shelf/a+b@c", "base": "/b@d"}))
    (ref,) = recipe.referenced_models()
    assert ref.lora is not None
    assert (ref.path, ref.lora.path) == ("/b@d", "/shelf/a+b@c")
