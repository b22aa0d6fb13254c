"""A search of the zoo through a real daemon: from a spec to a merged winner, its locked test, and a larger budget."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from alloyd import recipe
from alloyd.cli import main
from alloyd.errors import JobError

pytest.importorskip("transformers")
pytest.importorskip("cmaes")

ROOT = Path(__file__).parents[2]
SPEC = """
name: sums
recipe:
  merge_method: task_arithmetic
  base_model: zoo/models/base
  models:
    - {model: zoo/models/math, parameters: {weight: {low: 0, high: 2, start: 1}}}
    - {model: zoo/models/lang, parameters: {weight: {low: 0, high: 2, start: 1}}}
  dtype: float32
  out_dtype: bfloat16
tasks: {search: [SEARCH], validation: [VALIDATION], test: [TEST]}
rungs: [{items: 8, race: true, block: 4}]
budget: {candidates: 2}
finalists: 2
"""


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A spec over the first items of each split, and a daemon that the tests share."""
    folder = tmp_path_factory.mktemp("search")
    text = SPEC
    for split in ("search", "validation", "test"):
        lines = (
            (ROOT / f"zoo/tasks/l2_arithmetic.{split}.jsonl").read_text(encoding="utf-8").splitlines()[:10]
        )
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        text = text.replace(split.upper(), str(folder / f"{split}.jsonl"))
    (folder / "spec.yaml").write_text(text)
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="alloyd-") as runtime:
        patch.setenv("ALLOYD_HOME", str(folder / "home"))
        patch.setenv("XDG_RUNTIME_DIR", runtime)
        (folder / "runtime").write_text(runtime)
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.chdir(ROOT)
        yield folder / "spec.yaml"
        main(["stop", "--now", "--home", str(folder / "home")])


@pytest.fixture(autouse=True)
def _shared(spec: Path, _clean_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test reaches the daemon of all, from the root of the repository."""
    monkeypatch.setenv("ALLOYD_HOME", str(spec.parent / "home"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", (spec.parent / "runtime").read_text())


@pytest.fixture(scope="module")
def searched(spec: Path) -> dict[str, Any]:
    """What the first search said: its result, as `--json` prints it."""
    import contextlib
    import io

    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        status = main(["search", str(spec), "--threads", "1", "--merge", str(spec.parent / "best"), "--json"])
    assert status == 0
    found: dict[str, Any] = json.loads(out.getvalue().splitlines()[-1])["value"]
    return found


def test_a_search_ends_with_a_winner_that_is_merged(searched: dict[str, Any], spec: Path) -> None:
    assert searched["spent"]["states"].keys() <= {"scored", "dropped", "duplicate"}
    assert len([each for each in searched["trials"] if each["origin"] == "optimiser"]) == 2
    names = {each["name"] for each in searched["baselines"]}
    assert {"math", "lang", "base", "uniform soup", "ties", "dare_ties"} <= names
    assert len(searched["winner"]["against"]) >= len(names) - 1
    best = Path(searched["merged"])
    assert best == spec.parent / "best"
    (merged,) = recipe.load((Path(searched["folder"]) / "winner.yaml").read_text())
    assert merged.merge_method == searched["winner"]["recipe"]["merge_method"]
    assert (best / "model.safetensors").exists()
    assert searched["test"] is None


def test_the_test_opens_once(
    searched: dict[str, Any], spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["search", "--open-test", searched["job"], "--threads", "1"]) == 0
    said = capsys.readouterr().out.splitlines()
    opened = re.fullmatch(r"opened (\S+) by (open_test-\d+)", said[0])
    assert opened is not None
    assert said[1].split()[:3] == ["MODEL", "METRIC", "TEST"]
    assert len(said) == 3 + len(searched["winner"]["against"])
    assert main(["search", "--open-test", searched["job"]]) == JobError.exit_status
    assert f"was opened at {opened[1]} by {opened[2]}; it opens once" in capsys.readouterr().err


def without_finals(trial: dict[str, Any]) -> dict[str, Any]:
    """A trial as it was searched: without what it was asked of validation and test."""
    return trial | {"items": {rung: count for rung, count in trial["items"].items() if int(rung) >= 0}}


def test_a_larger_budget_goes_on_from_the_same_trials(
    searched: dict[str, Any], spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["search", "--extend", searched["job"], "--candidates", "3", "--threads", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])["value"]
    assert found["job"] != searched["job"]
    before = [without_finals(each) for each in searched["trials"]]
    assert [without_finals(each) for each in found["trials"]][: len(before)] == before
    assert found["test"] is not None, "what was opened stays opened"
    assert len([each for each in found["trials"] if each["origin"] == "optimiser"]) == 3


def test_the_python_of_the_page_runs(spec: Path, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "search.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert '"configs/search.yaml", candidates=20' in code
    code = code.replace('"configs/search.yaml", candidates=20', f"{str(spec)!r}, candidates=1")
    code = code.replace('out="best"', f"out={str(tmp_path / 'best')!r}")
    names: dict[str, Any] = {}
    exec(compile(code, "docs/search.md", "exec"), names)
    assert names["found"]["winner"]["figures"]
