"""What every test shares: a clean environment, small checkpoints, and skips that are told out loud."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# The tests of every day see the same examples each time and do not mind a busy machine; the soak looks for new ones.
settings.register_profile(
    "house", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "soak", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("house")

# A shell starts background work with SIGINT ignored, and what is ignored stays so in every child; tests press Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# No setting of the person who runs the tests reaches them, and nothing that a terminal, systemd or a CI says of itself;
# it is taken away here, before any fixture starts a process. Some say what the tests themselves are to do; two of them
# are read while tests are collected, and no test sees them.
COLLECTED = ("ALLOYD_LLAMA_SOURCE", "XDG_CACHE_HOME")
KEPT = (*COLLECTED, "ALLOYD_MERGEKIT_PYTHON", "ALLOYD_REQUIRE", "ALLOYD_SCREENSHOTS", "ALLOYD_SEED")
SURROUNDINGS = (
    "CLICOLOR", "CLICOLOR_FORCE", "COLUMNS", "FORCE_COLOR", "INVOCATION_ID", "JOURNAL_STREAM", "LINES",
    "NOTIFY_SOCKET", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "WATCHDOG_PID", "WATCHDOG_USEC",
)  # fmt: skip
for name in tuple(os.environ):
    if name in SURROUNDINGS or (name.startswith(("ALLOYD_", "HF_", "XDG_")) and name not in KEPT):
        del os.environ[name]

# Two processes of tests share two cores. Threads of a library that wait for each other by turning make the work of
# seconds take minutes there.
os.environ.setdefault("OMP_NUM_THREADS", "1")

HAS_GPU = Path("/dev/nvidiactl").exists() or Path("/dev/nvidia0").exists()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what is marked ``gpu`` where there is none."""
    if HAS_GPU:
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device and this machine has none"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name each reason for which something was not run, where nobody can miss it."""
    reasons: dict[str, int] = {}
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reasons[reason] = reasons.get(reason, 0) + 1
    if reasons:
        terminalreporter.section("NOT RUN", sep="!", yellow=True, bold=True)
        for reason, count in sorted(reasons.items()):
            terminalreporter.line(f"{count} x {reason.removeprefix('Skipped: ')}", yellow=True)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test reaches the home of the person who runs it, or a hub of models."""
    for name in COLLECTED:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ALLOYD_HOME", str(tmp_path / "alloyd-home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TRANSFORMERS_OFFLINE", "1")
