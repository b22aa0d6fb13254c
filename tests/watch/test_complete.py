"""Property: no part of a model passes for the whole of it, and content is known by what it is, wherever it lies."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from alloyd_daemon.watch.complete import SMALL, Incomplete, _samples, examine, identity
from watch.trial_models import write_adapter, write_model

KINDS: dict[str, Callable[[Path], Path]] = {
    "one file": write_model,
    "shards": lambda folder: write_model(folder, shards=3),
    "adapter": lambda folder: write_adapter(folder, "org/base"),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {kind: write(root / kind) for kind, write in KINDS.items()}


@pytest.mark.parametrize("kind", KINDS)
@given(data=some.data())
def test_a_proper_prefix_of_any_file_is_never_complete(
    models: dict[str, Path], kind: str, data: some.DataObject
) -> None:
    """But for blanks at the end of JSON, which nobody misses."""
    model = models[kind]
    file = data.draw(some.sampled_from(sorted(model.iterdir())), label="file")
    whole = file.read_bytes()
    least = len(whole.rstrip()) if file.suffix == ".json" else len(whole)
    length = data.draw(some.integers(0, least - 1), label="length")
    try:
        file.write_bytes(whole[:length])
        with pytest.raises(Incomplete):
            examine(model)
    finally:
        file.write_bytes(whole)
    assert examine(model).adapter == (kind == "adapter")


@pytest.mark.parametrize("kind", KINDS)
def test_without_any_one_of_its_files_it_is_not_complete(models: dict[str, Path], kind: str) -> None:
    model = models[kind]
    for file in sorted(model.iterdir()):
        if file.name == "tokenizer.json":
            continue  # a model may have none
        aside = file.rename(model.parent / "aside")
        with pytest.raises(Incomplete):
            examine(model)
        aside.rename(file)


@pytest.mark.parametrize(
    ("name", "data", "hopeless"),
    [
        ("model.safetensors", b"version https://git-lfs.github.com/spec/v1\n", True),
        ("model.safetensors", b"PK\x03\x04" + b"x" * 100, True),
        ("model.safetensors", b"\xff" * 100, True),
        ("model.safetensors", b"\x02\0\0\0\0\0\0\0[]", True),
        ("model.safetensors", b"\x02\0\0\0\0\0\0\0{}trailing", True),
        ("model.safetensors", b"\x40\0\0\0\0\0\0\0{", False),
        ("config.json", b"[]", False),
        ("config.json", b"[" * 100_000, False),
    ],
)
def test_files_that_lie(tmp_path: Path, name: str, data: bytes, hopeless: bool) -> None:
    model = write_model(tmp_path / "model")
    (model / name).write_bytes(data)
    with pytest.raises(Incomplete) as raised:
        examine(model)
    assert raised.value.hopeless == hopeless
    assert name in raised.value.why


def test_a_pipe_in_a_model_is_not_waited_at(tmp_path: Path) -> None:
    import os

    model = write_model(tmp_path / "model")
    (model / "config.json").unlink()
    os.mkfifo(model / "config.json")
    with pytest.raises(Incomplete, match=r"config\.json"):
        examine(model)


def test_content_has_one_name_wherever_it_lies(models: dict[str, Path], tmp_path: Path) -> None:
    names = {kind: identity(examine(model)) for kind, model in models.items()}
    assert len(set(names.values())) == 3
    for kind, model in models.items():
        shutil.copytree(model, tmp_path / kind)
        assert identity(examine(tmp_path / kind)) == names[kind]
    assert identity(examine(write_model(tmp_path / "other", 1))) != names["one file"]


@given(at=some.integers(1))
def test_any_byte_of_a_small_tensor_counts(models: dict[str, Path], at: int) -> None:
    file = models["one file"] / "model.safetensors"
    whole = file.read_bytes()
    before = identity(examine(models["one file"]))
    place = 8 + int.from_bytes(whole[:8], "little")
    place += at % (len(whole) - place)
    try:
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert identity(examine(models["one file"])) != before
    finally:
        file.write_bytes(whole)


@given(nbytes=some.integers(0, 1 << 40))
def test_samples_lie_inside_a_tensor_and_reach_both_ends(nbytes: int) -> None:
    found = list(_samples(nbytes))
    assert all(start >= 0 and start + length <= nbytes for start, length in found)
    assert found[0][0] == 0
    assert sum(found[-1]) == nbytes
    assert len(found) <= 2 + nbytes // (16 << 20)
    assert nbytes > SMALL or found == [(0, nbytes)]
