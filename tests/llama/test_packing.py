"""Trees of tokens: every sequence is whole in its pack, what begins alike is run once, limits hold."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from alloyd_daemon.llama.packing import Pack, cells, orders, pack

SEQUENCES = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=8).map(tuple), max_size=24)


def _prefixes(ids: tuple[int, ...]) -> set[tuple[int, ...]]:
    return {ids[: size + 1] for size in range(len(ids))}


@given(SEQUENCES, st.integers(1, 5), st.integers(1, 12), st.booleans())
def test_every_sequence_is_a_path_of_one_pack(
    sequences: list[tuple[int, ...]], most: int, room: int, share: bool
) -> None:
    packs = pack(sequences, most=most, room=room, share=share)
    assert sorted(place for each in packs for place in each.members) == list(range(len(sequences)))
    for each in packs:
        assert len(each.members) <= most
        first = len(sequences[each.members[0]])
        assert len(each.nodes) <= first + max(room, first)
        for number, (place, path) in enumerate(zip(each.members, each.paths, strict=True)):
            assert tuple(each.nodes[node].token for node in path) == sequences[place]
            assert [each.nodes[node].position for node in path] == list(range(len(path)))
            assert all(number in each.nodes[node].sequences for node in path)
            assert list(path) == sorted(path), "a token follows what stands before it"
        passing = sum(len(node.sequences) for node in each.nodes)
        assert passing == sum(len(sequences[place]) for place in each.members)


@given(SEQUENCES, st.integers(1, 12))
def test_tokens_that_begin_alike_are_run_once(sequences: list[tuple[int, ...]], room: int) -> None:
    for each in pack(sequences, room=room):
        distinct = set().union(*(_prefixes(sequences[place]) for place in each.members))
        assert len(each.nodes) == len(distinct)
    for each in pack(sequences, room=room, share=False):
        assert len(each.nodes) == sum(len(sequences[place]) for place in each.members)


def test_answers_that_begin_alike_share_a_long_prompt() -> None:
    prompt = tuple(range(3000))
    answers = [(*prompt, token) for token in range(20)]
    (one,) = pack(answers, room=16)
    assert len(one.nodes) == 3020


@given(SEQUENCES, st.integers(0, 9))
def test_room_that_is_taken_later_is_counted(sequences: list[tuple[int, ...]], extra: int) -> None:
    later = [extra] * len(sequences)
    for each in pack(sequences, room=12, extra=later):
        first = len(sequences[each.members[0]]) + extra
        assert cells([each], later) <= first + max(12, first)


def _taken_apart(one: Pack, wanted: dict[int, tuple[int, ...]], batch: int, outputs: int) -> None:
    seen: list[tuple[int, int, tuple[int, ...]]] = []
    asked: list[int] = []
    for number, (order, nodes) in enumerate(
        orders(one.nodes, wanted, batch=batch, outputs=outputs, fresh=True)
    ):
        tokens = np.frombuffer(order.tokens, np.int32)
        counts = np.frombuffer(order.counts, np.int32)
        lists = np.split(np.frombuffer(order.sequences, np.int32), np.cumsum(counts)[:-1])
        first = len(seen)
        seen += zip(
            tokens.tolist(),
            np.frombuffer(order.positions, np.int32).tolist(),
            (tuple(each.tolist()) for each in lists),
            strict=True,
        )
        places = np.frombuffer(order.outputs, np.int32)
        assert 0 < len(tokens) <= batch
        assert len(places) <= outputs
        assert (places + first).tolist() == list(nodes)
        rows, targets = np.frombuffer(order.rows, np.int32), np.frombuffer(order.targets, np.int32)
        found: dict[int, list[int]] = {node: [] for node in nodes}
        for row, target in zip(rows.tolist(), targets.tolist(), strict=True):
            found[nodes[row]].append(target)
        assert {node: tuple(each) for node, each in found.items()} == {node: wanted[node] for node in nodes}
        assert order.fresh == (number == 0)
        asked += nodes
    assert seen == [(node.token, node.position, node.sequences) for node in one.nodes]
    assert asked == sorted(wanted)


@given(SEQUENCES.filter(bool), st.integers(1, 7), st.integers(1, 3), st.data())
def test_orders_hold_every_token_once_and_keep_their_limits(
    sequences: list[tuple[int, ...]], batch: int, outputs: int, data: st.DataObject
) -> None:
    for one in pack(sequences, room=20):
        some = data.draw(st.sets(st.integers(0, len(one.nodes) - 1)))
        wanted = {node: data.draw(st.lists(st.integers(0, 9), max_size=3).map(tuple)) for node in some}
        _taken_apart(one, wanted, batch, outputs)
