"""The digest of a checkpoint's content: that of its manifest, read at most once, and never that of another content."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapter_factory import write_adapter
from alloyd.jobs import MergeSpec, PlanSpec, Progress
from alloyd_daemon.adapters.apply import with_adapter
from alloyd_daemon.candidate import from_recipe
from alloyd_daemon.checkpoints import digest
from alloyd_daemon.checkpoints.checkpoint import Checkpoint, open_checkpoint
from alloyd_daemon.checkpoints.digest import model_digest, piece_digests, tensor_digest
from alloyd_daemon.checkpoints.manifest import MANIFEST, parse_manifest
from alloyd_daemon.checkpoints.reader import AdaptedReader, PreadReader, Reader, open_reader
from alloyd_daemon.engine import contents
from alloyd_daemon.engine.contents import Content, known_content, read_contents
from alloyd_daemon.engine.document import make_all
from alloyd_daemon.engine.findings import FindingCache, open_findings
from alloyd_daemon.engine.in_memory import population
from alloyd_daemon.settings import Settings
from checkpoint_factory import Model, read_checkpoint, write_checkpoint, write_weights

LONG_AGO = (10**9, 10**9)


def weights(seed: int) -> dict[str, np.ndarray]:
    chance = np.random.default_rng(seed)
    return {f"w{n}": chance.standard_normal((300, 7 + n)).astype(np.float32) for n in range(5)} | {
        "empty": np.zeros((0, 4), np.float32)
    }


def grow_old(*folders: Path) -> None:
    """Have all files be from long ago: what was written a moment ago is known by nothing."""
    for folder in folders:
        for each in folder.iterdir():
            os.utime(each, LONG_AGO)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model in three files that were written long ago."""
    (tmp_path / "model").mkdir()
    write_weights(tmp_path / "model", weights(1), shards=3)
    grow_old(tmp_path / "model")
    return tmp_path / "model"


def read(*checkpoints: Checkpoint, findings: FindingCache, seconds: float = 60) -> list[Content]:
    """What is found of checkpoints in the end."""
    running = read_contents(checkpoints, findings, seconds=seconds)
    while True:
        try:
            next(running)
        except StopIteration as end:
            found: list[Content] = end.value
            return found


def digest_of(checkpoint: Checkpoint, findings: FindingCache | None = None) -> str | None:
    (found,) = read(checkpoint, findings=findings or FindingCache())
    assert (found.digest is None) == bool(found.why_not)
    return found.digest


def views(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tensors of which a piece is read from now on."""
    seen: list[str] = []
    real = PreadReader.view

    def view(self: PreadReader, tensor: contents.Tensor, *rest: object) -> memoryview:
        seen.append(tensor.name)
        return real(self, tensor, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(PreadReader, "view", view)
    return seen


def test_it_is_the_digest_of_a_manifest(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (contents, digest):
        monkeypatch.setattr(module, "PIECE", 4096)
    expected = {name: tensor_digest(piece_digests(each.tobytes())) for name, each in weights(1).items()}
    assert digest_of(open_checkpoint(model)) == model_digest(expected)


def test_files_are_read_once_and_again_when_they_change(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = views(monkeypatch)
    with open_findings(tmp_path, 10**6) as findings:
        first = digest_of(open_checkpoint(model), findings)
    assert sorted(seen) == [f"w{n}" for n in range(5)]
    seen.clear()
    with open_findings(tmp_path, 10**6) as findings:
        assert known_content(open_checkpoint(model), findings) == Content(first)
    file = sorted(model.glob("*.safetensors"))[0]
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    os.utime(file, LONG_AGO)
    changed = [each.name for each in open_checkpoint(model).tensors.values() if not each.file and each.nbytes]
    with open_findings(tmp_path, 10**6) as findings:
        assert digest_of(open_checkpoint(model), findings) != first
    assert seen == changed


def test_progress_is_in_bytes_of_what_is_not_known(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "PIECE", 4096)
    checkpoint, findings = open_checkpoint(model), FindingCache()
    said = list(read_contents([checkpoint, checkpoint], findings, seconds=60))
    assert all(isinstance(each, Progress) and each.unit == "bytes" for each in said)
    assert [each.done for each in said] == sorted(each.done for each in said)
    assert said[-1].done == checkpoint.nbytes
    assert str(model) in said[0].what
    assert list(read_contents([checkpoint], findings, seconds=60)) == []


def test_what_was_read_before_a_stop_is_not_read_again(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "PIECE", 4096)
    monkeypatch.setattr("alloyd_daemon.engine.finding_store.BATCH_SECONDS", 0)  # as if each took long
    seen = views(monkeypatch)
    killed = open_findings(tmp_path, 10**6)  # never closed: a kill
    running = read_contents([open_checkpoint(model)], killed, seconds=60)
    while "w3" not in seen:
        next(running)
    running.close()
    seen.clear()
    with open_findings(tmp_path, 10**6) as findings:
        assert digest_of(open_checkpoint(model), findings) == digest_of(open_checkpoint(model))
    first = seen[: seen.index("w4") + 3]
    assert set(first) == {"w3", "w4"}


def test_it_ends_when_its_time_is_over_and_says_what_is_missing(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, checkpoint = views(monkeypatch), open_checkpoint(model)
    with open_findings(tmp_path, 10**6) as findings:
        (found,) = read(checkpoint, findings=findings, seconds=0)
        assert found.digest is None
        assert f"{checkpoint.nbytes:,} bytes of it were not read" in found.why_not
        assert "too long" in found.why_not
    assert seen == []


def test_a_file_that_was_written_a_moment_ago_is_not_remembered(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for each in model.iterdir():
        os.utime(each)
    seen, findings = views(monkeypatch), FindingCache()
    checkpoint = open_checkpoint(model)
    assert digest_of(checkpoint, findings) == digest_of(checkpoint, findings)
    assert len(seen) == 2 * 5


def test_a_file_that_was_replaced_is_told_and_costs_the_others_nothing(model: Path, tmp_path: Path) -> None:
    shutil.copytree(model, tmp_path / "other")
    checkpoint, other = open_checkpoint(model), open_checkpoint(tmp_path / "other")
    for each in model.glob("*.safetensors"):
        each.write_bytes(b"something else")
    found = read(checkpoint, other, findings=FindingCache())
    assert found[0].digest is None
    assert "source changed" in found[0].why_not
    assert found[1].digest is not None


@pytest.mark.parametrize("lie", [(-1.5,) * 4, (1 << 64,) * 4, (0.0, 1, 2, 3)])
def test_numbers_that_are_no_digests_are_measured_again(model: Path, lie: Sequence[int | float]) -> None:
    class Liar(FindingCache):
        def recall(self, key: bytes, size: int) -> tuple[int | float, ...]:
            return tuple(lie)

    checkpoint = open_checkpoint(model)
    assert digest_of(checkpoint, Liar()) == digest_of(checkpoint)


def test_with_an_adapter_a_model_has_another_digest_that_is_not_taken_for_its_own(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", Model())
    adapter = write_adapter(tmp_path / "adapter", read_checkpoint(base), rank=2)
    grow_old(base, adapter)
    alone, adapted = open_checkpoint(base), with_adapter(open_checkpoint(base), adapter)
    expected = [digest_of(each) for each in (alone, adapted)]
    assert expected[0] != expected[1]
    with open_findings(tmp_path / "home", 1 << 20) as findings:
        for _ in range(2):
            assert [digest_of(each, findings) for each in (alone, adapted)] == expected


def test_no_more_than_one_tensors_factors_are_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "PIECE", 1000)  # tensors of several pieces
    base = write_checkpoint(tmp_path / "base", Model())
    adapter = write_adapter(tmp_path / "adapter", read_checkpoint(base), rank=2)
    opened = []

    def open_one(checkpoint: Checkpoint, door: Any) -> Reader:
        opened.append(open_reader(checkpoint, door))
        return opened[-1]

    monkeypatch.setattr(contents, "open_reader", open_one)
    most = 0
    for _ in read_contents([with_adapter(open_checkpoint(base), adapter)], FindingCache(), seconds=60):
        assert isinstance(opened[0], AdaptedReader)
        most = max(most, len(opened[0]._factors))
    assert most == 1


def sources(tmp_path: Path) -> tuple[list[Path], str]:
    """Three models from long ago, and a recipe that reads all of them."""
    paths = [write_checkpoint(tmp_path / name, Model(), seed=place) for place, name in enumerate("abc")]
    grow_old(*paths)
    recipe = (
        f"merge_method: ties\nbase_model: {paths[0]}\nmodels:\n"
        + "".join(f"  - {{model: {each}, parameters: {{weight: 0.5, density: 0.4}}}}\n" for each in paths[1:])
        + "dtype: float32\n"
    )
    return paths, recipe


def merged(tmp_path: Path) -> tuple[list[Path], Path]:
    """Three sources and what a merge of them published; they were read for it by a home in ``tmp_path``."""
    paths, recipe = sources(tmp_path)
    spec = MergeSpec(recipe, str(tmp_path), out=str(tmp_path / "out"))
    for _ in make_all(spec, home=tmp_path / "home", settings=Settings()):
        pass
    return paths, tmp_path / "out"


def test_a_merge_digests_what_it_reads_and_nothing_is_read_for_it_again(tmp_path: Path) -> None:
    paths, _ = merged(tmp_path)
    with open_findings(tmp_path / "home", 1 << 20) as findings:
        for each in paths:
            checkpoint = open_checkpoint(each)
            assert known_content(checkpoint, findings) == Content(digest_of(checkpoint))


@pytest.mark.parametrize("wanted", [True, False])
def test_candidates_in_memory_digest_what_they_read_where_that_is_wanted(
    tmp_path: Path, wanted: bool
) -> None:
    paths, recipe = sources(tmp_path)
    plan = PlanSpec(recipe, str(tmp_path))
    one = from_recipe(plan, name="one", home=tmp_path / "home", settings=Settings())
    with FindingCache(contents=wanted) as findings:
        with population([one], findings) as together:
            unchanged = {name: each.data.tobytes() for name, each in together.members[0].each()}
        with population([one], findings) as together:
            assert {name: each.data.tobytes() for name, each in together.members[0].each()} == unchanged
        found = [known_content(open_checkpoint(each), findings).digest for each in paths]
    assert found == [digest_of(open_checkpoint(each)) if wanted else None for each in paths]


def test_a_manifest_is_believed_until_a_file_of_weights_is_younger(tmp_path: Path) -> None:
    _, out = merged(tmp_path)
    expected = parse_manifest((out / MANIFEST).read_bytes(), file=MANIFEST).digest
    assert known_content(open_checkpoint(out), FindingCache()) == Content(expected, declared=True)
    assert digest_of(open_checkpoint(out)) == expected
    (file,) = out.glob("*.safetensors")
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    os.utime(file, (2**31, 2**31))
    assert known_content(open_checkpoint(out), FindingCache()).digest is None
    assert digest_of(open_checkpoint(out)) not in (None, expected)


@pytest.mark.parametrize("text", ["", "{}", "[", '{"piece": 1}'])
def test_a_manifest_that_is_none_is_passed_over(model: Path, text: str) -> None:
    expected = digest_of(open_checkpoint(model))
    (model / MANIFEST).write_text(text)
    assert known_content(open_checkpoint(model), FindingCache()).digest is None
    assert digest_of(open_checkpoint(model)) == expected


def test_a_manifest_of_other_tensors_says_nothing(tmp_path: Path, model: Path) -> None:
    _, out = merged(tmp_path)
    shutil.copy(out / MANIFEST, model / MANIFEST)
    assert known_content(open_checkpoint(model), FindingCache()).digest is None
