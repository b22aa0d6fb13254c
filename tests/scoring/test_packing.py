"""Rows and batches hold every span whole, show it what it would see alone, and follow from the spans alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from alloyd_daemon.scoring.encoding import Span
from alloyd_daemon.scoring.packing import LEAST_SHARED, SHARED_ROW, Batch, compose

TOKENS = st.lists(st.integers(0, 3), min_size=2, max_size=30)


@st.composite
def spans(draw: st.DrawFn) -> list[Span]:
    """Spans of which many begin alike."""
    trunk = draw(TOKENS)
    found = []
    for request in range(draw(st.integers(1, 12))):
        ids = trunk[: draw(st.integers(0, len(trunk)))] + draw(TOKENS)
        found.append(Span(request, tuple(ids), draw(st.integers(1, len(ids) - 1))))
    return found


def read_back(batch: Batch, row: int, place: int) -> list[int]:
    """The tokens that the token at ``place`` of ``row`` sees, its own last."""
    seen = batch.seen()
    if seen is None:
        return [int(each) for each in batch.ids[row, : place + 1]]
    return [int(batch.ids[row, other]) for other in range(batch.width) if seen[row, place, other]]


@given(spans(), st.booleans(), st.sampled_from([None, 1, 2, 5]), st.sampled_from([None, 4, 12]))
def test_every_scored_token_sees_its_own_past_and_nothing_else(
    asked: list[Span], share: bool, batch_size: int | None, window: int | None
) -> None:
    batches = compose(asked, share=share, window=window, batch_size=batch_size, tokens=64)
    wanted = [(batch, each) for batch in batches for each in batch.wanted]
    assert sorted(each.span for _, each in wanted) == list(range(len(asked)))
    for batch, each in wanted:
        span = asked[each.span]
        assert each.targets == span.ids[span.first :]
        assert len(each.positions) == len(each.targets)
        for order, place in enumerate(each.positions):
            past = list(span.ids[: span.first + order])
            assert read_back(batch, each.row, place) == past
            if batch.positions is not None:
                assert batch.positions[each.row, place] == len(past) - 1


@given(spans(), st.sampled_from([None, 2]))
def test_batches_keep_to_their_bounds(asked: list[Span], batch_size: int | None) -> None:
    batches = compose(asked, share=True, batch_size=batch_size, tokens=40)
    for batch in batches:
        assert batch.rows == 1 or batch.tokens <= 40
        assert batch_size is None or len(batch.wanted) <= batch_size
        assert batch.width == max(batch.lengths)
        seen = batch.seen()
        # A token that sees nothing would be a NaN.
        assert seen is None or bool(np.diagonal(seen, axis1=1, axis2=2).all())


@given(spans(), st.randoms(use_true_random=False))
def test_what_is_computed_does_not_grow_by_sharing(asked: list[Span], shuffle: object) -> None:
    def computed(batches: Sequence[Batch]) -> int:
        return sum(sum(batch.lengths) for batch in batches)

    shared = compose(asked, share=True)
    assert computed(shared) <= computed(compose(asked, share=False))
    again = compose(asked, share=True)
    assert all(
        (one.ids == two.ids).all() and one.wanted == two.wanted
        for one, two in zip(shared, again, strict=True)
    )


def test_answers_to_one_question_share_it() -> None:
    question = tuple(range(100, 140))
    asked = [Span(each, (*question, each, each + 1), 40) for each in range(4)]
    (batch,) = compose(asked, share=True)
    assert batch.lengths == (44,)
    assert len({each.positions[0] for each in batch.wanted}) == 1


def test_a_few_tokens_in_common_are_not_worth_a_mask() -> None:
    asked = [Span(each, (*range(LEAST_SHARED - 1), 50 + each, 60), 2) for each in range(3)]
    (batch,) = compose(asked, share=True)
    assert batch.rows == 3
    assert batch.seen() is None


def test_no_row_is_shared_beyond_the_window() -> None:
    asked = [Span(each, (*range(20), 50 + each, 60), 2) for each in range(3)]
    assert all(batch.seen() is None for batch in compose(asked, share=True, window=20))
    assert any(batch.seen() is not None for batch in compose(asked, share=True, window=21))


def test_a_shared_row_ends_before_its_mask_is_too_large() -> None:
    asked = [Span(each, (*range(500), *range(1000 + 200 * each, 1200 + 200 * each)), 2) for each in range(9)]
    batches = compose(asked, share=True, tokens=4096)
    assert max(length for batch in batches for length in batch.lengths) <= max(SHARED_ROW, 2 * 700)
