"""bitsandbytes checkpoints through the sink: whole matrices, the same bytes whatever the blocks, threads and stops."""

from __future__ import annotations

import json
import os
import random
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alloyd.errors import DigestMismatch, RecipeError
from alloyd.jobs import Finished, MergeSpec
from alloyd.recipe import Form
from alloyd_daemon.checkpoints.digest import PIECE, piece_digests
from alloyd_daemon.checkpoints.journal import Block
from alloyd_daemon.checkpoints.manifest import MANIFEST
from alloyd_daemon.checkpoints.sink import StagedSink
from alloyd_daemon.checkpoints.verify import verify
from alloyd_daemon.job import JOBS, Context
from alloyd_daemon.output_format import OUTPUT_FORMATS, Model
from alloyd_daemon.settings import Settings
from checkpoint_factory import SAFETENSORS_CODES, Tensors, read_checkpoint, write_checkpoint
from checkpoint_factory import Model as Shape
from extras import need

need("bitsandbytes", "bitsandbytes", "torch", "transformers")

SHAPE = Shape(layers=2, hidden=64, intermediate=128, vocab=96)
FORMS = (
    Form("bitsandbytes", "nf4"),
    Form("bitsandbytes", "fp4"),
    Form("bitsandbytes", "int8"),
)
# Blocks need not be those of a merge: a piece is a digest's, not the sink's.
STEP = 1 << 12


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("source") / "model", SHAPE)


def make(final: Path, folder: Path, form: Form) -> StagedSink:
    weights = read_checkpoint(folder)
    kind = OUTPUT_FORMATS.get(form.format)
    layout = kind.lay_out(
        Model(
            tensors=[(name, SAFETENSORS_CODES[each.dtype], each.shape) for name, each in weights.items()],
            config=json.loads((folder / "config.json").read_text()),
            folder=folder,
            title="",
            form=form,
            base_dir=folder,
            shard_size=40_000,
        )
    )
    return kind.sink(final, layout, identity="x", force=False)


def blocks(sink: StagedSink, weights: Tensors) -> list[tuple[Block, memoryview]]:
    """Matrices in several blocks, all else in one."""
    found = []
    for number, values in enumerate(weights.values()):
        data = memoryview(values.tobytes())
        step = STEP if not sink.layout.is_whole(number) else PIECE  # type: ignore[attr-defined]
        for start in range(0, len(data), step):
            part = data[start : start + step]
            # A merge's blocks are whole pieces; of these small ones the first has those of the matrix.
            pieces = piece_digests(data) if start == 0 else ()
            block = Block(number, start, start + len(part), pieces, ((0, pieces),), {"n": 1})
            found.append((block, part))
    return found


def files(folder: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in folder.iterdir()}


@pytest.fixture(scope="module")
def expected(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """By type, the files that one thread writes in order."""
    found = {}
    for form in FORMS:
        final = tmp_path_factory.mktemp("expected") / "out"
        sink = make(final, source, form)
        sink.open()
        for block, part in blocks(sink, read_checkpoint(source)):
            sink.put(block, part)
        sink.publish({"config.json": b"{}"})
        sink.close()
        found[str(form)] = files(final)
    return found


def test_what_is_of_another_dtype_than_the_model_is_stored_in_the_models(tmp_path: Path) -> None:
    """Norms of float32 in a checkpoint of bfloat16: transformers would leave the stored ones in float32."""
    weights = read_checkpoint(write_checkpoint(tmp_path / "plain", SHAPE))
    mixed = {name: each.astype("float32") if "norm" in name else each for name, each in weights.items()}
    folder = write_checkpoint(tmp_path / "mixed", SHAPE, weights=mixed)
    written = []
    for source in (tmp_path / "plain", folder):
        sink = make(tmp_path / f"{source.name}-out", source, FORMS[0])
        sink.open()
        for block, part in blocks(sink, read_checkpoint(source)):
            sink.put(block, part)
        sink.publish({"config.json": b"{}"})
        sink.close()
        written.append(files(tmp_path / f"{source.name}-out"))
    assert written[0] == written[1]


@given(
    form=st.sampled_from(FORMS),
    threads=st.integers(1, 3),
    order=st.randoms(use_true_random=False),
    stops=st.lists(st.integers(0, 60), max_size=2),
)
@settings(max_examples=8)
def test_order_threads_and_stops_do_not_matter(
    source: Path,
    expected: dict[str, dict[str, bytes]],
    form: Form,
    threads: int,
    order: random.Random,
    stops: list[int],
) -> None:
    weights = read_checkpoint(source)
    with tempfile.TemporaryDirectory() as folder:
        final = Path(folder) / "out"
        for stop in (*stops, None):
            sink = make(final, source, form)
            found = sink.open()
            for block in found:
                assert (block.start, block.stop) == (0, sink.layout.tensors[block.tensor].nbytes)
            known = {block.tensor for block in found}
            todo = [each for each in blocks(sink, weights) if each[0].tensor not in known]
            order.shuffle(todo)
            mine = [todo[:stop][each::threads] for each in range(threads)]
            workers = [threading.Thread(target=_put, args=(sink, each)) for each in mine]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            if stop is None:
                sink.publish({"config.json": b"{}"})
            sink.close()
        assert files(final) == expected[str(form)]


def _put(sink: StagedSink, todo: list[tuple[Block, memoryview]]) -> None:
    for block, part in todo:
        sink.put(block, part)


def test_damage_of_what_was_staged_costs_one_matrix(source: Path, tmp_path: Path) -> None:
    sink = make(tmp_path / "out", source, FORMS[0])
    sink.open()
    _put(sink, blocks(sink, read_checkpoint(source)))
    slot = next(slot for slot in sink.layout.slots if slot.name.endswith("down_proj.weight"))
    sink.close()
    path = sink.place.staging / sink.layout.shards[slot.shard].filename
    with path.open("r+b") as file:
        file.seek(slot.offset + slot.nbytes - 1)
        byte = file.read(1)
        file.seek(slot.offset + slot.nbytes - 1)
        file.write(bytes([byte[0] ^ 1]))
    again = make(tmp_path / "out", source, FORMS[0])
    lost = set(range(len(again.layout.tensors))) - {block.tensor for block in again.open()}
    assert [again.layout.tensors[each].name for each in lost] == [slot.name]
    again.discard()
    assert not os.listdir(tmp_path)


def test_a_part_of_a_matrix_is_no_block(source: Path, tmp_path: Path) -> None:
    sink = make(tmp_path / "out", source, FORMS[0])
    place = next(n for n, each in enumerate(sink.layout.tensors) if each.name.endswith("up_proj.weight"))
    with pytest.raises(ValueError, match="are not all of it"):
        list(sink.layout.runs(place, 0, 128))


def merge(recipe: str, out: Path, form: Form | None = None) -> dict[str, Any]:
    context = Context(home=out.with_name(f"{out.name}-home"), settings=Settings(), job_id="merge-1")
    context.home.mkdir(exist_ok=True)
    spec = MergeSpec(recipe=recipe, base_dir=str(out.parent), out=str(out), form=form, threads=2)
    *_, last = JOBS.get("merge").run(spec, context)
    assert isinstance(last, Finished)
    return last.result


def linear(tmp_path: Path, out: str = "") -> str:
    one = write_checkpoint(tmp_path / "one", SHAPE, tune=0)
    two = write_checkpoint(tmp_path / "two", SHAPE, tune=1)
    return (
        f"merge_method: linear\nmodels:\n  - {{model: {one}, parameters: {{weight: 0.5}}}}\n"
        f"  - {{model: {two}, parameters: {{weight: 0.5}}}}\n{out}"
    )


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_what_was_written_loads_and_computes_as_quantised_at_load(form: Form, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    recipe = linear(tmp_path)
    merge(recipe, tmp_path / "merged")
    result = merge(recipe, tmp_path / "quantised", form)
    whole = merge(recipe, tmp_path / "again")
    assert result["digest"] == whole["digest"]
    how: dict[str, Any] = (
        {"load_in_8bit": True}
        if form.type == "int8"
        else {"load_in_4bit": True, "bnb_4bit_quant_type": form.type}
    )
    ids = torch.arange(1, 40).reshape(3, 13)
    with torch.no_grad():
        there = AutoModelForCausalLM.from_pretrained(
            tmp_path / "merged", quantization_config=BitsAndBytesConfig(**how)
        )
        here = AutoModelForCausalLM.from_pretrained(tmp_path / "quantised")
        assert torch.equal(here(ids).logits, there(ids).logits)


def test_verifying_finds_a_bit_and_a_header(tmp_path: Path) -> None:
    merge(linear(tmp_path, "out: {format: bitsandbytes, type: nf4}\n"), tmp_path / "out")
    *_, last = list(_steps(tmp_path / "out"))
    assert last.manifest
    manifest = json.loads((tmp_path / "out" / MANIFEST).read_text())
    assert manifest["stored"]["form"].startswith("bitsandbytes nf4")
    file = tmp_path / "out" / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(DigestMismatch, match="tensor 'model"):
        list(_steps(tmp_path / "out"))
    data[-1] ^= 1
    file.write_bytes(bytes(data).replace(b'"format":"pt"', b'"format":"np"', 1))
    with pytest.raises(DigestMismatch, match=r"the header of model\.safetensors"):
        list(_steps(tmp_path / "out"))


def _steps(path: Path) -> Any:
    found = yield from verify(path)
    yield found


@pytest.mark.parametrize(
    ("out", "said", "hint"),
    [
        ("type: nf5", "unknown quantiser 'nf5'", "nf4"),
        ("type: nf4, double_quants: true", "no option 'double_quants'", "double_quant"),
    ],
)
def test_types_and_options_are_refused_before_work(tmp_path: Path, out: str, said: str, hint: str) -> None:
    with pytest.raises(RecipeError, match=said) as caught:
        merge(linear(tmp_path, f"out: {{format: bitsandbytes, {out}}}\n"), tmp_path / "out")
    assert hint in caught.value.hint
    assert not (tmp_path / "out").exists()
