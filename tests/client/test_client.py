"""The Python clients, sync and async: against real daemons that stop, die, are started, or are of another version."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import alloyd
from alloyd import AsyncClient, Client, spawn, wire
from alloyd.errors import (
    DaemonUnreachable,
    HomeBusy,
    RecipeError,
    ServiceError,
    StoreError,
    UsageError,
    VersionMismatch,
    WaitTimedOut,
)
from alloyd.jobs import JobState, VerifySpec
from alloyd.paths import Home, lock_holder
from alloyd.specs import merge_spec, recipe_fields
from alloyd.strict_yaml import documents
from alloyd.verdicts import check_version
from trial_daemon import PATIENCE, TrialDaemon, eventually, let_go, lines, trial


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[TrialDaemon]:
    with TrialDaemon(tmp_path / "home") as running:
        yield running


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Home]:
    """A home without a daemon; one that a test starts is stopped at the end."""
    runtime = tempfile.mkdtemp(prefix="alloyd-", dir="/tmp")
    monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(part for part in sys.path if part))
    home = Home(Path(os.path.realpath(tmp_path / "fresh")))
    yield home
    holder = lock_holder(home)
    if holder:
        psutil.Process(holder).terminate()
        eventually(lambda: lock_holder(home) is None)
    shutil.rmtree(runtime)


def test_the_public_face() -> None:
    for name in alloyd.__all__:
        assert getattr(alloyd, name) is not None
    with pytest.raises(AttributeError):
        _ = alloyd.absent  # type: ignore[attr-defined]


def test_recipes_are_taken_as_file_text_or_mapping(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("merge_method: linear\n")
    spec = merge_spec(tmp_path / "r.yaml", tmp_path / "out", {"memory": 5})
    assert spec.recipe == "merge_method: linear\n"
    assert (spec.base_dir, spec.out, spec.memory, spec.recipe_name) == (
        os.getcwd(), str(tmp_path / "out"), 5, "r.yaml",
    )  # fmt: skip
    assert recipe_fields("a: 1\n")["recipe"] == "a: 1\n"
    assert json.loads(recipe_fields({"merge_method": "linear"})["recipe"]) == {"merge_method": "linear"}
    named = {"merge_method": "linear", "models": [{"model": "/模型/\N{LLAMA}\u2028\x85\\ud83d"}]}
    assert documents(recipe_fields(named)["recipe"], name="recipe")[0].value == named
    with pytest.raises(UsageError, match="cannot be read"):
        recipe_fields(tmp_path / "absent.yaml")
    (tmp_path / "latin").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="not text in UTF-8"):
        recipe_fields(tmp_path / "latin")
    with pytest.raises(UsageError, match="unknown field `memroy`") as caught:
        merge_spec(tmp_path / "r.yaml", tmp_path / "out", {"memroy": 5})
    assert caught.value.hint == "Did you mean 'memory'?"
    with pytest.raises(UsageError, match="Expected `int") as caught:
        merge_spec(tmp_path / "r.yaml", tmp_path / "out", {"memory": "512MiB"})
    assert "memory is a number of bytes" in caught.value.hint


def test_a_follower_misses_nothing_when_the_daemon_is_killed(daemon: TrialDaemon, tmp_path: Path) -> None:
    seen: list[int] = []
    with daemon.client() as client:
        job = client.submit(trial(tmp_path / "out", 120, at={5: "note", 50: "hold", 100: "note"}))
        noted = threading.Event()

        def kill() -> None:
            noted.wait(PATIENCE)
            daemon.kill()
            let_go(tmp_path / "out")
            daemon.start()

        killer = threading.Thread(target=kill)
        killer.start()
        for event in client.events(job.id, follow=True, timeout=PATIENCE):
            if event.kind == "note":
                noted.set()
            if event.seq:
                seen.append(event.seq)
        killer.join()
        assert seen == [event.seq for event in client.events(job.id)]
        assert client.job(job.id).attempts == 2
    assert (tmp_path / "out").read_text() == lines(120)


def test_a_follower_learns_that_the_daemon_was_stopped(
    daemon: TrialDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alloyd.follow.REPLACEMENT", 0.5)
    with daemon.client() as client:
        job = client.submit(trial(tmp_path / "out", at={2: "note", 3: "hold"}))
        stop = threading.Thread(target=daemon.terminate)

        def follow() -> None:
            for event in client.events(job.id, follow=True):
                if event.kind == "note":
                    stop.start()

        with pytest.raises(DaemonUnreachable, match=f"the daemon was stopped; {job.id} is kept"):
            follow()
        stop.join()


def test_two_follow_one_job_and_each_sees_all(daemon: TrialDaemon, tmp_path: Path) -> None:
    with daemon.client() as client:
        job = client.submit(trial(tmp_path / "out", 30, pause=0.03))
        other: list[int] = []

        def follow() -> None:
            with daemon.client() as second:
                other.extend(event.seq for event in second.events(job.id, follow=True) if event.seq)

        thread = threading.Thread(target=follow)
        thread.start()
        mine = [event.seq for event in client.events(job.id, follow=True) if event.seq]
        thread.join()
    assert mine == other


def test_the_async_client_does_what_the_sync_one_does(daemon: TrialDaemon, tmp_path: Path) -> None:
    async def story() -> None:
        async with AsyncClient(home=daemon.home.root, autostart=False) as client:
            assert (await client.hello()).pid == daemon.pid
            one = await client.submit(trial(tmp_path / "one", 20, pause=0.02))
            two = await client.submit(trial(tmp_path / "two", 3, at={1: "refuse"}))
            ends = await asyncio.gather(client.wait(one.id), client.wait(two.id), return_exceptions=True)
            assert not isinstance(ends[0], BaseException)
            assert ends[0].state is JobState.DONE
            assert isinstance(ends[1], RecipeError)
            stored = [event.seq async for event in client.events()]
            assert stored == list(range(1, len(stored) + 1))
            assert (await client.verify(tmp_path))["path"] == str(tmp_path)
            three = await client.submit(trial(tmp_path / "three", 50_000, pause=0.02))
            with pytest.raises(WaitTimedOut):
                await client.wait(three.id, timeout=0.5)
            ticks = [event async for event in _first(client, three.id, 3)]
            assert {tick.kind for tick in ticks} == {"progress"}
            await client.pause(three.id)
            while (await client.job(three.id)).state is not JobState.PAUSED:
                await asyncio.sleep(0.05)
            await client.resume(three.id)
            await client.cancel(three.id)
            assert [job.id for job in await client.jobs(limit=2)] == ["verify-3", "merge-4"]
            assert (await client.status()).pid == daemon.pid
            assert (await client.config()).values["jobs.parallel"] == 1
            assert (await client.log(one.id)).end
            many = await asyncio.gather(*(client.job(one.id) for _ in range(50)))
            assert {job.id for job in many} == {one.id}
            await client.shutdown()

    async def _first(client: AsyncClient, job: str, count: int):  # type: ignore[no-untyped-def]
        async for event in client.events(job, since=-1, follow=True):
            if event.kind == "progress":
                count -= 1
                yield event
            if not count:
                return

    asyncio.run(story())
    assert daemon.process is not None
    assert daemon.process.wait(PATIENCE) == 0


def test_an_async_follower_outlives_a_daemon(daemon: TrialDaemon, tmp_path: Path) -> None:
    async def story() -> None:
        async with AsyncClient(home=daemon.home.root, autostart=False) as client:
            job = await client.submit(trial(tmp_path / "out", 80, at={40: "hold"}))
            following = asyncio.create_task(client.wait(job.id, timeout=PATIENCE))
            await asyncio.to_thread(eventually, (tmp_path / "out.partial").exists)
            await asyncio.to_thread(daemon.kill)
            let_go(tmp_path / "out")
            await asyncio.to_thread(daemon.start)
            assert (await following).attempts == 2

    asyncio.run(story())
    assert (tmp_path / "out").read_text() == lines(80)


def test_other_versions_are_refused_with_a_way_out(daemon: TrialDaemon) -> None:
    here = wire.Connection(1, alloyd.__version__, wire.PROTOCOL, "", "")
    check_version(here, strict=True)
    older = wire.Connection(1, "0.0.9", wire.PROTOCOL, "", "")
    with pytest.raises(VersionMismatch, match=r"the daemon is older: it is alloyd 0\.0\.9") as caught:
        check_version(older, strict=True)
    assert "alloy restart" in caught.value.hint
    check_version(older, strict=False)
    with pytest.raises(VersionMismatch, match="newer"):
        check_version(wire.Connection(1, "9.0.0", "2.0", "", ""), strict=False)
    said = json.loads(daemon.home.connection.read_text())
    daemon.home.connection.write_text(json.dumps({**said, "software": "0.0.1"}))
    with daemon.client() as client, pytest.raises(VersionMismatch):
        client.status()
    with daemon.client(strict=False) as client:
        assert client.status().pid == daemon.pid


def test_a_daemon_that_does_not_answer_is_told_from_one_that_is_gone(daemon: TrialDaemon) -> None:
    with daemon.client() as client, daemon.client(timeout=1.0) as hasty:
        client.hello()
        psutil.Process(daemon.pid).suspend()
        with pytest.raises(DaemonUnreachable, match=r"lives but has not answered for 1 s"):
            hasty.hello()
        psutil.Process(daemon.pid).resume()
        client.hello()
        daemon.kill()
        with pytest.raises(DaemonUnreachable, match="no daemon runs"):
            client.hello()


def test_a_daemon_is_started_when_none_runs_and_again_when_it_died(fresh: Home) -> None:
    with Client(home=fresh.root) as client:
        first = client.hello().pid
        assert lock_holder(fresh) == first
        os.kill(first, 9)
        second = client.hello().pid
        assert second != first
        client.shutdown()
        eventually(lambda: lock_holder(fresh) is None)
    assert "serves" in fresh.log("daemon").read_text()


def test_of_many_clients_at_once_one_starts_the_daemon(fresh: Home) -> None:
    code = f"from alloyd import Client; print(Client(home={str(fresh.root)!r}).hello().pid)"
    many = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(5)
    ]
    said = {process.communicate(timeout=60)[0] for process in many}
    assert len(said) == 1
    assert said.pop().strip() == str(lock_holder(fresh))


def test_a_daemon_that_cannot_start_says_why(fresh: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh.create()
    fresh.store.write_text("no database" * 500)
    with Client(home=fresh.root) as client, pytest.raises(StoreError, match="damaged"):
        client.hello()
    fresh.store.unlink()
    monkeypatch.setenv("ALLOYD_JOBS_PARALLEL", "none")
    with Client(home=fresh.root) as client, pytest.raises(UsageError, match=r"jobs\.parallel"):
        client.hello()
    monkeypatch.setenv("ALLOYD_JOBS_PARALLEL", "1")
    monkeypatch.setenv("ALLOYD_DAEMON_ENDPOINT", "tcp://127.0.0.1:1")
    with Client(home=fresh.root) as client, pytest.raises(ServiceError, match="CURVE"):
        client.hello()


def test_a_private_daemon_ends_with_its_client(fresh: Home, tmp_path: Path) -> None:
    client = Client(private=True)
    pid = client.hello().pid
    assert client.home.root != fresh.root
    job = client.submit(VerifySpec(str(tmp_path / "absent")))
    with pytest.raises(alloyd.AlloydError):
        client.wait(job.id)
    client.close()
    assert not psutil.pid_exists(pid)
    assert not client.home.root.exists()


def test_a_private_daemon_does_not_outlive_a_killed_client(fresh: Home) -> None:
    code = "from alloyd import Client; c = Client(private=True); print(c.hello().pid, flush=True); input()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], text=True, **pipes) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.kill()
    eventually(lambda: not psutil.pid_exists(pid))


def test_a_light_install_says_what_is_missing(fresh: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spawn.importlib.util, "find_spec", lambda name: None)
    with Client(home=fresh.root) as client, pytest.raises(DaemonUnreachable) as caught:
        client.hello()
    assert "alloyd[daemon]" in caught.value.hint


def test_a_home_that_is_taken_is_told_by_the_daemon(daemon: TrialDaemon) -> None:
    from alloyd_daemon.main import take_lock

    with pytest.raises(HomeBusy) as caught:
        take_lock(daemon.home)
    assert caught.value.facts["pid"] == str(daemon.pid)
