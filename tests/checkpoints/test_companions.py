"""What stands beside the weights: files of the donor, model card, manifest."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from alloyd.errors import DigestMismatch, SourceError
from alloyd_daemon.checkpoints import files
from alloyd_daemon.checkpoints.card import Parent, licence_of, licence_warnings, render_card
from alloyd_daemon.checkpoints.files import side_files
from alloyd_daemon.checkpoints.manifest import SourceEntry, parse_manifest, render_manifest
from alloyd_daemon.checkpoints.safetensors_layout import lay_out
from alloyd_daemon.recipes.vocabulary import vocabulary_digest

RECIPE = "merge_method: ties\nmodels:\n  - model: org/a\n  - model: ./b\n"


def put(folder: Path, names: list[str]) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{{}}{name}" if not name.endswith(".json") else "{}")


def test_which_files_of_the_donor_are_taken(tmp_path: Path) -> None:
    taken = [
        "additional_chat_templates/tools.jinja",
        "chat_template.jinja",
        "generation_config.json",
        "merges.txt",
        "preprocessor_config.json",
        "qwen.tiktoken",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
        "vocab.json",
    ]
    put(
        tmp_path,
        [
            *taken,
            "config.json",
            "README.md",
            "model.safetensors",
            "modeling_x.py",
            ".hidden.jinja",
            "notes.txt",
        ],
    )
    assert list(side_files(tmp_path)) == taken
    (tmp_path / "config.json").write_text('{"auto_map": {"AutoModel": "modeling_x.X"}}')
    assert list(side_files(tmp_path)) == sorted([*taken, "modeling_x.py"])
    (tmp_path / "config.json").write_text("[")
    assert list(side_files(tmp_path)) == taken


def test_a_file_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, ["tokenizer.json"])

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files, "read_small", refuse)
    with pytest.raises(SourceError, match=r"tokenizer\.json cannot be read"):
        side_files(tmp_path)


def front_matter(card: bytes) -> dict[str, object]:
    found = yaml.safe_load(card.decode().split("---\n")[1])
    assert isinstance(found, dict)
    return found


def test_pipes_in_place_of_companions_are_not_waited_for(tmp_path: Path) -> None:
    for name in ("README.md", "tokenizer.json", "tokenizer_config.json", "config.json"):
        os.mkfifo(tmp_path / name)
    assert licence_of(tmp_path) is None
    assert vocabulary_digest(tmp_path) is None
    assert side_files(tmp_path) == {}


def test_the_card_names_parents_and_recipe() -> None:
    parents = [Parent("org/a", "main", "mit"), Parent("./b", None, "mit"), Parent("/data/c|d", None, "mit")]
    card = render_card(
        title="My merge",
        recipe=RECIPE,
        methods=("ties", "ties"),
        parents=parents,
        base="org/a",
        parameters=12345,
    )
    assert front_matter(card) == {
        "base_model": ["org/a"],
        "base_model_relation": "merge",
        "library_name": "transformers",
        "license": "mit",
        "tags": ["merge", "alloyd", "mergekit"],
    }
    text = card.decode()
    assert "# My merge" in text
    assert "[org/a](https://huggingface.co/org/a) as base" in text
    assert RECIPE in text
    assert "c\\|d" in text
    assert "12,345 parameters" in text
    assert "Warning" not in text


def test_licences_that_conflict_are_said() -> None:
    parents = [Parent("org/a", None, "apache-2.0"), Parent("org/b", None, "cc-by-nc-4.0"), Parent("org/c")]
    card = render_card(title="", recipe=RECIPE, methods=("linear",), parents=parents)
    assert "license" not in front_matter(card)
    assert "may conflict" in card.decode()
    assert "org/b: cc-by-nc-4.0" in card.decode()
    assert len(licence_warnings(parents)) == 2
    assert licence_warnings([Parent("a", None, "mit"), Parent("b", None, "mit")]) == ()
    assert "all permissive" in licence_warnings([Parent("a", None, "mit"), Parent("b", None, "isc")])[0]
    assert licence_warnings([Parent("a"), Parent("b")]) == ()


@pytest.mark.parametrize(
    ("text", "licence"),
    [
        ("---\nlicense: apache-2.0\n---\n", "apache-2.0"),
        ("---\r\nlicense: 'MIT'\r\n---\r\n", "mit"),
        ("---\nlicense: mit # as ever\ntags: [x]\n---\n", "mit"),
        ("---\nlicense:\n- mit\n- apache-2.0\ntags:\n- x\n---\n", "mit, apache-2.0"),
        ("---\nlicense: [mit, apache-2.0]\n---\n", "mit, apache-2.0"),
        ("---\nlicense: other\nlicense_name: tongyi\n---\n", "tongyi"),
        ("---\nlicense: other\n---\n", "other"),
        ("---\ntags:\n- license\n---\nlicense: mit\n", None),
        ("---\nlicense:\n---\n", None),
        ("license: mit\n", None),
        ("", None),
    ],
)
def test_the_licence_of_a_parent(tmp_path: Path, text: str, licence: str | None) -> None:
    (tmp_path / "README.md").write_bytes(text.encode())
    assert licence_of(tmp_path) == licence


def test_a_parent_without_a_card(tmp_path: Path) -> None:
    assert licence_of(tmp_path) is None
    (tmp_path / "README.md").write_bytes(b"\xff\xfe" * 100)
    assert licence_of(tmp_path) is None


@given(st.text(), st.text(max_size=40), st.text(max_size=40))
def test_no_text_breaks_the_cards_front_matter(recipe: str, name: str, licence: str) -> None:
    card = (
        render_card(
            title=name,
            recipe=recipe,
            methods=("linear",),
            parents=[Parent(name, name, licence)],
            base=name,
        )
        if not any("\ud800" <= each <= "\udfff" for each in recipe + name + licence)
        else b"---\ntags: []\n---\n"
    )
    assert "tags" in front_matter(card)


LAYOUT = lay_out([("a", "BF16", (2, 3)), ("b", "F32", (0,))], shard_size=100)


def manifest(**changes: object) -> bytes:
    options: dict[str, object] = {
        "recipe": RECIPE,
        "seed": 3,
        "arithmetic": "1",
        "layout": LAYOUT,
        "digests": {"a": "aa", "b": "bb"},
        "sources": [SourceEntry("org/a", "cc", 2)],
        "side_files": {"config.json": b"{}"},
    }
    return render_manifest(**(options | changes))  # type: ignore[arg-type]


def test_a_manifest_comes_back() -> None:
    found = parse_manifest(manifest(), file="m")
    assert found.recipe == RECIPE
    assert found.tensors["a"].shape == (2, 3)
    assert found.sources[0].model == "org/a"
    assert list(found.files) == ["config.json"]
    assert manifest() == manifest(side_files={"alloyd_manifest.json": b"old", "config.json": b"{}"})
    assert manifest() != manifest(seed=4)


@pytest.mark.parametrize(
    "change",
    [
        (b"{", b"["),
        (b'"version": 1', b'"version": 2'),
        (b'"aa"', b'"ab"'),
        (b'"seed": 3', b'"seed": "3"'),
        (b'"seed": 3', b'"seed": 3, "extra": 1'),
        (b'"piece": 4194304', b'"piece": 1'),
        (b'"aa"', b'"\xff"'),
    ],
)
def test_a_manifest_that_lies(change: tuple[bytes, bytes]) -> None:
    assert change[0] in manifest()
    with pytest.raises(DigestMismatch, match=r"^m "):
        parse_manifest(manifest().replace(*change, 1), file="m")
