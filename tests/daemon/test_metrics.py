"""Figures for Prometheus: its own parser reads them, and they are true."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from alloyd import Client
from alloyd.jobs import JobState
from alloyd_daemon.service.prometheus import Family, Histogram, by_label, single, text
from trial_daemon import TrialDaemon, eventually, trial

parser = pytest.importorskip("prometheus_client.parser", reason="dev: prometheus_client reads the figures")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[TrialDaemon]:
    with TrialDaemon(tmp_path / "home", ALLOYD_METRICS_INTERVAL="1",
                     ALLOYD_METRICS_TEXTFILE=str(tmp_path / "alloyd.prom")) as running:  # fmt: skip
        yield running


def read(said: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample by its name and labels, as Prometheus' parser reads them."""
    found: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    for family in parser.text_string_to_metric_families(said):
        assert family.documentation
        assert family.type in ("counter", "gauge", "histogram")
        for sample in family.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


def figure(client: Client, name: str, **labels: str) -> float:
    return read(client.metrics())[name, tuple(sorted(labels.items()))]


def test_labels_and_help_are_escaped() -> None:
    nasty = 'a"b\\c\nd{e="f"} 1\\n'
    said = text([by_label("x", "gauge", "back\\slash\nand line", "path", {nasty: 1.5})])
    assert read(said) == {("x", (("path", nasty),)): 1.5}


def test_a_histogram_is_cumulative() -> None:
    histogram = Histogram((1, 10))
    for value in (0.5, 1.0, 5.0, 100.0):
        histogram.observe(value)
    found = read(text([histogram.family("w", "waits")]))
    buckets = {labels[0][1]: value for (name, labels), value in found.items() if name == "w_bucket"}
    assert buckets == {"1": 2, "10": 3, "+Inf": 4} or buckets == {"1.0": 2, "10.0": 3, "+Inf": 4}
    assert found["w_sum", ()] == 106.5
    assert found["w_count", ()] == 4


def test_numbers_of_every_size() -> None:
    found = read(text([single("a", "gauge", "h", 2**60), single("b", "gauge", "h", 0.1),
                       Family("c", "gauge", "h", [("", {}, math.inf)])]))  # fmt: skip
    assert found == {("a", ()): 2**60, ("b", ()): 0.1, ("c", ()): math.inf}


def test_the_figures_follow_what_happens(daemon: TrialDaemon, tmp_path: Path) -> None:
    with daemon.client() as client:
        assert figure(client, "alloyd_jobs", state="done") == 0
        client.wait(client.submit(trial(tmp_path / "one", 3)).id)
        failing = client.submit(trial(tmp_path / "two", 3, at={1: "refuse"}))
        eventually(lambda: client.job(failing.id).state is JobState.FAILED)
        running = client.submit(trial(tmp_path / "three", at={2: "hold"}))
        waiting = client.submit(trial(tmp_path / "four", 3))
        eventually(lambda: client.job(running.id).state is JobState.RUNNING)
        eventually(lambda: figure(client, "alloyd_children_resident_bytes") > 10**6)
        assert figure(client, "alloyd_jobs", state="queued") == 1
        assert figure(client, "alloyd_jobs_ended_total", kind="merge", state="done") == 1
        assert figure(client, "alloyd_jobs_ended_total", kind="merge", state="failed") == 1
        assert figure(client, "alloyd_queue_seconds_count") == 3
        eventually(lambda: figure(client, "alloyd_queue_oldest_seconds") > 0)
        eventually(lambda: figure(client, "alloyd_children_cpu_seconds_total") > 0)
        assert figure(client, "alloyd_events_total") == client.status().last_event
        assert figure(client, "alloyd_disk_free_bytes", path=str(daemon.home.root)) > 0
        assert figure(client, "alloyd_open_files") > 5
        for job in (waiting, running):
            client.cancel(job.id)


def test_the_text_file_is_whole_whenever_it_is_read_and_goes_with_the_daemon(
    daemon: TrialDaemon, tmp_path: Path
) -> None:
    file = tmp_path / "alloyd.prom"
    eventually(file.exists)
    first = file.stat().st_ino
    assert file.stat().st_mode & 0o777 == 0o644
    eventually(lambda: file.stat().st_ino != first)
    assert ("alloyd_uptime_seconds", ()) in read(file.read_text())
    assert daemon.terminate() == 0
    assert [each.name for each in tmp_path.iterdir()] == ["home"]


def test_a_text_file_that_cannot_be_written_does_no_harm(tmp_path: Path) -> None:
    place = str(tmp_path / "absent" / "alloyd.prom")
    with TrialDaemon(tmp_path / "home", ALLOYD_METRICS_TEXTFILE=place) as daemon, daemon.client() as client:
        assert client.wait(client.submit(trial(tmp_path / "one", 3)).id).state is JobState.DONE
