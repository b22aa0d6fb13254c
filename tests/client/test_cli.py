"""The command line as people and scripts use it: words, statuses, NDJSON, Ctrl-C."""

from __future__ import annotations

import importlib.util
import json
import os
import pty
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from alloyd import __version__, cli_service
from alloyd.cli import main
from alloyd.console import Console
from alloyd.errors import RecipeError
from alloyd.paths import Home, lock_holder
from trial_daemon import PATIENCE, TrialDaemon, eventually, let_go, lines


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TrialDaemon]:
    with TrialDaemon(tmp_path / "home") as running:
        monkeypatch.setenv("ALLOYD_HOME", str(running.home.root))
        monkeypatch.setenv("XDG_RUNTIME_DIR", running.runtime)
        yield running


def recipe(tmp_path: Path, steps: int = 5, *, pause: float = 0.0, at: dict[str, str] | None = None) -> str:
    path = tmp_path / f"recipe-{steps}.yaml"
    path.write_text(json.dumps({"steps": steps, "pause": pause, "at": at or {}}) + "\n")
    return str(path)


def final(text: str) -> dict[str, Any]:
    """The one result of NDJSON output, checked to be one and the last."""
    each = [json.loads(line) for line in text.splitlines()]
    assert [one["type"] for one in each].count("result") == 1
    assert each[-1]["type"] == "result"
    result: dict[str, Any] = each[-1]
    return result


def alloy(*words: str, **options: Any) -> subprocess.Popen[str]:
    path = os.pathsep.join(part for part in sys.path if part)
    return subprocess.Popen(
        [sys.executable, "-m", "alloyd.cli", *words],
        env={**os.environ, "PYTHONPATH": path},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


def test_a_merge_says_what_it_does_and_where_the_result_lies(
    daemon: TrialDaemon, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["merge", recipe(tmp_path, at={"2": "note"}), str(tmp_path / "out")]) == 0
    said = capfd.readouterr()
    assert said.out == f"{tmp_path}/out\n"
    assert "merge-1\n" in said.err
    assert "  method   trial" in said.err
    assert "  read     5 B" in said.err
    assert "warning: something to know" in said.err
    assert "merge-1 done: 5 B in 0.0 s" in said.err
    assert (tmp_path / "out").read_text() == lines(5)


def test_json_is_a_line_an_event_and_one_result(
    daemon: TrialDaemon, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["merge", recipe(tmp_path), "--out", str(tmp_path / "out"), "--json"]) == 0
    said = capfd.readouterr()
    assert said.err == ""
    value = final(said.out)["value"]
    assert (value["id"], value["state"], value["result"]["out"]) == ("merge-1", "done", f"{tmp_path}/out")
    kinds = [json.loads(line)["type"] for line in said.out.splitlines()]
    # A progress tick is published, not stored: a quick job may end before its follower hears one.
    assert {"event", "result"} <= set(kinds) <= {"event", "progress", "result"}
    for words in (
        ["ps", "-a"],
        ["show", "1"],
        ["events"],
        ["logs", "1"],
        ["wait", "1"],
        ["status"],
        ["config"],
    ):
        assert main([*words, "--json"]) == 0
        assert final(capfd.readouterr().out)["ok"] is True


@pytest.mark.parametrize("json_", [False, True])
def test_a_failed_job_is_an_error_a_hint_and_its_status(
    daemon: TrialDaemon, tmp_path: Path, capfd: pytest.CaptureFixture[str], json_: bool
) -> None:
    words = ["merge", recipe(tmp_path, at={"1": "refuse"}), str(tmp_path / "out")]
    assert main(words + ["--json"] * json_) == 3
    said = capfd.readouterr()
    assert said.err.endswith("error: the recipe is wrong\nhint: Write another.\n")
    if json_:
        result = final(said.out)
        assert (result["ok"], result["error"]["code"], result["error"]["exit_status"]) == (
            False,
            "E_RECIPE",
            3,
        )
    else:
        assert said.out == ""
    assert main(["wait", "1"]) == 3


@pytest.mark.parametrize(
    ("words", "error", "hint"),
    [
        (["mrge"], "unknown command 'mrge'", "Did you mean 'merge'?"),
        (["merge"], "the following arguments are required: RECIPE", "'alloy merge --help' explains."),
        (["merge", "r.yaml"], "where should the merge go?", "alloy merge r.yaml FOLDER"),
        (["merge", "absent.yaml", "out"], "the recipe .*absent.yaml cannot be read: No such file", ""),
        (["ps", "--lmit", "3"], "'alloy ps' does not know '--lmit'", "Did you mean '--limit'?"),
        (["plan", "r.yaml", "a", "--out", "b"], "two places for the result: a and b", ""),
        (["merge", "r.yaml", "a", "--detach", "--no-daemon"], "not allowed with", ""),
        (["score", "m"], "the following arguments are required: --task", ""),
        (["completion", "csh"], "invalid choice: 'csh'", ""),
        (["--home"], "expected one argument", ""),
        ([], "the following arguments are required: VERB", "'alloy --help' explains."),
    ],
)
def test_a_command_that_makes_no_sense_is_told_before_anything_is_started(
    words: list[str], error: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.yaml").write_text("a: 1\n")
    assert main(words) == 2
    said = capfd.readouterr()
    assert said.out == ""
    first, *rest = said.err.splitlines()
    assert re.match(f"error: .*{error}", first)
    assert not hint or rest == [f"hint: {hint}"]
    assert main([*words, "--json"]) == 2
    assert final(capfd.readouterr().out)["error"]["code"] == "E_USAGE"
    assert not (tmp_path / "alloyd-home").exists()


def test_a_bad_size_is_told_before_anything_is_started(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["merge", recipe(tmp_path), "out", "--memory", "4GiBs"]) == 2
    assert "hint: Did you mean 'GiB'?" in capfd.readouterr().err
    assert not (tmp_path / "alloyd-home").exists()


def test_jobs_are_listed_shown_and_ordered(
    daemon: TrialDaemon, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    long = recipe(tmp_path, 50_000, pause=0.02)
    assert main(["merge", long, str(tmp_path / "a"), "--detach"]) == 0
    assert capfd.readouterr().out == "merge-1\n"
    assert main(["merge", long, str(tmp_path / "b"), "--detach"]) == 0
    capfd.readouterr()
    eventually(lambda: (tmp_path / "a.partial").exists())
    running = re.compile(r"merge-1  running  \d+\.\d%  \d+ B/s +\d.* ago  .*/a$")

    def listed() -> list[str]:
        assert main(["ps"]) == 0
        return capfd.readouterr().out.splitlines()

    # The speed is known once the job has told of its progress twice.
    eventually(lambda: running.match(listed()[1]))
    table = listed()
    assert table[0].split() == ["JOB", "STATE", "DONE", "SPEED", "LEFT", "CREATED", "WHAT"]
    assert re.match(r"merge-2  queued .*/b \(waits for merge-1\)$", table[2])
    assert (
        main(["pause", "2", "1"]) == 0
    )  # the other way round the second might begin when the first has stopped
    assert capfd.readouterr().out == "merge-2 paused (paused on request)\nmerge-1 running (being paused)\n"
    assert main(["ps", "-q"]) == 0
    assert capfd.readouterr().out == "merge-1\nmerge-2\n"
    assert main(["cancel", "merge-1", "2"]) == 0
    assert main(["wait", "1"]) == 130
    assert "error: merge-1 was cancelled" in capfd.readouterr().err
    assert main(["ps"]) == 0
    assert "no jobs wait, run or are paused" in capfd.readouterr().err
    assert main(["show", "1"]) == 0
    shown = capfd.readouterr().out
    assert "state          cancelled (cancelled on request)" in shown
    assert f"out            {tmp_path}/a" in shown
    assert main(["resume", "1"]) == 8
    assert main(["show", "7"]) == 8
    assert "there is no job '7'" in capfd.readouterr().err


def test_wait_gives_up(daemon: TrialDaemon, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["merge", recipe(tmp_path, at={"2": "hold"}), str(tmp_path / "a"), "--detach"]) == 0
    assert main(["wait", "1", "--timeout", "0.3"]) == 124
    assert "had not ended after 0.3 s" in capfd.readouterr().err


def test_what_is_no_text_is_told_in_one_sentence(
    daemon: TrialDaemon, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    strange = tmp_path / "strange"
    strange.write_bytes(b"\xff\xfe\0")
    with strange.open("rb") as file, alloy("merge", "-", str(tmp_path / "out"), stdin=file) as process:
        _, told = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    assert "error: stdin is not text in UTF-8" in told
    assert main(["merge", recipe(tmp_path), str(tmp_path / os.fsdecode(b"\xff"))]) == 2
    assert re.match(r"error: out is not text in UTF-8: .*udcff'\nhint: ", capfd.readouterr().err)
    assert main(["verify", os.fsdecode(b"/\xff")]) == 2
    capfd.readouterr()
    for words in (["show"], ["wait"], ["logs"], ["events"], ["watch", "rm"], ["search", "--results"]):
        assert main([*words, os.fsdecode(b"\xff")]) == 2
        assert re.match(r"error: this is not text in UTF-8: .*udcff'\nhint: ", capfd.readouterr().err)


def test_a_hung_daemon_is_stopped_all_the_same(daemon: TrialDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli_service, "NOW_SECONDS", 0.5)
    os.kill(daemon.pid, signal.SIGSTOP)
    assert main(["stop", "--now"]) == 0
    assert lock_holder(daemon.home) is None
    assert main(["ps"]) == 0
    assert main(["stop"]) == 0


def test_words_for_a_terminal_hold_no_orders_to_it(capfd: pytest.CaptureFixture[str]) -> None:
    Console().fail(RecipeError("a \x1b[31mred\r\x9b name", hint="é\n\t模\x07"))
    assert capfd.readouterr().err == "error: a \\x1b[31mred\\r\\x9b name\nhint: é\\n\\t模\\x07\n"


def test_a_recipe_from_stdin(daemon: TrialDaemon, tmp_path: Path) -> None:
    with alloy("merge", "-", str(tmp_path / "out"), stdin=subprocess.PIPE) as process:
        out, err = process.communicate('{"steps": 2}', timeout=PATIENCE)
    assert (process.returncode, out) == (0, f"{tmp_path}/out\n"), err


def test_ctrl_c_keeps_what_was_staged_and_the_same_command_goes_on(
    daemon: TrialDaemon, tmp_path: Path
) -> None:
    words = ("merge", recipe(tmp_path, 150, at={"20": "hold"}), str(tmp_path / "out"))
    with alloy(*words) as process:
        eventually(
            lambda: (tmp_path / "out.partial").exists() and (tmp_path / "out.partial").stat().st_size > 10
        )
        assert process.stderr is not None
        assert any("method   trial" in line for line in process.stderr), "it does not say what it follows"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (130, "")
    assert "stopping at the end of the block" in err
    assert "error: merge-1 is paused\nhint: 'alloy resume merge-1' or the same command goes on;" in err
    kept = (tmp_path / "out.partial").read_text()
    assert kept == lines(len(kept.splitlines()))
    let_go(tmp_path / "out")
    with alloy(*words) as process:
        assert process.communicate(timeout=PATIENCE)[0] == f"{tmp_path}/out\n"
    assert process.returncode == 0
    assert (tmp_path / "out").read_text() == lines(150)


def test_a_second_ctrl_c_leaves_at_once(daemon: TrialDaemon, tmp_path: Path) -> None:
    with alloy("merge", recipe(tmp_path, 5, at={"1": "stick"}), str(tmp_path / "out"), "--json") as process:
        eventually((tmp_path / "out.stuck").exists)
        assert process.stdout is not None
        told = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        with daemon.client() as client:  # two signals that wait to be seen are one
            eventually(lambda: client.job("1").reason == "being paused")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert final(told + out)["error"]["code"] == "E_INTERRUPTED"
    assert "error: merge-1 is left behind" in err


def test_a_reader_that_leaves_is_no_crash(daemon: TrialDaemon, tmp_path: Path) -> None:
    with alloy("events", "--follow") as process:
        assert process.stdout is not None
        process.stdout.close()
        main(["merge", recipe(tmp_path, 2), str(tmp_path / "out")])
        assert process.stderr is not None
        assert process.wait(PATIENCE) == 141
        assert process.stderr.read() == ""


def test_a_terminal_gets_a_bar_and_its_cursor_back(daemon: TrialDaemon, tmp_path: Path) -> None:
    controller, terminal = pty.openpty()
    path = os.pathsep.join(part for part in sys.path if part)
    environ = {**os.environ, "PYTHONPATH": path, "TERM": "xterm", "COLUMNS": "100"}
    words = ["merge", recipe(tmp_path, 60, pause=0.03), str(tmp_path / "out")]
    with subprocess.Popen(
        [sys.executable, "-m", "alloyd.cli", *words],
        stdout=terminal,
        stderr=terminal,
        stdin=terminal,
        env=environ,
    ) as process:
        os.close(terminal)
        seen = b""
        while True:
            try:
                piece = os.read(controller, 4096)
            except OSError:
                break
            seen += piece
    os.close(controller)
    assert process.returncode == 0
    text = seen.decode()
    assert "━" in text
    assert re.search(r"\d+ B of 60 B  \d+ B/s  \d\.\d s left", text)
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")
    assert text.rstrip().endswith(f"{tmp_path}/out")


def test_the_daemon_is_stopped_and_restarted(
    daemon: TrialDaemon, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["status"]) == 0
    assert f"process {daemon.pid}, alloyd" in capfd.readouterr().out
    assert main(["stop"]) == 0
    assert "stopped" in capfd.readouterr().err
    assert main(["stop"]) == 0
    assert "no daemon runs" in capfd.readouterr().err
    assert main(["status"]) == 9
    assert "error: no daemon runs for" in capfd.readouterr().err
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(part for part in sys.path if part))
    assert main(["restart"]) == 0
    try:
        holder = lock_holder(daemon.home)
        assert f"runs as process {holder}" in capfd.readouterr().err
    finally:
        assert main(["stop", "--now"]) == 0


def test_a_daemon_of_another_version_is_told_and_can_be_stopped(
    daemon: TrialDaemon, capfd: pytest.CaptureFixture[str]
) -> None:
    said = json.loads(daemon.home.connection.read_text())
    daemon.home.connection.write_text(json.dumps({**said, "software": "0.0.1", "protocol": "0.9"}))
    assert main(["ps"]) == 9
    assert capfd.readouterr().err == (
        "error: the daemon is older: it is alloyd 0.0.1, this is 0.1.0\nhint: Run 'alloy restart'.\n"
    )
    assert main(["stop"]) == 0
    assert daemon.process is not None
    assert daemon.process.wait(PATIENCE) == 0


def test_doctor_tells_what_is_wrong(
    daemon: TrialDaemon, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["doctor"]) == 0
    told = capfd.readouterr().out
    assert f"process {daemon.pid}" in told
    assert "BAD" not in told
    for name in ("bitsandbytes", "gguf", "llama_cpp", "lm_eval"):
        assert re.search(rf"(ok|note) +{name} +\S+", told)
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "llama_cpp" else real(name))
    assert main(["doctor"]) == 0
    assert "wanted for writing and scoring GGUF: 'make install-gguf'" in capfd.readouterr().out
    monkeypatch.setattr("alloyd.cli_service.network_file_system", lambda path: "NFS")
    assert main(["doctor", "--json"]) == 1
    said = final(capfd.readouterr().out)
    assert said["ok"] is False
    assert said["error"]["exit_status"] == 1
    assert "home" in said["error"]["message"]
    findings = said["value"]
    assert [each["name"] for each in findings if each["verdict"] == "BAD"] == ["home"]


@pytest.mark.parametrize("words", [["--version", "--json"], ["--json", "--version"]])
def test_the_version_is_said_as_every_result_is(capfd: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert main(["--version"]) == 0
    assert capfd.readouterr().out == f"alloy {__version__}\n"
    assert main(words) == 0
    assert final(capfd.readouterr().out) == {"type": "result", "ok": True, "value": {"version": __version__}}


def test_help_is_fast_and_the_verbs_explain_themselves(capfd: pytest.CaptureFixture[str]) -> None:
    for words in (["--help"], ["merge", "--help"]):
        with pytest.raises(SystemExit) as left:
            main(words)
        assert left.value.code == 0
    times = []
    for _ in range(5):
        begun = _spent()
        subprocess.run([sys.executable, "-m", "alloyd.cli", "--help"], capture_output=True, check=True, env={
            **os.environ, "PYTHONPATH": os.pathsep.join(part for part in sys.path if part)})  # fmt: skip
        times.append(_spent() - begun)
    # The goal is 0.15 s; the rest is room for a slow machine. Of a busy one the processor's own time says nothing.
    assert min(times) < 0.5


def _spent() -> float:
    """Seconds of the processor that this process's children had."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_without_a_daemon_nothing_remains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = tempfile.mkdtemp(prefix="alloyd-", dir="/tmp")
    monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
    home = Home(tmp_path / "alloyd-home")
    (tmp_path / "not-a-model").mkdir()
    with alloy("verify", str(tmp_path / "not-a-model"), "--no-daemon") as process:
        out, err = process.communicate(timeout=60)
    assert out == ""
    assert process.returncode == 4, err
    assert err.startswith("error: ")
    assert not home.root.exists()
    assert list(Path(runtime, "alloyd").iterdir()) == []
    assert not [
        each for each in psutil.process_iter(["cmdline"]) if runtime in " ".join(each.info["cmdline"] or [])
    ]
    shutil.rmtree(runtime)


@pytest.mark.parametrize("words", [["keys", "list"], ["profile", "list"], ["doctor"], ["service", "status"]])
def test_what_is_about_this_machine_goes_nowhere_else(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--connect", "box", *words]) == 2
    assert "is about this machine" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["keys", "list"], ["profile", "list"], ["watch", "list"]])
def test_nested_verbs_take_the_options_of_all(
    words: list[str], daemon: TrialDaemon, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert main([*words, "--json", "--home", str(daemon.home.root)]) == 0
    assert json.loads(capsys.readouterr().out) == {"type": "result", "ok": True, "value": []}


def test_another_daemon_is_asked_for_its_watched_folders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert main(["--connect", "nobody", "watch", "list"]) == 2
    assert "no profile 'nobody'" in capsys.readouterr().err
    assert main(["--connect", "nobody", "logs", "--daemon"]) == 2
