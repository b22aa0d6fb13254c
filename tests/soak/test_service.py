"""The soak of the service: many small jobs from eight clients and a watched folder, while all that can be killed is
killed and files are damaged. Every job ends right, no event is missed or doubled, nothing is left, memory stays.

The daemon itself is killed only during the first jobs. The next one then has some forty jobs to get warm, while
SQLite's few pages and ZeroMQ's pipes fill up; over the ends of the last 400 its memory is measured, and its children
and files are treated no better than before.
"""

from __future__ import annotations

import json
import os
import random
import selectors
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from alloyd import Client
from alloyd.jobs import Event, Finished, JobState
from alloyd.paths import Home, lock_holder
from alloyd_daemon.job import JOBS, Context
from alloyd_daemon.settings import Settings
from benchmarks.shapes import of_size, write
from checkpoint_factory import Model, write_family
from soak import remains, story, trials
from soak.bench import FLIPPED, RECIPES, Bench, digests, flip
from soak.ear import Ear
from soak.havoc import Havoc
from trial_daemon import eventually

ROOT: Final = Path(__file__).parents[2]
CLIENTS: Final = 8
SEED: Final = int(os.environ.get("ALLOYD_SEED", "5"))
# How often each deed is done, in all but the first round, in which each is done once.
SHARES: Final = {
    "plain": 20, "struck": 12, "paused": 10, "broken": 10, "cancelled": 8, "emptied": 5, "mended": 5, "followed": 5,
    "verified": 5, "rotten": 5, "forced": 4, "twice": 4, "taken": 4, "planned": 3,
}  # fmt: skip
NAMED_BY_NUMBER: Final = ("README.md", "alloyd_manifest.json", "alloyd_recipe.yaml")
"""Files of a dropped recipe's output that hold its text, and so its number."""


@dataclass(frozen=True, slots=True)
class Size:
    """So many ``jobs``, ``drops`` of them by the watched folder; daemons are killed until ``settled`` jobs have ended.

    ``heavy`` are deeds that load torch, done once each. ``slope``: whether the daemon's memory is measured.
    """

    jobs: int
    drops: int
    settled: int
    kills: int
    heavy: tuple[str, ...] = ()
    slope: bool = False


SLICE: Final = Size(jobs=40, drops=5, settled=25, kills=2)
WHOLE: Final = Size(jobs=500, drops=50, settled=60, kills=8, heavy=("scored", "searched"), slope=True)
LAST: Final = 400
"""The jobs over whose ends the daemon's memory is looked at."""


@dataclass
class Soak:
    """One run: where it lies, what it may find, and what was seen."""

    folder: Path
    size: Size
    mark: str
    wanted: dict[str, Any] = field(default_factory=dict)
    callers: list[subprocess.Popen[str]] = field(default_factory=list)
    # After each job's end: which daemon lived, and the memory it occupied.
    ends: list[tuple[int, int]] = field(default_factory=list)

    @property
    def home(self) -> Home:
        return Home(self.folder / "home")

    @property
    def drop(self) -> Path:
        return self.folder / "drop"

    def hear(self, event: Event) -> None:
        if event.kind == "state" and event.job and JobState(event.body["state"]).ended:
            daemon = lock_holder(self.home) or 0
            try:
                self.ends.append((daemon, remains.resident(daemon)))
            except OSError:  # it was killed in this moment
                self.ends.append((0, 0))


@pytest.fixture
def soak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Soak]:
    folder = Path(os.path.realpath(tmp_path))
    for name in ("work", "wanted", "drop", "tmp", "alone"):
        (folder / name).mkdir()
    with tempfile.TemporaryDirectory(prefix="soak-") as runtime:
        mark = f"{os.getpid()} {time.time_ns()}"
        path = os.pathsep.join([str(ROOT / "tests"), *(part for part in sys.path if part)])
        for name, value in {
            remains.MARK: mark,
            "PYTHONPATH": path,
            "XDG_RUNTIME_DIR": runtime,
            "TMPDIR": str(folder / "tmp"),
            "ALLOYD_JOBS_PARALLEL": "2",
            "ALLOYD_JOBS_MEMORY": "2GB",
        }.items():
            monkeypatch.setenv(name, value)
        made = Soak(folder, request.param, mark)
        try:
            yield made
        finally:
            for each in remains.processes(mark):
                each.kill()
            for caller in made.callers:
                caller.wait(10)


@pytest.mark.timeout(7000)
@pytest.mark.parametrize(
    "soak",
    [pytest.param(SLICE, id="slice"), pytest.param(WHOLE, id="whole", marks=pytest.mark.soak)],
    indirect=True,
)
def test_the_service_outlives_all_that_is_done_to_it(soak: Soak) -> None:
    print(f"seed {SEED} (ALLOYD_SEED)")
    before = remains.shared_memory()
    prepare(soak)
    make_plan(soak)
    with Client(home=soak.home.root) as client:
        client.watch_add(soak.drop, settle=0.1, rescan=2, in_flight=4)
        havoc = Havoc(soak.home, SEED, daemons=soak.size.kills, settled=soak.size.settled)
        ear = Ear(soak.home.root, (soak.hear, havoc.hear))
        ear.start()
        client.verify(soak.folder / "wanted" / "linear")
        eventually(lambda: ear.heard and client.watches()[0].state == "ok", seconds=60)  # all are connected
        at_first = remains.handles(client.status().pid)
        havoc.start()
        dropped = run(soak)
        havoc.stop()
        reports = collect(soak, client, ear)
        events = story.stored(soak.home.store)
        tell(soak, havoc, reports, events)
        check_orders(soak, reports, events)
        check_drops(soak, dropped)
        check_listeners(ear, reports, events)
        ends = list(soak.ends)
        tidy(client)
        left = remains.unfinished(soak.folder / "work", soak.drop, soak.home.root)
        assert not left, left
        at_last = remains.settled_handles(client.status().pid, at_first)
        assert at_last == at_first, f"{at_last - at_first} more, {at_first - at_last} less"
        ear.over = True
        client.shutdown()
    eventually(lambda: not remains.processes(soak.mark), seconds=30)
    # Torch has one folder for the kernels of all its processes.
    assert {each.name.split("_")[0] for each in (soak.folder / "tmp").iterdir()} <= {"torchinductor"}
    assert not list(Path(os.environ["XDG_RUNTIME_DIR"]).rglob("*.*")), "a socket was left"
    strange = [each for each in remains.shared_memory() - before if not remains.held(each)]
    assert not strange, strange
    if soak.size.slope:
        check_memory(ends[-LAST:])


def prepare(soak: Soak) -> None:
    """Models, and what the merges, the score and the search give when nobody disturbs them."""
    models = soak.folder / "models"
    write_family(models / "tiny", Model(), tunes=2, shards=2)
    write(models / "10M", of_size("10M"), models=3)
    write_family(soak.drop / "models", Model(), tunes=2, shards=2)
    settings = Settings()

    def merge(recipe: str, name: str, *, flipped: bool) -> None:
        bench = Bench.make(soak.folder / "alone" / name, recipe, models)
        if flipped:
            flip(bench.own())
        reports = list(
            JOBS.get("merge").run(bench.spec(), Context(soak.folder / "alone", settings, "merge-1"))
        )
        assert isinstance(reports[-1], Finished)
        soak.wanted[name] = digests(bench.out)
        if not flipped:
            bench.out.rename(soak.folder / "wanted" / recipe)

    for recipe in RECIPES:
        merge(recipe, recipe, flipped=False)
        merge(recipe, recipe + FLIPPED, flipped=True)
    if soak.size.heavy:
        trials.write_tasks(soak.folder)
        with Client(private=True) as alone:
            scored = alone.wait(alone.submit(trials.score(soak.folder)).id)
            soak.wanted["score"] = trials.told_by_score(scored)
            searched = alone.wait(alone.submit(trials.search(soak.folder)).id)
            soak.wanted["search"] = trials.told_by_search(alone, searched)


def make_plan(soak: Soak) -> None:
    """Deal the orders out to the clients."""
    chance = random.Random(f"plan {SEED}")
    count = soak.size.jobs - soak.size.drops
    deeds = [*SHARES, *soak.size.heavy]
    deeds += chance.choices(list(SHARES), weights=list(SHARES.values()), k=count - len(deeds))
    chance.shuffle(deeds)
    usual, long = [name for name in RECIPES if name != "long"], 0.25
    orders = [
        {"number": n, "deed": deed, "recipe": "long" if chance.random() < long else chance.choice(usual)}
        for n, deed in enumerate(deeds)
    ]
    dealt = [orders[n::CLIENTS] for n in range(CLIENTS)]
    plan = {"home": str(soak.home.root), "seed": SEED, "wanted": soak.wanted, "orders": dealt}
    (soak.folder / "plan.json").write_text(json.dumps(plan))


def run(soak: Soak) -> dict[str, str]:
    """Let the clients work and drop recipes meanwhile; returns for each dropped file the folder it belongs into."""
    chance = random.Random(f"drops {SEED}")
    watched = selectors.DefaultSelector()
    for n in range(CLIENTS):
        command = [sys.executable, "-m", "soak.caller", str(soak.folder), str(n)]
        caller = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        soak.callers.append(caller)
        assert caller.stdout is not None
        watched.register(caller.stdout, selectors.EVENT_READ)
    dropped: dict[str, str] = {}
    deadline = time.monotonic() + 30 + 10 * soak.size.jobs
    while watched.get_map() or len(dropped) < soak.size.drops or not put_away(soak, dropped):
        assert time.monotonic() < deadline, "the soak does not come to its end"
        for key, _ in watched.select(0.1):
            assert key.fileobj.readline() == "done\n", "a client died"  # type: ignore[union-attr]
            watched.unregister(key.fileobj)
        if not watched.get_map():
            time.sleep(0.1)
        due = len(soak.ends) * soak.size.drops / (0.8 * soak.size.jobs)
        if len(dropped) < min(soak.size.drops, due) or not watched.get_map():
            drop_one(soak, dropped, chance)
    return dropped


def drop_one(soak: Soak, dropped: dict[str, str], chance: random.Random) -> None:
    """Drop a recipe: one in five is wrong, one names what it may not read, and some come slowly."""
    if len(dropped) >= soak.size.drops:
        return
    number, kind = len(dropped), chance.random()
    recipe = chance.choice([each for each in RECIPES if each != "long"])
    text = f"# {number}\n{RECIPES[recipe][1]}".replace("model: ", "model: models/").replace(
        "base_model: ", "base_model: "
    )
    text = text.replace("base_model: ", "base_model: models/").replace("models/models/", "models/")
    if kind < 0.2:
        text = text.replace("merge_method", "merge_methods")
    elif kind < 0.3:
        text = text.replace("models/tune-1", str(soak.folder / "models" / "tiny" / "tune-1"))
    name = f"{recipe}-{number}.yaml"
    half = len(text) // 2
    with (soak.drop / name).open("w") as file:
        file.write(text[:half])
        file.flush()
        if chance.random() < 0.2:
            time.sleep(0.05)
        file.write(text[half:])
    dropped[name] = "failed" if kind < 0.3 else "done"


def put_away(soak: Soak, dropped: dict[str, str]) -> bool:
    """Whether everything that was dropped has come to its end."""
    there = {each.name for where in ("done", "failed") for each in (soak.drop / where).rglob("*.yaml")}
    return there >= dropped.keys()


def collect(soak: Soak, client: Client, ear: Ear) -> list[dict[str, Any]]:
    """The clients' reports, once each has heard the last event."""
    quiet = (JobState.QUEUED, JobState.RUNNING, JobState.PAUSED)
    eventually(lambda: not client.jobs(quiet), seconds=60)
    last = client.status().last_event
    for caller in soak.callers:
        assert caller.stdin is not None
        caller.stdin.write(f"{last}\n")
        caller.stdin.close()
    ear.hears(last)
    for caller in soak.callers:
        assert caller.wait(90) == 0
        assert caller.stdout is not None
        caller.stdout.close()
    return [json.loads((soak.folder / f"caller-{n}.json").read_text()) for n in range(CLIENTS)]


def tell(soak: Soak, havoc: Havoc, reports: list[dict[str, Any]], events: list[story.Told]) -> None:
    """What happened, for whoever reads the soak's output."""
    states = Counter(": ".join(filter(None, end)) for end in story.ends(events).values())
    troubles: Counter[str] = Counter()
    for report in reports:
        troubles.update(report["troubles"])
    print(f"{len(events)} events; jobs: {dict(states)}")
    print(f"killed: {dict(havoc.kills)}; clients met: {dict(troubles)}")
    print(f"following broke: {[each for report in reports for each in report['broken']]}")
    seconds = sorted((each["seconds"], each["deed"]) for report in reports for each in report["orders"])
    print(f"longest orders: {seconds[-5:]}")


def check_orders(soak: Soak, reports: list[dict[str, Any]], events: list[story.Told]) -> None:
    """Every order came out right, and every job is where its client saw it end."""
    wrong = [each for report in reports for each in report["orders"] if each["wrong"]]
    assert not wrong, "\n\n".join(f"{each['number']} {each['deed']}: {each['wrong']}" for each in wrong)
    ends = story.ends(events)
    assert len(ends) >= soak.size.jobs * 0.9
    for report in reports:
        for order in report["orders"]:
            for job, end in order["jobs"].items():
                assert list(ends[job]) == end, f"{job} ended as {end} and is {ends[job]}: {order}"


def check_drops(soak: Soak, dropped: dict[str, str]) -> None:
    """Each dropped file lies where it belongs, and its output is right."""
    for name, where in dropped.items():
        (file,) = soak.drop.rglob(name)
        assert file.relative_to(soak.drop).parts[0] == where, file
        if where == "failed":
            assert file.with_name(f"{name}.error.json").exists()
            continue
        wanted = soak.wanted[name.partition("-")[0]]
        found = digests(soak.drop / "out" / name.removesuffix(".yaml"))
        assert found.keys() == wanted.keys(), found
        assert all(found[each] == wanted[each] for each in found if each not in NAMED_BY_NUMBER), name


def check_listeners(ear: Ear, reports: list[dict[str, Any]], events: list[story.Told]) -> None:
    """Nine followers heard what the store holds: each event once, in order, none left out."""
    story.check_numbers(events)
    for heard in [ear.heard, *([story.Told(*each) for each in report["heard"]] for report in reports)]:
        assert heard == events


def tidy(client: Client) -> None:
    """Give up what has failed, as a user would: what it staged goes."""
    for job in client.jobs((JobState.FAILED,), limit=10_000):
        client.cancel(job.id)


def check_memory(last: Sequence[tuple[int, int]]) -> None:
    """One daemon lived through the last jobs, and its memory did not grow by more than 1 KiB with each."""
    assert len({pid for pid, _ in last}) == 1, "the daemon died after it was to be left alone"
    memory = [bytes_ / 1024 for _, bytes_ in last]
    grown = remains.slope(memory)
    parts = [f"{sum(memory[n : n + 50]) / 50:,.0f}" for n in range(0, LAST, 50)]
    print(f"memory of the daemon, KiB, means of 50 jobs: {' '.join(parts)}; {grown:+.3f} KiB a job")
    assert grown < 1.0
