"""Verifying: a good output passes, every kind of damage is named."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from alloyd.errors import DigestMismatch, HeaderError, SourceNotFound
from alloyd.jobs import Finished, Note, Progress, VerifySpec
from alloyd_daemon.checkpoints.digest import piece_digests, tensor_digest
from alloyd_daemon.checkpoints.manifest import MANIFEST, SourceEntry, render_manifest
from alloyd_daemon.checkpoints.sink import StagedSink
from alloyd_daemon.checkpoints.verify import Verified, verify
from alloyd_daemon.job import JOBS
from checkpoints import sink_driver
from checkpoints.sink_driver import content, layout, write_all


@pytest.fixture
def output(tmp_path: Path) -> Path:
    plan = layout()
    sides = dict(sink_driver.SIDE_FILES)
    digests = {
        slot.name: tensor_digest(piece_digests(content(place, slot.nbytes)))
        for place, slot in enumerate(plan.tensors)
    }
    assert plan.index is not None
    sides[MANIFEST] = render_manifest(
        recipe="recipe",
        seed=0,
        arithmetic="1",
        layout=plan,
        digests=digests,
        sources=[SourceEntry("a", "00", 1)],
        side_files=sides | {"model.safetensors.index.json": plan.index},
    )
    sink = StagedSink(tmp_path / "out", plan, identity="x", force=False)
    write_all(sink, sink.open())
    sink.publish(sides)
    sink.close()
    return tmp_path / "out"


def run(path: Path) -> tuple[list[Progress], Verified]:
    steps, generator = [], verify(path)
    while True:
        try:
            steps.append(next(generator))
        except StopIteration as stopped:
            return steps, stopped.value


def test_a_good_output(output: Path) -> None:
    steps, found = run(output)
    assert found.manifest
    assert found.tensors == 5
    assert steps[-1].done == steps[-1].total == found.bytes_read
    assert found.digest == json.loads((output / MANIFEST).read_text())["digest"]


def damage(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def test_one_bit_of_one_tensor(output: Path) -> None:
    damage(output / "model-00001-of-00003.safetensors", -1)
    with pytest.raises(DigestMismatch, match=r"tensor 'big'$") as caught:
        run(output)
    assert caught.value.facts["tensor"] == "big"
    assert caught.value.facts["count"] == 1


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "additional_chat_templates/tools.jinja"])
@pytest.mark.parametrize("gone", [False, True])
def test_a_file_beside_the_weights(output: Path, name: str, gone: bool) -> None:
    if gone:
        (output / name).unlink()
    else:
        (output / name).write_text('{"changed": true}')
    with pytest.raises(DigestMismatch, match=f"manifest: {name}"):
        run(output)


def test_a_header_that_was_changed_consistently(output: Path) -> None:
    file = output / "model-00001-of-00003.safetensors"
    data = file.read_bytes()
    file.write_bytes(data.replace(b'"BF16"', b'"F16" ', 1))
    with pytest.raises(DigestMismatch, match="'big'"):
        run(output)


def test_a_truncated_and_a_missing_shard(output: Path) -> None:
    file = output / "model-00001-of-00003.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(HeaderError) as caught:
        run(output)
    assert caught.value.facts["lie"] == "truncated"
    file.unlink()
    with pytest.raises(SourceNotFound, match="lacks the shard"):
        run(output)


def test_a_manifest_that_lists_what_is_not_there_or_outside(output: Path) -> None:
    manifest: dict[str, Any] = json.loads((output / MANIFEST).read_text())
    (output.parent / "secret").write_bytes(b"{}")
    manifest["files"]["../secret"] = "00"
    (output / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(DigestMismatch, match=r"\.\./secret"):
        run(output)
    (output / MANIFEST).write_text("{")
    with pytest.raises(DigestMismatch, match="damaged"):
        run(output)


def job(path: Path) -> list[Any]:
    return list(JOBS.get("verify").run(VerifySpec(str(path)), cast(Any, SimpleNamespace())))


def test_the_job_says_what_it_did_not_check(output: Path) -> None:
    reports = job(output)
    assert isinstance(reports[-1], Finished)
    assert reports[-1].result["manifest"]
    assert not [each for each in reports if isinstance(each, Note)]
    (output / MANIFEST).unlink()
    note, finished = job(output)
    assert "no alloyd_manifest.json" in note.text
    assert finished.result["manifest"] is False
    assert finished.result["bytes_read"] == 0
