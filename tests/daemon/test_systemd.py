"""The unit under a real systemd of the user, in a mount namespace and control groups of the test's own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from alloyd import Client
from alloyd.cli import main
from alloyd.paths import Home, lock_holder
from alloyd.service_unit import _quoted
from trial_daemon import CHILD, DAEMON, TESTS, eventually, trial

MANAGER = Path("/lib/systemd/systemd")
HIERARCHIES = [
    each
    for each in map(Path, ("/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup"))
    if (each / "cgroup.procs").exists()
]

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(
        os.getuid() != 0 or not MANAGER.exists() or not HIERARCHIES,
        reason="needs systemd, control groups and the rights to make some",
    ),
]

START = f"""
for each in {" ".join(map(str, HIERARCHIES))}; do mkdir -p $each/$1 && echo $$ > $each/$1/cgroup.procs || exit 1; done
mkdir -p /run/systemd && mount -t tmpfs tmpfs /run/systemd && mkdir /run/systemd/system || exit 1
exec {MANAGER} --user
"""


class Service:
    """What ``alloy service install`` made, under a manager that runs for the test alone."""

    def __init__(self, home: Home, log: Path) -> None:
        self.home = home
        self.log = log

    def order(self, *words: str) -> None:
        subprocess.run(["systemctl", "--user", *words], check=True, timeout=30)

    def say(self, what: str) -> str:
        command = ["systemctl", "--user", "show", "alloyd", "--value", "--property", what]
        return subprocess.run(command, check=True, timeout=30, capture_output=True, text=True).stdout.strip()

    @property
    def pid(self) -> int:
        return int(self.say("MainPID"))

    def client(self) -> Client:
        return Client(home=self.home.root, autostart=False)


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """The installed service; its jobs are throw-away ones, and its watchdog waits for two seconds only."""
    name = f"alloyd-test-{os.getpid()}"
    runtime = tempfile.mkdtemp(prefix="alloyd-", dir="/tmp")  # short, for the sockets in it
    monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS", raising=False)
    home = Home(tmp_path / 'a "home" 50%')
    log = tmp_path / "said"
    words = [sys.executable, "-c", DAEMON, repr(CHILD), "--home", str(home.root)]
    path = os.pathsep.join([TESTS, *(part for part in sys.path if part)])
    beside = tmp_path / "config" / "systemd" / "user" / "alloyd.service.d" / "test.conf"
    beside.parent.mkdir(parents=True)
    beside.write_text(
        f"[Service]\nExecStart=\nExecStart={' '.join(map(_quoted, words))}\n"
        f"Environment={_quoted('PYTHONPATH=' + path)}\n"
        f"WatchdogSec=2\nRestartSec=1\nStandardOutput=append:{log}\nStandardError=append:{log}\n"
    )
    with open(tmp_path / "manager.log", "wb") as told:
        manager = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", START, "sh", name],
            stdout=told,
            stderr=told,
            start_new_session=True,
        )
    try:
        eventually(lambda: manager.poll() is not None or Path(runtime, "systemd", "private").exists())
        if manager.poll() is not None:
            pytest.skip(f"no manager runs here: {(tmp_path / 'manager.log').read_text().strip()[-200:]}")
        assert main(["service", "install", "--home", str(home.root)]) == 0
        yield Service(home, log)
    finally:
        manager.terminate()
        manager.wait(120)
        for each in HIERARCHIES:
            for folder, _, _ in os.walk(each / name, topdown=False):
                os.rmdir(folder)
        shutil.rmtree(runtime)


def _begun(service: Service, client: Client, out: Path) -> tuple[str, psutil.Process]:
    """A job that runs for some seconds, and its process."""
    job = client.submit(trial(out, 60, pause=0.05)).id
    eventually(lambda: out.with_name(f"{out.name}.partial").exists())
    (child,) = psutil.Process(service.pid).children()
    return job, child


def test_it_starts_stops_and_tells_how_it_stands(service: Service, tmp_path: Path) -> None:
    assert service.say("ActiveState") == "active"
    assert lock_holder(service.home) == service.pid
    with service.client() as client:
        job, child = _begun(service, client, tmp_path / "out")
        eventually(lambda: service.say("StatusText") == "jobs: 1 running")
        service.order("reload", "alloyd")
        service.order("stop", "alloyd")
        assert (service.say("ActiveState"), service.say("Result")) == ("inactive", "success")
        assert not child.is_running(), "the daemon asked it to stop, and waited for it"
        assert b"59" not in (tmp_path / "out.partial").read_bytes()
        service.order("start", "alloyd")
        assert client.wait(job).state == "done"
        assert (tmp_path / "out").read_text().split() == [str(step) for step in range(60)]


@pytest.mark.parametrize(
    ("strike", "result", "said"),
    [
        (lambda pid: os.kill(pid, signal.SIGKILL), "signal", "9"),
        (lambda pid: os.kill(pid, signal.SIGSTOP), "watchdog", "6"),
    ],
    ids=["killed", "hung"],
)
def test_one_that_dies_or_hangs_is_started_again(
    service: Service, tmp_path: Path, strike: Callable[[int], None], result: str, said: str
) -> None:
    with service.client() as client:
        job, child = _begun(service, client, tmp_path / "out")
        first = service.pid
        strike(first)
        eventually(lambda: service.say("Result") == result)
        assert service.say("ExecMainStatus") == said
        eventually(lambda: not child.is_running())
        eventually(lambda: service.say("ActiveState") == "active")
        assert service.say("NRestarts") == "1"
        assert service.pid != first
        assert client.wait(job).state == "done"
    assert ("Fatal Python error: Aborted" in service.log.read_text()) == (result == "watchdog")


def test_what_cannot_get_better_is_not_tried_again(service: Service, tmp_path: Path) -> None:
    service.order("stop", "alloyd")
    config = tmp_path / "config" / "alloyd" / "config.toml"
    config.parent.mkdir()
    config.write_text("[jobs]\nparalel = 2\n")
    with pytest.raises(subprocess.CalledProcessError):
        service.order("start", "alloyd")
    assert (service.say("ActiveState"), service.say("ExecMainStatus")) == ("failed", "2")
    assert service.say("NRestarts") == "0"
    assert "paralel" in service.log.read_text()


def test_commands_leave_the_daemon_to_systemd(service: Service) -> None:
    place = ["--home", str(service.home.root)]
    for _ in range(6):  # more often than StartLimitBurst
        before = service.pid
        assert main(["restart", *place]) == 0
        assert service.pid == lock_holder(service.home) != before
    assert main(["stop", *place]) == 0
    eventually(lambda: service.say("ActiveState") == "inactive")
    assert main(["ps", *place]) == 0
    assert service.pid == lock_holder(service.home)


def test_a_client_that_asks_at_once_waits_for_the_restart(service: Service) -> None:
    os.kill(service.pid, signal.SIGKILL)
    eventually(lambda: lock_holder(service.home) is None)
    with Client(home=service.home.root) as client:
        assert client.status().pid == service.pid


def test_an_unchanged_unit_leaves_the_daemon_alone_and_a_changed_one_replaces_it(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = ["--home", str(service.home.root)]
    first = service.pid
    assert main(["service", "install", *place]) == 0
    assert service.pid == first
    monkeypatch.setenv("ALLOYD_CONFIG", str(tmp_path / "other.toml"))
    assert main(["service", "install", *place]) == 0
    assert service.pid != first
    assert main(["service", "remove"]) == 0
    assert lock_holder(service.home) is None
