"""The checkpoints both tools merge, mergekit's results (one process for all of them), and alloyd's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from checkpoint_factory import (
    ARCHITECTURES,
    Architecture,
    Model,
    Tensors,
    read_checkpoint,
    read_safetensors,
    tensors,
    write_checkpoint,
)
from parity import cases, other_tool

LAYERS = 4
DENSITIES = ("0.5", "0.9", "0.1")
MEMBERS = (("BASE", None, 0.0), ("ONE", 0, 0.01), ("TWO", 1, 0.01), ("FAR", 9, 0.6))
LARGE = "large"
MIXED = "mixed"
HALF_TIED = "half-tied"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Count what the comparison left out."""
    passed = terminalreporter.stats.get("passed", [])
    counted = [
        figures for report in passed for name, figures in report.user_properties if name == "undecided"
    ]
    if counted:
        left_out, seen = (sum(column) for column in zip(*counted, strict=True))
        terminalreporter.line(
            f"parity: {left_out:,} of {seen:,} elements left out: their consensus hangs by a rounding"
        )


@dataclass(frozen=True, slots=True)
class Case:
    """One recipe over one family: its text, where mergekit's result lies, and what mergekit complained of."""

    text: str
    theirs: Path
    complaint: str | None

    def expected(self) -> Tensors:
        return read_checkpoint(self.theirs)

    def undecided(self) -> Tensors:
        """By tensor: the elements on which a consensus hangs by a rounding; empty without a consensus."""
        return read_safetensors(self.theirs.with_name(self.theirs.name + ".undecided.safetensors"))


@pytest.fixture(scope="session")
def families(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Path]]:
    """Family name -> BASE, ONE, TWO, FAR -> checkpoint folder."""
    root = tmp_path_factory.mktemp("families")
    found = {name: _family(root / name, name) for name in ARCHITECTURES}
    found[LARGE] = _write(root / LARGE, Model(layers=1, hidden=64, vocab=1024))
    found[MIXED] = {
        "BASE": write_checkpoint(root / MIXED / "base", Model(layers=LAYERS, dtype="F32")),
        "ONE": write_checkpoint(root / MIXED / "one", Model(layers=LAYERS), tune=0),
        "TWO": write_checkpoint(root / MIXED / "two", Model(layers=LAYERS, dtype="F16"), tune=1),
        "FAR": write_checkpoint(root / MIXED / "far", Model(layers=LAYERS, dtype="F32"), tune=9, step=0.6),
    }
    untied = {"BASE": True, "ONE": True, "TWO": False, "FAR": False}
    for name, tune, step in MEMBERS:
        model = Model(architecture="qwen2", layers=LAYERS, tied=not untied[name])
        place = root / HALF_TIED / name.lower()
        found.setdefault(HALF_TIED, {})[name] = write_checkpoint(place, model, tune=tune, step=step)
    return found


def _family(folder: Path, architecture: Architecture) -> dict[str, Path]:
    model = Model(architecture=architecture, layers=LAYERS)
    # Mistral is sharded; a bias of Qwen2 is zero in every model, as most real ones start.
    return _write(
        folder,
        model,
        shards=3 if architecture == "mistral" else 1,
        zero="model.layers.0.self_attn.k_proj.bias" if architecture == "qwen2" else None,
    )


def _write(folder: Path, model: Model, *, shards: int = 1, zero: str | None = None) -> dict[str, Path]:
    found = {}
    for name, tune, step in MEMBERS:
        weights = tensors(model, tune=tune, step=step)
        if zero is not None:
            weights[zero] = weights[zero] * weights[zero].dtype.type(0)
        found[name] = write_checkpoint(folder / name.lower(), model, shards=shards, weights=weights)
    return found


@pytest.fixture(scope="session")
def mergekit_results(
    families: dict[str, dict[str, Path]], tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, str], Case]:
    """(family, case name) -> what mergekit made of it."""
    python = other_tool.needed("mergekit")
    workspace = tmp_path_factory.mktemp("mergekit")
    texts: dict[tuple[str, str], str] = {}
    for family in (*ARCHITECTURES, MIXED, HALF_TIED):
        for name, text in cases.EXACT.items():
            texts[family, name] = cases.recipe(text, architecture=family, models=families[family])
    for name, text in cases.RANDOM.items():
        for density in DENSITIES:
            for rescale in ("true", "false"):
                texts[LARGE, f"{name} {density} {rescale}"] = cases.recipe(
                    text, architecture="llama", models=families[LARGE], DENSITY=density, RESCALE=rescale
                )
    outs = {key: workspace / f"{key[0]}-{place}" for place, key in enumerate(texts)}
    complaints = other_tool.run(python, {outs[key]: text for key, text in texts.items()}, workspace)
    return {key: Case(text, outs[key], complaints[outs[key]]) for key, text in texts.items()}


@pytest.fixture
def alloyd_merge(tmp_path: Path) -> Callable[[str], Path]:
    """Run one recipe through alloyd's merge job and return the folder of the result."""
    from alloyd.jobs import Finished, MergeSpec
    from alloyd_daemon.job import JOBS, Context
    from alloyd_daemon.settings import Settings

    def merge(text: str) -> Path:
        out = tmp_path / "merged"
        spec = MergeSpec(recipe=text, base_dir=str(tmp_path), out=str(out), threads=1)
        context = Context(home=tmp_path / "home", settings=Settings(), job_id="parity")
        context.home.mkdir()
        *_, last = JOBS.get("merge").run(spec, context)
        assert isinstance(last, Finished)
        return out

    return merge
