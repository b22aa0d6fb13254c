"""Which form an output gets: the recipe's, the command's, safetensors; and what is refused before work."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

from alloyd.errors import AlloydError, DigestMismatch, HeaderError, RecipeError, UsageError
from alloyd.jobs import Finished, MergeSpec, PlanSpec
from alloyd.recipe import Form
from alloyd_daemon.candidate import from_recipe
from alloyd_daemon.checkpoints.manifest import MANIFEST
from alloyd_daemon.checkpoints.verify import Verified, verify
from alloyd_daemon.engine.prepare import prepare
from alloyd_daemon.job import JOBS, Context
from alloyd_daemon.output_format import OUTPUT_FORMATS
from alloyd_daemon.settings import Settings
from checkpoint_factory import Model, write_checkpoint
from extras import need


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_checkpoint(tmp_path / "model", Model(layers=1, hidden=256, intermediate=256))
    (tmp_path / "home").mkdir()
    return tmp_path


def document(out: str = "", *, name: str = "", model: str = "model") -> str:
    head = f"name: {name}\n" if name else ""
    return f"{head}merge_method: linear\nmodels: [{{model: {model}, parameters: {{weight: 1}}}}]\n{out}\n"


def run(folder: Path, recipe: str, form: Form | None = None) -> dict[str, Any]:
    spec = MergeSpec(recipe=recipe, base_dir=str(folder), out=str(folder / "out"), form=form)
    *_, last = JOBS.get("merge").run(spec, Context(home=folder / "home", settings=Settings(), job_id="x"))
    assert isinstance(last, Finished)
    return last.result


def names(folder: Path) -> set[str]:
    return {each.name for each in folder.iterdir() if each.suffix in (".gguf", ".safetensors")}


def test_the_command_decides_over_the_recipe(folder: Path) -> None:
    run(folder, document("out: {format: gguf, type: Q8_0}"), Form())
    assert names(folder / "out") == {"model.safetensors"}


def test_the_command_decides_for_the_last_document_only(folder: Path) -> None:
    need("gguf", "llama_cpp", "gguf")
    recipe = document(name="a") + "---\n" + document(model="a")
    run(folder, recipe, Form("gguf", "Q8_0"))
    assert names(folder / "out.parts" / "a") == {"model.safetensors"}
    assert names(folder / "out") == {"model-Q8_0.gguf"}


def test_a_result_that_another_document_uses_stays_mergeable(folder: Path) -> None:
    need("gguf", "llama_cpp", "gguf")
    recipe = document("out: {format: gguf, type: F16}", name="a") + "---\n" + document(model="a")
    with pytest.raises(RecipeError, match="document 'a' is used by another one and cannot be gguf F16"):
        run(folder, recipe)
    assert not (folder / "out.parts").exists()


def test_a_candidate_has_no_form(folder: Path) -> None:
    spec = PlanSpec(recipe=document("out: {format: gguf, type: IQ1_S}"), base_dir=str(folder))
    found = from_recipe(spec, name="x", home=folder / "home", settings=Settings())
    assert not found.prepared.plan.layout.encodes


@pytest.mark.parametrize(
    ("form", "said", "hint"),
    [
        (Form("ggfu"), "unknown output format 'ggfu'", "gguf"),
        (Form("gguf", "Q4_K_X"), "no type 'Q4_K_X'", "Q4_K"),
        (Form("gguf", "IQ2_XS"), "without an importance matrix", "imatrix"),
        (Form("gguf", "IQ2_XS", "absent.gguf"), "absent.gguf cannot be read", ""),
    ],
)
def test_what_cannot_be_is_refused_before_work(folder: Path, form: Form, said: str, hint: str) -> None:
    need("gguf", "llama_cpp", "gguf")
    with pytest.raises(AlloydError, match=said) as caught:
        run(folder, document(), form)
    assert hint in caught.value.hint
    assert not (folder / "out").exists()
    assert not (folder / ".out.partial").exists()


def test_a_library_that_is_absent_is_told_before_work(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("alloyd_daemon.late.metadata.version", absent)
    with pytest.raises(
        UsageError, match="writing nf4 needs the library 'bitsandbytes', which is not"
    ) as refused:
        run(folder, document(), Form("bitsandbytes", "nf4"))
    assert refused.value.hint == "pip install 'alloyd[bitsandbytes]'"
    assert not (folder / "out").exists()


@pytest.mark.parametrize("form", [Form("gguf", "Q8_0"), Form("bitsandbytes", "nf4")], ids=str)
def test_a_plan_counts_what_encoding_takes(folder: Path, form: Form) -> None:
    need("gguf", "llama_cpp", "gguf")
    need("bitsandbytes", "bitsandbytes")

    def planned(form: Form | None) -> Any:
        spec = PlanSpec(recipe=document(), base_dir=str(folder), form=form, threads=2)
        return prepare(spec, home=folder / "home", settings=Settings())[-1]

    plain, encoded = planned(None), planned(form)
    assert encoded.plan.budget.peak >= plain.plan.budget.peak + encoded.plan.layout.fixed_bytes
    assert encoded.plan.bytes_write < plain.plan.bytes_write
    assert encoded.plan.identity != plain.plan.identity
    assert encoded.summary()["format"] == str(form)


@pytest.mark.parametrize("name", OUTPUT_FORMATS.names())
def test_a_format_declares_itself_whole(name: str) -> None:
    found = OUTPUT_FORMATS.get(name)
    assert found.name == name
    assert found.summary


def test_verifying_a_gguf_reads_header_and_tensors(folder: Path) -> None:
    need("gguf", "llama_cpp", "gguf")
    run(folder, document("out: {format: gguf, type: Q8_0}"))
    file = folder / "out" / "model-Q8_0.gguf"
    assert checked(folder / "out").manifest
    assert checked(file).tensors == checked(folder / "out").tensors
    whole = file.read_bytes()
    file.write_bytes(whole.replace(b"llama.context_length", b"llama.context_lenghts"[:20], 1))
    with pytest.raises(DigestMismatch, match=r"the header of model-Q8_0\.gguf"):
        checked(folder / "out")
    file.write_bytes(whole[:-40] + bytes([whole[-40] ^ 4]) + whole[-39:])
    with pytest.raises(DigestMismatch, match="differs from its manifest: tensor '"):
        checked(folder / "out")
    file.write_bytes(whole[:-1])
    with pytest.raises(HeaderError, match=r"bytes are missing"):
        checked(folder / "out")
    file.write_bytes(whole)
    (folder / "out" / MANIFEST).unlink()
    assert not checked(file).manifest


def checked(path: Path) -> Verified:
    steps = verify(path)
    try:
        while True:
            next(steps)
    except StopIteration as end:
        found: Verified = end.value
        return found
