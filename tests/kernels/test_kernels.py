"""Every CPU kernel against its float64 reference: odd sizes, every element type, unaligned and poisoned memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alloyd_kernels.delta_norms.cpu import measure_l1
from alloyd_kernels.delta_norms.reference import l1_norms
from alloyd_kernels.descent.cpu import descend_tiles
from alloyd_kernels.descent.reference import descend
from alloyd_kernels.dtypes import BF16, CODES, F8_E4M3, F8_E5M2, F16, F32, F64, ITEMSIZE, LEAF, TILE
from alloyd_kernels.gram.cpu import measure_gram
from alloyd_kernels.gram.reference import gram
from alloyd_kernels.magnitudes.cpu import (
    BINS,
    FINE,
    SPARE,
    WAYS,
    count_coarse,
    count_fine,
    count_ties,
    select_ranks,
)
from alloyd_kernels.magnitudes.reference import (
    coarse_histogram,
    fine_histogram,
    magnitude_bits,
    ranked,
    tie_counts,
)
from alloyd_kernels.moments.cpu import measure_moments
from alloyd_kernels.moments.reference import moments
from alloyd_kernels.sparsify.cpu import draw_tile, sparsify_tile
from alloyd_kernels.sparsify.kinds import CUT, DRAW, DROP, KEEP
from alloyd_kernels.sparsify.reference import draw_mask, draw_threshold, draws, philox, top_k
from alloyd_kernels.task_vectors.cpu import combine_task_vectors
from alloyd_kernels.task_vectors.reference import combine
from alloyd_kernels.tile.cpu import load_tile, store_tile
from alloyd_kernels.tile.reference import NUMPY_TYPES, decode, encode
from alloyd_kernels.weighted_sum.cpu import weighted_sum
from alloyd_kernels.weighted_sum.reference import weighted_sum as weighted_sum_reference

SIZES = (1, 2, 63, 500, TILE - 1, TILE, TILE + 1, LEAF - 1, LEAF + 7, 3 * LEAF + 129)
DTYPES = tuple(CODES)
SIZE_OF = {CODES[name]: ITEMSIZE[name] for name in CODES}
POISON = 0xA5


class Tensors:
    """Sources as raw bytes at odd addresses, with room for an output that starts poisoned."""

    def __init__(self, values: list[npt.NDArray[np.float64]], codes: list[int], out_code: int) -> None:
        self.count = len(values[0])
        self.raw = [encode(value, code) for value, code in zip(values, codes, strict=True)]
        self.kept = [np.concatenate([np.zeros(1, np.uint8), each]) for each in self.raw]
        self.decoded = [decode(each, code) for each, code in zip(self.raw, codes, strict=True)]
        self.addresses = np.array([each.ctypes.data + 1 for each in self.kept], dtype=np.uint64)
        self.codes = np.array(codes, dtype=np.int64)
        self.out_code = out_code
        self.out = np.full(self.count * SIZE_OF[out_code] + 16, POISON, dtype=np.uint8)

    @property
    def out_address(self) -> int:
        return self.out.ctypes.data

    def result(self) -> npt.NDArray[np.uint8]:
        """The output's bytes; what lies behind them must be as it was."""
        assert (self.out[-16:] == POISON).all()
        return self.out[:-16]


def fine_tunes(rng: np.random.Generator, count: int, models: int) -> list[npt.NDArray[np.float64]]:
    """A base and fine-tunes near it, as real checkpoints are."""
    base = rng.standard_normal(count) * 0.05
    return [base] + [base + rng.standard_normal(count) * 0.004 * (each + 1) for each in range(models - 1)]


def scratch(n: int) -> dict[str, Any]:
    return {
        "rows": np.full((n + 4, TILE), np.nan, dtype=np.float32),
        "draws": np.full(TILE, 7, dtype=np.uint32),
        "seen": np.full(n, 99, dtype=np.int64),
        "lanes": np.zeros((max(2 * n, n * n), TILE)),
    }


def assert_rounded_once(result: npt.NDArray[np.uint8], code: int, expected: npt.NDArray[np.float64]) -> None:
    """Equal to the rounded float64 result, up to one unit in the last place where float32 sums were about halfway."""
    found = decode(result, code)
    wanted = decode(encode(expected, code), code)
    info = {BF16: 2.0**-7, F16: 2.0**-10, F32: 2.0**-22, F64: 2.0**-22, F8_E4M3: 2.0**-3, F8_E5M2: 2.0**-2}
    np.testing.assert_allclose(found, wanted, rtol=info[code], atol=np.abs(expected).max() * 2.0**-15)
    if code in (BF16, F16):
        assert (found == wanted).mean() > 0.98


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("count", SIZES)
def test_a_tile_survives_decoding_and_encoding(name: str, count: int) -> None:
    code = CODES[name]
    values = np.random.default_rng(count).standard_normal(count).astype(np.float32).astype(np.float64)
    tensors = Tensors([values], [code], code)
    row = np.empty(TILE, dtype=np.float32)
    for start in range(0, count, TILE):
        size = min(TILE, count - start)
        load_tile(tensors.addresses[0], code, start, size, row)
        np.testing.assert_array_equal(row[:size], tensors.decoded[0][start : start + size])
        assert store_tile(row, size, tensors.out_address, code, start) == 0
    np.testing.assert_array_equal(tensors.result(), tensors.raw[0])


@pytest.mark.parametrize("code", [BF16, F16, F8_E4M3, F8_E5M2])
def test_every_code_of_a_narrow_type_is_decoded_and_encoded_as_ml_dtypes_does(code: int) -> None:
    width = SIZE_OF[code]
    codes = np.arange(256**width, dtype=np.uint16 if width == 2 else np.uint8)
    row = np.empty(len(codes), dtype=np.float32)
    load_tile(codes.ctypes.data, code, 0, len(codes), row)
    expected = codes.view(NUMPY_TYPES[code]).astype(np.float32)
    np.testing.assert_array_equal(row, expected)
    out = np.zeros_like(codes)
    strange = store_tile(row, len(codes), out.ctypes.data, code, 0)
    finite = np.isfinite(expected)
    assert strange == (~finite).sum()
    np.testing.assert_array_equal(out[finite], codes[finite])
    np.testing.assert_array_equal(
        np.isnan(out.view(NUMPY_TYPES[code]).astype(np.float32)), np.isnan(expected)
    )


@pytest.mark.parametrize("code", [BF16, F16, F8_E4M3, F8_E5M2])
def test_encoding_rounds_to_nearest_even_everywhere(code: int) -> None:
    rng = np.random.default_rng(3)
    bits = rng.integers(0, 2**32, 200_000, dtype=np.uint64).astype(np.uint32)
    if code in (F8_E4M3, F8_E5M2):
        bits = (bits & np.uint32(0x81FFFFFF)) | (
            rng.integers(100, 146, len(bits)).astype(np.uint32) << np.uint32(23)
        )
    row = bits.view(np.float32)
    row = np.where(np.isnan(row), np.float32(1.5), row)
    with np.errstate(over="ignore"):
        expected = row.astype(NUMPY_TYPES[code])
    out = np.zeros(len(row) * SIZE_OF[code], dtype=np.uint8)
    strange = store_tile(row, len(row), out.ctypes.data, code, 0)
    found = out.view(NUMPY_TYPES[code]).astype(np.float32)
    assert strange == (~np.isfinite(found)).sum() > 0
    np.testing.assert_array_equal(found, expected.astype(np.float32))


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("count", [1, 500, LEAF + 7])
@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("offset", [0.0, -1.5])
def test_weighted_sum(name: str, count: int, n: int, offset: float) -> None:
    rng = np.random.default_rng(count * n)
    tensors = Tensors(fine_tunes(rng, count, n), [CODES[name]] * n, CODES[name])
    weights = rng.standard_normal(n).astype(np.float32) + np.float32(1.5)
    divisor = np.float32(weights.sum())
    strange = weighted_sum(
        tensors.addresses,
        tensors.codes,
        count,
        weights,
        divisor,
        np.float32(offset),
        tensors.out_address,
        tensors.out_code,
        scratch(n)["rows"],
    )
    assert strange == 0
    numbers = [float(each) for each in weights]
    expected = weighted_sum_reference(tensors.decoded, numbers, float(divisor), offset)
    assert_rounded_once(tensors.result(), tensors.out_code, expected)


def test_weighted_sum_reads_every_type_and_reports_what_is_not_finite() -> None:
    rng = np.random.default_rng(9)
    values = fine_tunes(rng, 1000, 6)
    values[2][17] = np.inf
    values[3][18] = np.nan
    tensors = Tensors(values, [BF16, F16, F32, F64, F8_E4M3, F8_E5M2], F32)
    weights = np.full(6, 0.25, dtype=np.float32)
    strange = weighted_sum(
        tensors.addresses,
        tensors.codes,
        1000,
        weights,
        np.float32(1),
        np.float32(0),
        tensors.out_address,
        F32,
        scratch(6)["rows"],
    )
    assert strange == 2
    expected = weighted_sum_reference(tensors.decoded, [0.25] * 6)
    np.testing.assert_allclose(tensors.result().view(np.float32), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("name", ["BF16", "F32"])
def test_gram(count: int, name: str) -> None:
    tensors = Tensors(fine_tunes(np.random.default_rng(count), count, 3), [CODES[name]] * 3, F32)
    partials = np.full((-(-count // LEAF), 3, 3), np.nan)
    room = scratch(3)
    measure_gram(tensors.addresses, tensors.codes, count, 0, partials, room["rows"], room["lanes"])
    found = np.triu(partials.sum(axis=0))
    np.testing.assert_allclose(found, np.triu(gram(tensors.decoded)), rtol=1e-12)
    assert (room["lanes"] == 0).all()


def test_gram_partials_do_not_depend_on_how_leaves_are_grouped_into_blocks() -> None:
    count = 5 * LEAF + 77
    tensors = Tensors(fine_tunes(np.random.default_rng(1), count, 2), [BF16, BF16], F32)
    room = scratch(2)
    whole = np.zeros((6, 2, 2))
    measure_gram(tensors.addresses, tensors.codes, count, 0, whole, room["rows"], room["lanes"])
    parts = np.zeros((6, 2, 2))
    for first in (3 * LEAF, 0, 5 * LEAF):
        stop = min(first + 3 * LEAF, count) if first else 3 * LEAF
        stop = min(stop, 5 * LEAF) if first == 3 * LEAF else stop
        measure_gram(
            tensors.addresses + np.uint64(2 * first),
            tensors.codes,
            stop - first,
            first,
            parts,
            room["rows"],
            room["lanes"],
        )
    np.testing.assert_array_equal(whole, parts)


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("name", ["BF16", "F8_E4M3", "F32"])
def test_moments(count: int, name: str) -> None:
    n = 3
    tensors = Tensors(fine_tunes(np.random.default_rng(count), count, n + 1), [CODES[name]] * (n + 1), F32)
    partials = np.full((-(-count // LEAF), n, n + 1), np.nan)
    room = scratch(n + 1)
    measure_moments(
        tensors.addresses[0], tensors.codes[0], tensors.addresses[1:], tensors.codes[1:], count, 0,
        partials, room["rows"], room["lanes"],
    )  # fmt: skip
    deltas = [np.float32(each) - np.float32(tensors.decoded[0]) for each in tensors.decoded[1:]]
    expected = moments([each.astype(np.float64) for each in deltas])
    found = partials.sum(axis=0)
    size = np.abs(np.stack(deltas)).sum(axis=1)
    np.testing.assert_allclose(found[:, 0], expected[:, 0], rtol=1e-12, atol=1e-12 * size.max())
    bound = 1e-12 * np.abs(expected[:, 1:]).max()
    np.testing.assert_allclose(np.triu(found[:, 1:]), np.triu(expected[:, 1:]), rtol=1e-12, atol=bound)
    assert (room["lanes"] == 0).all()


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("name", ["BF16", "F16", "F32"])
def test_histograms_and_ties(count: int, name: str) -> None:
    code = CODES[name]
    tensors = Tensors(fine_tunes(np.random.default_rng(count + 5), count, 3), [code] * 3, F32)
    deltas = [np.float32(each) - np.float32(tensors.decoded[0]) for each in tensors.decoded[1:]]
    bits = [magnitude_bits(each) for each in deltas]
    room = scratch(2)
    where = (
        tensors.addresses[0],
        tensors.codes[0],
        tensors.addresses[1:],
        tensors.codes[1:],
        np.array([True, True]),
        count,
    )
    coarse = np.zeros((2, WAYS, 32768), dtype=np.int64)
    count_coarse(*where, coarse, room["rows"])
    for found, wanted in zip(coarse.sum(axis=1), bits, strict=True):
        np.testing.assert_array_equal(found, coarse_histogram(wanted))
    picks = np.array([int(each[count // 2] >> 16) for each in bits])
    fine = np.zeros((2, FINE + SPARE), dtype=np.int64)
    count_fine(*where, picks, fine, room["rows"])
    for found, wanted, pick in zip(fine, bits, picks, strict=True):
        np.testing.assert_array_equal(found[:FINE], fine_histogram(wanted, pick))
    thresholds = np.array([int(each[count // 3]) for each in bits])
    ties = np.zeros((2, -(-count // LEAF)), dtype=np.int64)
    count_ties(*where, 0, thresholds, ties, room["rows"])
    for found, wanted, threshold in zip(ties, bits, thresholds, strict=True):
        np.testing.assert_array_equal(found, tie_counts(wanted, threshold))


def test_philox_matches_the_known_answers_of_its_authors() -> None:
    words = philox(np.zeros(1, dtype=np.uint64), 0)[:, 0]
    assert [int(each) for each in words] == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]


@pytest.mark.parametrize("group", [0, 1, 77, 2**24 + 3])
def test_draws_equal_the_reference_exactly(group: int) -> None:
    found = np.zeros(TILE, dtype=np.uint32)
    key = 0xDEADBEEF12345678
    draw_tile(np.uint64(key), group, found)
    np.testing.assert_array_equal(found, draws(key, group * TILE, TILE))


@pytest.mark.parametrize("density", [1e-6, 0.1, 0.5, 0.999])
def test_draws_keep_the_fraction_they_should(density: float) -> None:
    count = 300 * TILE
    kept = draw_mask(12345, 0, count, density).mean()
    assert abs(kept - density) < 5 * np.sqrt(density * (1 - density) / count) + 1e-12


@pytest.mark.parametrize("density", [0.0, 0.013, 0.3, 0.5, 0.97])
@pytest.mark.parametrize("count", [500, LEAF + 7, 3 * LEAF + 129])
def test_cuts_keep_exactly_k_and_the_lowest_index_among_equals(density: float, count: int) -> None:
    rng = np.random.default_rng(int(density * 1000) + count)
    values = rng.integers(-6, 7, count).astype(np.float32)
    k = int(density * count)
    keep = top_k(values, k)
    bits = magnitude_bits(values)
    ordered = np.sort(bits)[::-1]
    threshold = int(ordered[k - 1]) if k else int(ordered[0]) + 1
    quota = k - int((bits > threshold).sum())
    places = np.flatnonzero(bits == threshold)
    last = int(places[quota - 1]) if quota else -1
    leaf = last // LEAF if quota else -1
    inside = int((places[(places // LEAF) == leaf] <= last).sum()) if quota else 0
    found = np.zeros(count, dtype=np.float32)
    seen, row = np.int64(0), np.empty(TILE, dtype=np.float32)
    for start in range(0, count, TILE):
        size = min(TILE, count - start)
        row[:size] = values[start : start + size]
        seen = sparsify_tile(
            row, size, start, CUT, threshold, leaf, inside, np.uint64(0), seen, np.empty(TILE, np.uint32)
        )
        found[start : start + size] = row[:size]
    np.testing.assert_array_equal(found, np.where(keep, values, 0))


def sparsifiers(
    n: int, kind: int, count: int, deltas: list[npt.NDArray[np.float32]]
) -> tuple[Any, list[Any]]:
    """Argument arrays and the masks they mean."""
    masks: list[npt.NDArray[np.bool_]] = []
    thresholds, keys = np.zeros(n, dtype=np.int64), np.arange(n, dtype=np.uint64) + np.uint64(5)
    for i, delta in enumerate(deltas):
        if kind == CUT:
            thresholds[i] = int(np.median(magnitude_bits(delta)))
            masks.append(magnitude_bits(delta) >= thresholds[i])
        elif kind == DRAW:
            thresholds[i] = draw_threshold(0.4)
            masks.append(draw_mask(int(keys[i]), 0, count, 0.4))
        else:
            masks.append(np.full(count, kind == KEEP))
    kinds = np.full(n, kind, dtype=np.int64)
    return (kinds, thresholds, np.full(n, 2**62), np.zeros(n, dtype=np.int64), keys), masks


@settings(max_examples=60, deadline=None)
@given(
    bits=st.lists(st.integers(-1, 2**31 - 1) | st.integers(0, 3), min_size=1, max_size=300),
    data=st.data(),
)
def test_ranks_are_those_of_a_sort(bits: list[int], data: st.DataObject) -> None:
    values = np.array([0, *bits], dtype=np.int32)
    known = int((values >= 0).sum())
    ranks = np.array(data.draw(st.lists(st.integers(0, known - 1), min_size=2, max_size=2)), dtype=np.int64)
    found = np.full(2, -7, dtype=np.int32)
    select_ranks(values, ranks, np.full((2, BINS), 99, dtype=np.int32), found)
    np.testing.assert_array_equal(found, ranked(values, ranks))


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("normalize", [False, True])
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_a_few_task_vectors_in_registers_give_the_bits_of_many_in_memory(
    n: int, normalize: bool, data: st.DataObject
) -> None:
    code = data.draw(st.sampled_from([F32, BF16]))
    count = data.draw(st.sampled_from([1, 17, TILE + 5]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**31)))
    values = rng.integers(-3, 4, (n + 2, count)).astype(np.float32) * rng.choice([0.0, 0.1, 1.0], (n + 2, 1))
    odd = data.draw(st.sampled_from([0.0, 0.05]))
    values = np.where(rng.random(values.shape) < odd, rng.choice([np.inf, -np.inf, np.nan]), values)
    outputs = []
    for sources in (n, n + 1):  # one more that drops everything changes nothing but the way
        tensors = Tensors(list(values[: sources + 1].astype(np.float64)), [code] * (sources + 1), F32)
        kinds = np.array([KEEP, CUT, CUT, DROP, DROP])[:sources]
        kinds[n:] = DROP
        thresholds = np.full(sources, int(np.float32(0.15).view(np.int32)), dtype=np.int64)
        weights = np.array([0.75, 1.0, -0.5, 0.0])[:sources].astype(np.float32)
        weights[n:] = 0.0
        room = scratch(sources)
        combine_task_vectors(
            tensors.addresses[0], tensors.codes[0], tensors.addresses[1:], tensors.codes[1:], count, 0,
            kinds, thresholds, np.full(sources, 2**62), np.zeros(sources, dtype=np.int64),
            np.zeros(sources, dtype=np.uint64), np.array([1.0, 2.5, 0.5, 1.0], dtype=np.float32)[:sources], weights,
            np.float32(1.0), True, normalize, np.float32(0.7),
            tensors.out_address, F32, room["rows"], room["draws"], room["seen"],
        )  # fmt: skip
        found = tensors.result().view(np.float32)
        outputs.append(np.where(np.isnan(found), np.float32(np.nan), found).view(np.uint32))
    np.testing.assert_array_equal(outputs[0], outputs[1])


@pytest.mark.parametrize("kind", [KEEP, CUT, DRAW, DROP])
@pytest.mark.parametrize("consensus", [False, True])
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("count", [1, 500, LEAF + 7])
def test_task_vectors(kind: int, consensus: bool, normalize: bool, count: int) -> None:
    n = 3
    tensors = Tensors(fine_tunes(np.random.default_rng(count), count, n + 1), [BF16] * (n + 1), F32)
    deltas = [np.float32(each) - np.float32(tensors.decoded[0]) for each in tensors.decoded[1:]]
    keep, masks = sparsifiers(n, kind, count, deltas)
    scales = np.array([1.0, 2.5, 0.5], dtype=np.float32)
    weights = np.array([0.75, 1.0, -0.5], dtype=np.float32)
    room = scratch(n)
    strange = combine_task_vectors(
        tensors.addresses[0], tensors.codes[0], tensors.addresses[1:], tensors.codes[1:], count, 0, *keep,
        scales, weights, np.float32(weights.sum()), consensus, normalize, np.float32(0.5),
        tensors.out_address, F32, room["rows"], room["draws"], room["seen"],
    )  # fmt: skip
    assert strange == 0
    sparse = [np.where(mask, delta, 0).astype(np.float64) for mask, delta in zip(masks, deltas, strict=True)]
    expected = combine(
        tensors.decoded[0],
        [delta * float(scale) for delta, scale in zip(sparse, scales, strict=True)],
        [float(each) for each in weights],
        consensus=consensus,
        normalize=normalize,
        scale=0.5,
    )
    found = tensors.result().view(np.float32).astype(np.float64)
    weighted = np.stack(
        [delta * float(s) * float(w) for delta, s, w in zip(sparse, scales, weights, strict=True)]
    )
    unclear = np.abs(weighted.sum(axis=0)) < 2.0**-20 * np.abs(weighted).sum(axis=0)
    sure = ~unclear if consensus else np.ones(count, dtype=np.bool_)
    shares = np.abs(
        np.where(np.sign(weighted) == np.where(weighted.sum(0) >= 0, 1, -1), weights[:, None], 0).sum(0)
    )
    sure &= (shares > 0.1) | (not normalize) | (not consensus) | (shares == 0)
    assert sure.mean() > 0.9 or count < 10
    np.testing.assert_allclose(found[sure], expected[sure], rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", ["BF16", "F16", "F32"])
@pytest.mark.parametrize("count", SIZES)
def test_descents(name: str, count: int) -> None:
    tensors = Tensors(fine_tunes(np.random.default_rng(count), count, 3), [CODES[name]] * 3, F32)
    # Rows 0 to 2 are the sources; the third step writes over the row that the first made.
    steps = [(0, 0, 1, 0, 3), (3, 2, 0, 1, 4), (4, 4, 2, 4, 3), (3, 3, 4, 3, 5)]
    rates, keys = [0.25, 1.0, 0.9, 0.5], [7, 0, 2**63 + 5, 11]
    kinds = np.array([KEEP if rate == 1.0 else DRAW for rate in rates], dtype=np.int64)
    factors = np.array([0.5, 0.75, 1.5, 0.1], dtype=np.float32)
    room = scratch(3)
    strange = descend_tiles(
        tensors.addresses, tensors.codes, count, 0, np.array(steps, dtype=np.int64), factors,
        kinds, np.array([draw_threshold(rate) for rate in rates], dtype=np.int64), np.array(keys, dtype=np.uint64),
        tensors.out_address, F32, room["rows"], room["draws"],
    )  # fmt: skip
    assert strange == 0
    masks = [draw_mask(key, 0, count, rate) for key, rate in zip(keys, rates, strict=True)]
    members = [(0, 0, 1, 0), (3, 2, 0, 1), (4, 4, 2, 4), (5, 5, 4, 5)]
    expected = descend(
        tensors.decoded,
        [(*each, float(factor), mask) for each, factor, mask in zip(members, factors, masks, strict=True)],
    )
    found = tensors.result().view(np.float32)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", [CUT, DRAW, DROP])
@pytest.mark.parametrize("count", [1, 500, LEAF + 7, 3 * LEAF + 129])
def test_l1_norms(kind: int, count: int) -> None:
    n = 2
    tensors = Tensors(fine_tunes(np.random.default_rng(count), count, n + 1), [F16] * (n + 1), F32)
    deltas = [np.float32(each) - np.float32(tensors.decoded[0]) for each in tensors.decoded[1:]]
    keep, masks = sparsifiers(n, kind, count, deltas)
    partials = np.full((-(-count // LEAF), n, 2), np.nan)
    room = scratch(n)
    measure_l1(
        tensors.addresses[0], tensors.codes[0], tensors.addresses[1:], tensors.codes[1:], count, 0, *keep,
        partials, room["rows"], room["draws"], room["seen"], room["lanes"],
    )  # fmt: skip
    for i in range(n):
        expected = l1_norms(deltas[i].astype(np.float64), masks[i])
        np.testing.assert_allclose(partials[:, i].sum(axis=0), expected, rtol=1e-12)
