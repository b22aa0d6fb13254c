"""Where bytes go: shards, alignment, names, the index."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloyd.errors import PlanError, UsageError
from alloyd_daemon.checkpoints.header import DTYPES, parse
from alloyd_daemon.checkpoints.safetensors_layout import lay_out

TENSORS = st.lists(
    st.tuples(st.sampled_from(["BF16", "F32", "F64", "BOOL", "I64", "U8", "F8_E4M3"]), st.integers(0, 40)),
    max_size=12,
)


@given(TENSORS, st.integers(1, 200))
def test_every_byte_has_one_place(kinds: list[tuple[str, int]], shard_size: int) -> None:
    tensors = [(f"t{place}", dtype, (length,)) for place, (dtype, length) in enumerate(kinds)]
    layout = lay_out(tensors, shard_size=shard_size)
    assert [(slot.name, slot.dtype, slot.shape) for slot in layout.tensors] == tensors
    found: dict[str, int] = {}
    for number, shard in enumerate(layout.shards):
        header = parse(shard.header, shard.size, file=shard.filename)
        assert header.metadata == {"format": "pt"}
        for info in header.tensors:
            slot = next(each for each in layout.tensors if each.name == info.name)
            assert (slot.shard, slot.offset) == (number, header.data_start + info.start)
            assert slot.nbytes == info.stop - info.start
            assert slot.offset % (DTYPES[slot.dtype] // 8) == 0
            found[info.name] = number
        data = shard.size - len(shard.header)
        assert (
            data <= shard_size
            or len(header.tensors) == 1
            or sum(t.stop > t.start for t in header.tensors) == 1
        )
    assert len(found) == len(tensors)
    if layout.index is None:
        assert [shard.filename for shard in layout.shards] == ["model.safetensors"]
    else:
        index = json.loads(layout.index)
        assert index["weight_map"] == {name: layout.shards[number].filename for name, number in found.items()}
        assert index["metadata"]["total_size"] == sum(slot.nbytes for slot in layout.tensors)
        count = len(layout.shards)
        assert [shard.filename for shard in layout.shards] == [
            f"model-{each:05d}-of-{count:05d}.safetensors" for each in range(1, count + 1)
        ]


def test_a_tensor_over_the_shard_size_has_its_own_shard() -> None:
    layout = lay_out([("a", "U8", (5,)), ("big", "U8", (50,)), ("b", "U8", (5,))], shard_size=10)
    assert [slot.shard for slot in layout.tensors] == [0, 1, 2]


def test_huge_tensors_cost_nothing_to_lay_out() -> None:
    layout = lay_out([("a", "BF16", (2**31, 8)), ("b", "BF16", (3,))], shard_size=2**62)
    assert layout.tensors[1].offset == layout.tensors[0].offset + 2**35


def test_no_tensors_at_all() -> None:
    layout = lay_out([], shard_size=10)
    assert parse(layout.shards[0].header, layout.shards[0].size, file="f").tensors == ()


def test_what_cannot_be_laid_out() -> None:
    with pytest.raises(PlanError, match="two output tensors are called 'a'"):
        lay_out([("a", "U8", (1,)), ("a", "U8", (1,))], shard_size=10)
    with pytest.raises(PlanError, match=r"'half'.*whole bytes"):
        lay_out([("half", "F4", (3,))], shard_size=10)
    with pytest.raises(UsageError, match="shard size"):
        lay_out([("a", "U8", (1,))], shard_size=0)
