"""The digest of a checkpoint's content: that of its manifest, read once, and never that of another content."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from adapter_factory import write_adapter
from alloyd.errors import SourceChanged
from alloyd_daemon.adapters.apply import with_adapter
from alloyd_daemon.checkpoints import digest
from alloyd_daemon.checkpoints.checkpoint import open_checkpoint
from alloyd_daemon.checkpoints.digest import model_digest, piece_digests, tensor_digest
from alloyd_daemon.engine import contents
from alloyd_daemon.engine.contents import content_digest
from alloyd_daemon.engine.findings import FindingCache, open_findings
from checkpoint_factory import Model, read_checkpoint, write_checkpoint, write_weights

LONG_AGO = (10**9, 10**9)


def weights(seed: int) -> dict[str, np.ndarray]:
    chance = np.random.default_rng(seed)
    return {f"w{n}": chance.standard_normal((300, 7 + n)).astype(np.float32) for n in range(5)} | {
        "empty": np.zeros((0, 4), np.float32)
    }


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model in three files that were written long ago."""
    (tmp_path / "model").mkdir()
    write_weights(tmp_path / "model", weights(1), shards=3)
    for each in (tmp_path / "model").iterdir():
        os.utime(each, LONG_AGO)
    return tmp_path / "model"


def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tensors that are read from now on."""
    seen: list[str] = []
    real = contents._digest
    monkeypatch.setattr(
        contents, "_digest", lambda reader, tensor: (seen.append(tensor.name), real(reader, tensor))[1]
    )
    return seen


def test_it_is_the_digest_of_a_manifest(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (contents, digest):
        monkeypatch.setattr(module, "PIECE", 4096)
    expected = {name: tensor_digest(piece_digests(each.tobytes())) for name, each in weights(1).items()}
    assert content_digest(open_checkpoint(model), FindingCache()) == model_digest(expected)


def test_files_are_read_once_and_again_when_they_change(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = read(monkeypatch)
    with open_findings(tmp_path, 10**6) as findings:
        first = content_digest(open_checkpoint(model), findings)
    assert sorted(seen) == sorted(weights(1))
    seen.clear()
    with open_findings(tmp_path, 10**6) as findings:
        assert content_digest(open_checkpoint(model), findings) == first
    assert seen == []
    file = sorted(model.glob("*.safetensors"))[0]
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    os.utime(file, LONG_AGO)
    changed = [each.name for each in open_checkpoint(model).tensors.values() if each.file == 0]
    with open_findings(tmp_path, 10**6) as findings:
        assert content_digest(open_checkpoint(model), findings) != first
    assert seen == changed


def test_a_file_that_was_written_a_moment_ago_is_not_remembered(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for each in model.iterdir():
        os.utime(each)
    seen, findings = read(monkeypatch), FindingCache()
    checkpoint = open_checkpoint(model)
    assert content_digest(checkpoint, findings) == content_digest(checkpoint, findings)
    assert len(seen) == 2 * len(weights(1))


def test_a_file_that_was_replaced_is_told(model: Path) -> None:
    checkpoint = open_checkpoint(model)
    for each in model.glob("*.safetensors"):
        each.write_bytes(b"something else")
    with pytest.raises(SourceChanged):
        content_digest(checkpoint, FindingCache())


def test_numbers_that_are_no_digests_are_measured_again(model: Path) -> None:
    class Liar(FindingCache):
        def recall(self, key: bytes, size: int) -> tuple[int | float, ...]:
            return (-1.5,) * size

    checkpoint = open_checkpoint(model)
    assert content_digest(checkpoint, Liar()) == content_digest(checkpoint, FindingCache())


def test_with_an_adapter_a_model_has_another_digest_that_is_not_taken_for_its_own(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", Model())
    adapter = write_adapter(tmp_path / "adapter", read_checkpoint(base), rank=2)
    for each in (*base.iterdir(), *adapter.iterdir()):
        os.utime(each, LONG_AGO)
    alone, adapted = open_checkpoint(base), with_adapter(open_checkpoint(base), adapter)
    expected = [content_digest(each, FindingCache()) for each in (alone, adapted)]
    assert expected[0] != expected[1]
    with open_findings(tmp_path / "home", 1 << 20) as findings:
        for _ in range(2):
            assert [content_digest(each, findings) for each in (alone, adapted)] == expected
