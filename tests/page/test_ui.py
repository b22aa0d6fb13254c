"""alloy ui as it is run: who gets in, what is answered, and what is never said."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from alloyd.cli import main
from alloyd.jobs import JobState
from extras import need
from page.ui import Ui, serving
from trial_daemon import PATIENCE, TrialDaemon, eventually, trial

need("page", "plotly", "h11")

SEEN = (
    "/",
    "/jobs/merge-1",
    "/events",
    "/events?job=merge-1",
    "/metrics",
    "/healthz",
    "/readyz",
    "/assets/page.js",
    "/assets/plotly.min.js",
    "/nothing",
)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrialDaemon]:
    with TrialDaemon(tmp_path_factory.mktemp("ui") / "home") as found:
        with found.client() as client:
            job = client.submit(trial(found.home.root / "out", 10_000, pause=0.05))
            eventually(lambda: client.job(job.id).state is JobState.RUNNING)
        yield found


@pytest.fixture(scope="module")
def ui(daemon: TrialDaemon, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ui]:
    with serving(daemon, tmp_path_factory.mktemp("printed")) as found:
        yield found
        assert found.stop() == 0
        printed = found.printed.read_text()
        assert "Traceback" not in printed
        assert found.token not in printed


@pytest.mark.parametrize("path", SEEN)
@pytest.mark.parametrize("shown", ["", "Bearer ", "Bearer wrong", "Basic dTpw"])
def test_without_the_token_nothing_is_told(ui: Ui, path: str, shown: str) -> None:
    reply = ui.ask("GET", path, bearer=False, **({"authorization": shown} if shown else {}))
    assert reply.status == 401
    assert reply.headers["www-authenticate"] == "Bearer"
    assert "merge-1" not in reply.text
    assert ui.token not in reply.text


@pytest.mark.parametrize("host", ["evil.example", f"evil.example:{80}", "127.0.0.1.evil.example"])
def test_by_another_name_the_page_is_not_here(ui: Ui, host: str) -> None:
    for path in SEEN:
        assert ui.ask("GET", path, host=host).status == 403
    assert ui.ask("POST", "/enter", host=host).status == 403


def test_every_answer_forbids_other_sites(ui: Ui) -> None:
    for path in ("/", "/jobs/merge-1", "/assets/page.js", "/metrics", "/nothing"):
        for bearer in (True, False):
            headers = ui.ask("GET", path, bearer=bearer).headers
            assert "default-src 'none'" in headers["content-security-policy"]
            assert "http" not in headers["content-security-policy"]
            assert headers["referrer-policy"] == "no-referrer"
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["cross-origin-resource-policy"] == "same-origin"
            assert "access-control-allow-origin" not in headers


def test_what_there_is_is_told_to_whoever_has_the_token(ui: Ui) -> None:
    assert "alloyd" in ui.ask("GET", "/").text
    page = ui.ask("GET", "/jobs/merge-1")
    assert page.status == 200
    assert "merge-1" in page.text
    assert ui.ask("GET", "/jobs/1").status == 200
    missing = ui.ask("GET", "/jobs/merge-99")
    assert missing.status == 404
    assert "merge-99" in missing.text
    assert 'alloyd_jobs{state="running"} 1' in ui.ask("GET", "/metrics").text
    assert (ui.ask("GET", "/healthz").status, ui.ask("GET", "/readyz").text) == (200, "ready\n")


@pytest.mark.parametrize(
    "path",
    [
        "/assets/../server.py",
        "/assets/..%2fserver.py",
        "/assets//etc/passwd",
        "/assets/",
        "/assets/enter.js",
        "/../../../../etc/passwd",
        "//etc/passwd",
        "/jobs/../metrics",
        "/jobs/merge-1/../../metrics",
        "/jobs/%2e%2e%2fjobs.sqlite",
        "/jobs/merge-1%00",
        "/jobs/merge-99999999999999999999",
        "/jobs/MERGE-1",
        "/jobs/",
        "/page.token",
        "*",
    ],
)
def test_no_path_leads_elsewhere(ui: Ui, path: str) -> None:
    reply = ui.ask("GET", path)
    assert reply.status == 404
    assert "root:" not in reply.text


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"])
def test_other_methods_are_refused(ui: Ui, method: str) -> None:
    assert ui.ask(method, "/").status == 405


def state(daemon: TrialDaemon) -> str:
    with daemon.client() as client:
        return client.job("1").state.value


def entered(ui: Ui) -> str:
    reply = ui.ask("POST", "/enter", origin=ui.url.rstrip("/"))
    assert reply.status == 204
    return reply.headers["set-cookie"].partition(";")[0]


def order_of(ui: Ui) -> str:
    text = ui.ask("GET", "/").text.partition('id="page-data">')[2].partition("</script>")[0]
    order: str = json.loads(text)["order"]
    return order


def test_other_sites_can_give_no_orders(ui: Ui, daemon: TrialDaemon) -> None:
    cookie, order, origin = entered(ui), order_of(ui), ui.url.rstrip("/")
    for headers in (
        {"origin": "http://evil.example", "alloyd_order": order},
        {"origin": "null", "alloyd_order": order},
        {"origin": f"http://localhost:{ui.port}", "alloyd_order": order},
        {"origin": origin},
        {"origin": origin, "alloyd_order": "x"},
        {"origin": origin, "alloyd_order": order, "sec_fetch_site": "same-site"},
    ):
        assert ui.ask("POST", "/jobs/merge-1/cancel", bearer=False, cookie=cookie, **headers).status == 403
    assert ui.ask("POST", "/jobs/merge-1/cancel", bearer=False, alloyd_order=order).status == 401
    assert ui.ask("GET", "/jobs/merge-1/cancel", bearer=False, cookie=cookie).status == 404
    assert ui.ask("POST", "/enter", origin="http://evil.example").status == 403
    assert ui.ask("POST", "/enter", bearer=False, cookie=cookie, origin=origin).status == 401
    assert state(daemon) == "running"


def test_the_page_and_scripts_can(ui: Ui, daemon: TrialDaemon) -> None:
    eventually(lambda: state(daemon) == "running")
    page = {"cookie": entered(ui), "alloyd_order": order_of(ui), "origin": ui.url.rstrip("/")}
    assert ui.ask("POST", "/jobs/merge-1/pause", bearer=False, **page).status == 200
    eventually(lambda: state(daemon) == "paused")
    assert ui.ask("POST", "/jobs/merge-1/resume").status == 200
    eventually(lambda: state(daemon) == "running")
    wrong = ui.ask("POST", "/jobs/merge-1/retry")
    assert wrong.status == 409
    assert "merge-1" in wrong.text
    assert ui.ask("POST", "/jobs/merge-99/cancel").status == 404
    assert ui.ask("POST", "/jobs/merge-1/shutdown").status == 404


def test_it_listens_on_loopback_only(ui: Ui) -> None:
    listening = [
        each.laddr
        for each in psutil.Process(ui.process.pid).net_connections("inet")
        if each.status == psutil.CONN_LISTEN
    ]
    assert [place.ip for place in listening] == ["127.0.0.1"]


def test_scripts_are_packed_and_kept(ui: Ui) -> None:
    request = urllib.request.Request(f"{ui.url}assets/plotly.min.js")
    request.add_header("authorization", f"Bearer {ui.token}")
    request.add_header("accept-encoding", "gzip")
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        assert answer.headers["content-encoding"] == "gzip"
        mark = answer.headers["etag"]
        assert len(answer.read()) < 2_000_000
    reply = ui.ask("GET", "/assets/plotly.min.js", if_none_match=mark)
    assert (reply.status, reply.text) == (304, "")


def test_the_token_is_in_no_argument_and_no_log(ui: Ui, daemon: TrialDaemon) -> None:
    assert not any(ui.token in word for word in psutil.Process(ui.process.pid).cmdline())
    for file in daemon.home.logs.iterdir():
        assert ui.token not in file.read_text(errors="replace")
    link = ui.ask("GET", "/").text
    assert ui.token not in link


def test_a_stream_tells_how_things_are(ui: Ui) -> None:
    with socket.create_connection(("127.0.0.1", ui.port), timeout=PATIENCE) as peer:
        peer.sendall(
            f"GET /events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {ui.token}\r\n\r\n".encode()
        )
        text = b""
        while b'"merge-1"' not in text:
            text += peer.recv(65536)
        assert b"content-type: text/event-stream" in text


def test_a_port_that_is_taken_is_named(
    ui: Ui, daemon: TrialDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--home", str(daemon.home.root), "ui", "--port", str(ui.port)]) == 9
    told = capsys.readouterr().err
    assert f"port {ui.port} of 127.0.0.1 cannot be used" in told
    assert "--port 0" in told


@pytest.mark.parametrize("port", ["-1", "65536", "x", ""])
def test_what_is_no_port(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ui", f"--port={port}"]) == 2
    assert "ports go from 0 to 65535" in capsys.readouterr().err


def test_what_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["ui"]) == 2
    assert "pip install 'alloyd[page]'" in capsys.readouterr().err


def test_for_a_log_the_address_comes_without_its_token(daemon: TrialDaemon) -> None:
    command = [sys.executable, "-m", "alloyd.cli", "--home", str(daemon.home.root), "ui", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=PATIENCE)
    token = (daemon.home.root / "page.token").read_text().strip()
    assert line.startswith("http://127.0.0.1:")
    assert "page.token" in told
    assert token not in line + told
    assert process.returncode == 0


def test_a_browser_is_started_with_a_file_not_with_the_token(
    daemon: TrialDaemon, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[tuple[str, int, str]] = []

    def browse(address: str) -> None:
        file = Path(address.removeprefix("file://"))
        opened.append((address, file.stat().st_mode & 0o777, file.read_text()))
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("webbrowser.open", browse)
    monkeypatch.setenv("XDG_RUNTIME_DIR", daemon.runtime)
    assert main(["--home", str(daemon.home.root), "ui", "--port", "0", "--open"]) == 0
    ((address, mode, text),) = opened
    token = (daemon.home.root / "page.token").read_text().strip()
    assert token not in address
    assert (mode, f"#token={token}" in text) == (0o600, True)
    assert not (daemon.home.root / "page.html").exists()
    assert token not in "".join(capsys.readouterr())


def test_the_daemon_dies_and_comes_back(ui: Ui, daemon: TrialDaemon, tmp_path: Path) -> None:
    daemon.kill_all()
    eventually(lambda: ui.ask("GET", "/healthz").status == 503)
    assert ui.ask("GET", "/metrics").status == 503
    assert ui.ask("GET", "/").status == 200
    gone = ui.ask("GET", "/jobs/merge-1")
    assert gone.status == 503
    assert "daemon" in gone.text
    daemon.start()
    eventually(lambda: ui.ask("GET", "/readyz").status == 200)
    assert ui.ask("GET", "/jobs/merge-1").status == 200
