"""Names of models: paths, roots, and a Hugging Face cache with everything that can be wrong in one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from alloyd.errors import PlanError, SourceNotFound
from alloyd.recipe import ModelRef
from alloyd_daemon.recipes.models import resolve

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER = "fedcba9876543210fedcba9876543210fedcba98"


class Cache:
    """A cache as huggingface_hub writes it: blobs, snapshots that link to them, refs that name commits."""

    def __init__(self, home: Path, name: str = "org/model") -> None:
        self.home = home
        self.repository = home / "hub" / ("models--" + name.replace("/", "--"))
        (self.repository / "blobs").mkdir(parents=True)

    def ref(self, name: str, commit: str) -> None:
        path = self.repository / "refs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(commit)

    def file(self, commit: str, name: str, content: bytes = b"x") -> Path:
        blob = self.repository / "blobs" / f"{commit[:4]}-{name.replace('/', '-')}"
        blob.write_bytes(content)
        link = self.repository / "snapshots" / commit / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(Path("../../blobs") / blob.name)
        return blob


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    cache = Cache(tmp_path / "hf")
    cache.ref("main", COMMIT)
    cache.file(COMMIT, "config.json", b"{}")
    cache.file(COMMIT, "model.safetensors")
    return cache


def find(name: str, tmp_path: Path, *roots: Path, home: Path | None = None) -> Path:
    return resolve(ModelRef.parse(name), base_dir=tmp_path / "here", roots=roots, hf_home=home)


def test_a_path_that_cannot_be_looked_at_is_named_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    for path, reason in (("x" * 300, "File name too long"), ("loop/x", "Too many levels of symbolic links")):
        with pytest.raises(SourceNotFound, match=reason):
            resolve(ModelRef(path), base_dir=tmp_path, roots=(), hf_home=None)
    for name in ("a\0b", "~nobody-is-called-so/x", "x" * 300):
        for revision in (None, "r" * 5000):
            with pytest.raises(SourceNotFound, match="tried"):
                resolve(ModelRef(name, revision), base_dir=tmp_path, roots=(), hf_home=tmp_path)


def test_a_path_is_relative_to_the_base_folder(tmp_path: Path) -> None:
    folder = tmp_path / "here" / "models" / "a"
    folder.mkdir(parents=True)
    assert find("models/a", tmp_path) == folder
    assert find("./models/a", tmp_path).samefile(folder)
    assert find(str(folder), tmp_path) == folder


def test_a_single_file_is_a_model_too(tmp_path: Path) -> None:
    file = tmp_path / "here" / "a.safetensors"
    file.parent.mkdir()
    file.touch()
    assert find("a.safetensors", tmp_path) == file


def test_the_home_folder_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "m").mkdir()
    assert find("~/m", tmp_path) == tmp_path / "m"


def test_roots_are_tried_with_and_without_the_organisation(tmp_path: Path) -> None:
    first, second = tmp_path / "r1", tmp_path / "r2"
    (second / "model").mkdir(parents=True)
    assert find("org/model", tmp_path, first, second) == second / "model"
    (second / "org" / "model").mkdir(parents=True)
    assert find("org/model", tmp_path, first, second) == second / "org" / "model"
    (first / "model").mkdir(parents=True)
    assert find("org/model", tmp_path, first, second) == first / "model"


def test_the_cache_is_read_through_its_refs(tmp_path: Path, cache: Cache) -> None:
    found = find("org/model", tmp_path, home=cache.home)
    assert found == cache.repository / "snapshots" / COMMIT
    assert (found / "model.safetensors").read_bytes() == b"x"


@pytest.mark.parametrize("revision", ["v1.0", "refs/pr/3", OTHER, OTHER[:9]])
def test_a_revision_is_a_tag_a_pull_request_or_a_commit(tmp_path: Path, cache: Cache, revision: str) -> None:
    cache.file(OTHER, "model.safetensors")
    cache.ref("v1.0", OTHER)
    cache.ref("refs/pr/3", OTHER)
    assert find(f"org/model@{revision}", tmp_path, home=cache.home).name == OTHER


def test_a_cache_folder_itself_serves_as_home(tmp_path: Path, cache: Cache) -> None:
    assert find("org/model", tmp_path, home=cache.home / "hub").name == COMMIT


def test_a_local_folder_comes_before_the_cache_but_not_for_a_revision(tmp_path: Path, cache: Cache) -> None:
    folder = tmp_path / "here" / "org" / "model"
    folder.mkdir(parents=True)
    assert find("org/model", tmp_path, home=cache.home) == folder
    assert find("org/model@main", tmp_path, home=cache.home).name == COMMIT
    with pytest.raises(SourceNotFound) as caught:
        find("org/model@main", tmp_path)
    assert "a folder has no revisions: leave out @main" in caught.value.hint


def test_every_place_that_was_tried_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFound) as caught:
        find("org/model", tmp_path, tmp_path / "root", home=tmp_path / "hf")
    for place in ("here/org/model", "root/org/model", "root/model", "hf/hub/models--org--model"):
        assert str(tmp_path / place) in caught.value.message
    assert "'org/model'" in caught.value.message


def test_an_unknown_revision_names_those_that_are_cached(tmp_path: Path, cache: Cache) -> None:
    with pytest.raises(SourceNotFound) as caught:
        find("org/model@v9", tmp_path, home=cache.home)
    assert "no revision 'v9'; it knows: 0123456789ab, main" in caught.value.message


@pytest.mark.parametrize("revision", ["../../../../etc/passwd", "/etc/passwd", "abcdef1", "main/../main"])
def test_no_revision_leaves_the_cache(tmp_path: Path, cache: Cache, revision: str) -> None:
    with pytest.raises(SourceNotFound):
        find(f"org/model@{revision}", tmp_path, home=cache.home)


@pytest.mark.parametrize("content", ["../../../secret", "", "x" * 40, "\udcff"])
def test_a_ref_that_lies_is_no_revision(tmp_path: Path, cache: Cache, content: str) -> None:
    (cache.repository / "refs" / "main").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(SourceNotFound, match="no revision 'main'"):
        find("org/model", tmp_path, home=cache.home)


@pytest.mark.parametrize("name", ["..", "../x", "a/b/c", "-a/b", "a--b/../c", "."])
def test_what_is_no_repository_is_not_looked_up_in_the_cache(tmp_path: Path, cache: Cache, name: str) -> None:
    with pytest.raises(SourceNotFound) as caught:
        find(f"{name}@main", tmp_path, home=cache.home)
    assert "models--" not in caught.value.message


def test_a_missing_blob_is_named(tmp_path: Path, cache: Cache) -> None:
    cache.file(COMMIT, "tokenizer.json").unlink()
    with pytest.raises(SourceNotFound) as caught:
        find("org/model", tmp_path, home=cache.home)
    assert "1 of its files are missing, among them tokenizer.json" in caught.value.message
    assert "hf download org/model" in caught.value.hint


def test_a_stopped_download_is_told(tmp_path: Path, cache: Cache) -> None:
    cache.file(COMMIT, "model-00002-of-00002.safetensors").unlink()
    (cache.repository / "blobs" / "abc.incomplete").touch()
    with pytest.raises(SourceNotFound, match=r"download stopped half way \(1 \.incomplete\)"):
        find("org/model", tmp_path, home=cache.home)


def test_a_shard_that_was_never_fetched_is_named(tmp_path: Path, cache: Cache) -> None:
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    cache.file(COMMIT, "model.safetensors.index.json", json.dumps(index).encode())
    cache.file(COMMIT, "model-00001-of-00002.safetensors")
    with pytest.raises(SourceNotFound, match=r"among them model-00002-of-00002\.safetensors"):
        find("org/model", tmp_path, home=cache.home)


@pytest.mark.parametrize("index", [b"{", b"[]", b'{"weight_map": 3}', b"\xff", b"[" * 100_000])
def test_a_broken_index_is_left_to_the_reader_of_checkpoints(
    tmp_path: Path, cache: Cache, index: bytes
) -> None:
    cache.file(COMMIT, "model.safetensors.index.json", index)
    assert find("org/model", tmp_path, home=cache.home).name == COMMIT


def test_a_snapshot_without_weights_is_not_complete(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "hf")
    cache.ref("main", COMMIT)
    cache.file(COMMIT, "config.json")
    with pytest.raises(SourceNotFound, match=r"holds no \.safetensors file"):
        find("org/model", tmp_path, home=cache.home)


def test_another_revisions_half_download_does_no_harm(tmp_path: Path, cache: Cache) -> None:
    (cache.repository / "blobs" / "abc.incomplete").touch()
    assert find("org/model", tmp_path, home=cache.home).name == COMMIT


def test_an_adapter_is_refused_where_one_folder_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "here" / "a").mkdir(parents=True)
    with pytest.raises(PlanError, match="'a\\+adapter' is a model with an adapter") as caught:
        find("a+adapter", tmp_path)
    assert "Merge the adapter" in caught.value.hint
