"""Opening checkpoints: which files are chosen, in which order tensors come, and every lie of an index."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alloyd.errors import AlloydError, HeaderError, Problems, SourceChanged, SourceError, SourceNotFound
from alloyd_daemon.checkpoints.checkpoint import open_checkpoint
from alloyd_daemon.checkpoints.fingerprint import Fingerprint, check_unchanged, fingerprint
from alloyd_daemon.checkpoints.header import render

INDEX = "model.safetensors.index.json"


def write(path: Path, *names: str, dtype: str = "U8", size: int = 4) -> None:
    prefix, infos = render([(name, dtype, (size,)) for name in names], {"format": "pt", "file": path.name})
    path.write_bytes(prefix + bytes(infos[-1].stop if infos else 0))


def sharded(folder: Path, weight_map: dict[str, Any] | None = None) -> Path:
    write(folder / "model-00001-of-00002.safetensors", "b", "a")
    write(folder / "model-00002-of-00002.safetensors", "c")
    first, second = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    weight_map = {"c": second, "a": first, "b": first} if weight_map is None else weight_map
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 12}, "weight_map": weight_map}))
    return folder


def test_one_file_with_its_config(tmp_path: Path) -> None:
    write(tmp_path / "model.safetensors", "z", "a")
    (tmp_path / "config.json").write_text('{"time_step_limit": [0.0, Infinity]}')
    for path in (tmp_path, tmp_path / "model.safetensors"):
        found = open_checkpoint(path)
        assert list(found.tensors) == ["z", "a"]
        assert found.config is not None
        assert found.folder == tmp_path
        assert found.nbytes == 8
        assert found.metadata["format"] == "pt"
        tensor = found.tensors["a"]
        assert tensor.offset == os.path.getsize(tmp_path / "model.safetensors") - 4


def test_shards_come_in_order_of_files_and_offsets(tmp_path: Path) -> None:
    sharded(tmp_path)
    for path in (tmp_path, tmp_path / INDEX):
        found = open_checkpoint(path)
        assert list(found.tensors) == ["b", "a", "c"]
        assert [tensor.file for tensor in found.tensors.values()] == [0, 0, 1]
        assert found.metadata["file"] == "model-00001-of-00002.safetensors"


def test_a_single_file_wins_over_an_index_as_in_transformers(tmp_path: Path) -> None:
    sharded(tmp_path)
    write(tmp_path / "model.safetensors", "whole")
    assert list(open_checkpoint(tmp_path).tensors) == ["whole"]


def test_shards_without_an_index(tmp_path: Path) -> None:
    sharded(tmp_path)
    (tmp_path / INDEX).unlink()
    assert list(open_checkpoint(tmp_path).tensors) == ["b", "a", "c"]
    (tmp_path / "model-00001-of-00002.safetensors").unlink()
    with pytest.raises(SourceNotFound, match="model-00001-of-00002") as caught:
        open_checkpoint(tmp_path)
    assert caught.value.facts["lie"] == "missing-shard"


def test_shards_behind_links_as_in_the_hub_cache(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "abc"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    sharded(blobs)
    for each in blobs.iterdir():
        (snapshot / each.name).symlink_to(Path("../../blobs") / each.name)
    assert list(open_checkpoint(snapshot).tensors) == ["b", "a", "c"]
    (blobs / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(SourceNotFound, match="model-00002-of-00002"):
        open_checkpoint(snapshot)


FIRST = "model-00001-of-00002.safetensors"
SECOND = "model-00002-of-00002.safetensors"
FULL = {"a": FIRST, "b": FIRST, "c": SECOND}

INDEX_LIES: dict[str, tuple[str, str]] = {
    "not json": ("not-json", "{"),
    "not an object": ("not-an-object", "[]"),
    "binary": ("not-utf8", "\udcff"),
    "pointer of git lfs": ("git-lfs-pointer", "version https://git-lfs.github.com/spec/v1\noid sha256:1\n"),
    "nesting bomb": ("nesting", '{"weight_map":' + "[" * 100_000),
    "no weight map": ("no-weight-map", '{"metadata":{}}'),
    "empty weight map": ("no-weight-map", '{"weight_map":{}}'),
    "weight map is a list": ("no-weight-map", '{"weight_map":["a"]}'),
    "file is a number": ("weight-map", json.dumps({"weight_map": FULL | {"c": 3}})),
    "tensor twice": ("duplicate-key", f'{{"weight_map":{{"a":"{FIRST}","a":"{SECOND}"}}}}'),
    "missing shard": (
        "missing-shard",
        json.dumps({"weight_map": FULL | {"c": "model-00003-of-00002.safetensors"}}),
    ),
    "parent": ("escape", json.dumps({"weight_map": FULL | {"c": "../secret.safetensors"}})),
    "parent in the middle": (
        "escape",
        json.dumps({"weight_map": FULL | {"c": "sub/../../secret.safetensors"}}),
    ),
    "absolute": ("escape", json.dumps({"weight_map": FULL | {"c": "/etc/secret.safetensors"}})),
    "backslashes": ("escape", json.dumps({"weight_map": FULL | {"c": "..\\secret.safetensors"}})),
    "drive": ("escape", json.dumps({"weight_map": FULL | {"c": "C:secret.safetensors"}})),
    "zero byte": ("escape", json.dumps({"weight_map": FULL | {"c": SECOND + "\0"}})),
    "empty name": ("escape", json.dumps({"weight_map": FULL | {"c": ""}})),
    "absent from its shard": ("absent-from-shard", json.dumps({"weight_map": FULL | {"d": SECOND}})),
    "in another shard": ("absent-from-shard", json.dumps({"weight_map": FULL | {"a": SECOND}})),
    "not in the index": ("not-in-index", json.dumps({"weight_map": {"a": FIRST, "c": SECOND}})),
}


@pytest.mark.parametrize("story", INDEX_LIES)
def test_every_lie_of_an_index_is_refused_by_its_name(story: str, tmp_path: Path) -> None:
    lie, text = INDEX_LIES[story]
    folder = tmp_path / "model"
    folder.mkdir()
    write(tmp_path / "secret.safetensors", "c")
    sharded(folder)
    (folder / INDEX).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(SourceError) as caught:
        open_checkpoint(folder)
    assert caught.value.facts["lie"] == lie
    assert str(folder) in caught.value.message
    assert caught.value.hint


def test_a_tensor_in_two_shards(tmp_path: Path) -> None:
    sharded(tmp_path)
    write(tmp_path / SECOND, "c", "a")
    for path in (tmp_path, tmp_path / INDEX):
        with pytest.raises(HeaderError, match="'a' is in two files") as caught:
            open_checkpoint(path)
        assert caught.value.facts["lie"] == "duplicate-tensor"


def test_every_damaged_shard_is_named_at_once(tmp_path: Path) -> None:
    sharded(tmp_path)
    for name in (FIRST, SECOND):
        file = tmp_path / name
        file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(Problems) as caught:
        open_checkpoint(tmp_path)
    assert [each.facts["lie"] for each in caught.value.problems] == ["truncated", "truncated"]
    assert all(name in caught.value.message for name in (FIRST, SECOND))


def test_several_missing_shards_are_one_sentence(tmp_path: Path) -> None:
    sharded(tmp_path)
    (tmp_path / FIRST).unlink()
    (tmp_path / SECOND).unlink()
    with pytest.raises(SourceNotFound, match=r"2 shards: model-00001-of-00002\.safetensors, model-00002"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("files", "kind", "words"),
    [
        ((), SourceNotFound, "no safetensors"),
        (("pytorch_model.bin",), SourceNotFound, "no safetensors"),
        (("model.gguf",), SourceNotFound, "no safetensors"),
        (("adapter_model.safetensors", "adapter_config.json"), SourceError, "LoRA"),
        (("x.safetensors.index.json", "y.safetensors.index.json"), SourceError, "several indexes"),
    ],
)
def test_folders_that_hold_no_model(
    tmp_path: Path, files: tuple[str, ...], kind: type[AlloydError], words: str
) -> None:
    for name in files:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(kind, match=words) as caught:
        open_checkpoint(tmp_path)
    assert caught.value.hint


def test_what_is_not_there_or_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFound, match="does not exist"):
        open_checkpoint(tmp_path / "nothing")
    os.mkfifo(tmp_path / "model.safetensors")
    with pytest.raises(SourceError, match="not a file"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", "\xff", "[" * 100_000])
def test_a_damaged_config_is_named(tmp_path: Path, text: str) -> None:
    write(tmp_path / "model.safetensors", "a")
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(SourceError, match=r"config\.json"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("name", ["config.json", INDEX, "model-00001-of-00002.safetensors"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to(path.name)])
def test_what_is_no_file_is_refused_at_once(name: str, make: Callable[[Path], None], tmp_path: Path) -> None:
    """A pipe above all: opening one would wait for a writer."""
    sharded(tmp_path)
    (tmp_path / name).unlink(missing_ok=True)
    make(tmp_path / name)
    with pytest.raises(SourceError, match=name) as caught:
        open_checkpoint(tmp_path)
    assert caught.value.hint


def test_a_fingerprint_survives_its_encoding_and_sees_every_change(tmp_path: Path) -> None:
    import msgspec

    sharded(tmp_path)
    found = open_checkpoint(tmp_path)
    known = msgspec.msgpack.decode(msgspec.msgpack.encode(fingerprint(found)), type=Fingerprint)
    check_unchanged(found, known)
    file = tmp_path / SECOND
    before = file.stat()

    file.write_bytes(file.read_bytes().replace(b'"c"', b'"d"'))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(SourceChanged, match=r"model-00002.*its header"):
        check_unchanged(found, known)

    write(file, "c")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    check_unchanged(found, known)

    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    with pytest.raises(SourceChanged, match="modification time"):
        check_unchanged(found, known)

    copy = tmp_path / "copy"
    copy.write_bytes(file.read_bytes())
    os.replace(copy, file)
    with pytest.raises(SourceChanged, match="inode"):
        check_unchanged(found, known)

    file.write_bytes(b"")
    with pytest.raises(SourceChanged, match="size"):
        check_unchanged(found, known)

    file.unlink()
    with pytest.raises(SourceChanged, match="can no longer be read"):
        check_unchanged(found, known)
