"""Findings: the same bytes with and without, measured once, never recalled for other content, at peace with damage."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alloyd_daemon.checkpoints.checkpoint import open_checkpoint
from alloyd_daemon.checkpoints.fingerprint import file_marks
from alloyd_daemon.engine import finding_store
from alloyd_daemon.engine.finding_store import FILE, FindingStore
from alloyd_daemon.engine.findings import FindingCache, open_findings
from alloyd_daemon.stages.brackets import BracketMagnitudes
from alloyd_daemon.stages.delta_norms import DeltaNorms
from alloyd_daemon.stages.gram import Gram
from alloyd_kernels.dtypes import LEAF
from checkpoint_factory import read_checkpoint, write_weights
from merge_driver import MemorySink, outline_of, plan_of, run_merge

SHAPES = {"a.weight": (200, 700), "b.bias": (3,), "c.norm": (LEAF + 9,)}
LONG_AGO = 1_600_000_000 * 10**9
GIGA = 10**9


def settle(folder: Path) -> None:
    """Let the files look as if they were written long ago."""
    for file in folder.iterdir():
        os.utime(file, ns=(LONG_AGO, LONG_AGO))


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A base and three fine-tunes in bf16, settled."""
    rng = np.random.default_rng(11)
    base = {name: rng.standard_normal(shape) * 0.05 for name, shape in SHAPES.items()}
    folders = []
    for number in range(4):
        folder = tmp_path_factory.mktemp("model")
        write_weights(
            folder,
            {
                name: np.asarray(each + (number > 0) * 0.004 * rng.standard_normal(each.shape)).astype(
                    ml_dtypes.bfloat16
                )
                for name, each in base.items()
            },
        )
        settle(folder)
        folders.append(folder)
    return folders


def combine(
    folders: list[Path],
    method: str,
    densities: list[float],
    cache: FindingCache | None,
    *,
    base: int = 0,
    rescale: bool = False,
    seed: int = 0,
) -> list[bytes]:
    """Merge task vectors of all folders but ``base``; the output's bytes."""
    inputs: list[dict[str, Any]] = [{"weight": 0.5, "density": each} for each in densities]
    inputs.insert(base, {})
    shared = {"normalize": True, "rescale": rescale, "lambda": 1.0}
    return merged(outline_of(folders, method, base=base, inputs=inputs, shared=shared, seed=seed), cache)


def interpolate(folders: list[Path], base: int, t: float, cache: FindingCache | None) -> list[bytes]:
    return merged(outline_of(folders, "slerp", base=base, inputs=[{}, {}], shared={"t": t}), cache)


def merged(outline: Any, cache: FindingCache | None) -> list[bytes]:
    plan = plan_of(outline, block=LEAF)
    sink = MemorySink(plan)
    run_merge(plan, sink, findings=cache)
    return [each.tobytes() for each in sink.data]


@pytest.fixture
def sweeps(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every sweep that a merge begins, by its stage."""
    begun: list[Any] = []
    for kind in (BracketMagnitudes, DeltaNorms, Gram):
        begin = kind.begin

        def counted(stage: Any, elements: int, workers: int, begin: Any = begin) -> Any:
            begun.append(stage)
            return begin(stage, elements, workers)

        monkeypatch.setattr(kind, "begin", counted)
    return begun


DENSITY = st.sampled_from([0.0, 1e-4, 0.3, 0.55, 1.0])
RECIPE = st.tuples(
    st.sampled_from(["ties", "dare_ties", "dare_linear", "slerp"]),
    st.permutations(range(4)),
    st.lists(DENSITY, min_size=1, max_size=3),
    st.booleans(),
    st.integers(0, 1),
    st.integers(0, 3),
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(recipes=st.lists(RECIPE, min_size=2, max_size=5))
def test_a_cache_that_recipes_share_never_changes_a_byte(
    recipes: list[Any], family: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    home = tmp_path_factory.mktemp("home")
    for method, order, densities, rescale, seed, base in recipes:
        folders = [family[each] for each in order][: len(densities) + 1]
        base %= len(folders)
        wanted: list[bytes] = []
        with open_findings(home, GIGA) as cache:
            for known in (None, cache, cache):
                if method == "slerp":
                    found = interpolate(folders[:2], base % 2, 0.3, known)
                else:
                    found = combine(folders, method, densities, known, base=base, rescale=rescale, seed=seed)
                wanted = found if known is None else wanted
                assert found == wanted


def test_a_warm_cache_leaves_only_the_blend(family: list[Path], tmp_path: Path, sweeps: list[Any]) -> None:
    with open_findings(tmp_path, GIGA) as cache:
        combine(family[:3], "ties", [0.3, 0.5], cache, rescale=True)
        interpolate(family[:2], 0, 0.3, cache)
    assert sweeps
    sweeps.clear()
    with open_findings(tmp_path, GIGA) as cache:
        combine(family[:3], "ties", [0.3, 0.5], cache, rescale=True)
        interpolate(family[:2], 0, 0.9, cache)
    assert not sweeps


def test_a_resumed_merge_finds_again_what_it_had_measured(
    family: list[Path], tmp_path: Path, sweeps: list[Any]
) -> None:
    shared = {"normalize": True, "rescale": False, "lambda": 1.0}
    inputs = [{}, {"weight": 0.5, "density": 0.5}]
    plan = plan_of(outline_of(family[:2], "ties", base=0, inputs=inputs, shared=shared), block=LEAF)
    with open_findings(tmp_path, GIGA) as cache, pytest.raises(OSError, match="full"):
        run_merge(plan, MemorySink(plan, fail_after=1), findings=cache)
    sweeps.clear()
    with open_findings(tmp_path, GIGA) as cache:
        run_merge(plan, MemorySink(plan), findings=cache)
    assert len(sweeps) < len(SHAPES)  # a block was written, so one tensor's cut was known


def test_another_density_measures_only_its_own_task_vector(
    family: list[Path], tmp_path: Path, sweeps: list[Any]
) -> None:
    with open_findings(tmp_path, GIGA) as cache:
        combine(family[:3], "ties", [0.3, 0.5], cache)
        sweeps.clear()
        combine(family[:3], "ties", [0.3, 0.7], cache)
    assert {each.positions for each in sweeps} == {(2,)}


def test_a_place_in_the_recipe_does_not_matter_to_what_is_measured(
    family: list[Path], tmp_path: Path, sweeps: list[Any]
) -> None:
    base, one, two, three = family
    with open_findings(tmp_path, GIGA) as cache:
        interpolate([base, one], 0, 0.3, cache)
        combine([base, one, two], "ties", [0.3, 0.5], cache)
        sweeps.clear()
        interpolate([one, base], 1, 0.3, cache)
        combine([two, one, base], "ties", [0.5, 0.3], cache, base=2)
        assert not sweeps
        combine([three, one, base], "ties", [0.5, 0.3], cache, base=2)
    assert {each.positions for each in sweeps} == {(0,)}


def test_random_masks_are_known_by_their_seed_and_place(
    family: list[Path], tmp_path: Path, sweeps: list[Any]
) -> None:
    with open_findings(tmp_path, GIGA) as cache:
        combine(family[:3], "dare_ties", [0.5, 0.5], cache, rescale=True, seed=1)
        sweeps.clear()
        combine(family[:3], "dare_ties", [0.5, 0.5], cache, rescale=True, seed=1)
        assert not sweeps
        combine(family[:3], "dare_ties", [0.5, 0.5], cache, rescale=True, seed=2)
        again = len(sweeps)
        combine([family[0], family[2], family[1]], "dare_ties", [0.5, 0.5], cache, rescale=True, seed=2)
        assert len(sweeps) == 2 * again == 2 * len(SHAPES)


def test_what_changed_is_never_recalled(family: list[Path], tmp_path: Path, sweeps: list[Any]) -> None:
    model = tmp_path / "model"
    model.mkdir()
    write_weights(model, read_checkpoint(family[1]))
    settle(model)
    file = model / "model.safetensors"
    before = file.stat()
    with open_findings(tmp_path, GIGA) as cache:
        combine([family[0], model], "ties", [0.3], cache)
        with file.open("r+b") as data:  # the same inode, size, header and modification time as before
            data.seek(-4, os.SEEK_END)
            data.write(b"\x12\x34\x56\x42")
        os.utime(file, ns=(before.st_mtime_ns, before.st_mtime_ns))
        sweeps.clear()
        changed = combine([family[0], model], "ties", [0.3], cache)
        assert len(sweeps) == len(SHAPES)
    assert changed == combine([family[0], model], "ties", [0.3], None)


def test_a_file_that_was_just_written_has_no_mark(tmp_path: Path) -> None:
    write_weights(tmp_path, {"w": np.ones(4, dtype=np.float32)})
    assert file_marks(open_checkpoint(tmp_path)) == (None,)
    settle(tmp_path)
    checkpoint = open_checkpoint(tmp_path)
    (mark,) = file_marks(checkpoint)
    assert mark is not None
    os.utime(tmp_path / "model.safetensors", ns=(0, LONG_AGO - 1))
    assert file_marks(checkpoint) == (None,)
    assert file_marks(open_checkpoint(tmp_path)) != (mark,)


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


NUMBERS: tuple[int | float, ...] = (3, 2**62, -1.5, 5e-324, float("inf"))


def test_numbers_come_back_from_disk_as_they_were(tmp_path: Path) -> None:
    with open_findings(tmp_path, GIGA) as cache:
        cache.remember(key(1), NUMBERS)
    with open_findings(tmp_path, GIGA) as cache:
        found = cache.recall(key(1), 5)
        assert found == NUMBERS
        assert [type(each) for each in found or ()] == [type(each) for each in NUMBERS]
        assert cache.recall(key(2), 5) is None


def test_a_wrong_number_of_numbers_is_a_miss(tmp_path: Path) -> None:
    with open_findings(tmp_path, GIGA) as cache:
        cache.remember(key(1), NUMBERS)
    with open_findings(tmp_path, GIGA) as cache:
        assert cache.recall(key(1), 4) is None


def test_without_room_on_disk_findings_last_as_long_as_the_job(tmp_path: Path) -> None:
    with open_findings(tmp_path, 0) as cache:
        cache.remember(key(1), NUMBERS)
        assert cache.recall(key(1), 5) == NUMBERS
    assert not list(tmp_path.iterdir())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    spots=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=600)), max_size=4
    ),
    cut=st.none() | st.floats(0, 1),
)
def test_damage_is_a_miss_and_never_an_error_or_another_number(
    spots: list[tuple[float, bytes]], cut: float | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("store")
    store = FindingStore(folder, GIGA)
    for number in range(100):
        store.remember(key(number), (number, number / 7))
    store.close()
    data = bytearray((folder / FILE).read_bytes())
    for where, what in spots:
        start = int(where * len(data))
        data[start : start + len(what)] = what
    (folder / FILE).write_bytes(data if cut is None else data[: int(cut * len(data))])
    for _ in range(2):
        store = FindingStore(folder, GIGA)
        for number in range(100):
            assert store.recall(key(number)) in (None, (number, number / 7))
        store.remember(key(7), (7, 1.0))
        store.close()


def test_an_entry_under_another_key_does_not_prove_itself(tmp_path: Path) -> None:
    store = FindingStore(tmp_path, GIGA)
    store.remember(key(1), NUMBERS)
    store.close()
    with sqlite3.connect(tmp_path / FILE) as raw:
        raw.execute("UPDATE findings SET key = ?", (key(2),))
    store = FindingStore(tmp_path, GIGA)
    assert store.recall(key(2)) is None
    store.close()


def test_a_place_that_cannot_be_used_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with open_findings(tmp_path, GIGA) as cache:
        cache.remember(key(1), NUMBERS)
        assert cache.recall(key(1), 5) == NUMBERS


def test_a_file_that_is_no_database_is_replaced(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"no database at all" * 1000)
    store = FindingStore(tmp_path, GIGA)
    store.remember(key(1), NUMBERS)
    store.close()
    store = FindingStore(tmp_path, GIGA)
    assert store.recall(key(1)) == NUMBERS
    store.close()


def test_the_file_stays_below_its_limit_and_forgets_what_was_used_longest_ago(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hour = [0]
    monkeypatch.setattr(finding_store, "_stamp", lambda: hour[0])
    limit = 200_000
    store = FindingStore(tmp_path, limit)
    for number in range(20_000):
        hour[0] = number // 1000
        store.remember(key(number), (number, number / 7, number / 9))
        if number % 500 == 0:
            store.recall(key(0))
    store.close()
    assert (tmp_path / FILE).stat().st_size <= limit * 1.1
    store = FindingStore(tmp_path, limit)
    assert store.recall(key(0)) is not None
    assert store.recall(key(1)) is None
    assert store.recall(key(19_999)) is not None
    store.close()


WRITER = """
import sys
from pathlib import Path
from alloyd_daemon.engine.finding_store import FindingStore
store = FindingStore(Path(sys.argv[1]), 10**9)
first, last = int(sys.argv[2]), int(sys.argv[3])
print("begun", flush=True)
for number in range(first, last):
    store.remember(number.to_bytes(16, "big"), (number, number / 7))
store.close()
"""


def writer(folder: Path, first: int, last: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(folder), str(first), str(last)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_jobs_that_write_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    FindingStore(tmp_path, GIGA).close()
    with ExitStack() as stack:
        running = [
            stack.enter_context(writer(tmp_path, *span)) for span in ((0, 5000), (4000, 9000), (8000, 12_000))
        ]
        assert [each.wait(240) for each in running] == [0, 0, 0]
    store = FindingStore(tmp_path, GIGA)
    for number in range(12_000):
        assert store.recall(key(number)) == (number, number / 7)
    store.close()


def test_a_killed_job_leaves_a_store_that_others_can_use(tmp_path: Path) -> None:
    FindingStore(tmp_path, GIGA).close()
    for pause in (0.0, 0.05, 0.2):
        with writer(tmp_path, 0, 10**9) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(pause)
            process.kill()
        store = FindingStore(tmp_path, GIGA)
        store.remember(key(10**10), NUMBERS)
        store.close()
    store = FindingStore(tmp_path, GIGA)
    assert store.recall(key(10**10)) == NUMBERS
    for number in range(2000):
        assert store.recall(key(number)) in (None, (number, number / 7))
    store.close()


def test_the_memory_of_a_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    from alloyd_daemon.engine import findings

    monkeypatch.setattr(findings, "IN_MEMORY", 3)
    cache = FindingCache()
    for number in range(5):
        cache.remember(key(number), (number,))
        cache.recall(key(0), 1)
    assert [cache.recall(key(number), 1) is not None for number in range(5)] == [
        True,
        False,
        False,
        True,
        True,
    ]
