"""A rule that waits for adapters merges each into its base, with the real jobs of a real daemon."""

from __future__ import annotations

import json
import shutil
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
SEARCH = """\
recipe:
  merge_method: task_arithmetic
  base_model: "{{base}}"
  models:
  - {{model: {{model: "{{base}}", lora: {in_use}}}, parameters: {{weight: 1}}}}
  - {{model: {{model: "{{base}}", lora: "{{model}}"}}, parameters: {{weight: {{low: 0, high: 1}}}}}}
  dtype: float32
tasks: {{search: [../search.jsonl], validation: [../validation.jsonl]}}
budget: {{candidates: 1}}
finalists: 1
runner: resident
"""
ZOO = Path(__file__).parents[2] / "zoo"


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
        eventually(lambda: client.watches()[0].claims == {"done": 1}, seconds=240)
        (job,) = client.jobs()
        assert Path(str(job.out)).parent == folder / "out"
        factors = read_safetensors(folder / "new+it-lora" / "adapter_model.safetensors")
        found = read_checkpoint(Path(str(job.out)))
        for name, values in merged(weights, factors, 2.0).items():
            np.testing.assert_allclose(found[name], values, atol=1e-6)


@pytest.mark.parametrize("daemon", [CHILD], indirect=True)
def test_an_adapter_that_arrives_sets_off_a_search_for_its_weight(
    daemon: TrialDaemon, tmp_path: Path
) -> None:
    pytest.importorskip("transformers")
    folder, base, in_use = tmp_path / "shelf", ZOO / "models" / "base", ZOO / "adapters" / "lang"
    folder.mkdir()
    for split in ("search", "validation"):
        lines = (ZOO / "tasks" / f"l2_arithmetic.{split}.jsonl").read_text(encoding="utf-8").splitlines()[:2]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    wanted = Rule("weigh", ("*-lora",), "search", SEARCH.format(in_use=in_use), str(base))
    with daemon.client() as client:
        client.watch_add(folder, settle=0.1, rescan=1, roots=(str(ZOO), str(tmp_path)), rules=(wanted,))
        made = Path(shutil.copytree(ZOO / "adapters" / "math", tmp_path / "made" / "new-lora"))
        config = json.loads((made / "adapter_config.json").read_bytes())
        (made / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": str(base)}))
        made.rename(folder / "new-lora")
        eventually(lambda: client.watches()[0].claims == {"done": 1}, seconds=840)
        (job,) = client.jobs()
    assert job.kind == "search"
    results = json.loads((folder / "out" / "new-lora-weigh" / "results.json").read_bytes())
    assert [each["name"] for each in results["genes"][0]] == ["weight[base+new-lora]"]
    assert {"base+lang", "base+new-lora", "base"} <= {each["name"] for each in results["baselines"]}
    (winner,) = load((folder / "out" / "new-lora-weigh" / "winner.yaml").read_text())
    assert all(each.path == str(base) for each in winner.referenced_models())


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
