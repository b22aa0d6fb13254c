"""Keys from another machine: what each may do, and what becomes of those that may not."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from alloyd import AsyncClient
from alloyd.errors import AccessDenied, DaemonUnreachable, ServiceError
from alloyd.jobs import JobState, MergeSpec
from alloyd.key_files import make
from alloyd.roles import Role
from remote.conftest import Far
from trial_daemon import PATIENCE, eventually, lines, trial


def far_trial(far: Far, name: str, steps: int = 3) -> MergeSpec:
    return trial(far.root / name, steps)


def test_a_merge_is_ordered_from_another_home(far: Far) -> None:
    far.key("laptop", Role.SUBMIT)
    with far.client("laptop") as client:
        job = client.submit(far_trial(far, "out"))
        assert client.wait(job.id, timeout=PATIENCE).state is JobState.DONE
        seen = [event.body.get("state") for event in client.events(job.id) if event.kind == "state"]
    assert (far.root / "out").read_text() == lines(3)
    assert seen == ["queued", "running", "done"]


def test_the_client_for_asyncio_too(far: Far) -> None:
    far.key("laptop", Role.SUBMIT)

    async def go() -> JobState:
        async with AsyncClient(connect="laptop", timeout=PATIENCE) as client:
            job = await client.submit(far_trial(far, "out"))
            return (await client.wait(job.id, timeout=PATIENCE)).state

    assert asyncio.run(go()) is JobState.DONE


def test_relative_paths_start_in_the_first_root(far: Far) -> None:
    far.key("laptop", Role.SUBMIT)
    spec = MergeSpec(recipe=far_trial(far, "x").recipe, base_dir="", out="deeper")
    with far.client("laptop") as client:
        job = client.wait(client.submit(spec).id, timeout=PATIENCE)
    assert job.out == str(far.root / "deeper")
    assert job.spec["roots"] == [str(far.root)]


def test_an_unknown_key_is_refused_and_told_so(far: Far) -> None:
    pair = far.key("stranger", None)
    with far.client("stranger") as client, pytest.raises(AccessDenied, match="does not let this key in"):
        client.status()
    eventually(lambda: pair.public in far.log)


def test_a_wrong_server_key_is_told_with_both_causes(far: Far, tmp_path: Path) -> None:
    far.key("laptop", Role.ADMIN, server_key=make(tmp_path / "others", "other").public)
    with (
        far.client("laptop") as client,
        pytest.raises(DaemonUnreachable, match="does not know your key") as told,
    ):
        client.status()
    assert "not the server key of the profile" in told.value.message


def test_nobody_there_is_told(far: Far) -> None:
    far.daemon.terminate()
    far.key("laptop", Role.READ)
    with (
        far.client("laptop", timeout=1.0) as client,
        pytest.raises(DaemonUnreachable, match="nothing listens"),
    ):
        client.status()


def test_a_key_that_may_read_may_not_submit(far: Far) -> None:
    far.key("screen", Role.READ)
    with far.client("screen") as client:
        assert client.jobs() == []
        assert client.status().home == str(far.daemon.home.root)
        with pytest.raises(AccessDenied, match="'submit' needs the role submit"):
            client.submit(far_trial(far, "out"))
        for denied in (client.shutdown, client.config):
            with pytest.raises(AccessDenied, match="needs the role admin"):
                denied()
    eventually(lambda: "refused the key 'screen': submit" in far.log)
    assert not (far.root / "out").exists()


def test_a_revoked_key_ends_at_its_next_message(far: Far) -> None:
    far.key("laptop", Role.SUBMIT)
    with far.client("laptop") as client:
        client.status()
        far.keys.remove("laptop")
        with pytest.raises(AccessDenied, match="was revoked"):
            client.status()
    with far.client("laptop") as client, pytest.raises(AccessDenied, match="does not let this key in"):
        client.status()


def test_a_changed_role_counts_at_once(far: Far) -> None:
    pair = far.key("laptop", Role.READ)
    with far.client("laptop") as client:
        with pytest.raises(AccessDenied):
            client.submit(far_trial(far, "out"))
        far.keys.add("laptop", pair.public, Role.SUBMIT)
        client.wait(client.submit(far_trial(far, "out")).id, timeout=PATIENCE)


def test_a_revoked_key_hears_no_more_events(far: Far) -> None:
    import zmq

    from alloyd import connecting

    pair = far.key("screen", Role.READ)
    assert pair
    remote = connecting.remote("screen")
    assert remote is not None
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(zmq.SUB)
    try:
        socket.subscribe(b"")
        remote.dress(socket)
        socket.connect(remote.profile.events)
        assert socket.poll(int(PATIENCE * 1000))
        far.keys.remove("screen")
        eventually(lambda: "every remote subscriber" in far.log)

        def quiet() -> bool:
            if not socket.poll(2500):
                return True
            socket.recv_multipart()  # it was on its way
            return False

        eventually(quiet)
    finally:
        context.destroy(0)


def test_events_go_on_for_others_when_a_key_is_revoked(far: Far) -> None:
    far.key("laptop", Role.SUBMIT)
    far.key("other", Role.READ)
    with far.client("laptop") as client:
        job = client.submit(trial(far.root / "out", 40, pause=0.1))
        seen = []
        for event in client.events(job.id, follow=True, timeout=PATIENCE):
            if not seen:
                far.keys.remove("other")
            seen.append(event)
        assert client.job(job.id).state is JobState.DONE
    stored = [event.seq for event in seen if event.seq]
    assert stored == sorted(set(stored))


def test_a_client_outlives_a_restart_of_the_daemon(far: Far) -> None:
    far.key("laptop", Role.SUBMIT)
    with far.client("laptop") as client:
        client.status()
        far.daemon.terminate()
        far.daemon.start()
        assert client.status().pid == far.daemon.pid


def test_the_same_message_twice_makes_one_job(far: Far) -> None:
    from alloyd import wire
    from alloyd.jobs import Job, spec_fields

    far.key("laptop", Role.SUBMIT)
    with far.client("laptop") as client:
        client.status()
        name, frames = wire.ask(wire.Submit(spec_fields(far_trial(far, "out")), "token"), "session")
        jobs = []
        for _ in range(3):
            assert client._requests is not None
            client._requests.send_multipart(frames)
            reply = client._await(name, frames, 10.0)
            assert reply is not None
            jobs.append(wire.read_answer(reply, Job).id)
        assert len(set(jobs)) == 1


@pytest.mark.parametrize("far", [{"RATE": "2"}], indirect=True)
def test_a_key_that_asks_too_often_waits(far: Far) -> None:
    far.key("laptop", Role.READ)
    with far.client("laptop") as client:
        begun = time.monotonic()
        for _ in range(12):
            client.status()
        assert time.monotonic() - begun > 1.0
    assert "more than 2 times a second" in far.log
    with far.daemon.client() as local:  # and nobody else waits for it
        begun = time.monotonic()
        for _ in range(50):
            local.status()
        assert time.monotonic() - begun < 50 / 2 / 2, "half of what it takes at two a second"


def test_without_server_keys_it_does_not_start(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "alloyd_daemon", "--home", str(tmp_path / "home")],
        env={
            **os.environ,
            "ALLOYD_REMOTE_LISTEN": "tcp://127.0.0.1:0",
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 9
    assert "needs the server's own keys" in done.stderr
    assert "alloy keys new" in done.stderr


def test_a_key_list_that_is_damaged_lets_nobody_in(far: Far) -> None:
    far.key("laptop", Role.ADMIN)
    with far.client("laptop") as client:
        client.status()
        (far.daemon.home.keys / "authorized.json").write_text('{"laptop": 5}')
        with pytest.raises(ServiceError, match="no remote key is let in"):
            client.status()
