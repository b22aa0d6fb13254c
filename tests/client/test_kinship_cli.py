"""`alloy kinship` from the command line, `Client.kinship`, and their words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from alloyd import Client
from alloyd.cli import main
from alloyd.render_kinship import kinship_table
from alloyd.specs import kinship_spec
from checkpoint_factory import Model, write_family


def test_what_is_named_becomes_a_spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    spec = kinship_spec("org/base", ["a", Path("a"), "/b", "org/c@main"], {"threads": 2})
    assert spec.base == "org/base"
    assert spec.models == (f"{tmp_path}/a", f"{tmp_path}/a", "/b", "org/c@main")
    assert (spec.base_dir, spec.threads) == (str(tmp_path), 2)


def test_it_is_told_in_words_and_in_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    family = [str(each) for each in write_family(tmp_path, Model(), tunes=2)]
    base, *models = family
    assert main(["kinship", "--base", base, *models, "--no-daemon"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0].split() == ["MODEL", "AND", "COSINE", "PEARSON", "DISTANCE"]
    assert told[1].split()[:2] == ["tune-0", "tune-1"]
    assert [line.split()[0] for line in told if line.startswith(("attention", "mlp", "0", "1"))]
    assert "since base" in told[-1]
    assert main(["kinship", "--base", base, *models, "--no-daemon", "--json"]) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    with Client(private=True) as client:
        found = client.kinship(base, models, threads=1)
    assert found["pairs"] == last["value"]["result"]["pairs"]
    assert len(found["layers"]) == 2


def test_a_base_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["kinship", "a", "b"]) != 0
    assert "--base" in capsys.readouterr().err


def test_what_has_no_figure_is_a_dash() -> None:
    pair = {"models": ["a", "b"], "cosine": None, "pearson": None, "euclidean": 1.0}
    lines = kinship_table({"base": "c", "models": [], "pairs": [pair], "parameters": 3})
    assert lines[1].split() == ["a", "b", "-", "-", "1"]
