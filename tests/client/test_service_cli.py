"""alloy service, metrics, logs --daemon, wait on several jobs, and what health means."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from alloyd import Client
from alloyd.cli import main
from alloyd.health import live, ready
from alloyd.paths import Home
from alloyd.service_unit import MARK, unit_file, unit_text
from trial_daemon import PATIENCE, TrialDaemon, eventually, trial


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A systemctl that writes down what it is asked; fails when a file ``fail`` is there."""
    (tmp_path / "bin").mkdir()
    tool = tmp_path / "bin" / "systemctl"
    tool.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n'
        f'case "$2" in is-active) echo inactive;; is-enabled) echo enabled;; enable) test ! -e {tmp_path}/fail;; esac\n'
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "calls"


def test_installing_and_removing_the_service(
    calls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    unit = tmp_path / "config" / "systemd" / "user" / "alloyd.service"
    assert main(["service", "install", "--home", str(home)]) == 0
    assert capsys.readouterr().out == f"{unit}\n"
    assert f'"--home" "{home}"' in unit.read_text()
    asked = calls.read_text().splitlines()
    assert asked.index("--user daemon-reload") < asked.index("--user enable --now alloyd.service")
    assert main(["service", "status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["value"] == {
        "unit": str(unit),
        "active": "inactive",
        "enabled": "enabled",
    }
    assert main(["service", "install", "--home", str(home)]) == 0, "again is no mistake"
    assert "restart" not in calls.read_text()
    assert main(["service", "remove"]) == 0
    assert not unit.exists()
    assert "--user disable --now alloyd.service" in calls.read_text()
    assert main(["service", "remove", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["value"]["removed"] is False


def test_a_daemon_that_a_command_started_makes_room_for_the_service(calls: Path, tmp_path: Path) -> None:
    with TrialDaemon(tmp_path / "home") as daemon:
        assert main(["service", "install", "--home", str(daemon.home.root)]) == 0
        assert daemon.process is not None
        assert daemon.process.wait(PATIENCE) == 0


def test_a_command_has_systemd_start_the_daemon_of_an_installed_unit(calls: Path, tmp_path: Path) -> None:
    asked = "--user start alloyd.service"
    home, other = ["--home", str(tmp_path / "home")], ["--home", str(tmp_path / "home 2")]
    assert main(["service", "install", *home]) == 0
    try:
        assert main(["ps", *other]) == 0
        assert asked not in calls.read_text(), "the unit is for another home"
        assert main(["ps", *home]) == 0, "where systemd starts none, the command does"
        assert calls.read_text().splitlines()[-2:] == ["--user reset-failed alloyd.service", asked]
    finally:
        assert main(["stop", *home]) == main(["stop", *other]) == 0


def test_a_unit_of_somebody_else_is_left_alone(
    calls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = unit_file()
    file.parent.mkdir(parents=True)
    file.write_text("[Service]\nExecStart=/bin/mine\n")
    for act in ("install", "remove"):
        assert main(["service", act, "--home", str(tmp_path / "home")]) == 2
        assert "was not written by alloy" in capsys.readouterr().err
    assert "mine" in file.read_text()
    assert main(["service", "install", "--force", "--home", str(tmp_path / "home")]) == 0
    assert MARK in file.read_text()


def test_a_systemd_that_refuses_is_told(
    calls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "fail").touch()
    assert main(["service", "install", "--home", str(tmp_path / "home")]) == 9
    assert "enable --now alloyd.service' failed" in capsys.readouterr().err


def test_where_there_is_no_systemd_the_unit_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert main(["service", "install", "--home", str(tmp_path / "home")]) == 0
    assert "no systemd answers" in capsys.readouterr().err
    assert unit_file().exists()
    assert main(["service", "status"]) == 0


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("name", ["plain", 'odd "name" 50% $HOME \\ done'])
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path, name: str) -> None:
    file = tmp_path / "alloyd.service"
    file.write_text(unit_text(Home(tmp_path / name), config="/etc/alloyd/config.toml"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(file)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
    )
    complaints = [line for line in (done.stdout + done.stderr).splitlines() if "alloyd.service" in line]
    assert not complaints, done.stderr


def test_metrics_and_the_log_of_the_daemon_are_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with TrialDaemon(tmp_path / "home") as daemon:
        place = ["--home", str(daemon.home.root)]
        assert main(["metrics", *place]) == 0
        assert "\n# TYPE alloyd_jobs gauge\n" in capsys.readouterr().out
        daemon.terminate()
        assert main(["metrics", *place]) == 9
        capsys.readouterr()
        assert main(["logs", "--daemon", *place]) == 0, "it is read without a daemon"
        said = capsys.readouterr().out.splitlines()
        assert " INFO alloyd " in said[0]
        assert said[-1].endswith(" INFO stopped")
        with open(daemon.home.log("daemon"), "a") as log:
            log.write("no json\n[1]\n")
        assert main(["logs", "--daemon", "--json", *place]) == 0
        records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert records[0]["record"]["settings"]["jobs"]["parallel"] == 1
        assert [each["record"]["message"] for each in records[-3:-1]] == ["no json", "[1]"]
    assert main(["logs", *place]) == 2
    assert main(["logs", "merge-1", "--daemon", *place]) == 2


def test_the_log_is_followed_across_its_rotation(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.create()
    log = home.log("daemon")
    log.write_text('{"message": "one"}\n')
    command = [sys.executable, "-m", "alloyd.cli", "logs", "--daemon", "-f", "--home", str(home.root)]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "one\n"
        with open(log, "a") as file:
            file.write('{"message": "two"}\n')
        assert reader.stdout.readline() == "two\n"
        log.rename(log.with_name("daemon.log.1"))
        log.write_text('{"message": "three"}\n')
        assert reader.stdout.readline() == "three\n"
        reader.kill()


def test_waiting_for_several_jobs_ends_as_the_first_that_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with TrialDaemon(tmp_path / "home") as daemon:
        place = ["--home", str(daemon.home.root)]
        with daemon.client() as client:
            good = client.submit(trial(tmp_path / "a", 3))
            bad = client.submit(trial(tmp_path / "b", 3, at={1: "refuse"}))
            last = client.submit(trial(tmp_path / "c", 3))
        assert main(["wait", good.id, bad.id, last.id, *place]) == 3
        assert capsys.readouterr().out.splitlines() == ["merge-1 done", "merge-2 failed", "merge-3 done"]
        assert main(["wait", good.id, last.id, *place]) == 0
        with daemon.client() as client:
            long = client.submit(trial(tmp_path / "d", 900, pause=0.02))
        assert main(["wait", good.id, long.id, "--timeout", "0.5", *place]) == 124
        assert "after 0.5 s" in capsys.readouterr().err
        with daemon.client() as client:
            client.cancel(long.id)
        assert main(["wait", long.id, *place]) == 130


def test_health_tells_alive_from_ready(tmp_path: Path) -> None:
    with TrialDaemon(tmp_path / "home") as daemon:
        with daemon.client() as client:
            assert live(client) == (True, f"alloyd {client.hello().software}")
            assert ready(client) == (True, "ready")
            client.submit(trial(tmp_path / "a", 3, at={1: "stick"}))
            eventually((tmp_path / "a.stuck").exists)
            client.shutdown()
            assert live(client)[0]
            assert ready(client) == (False, "stopping")
            client.shutdown(now=True)
        assert daemon.process is not None
        daemon.process.wait(PATIENCE)
        with Client(home=daemon.home.root, autostart=False) as client:
            assert not live(client)[0]
            assert not ready(client)[0]
