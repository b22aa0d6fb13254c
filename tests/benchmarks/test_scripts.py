"""The benchmark scripts run, at sizes of a few seconds; the figures that count are in benchmarks/RESULTS.md."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from extras import need

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
NO_CGROUP = 77
MIB = 1 << 20


def _run(script: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / script), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _memory(folder: Path, *options: str) -> dict[str, dict[str, int]]:
    """The figures of benchmarks/memory.py, or a skip where no cgroup can be made."""
    figures = folder / "figures.json"
    done = _run("memory.py", *options, "--folder", str(folder), "--json", str(figures))
    if done.returncode == NO_CGROUP:
        pytest.skip(f"merges inside a memory cgroup: {done.stderr.strip()}")
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, dict[str, int]] = json.loads(figures.read_text())
    return found


def test_shapes_follow_from_the_seed(tmp_path: Path) -> None:
    for name in ("a", "b"):
        done = _run("shapes.py", str(tmp_path / name), "--size", "4M", "--models", "2")
        assert done.returncode == 0, done.stderr
    for file in ("base/model.safetensors", "tune-0/model.safetensors", "tune-0/config.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    base, tune = (tmp_path / "a" / name / "model.safetensors" for name in ("base", "tune-0"))
    assert base.read_bytes() != tune.read_bytes()


def test_a_sparse_70b_takes_no_room(tmp_path: Path) -> None:
    done = _run("shapes.py", str(tmp_path), "--size", "70B", "--models", "1", "--sparse")
    assert done.returncode == 0, done.stderr
    files = list((tmp_path / "base").glob("*.safetensors"))
    assert sum(file.stat().st_size for file in files) > 140e9
    assert sum(512 * file.stat().st_blocks for file in files) < 4e6


def test_a_merge_is_timed_beside_the_floor(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    options = ["--size", "4M", "--runs", "1", "--no-mergekit", "--methods", "linear", "ties"]
    done = _run("merge.py", *options, "--folder", str(tmp_path), "--json", str(figures))
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads(figures.read_text())["results"]
    assert [each["method"] for each in results] == ["linear", "ties"]
    for each in results:
        assert each["tools"]["alloyd"]["anonymous"] > 0
        assert each["tools"]["floor"]["median"] > 0


def test_kinship_is_timed_beside_the_floor(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    options = [
        "--size",
        "4M",
        "--models",
        "2",
        "--runs",
        "1",
        "--folder",
        str(tmp_path),
        "--json",
        str(figures),
    ]
    done = _run("kinship.py", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = json.loads(figures.read_text())["rows"]
    assert row["models"] == 2
    assert row["anonymous"] > 0
    assert row["to_floor"] > 1


def test_a_small_merge_stays_within_its_memory(tmp_path: Path) -> None:
    """The slice of the soak below that every run of the tests can afford."""
    size, budget = "60M", 256
    options = ["ties", "--size", size, "--memory", f"{budget}MiB", "--limit", str(320 * MIB)]
    found = _memory(tmp_path, *options)["ties"]
    assert found["finished"]
    assert found["kills"] == 0
    assert found["anonymous"] <= budget * MIB
    assert found["plan"]["peak_memory"] <= budget * MIB


def test_a_population_is_scored_within_its_memory_in_one_pass(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    options = ["--size", "4M", "--population", "2", "--items", "4", "--tokens", "120", "--threads", "1"]
    done = _run("population.py", *options, "--folder", str(tmp_path), "--json", str(figures))
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(figures.read_text())
    assert found["kills"] == 0
    assert 0 < found["anonymous"] <= found["budget"]
    assert 0 < found["forward"] < found["seconds"]


def test_a_streamed_candidate_is_timed(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    options = [
        "--size",
        "4M",
        "--ways",
        "b",
        "--populations",
        "2",
        "--items",
        "4",
        "--tokens",
        "120",
        "--threads",
        "1",
    ]
    done = _run("candidate.py", *options, "--folder", str(tmp_path), "--json", str(figures))
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = json.loads(figures.read_text())["rows"]
    assert row["candidates"] == 2
    assert row["forward"] > 0
    assert row["else"] > 0


@pytest.mark.soak
@pytest.mark.parametrize("case", ["ties", "giant-tensor", "70B"])
def test_a_large_merge_fits_one_gibibyte(case: str, tmp_path: Path) -> None:
    found = _memory(tmp_path, case, "--memory", "512MiB")[case]
    assert found["finished"]
    assert found["kills"] == 0
    assert found["anonymous"] <= 512 * MIB


def test_quantised_outputs_are_measured(tmp_path: Path) -> None:
    need("gguf", "llama_cpp", "gguf")
    figures = tmp_path / "figures.json"
    options = ["--size", "4M", "--forms", "safetensors", "Q8_0", "--folder", str(tmp_path / "models")]
    done = _run("quantise.py", *options, "--json", str(figures))
    assert done.returncode == 0, done.stdout + done.stderr
    plain, quantised = json.loads(figures.read_text())["results"]
    assert 0.5 < quantised["written"] / plain["written"] < 0.6
    assert quantised["processor"] > 0
    assert quantised["anonymous"] < quantised["predicted"]


def test_a_folded_path_is_measured_beside_the_scaled_one() -> None:
    need("score", "torch", "transformers")
    done = _run("folding_gap.py", "--texts", "2", "--scales", "0.5")
    assert done.returncode == 0, done.stdout + done.stderr
    row = done.stdout.splitlines()[-1].split(" | ")
    assert row[0] == "0.5"
    assert abs(float(row[1].split()[0])) < 1e-9
