"""The daemon's figures for Prometheus: answered on request, and kept in a file for node_exporter when one is named.

Counters begin at 0 with each daemon, as Prometheus expects, but for the events, whose numbers go on.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from alloyd import __version__, wire
from alloyd.jobs import Event, JobState
from alloyd.paths import Home

from ..settings import Settings
from .processes import open_files, resident_memory
from .prometheus import Family, Histogram, by_label, single, text
from .store import Store

if TYPE_CHECKING:
    from .worker import Worker

WAITS: Final = (0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 21600.0, 86400.0)

log = logging.getLogger("alloyd")


class Metrics:
    """Hears every stored event once and knows what the figures are made of.

    ``sources`` are asked for more families, by whoever has any (hooks, watch folders).
    """

    def __init__(
        self,
        store: Store,
        worker: Worker,
        home: Home,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._worker = worker
        self._home = home
        self._clock = clock
        self._begun = clock()
        self._started = time.time()
        self._textfile = Path(settings.metrics.textfile) if settings.metrics.textfile else None
        self._interval = settings.metrics.interval
        self._due = self._begun
        self._told = False
        self._ended: Counter[tuple[str, str]] = Counter()
        self._waits = Histogram(WAITS)
        self.sources: list[Callable[[], Iterator[Family]]] = []
        # Of jobs that another daemon queued, only the wait under this one is known by a clock that does not jump.
        self._queued = {each.id: self._begun for each in store.queue()}

    def hear(self, event: Event) -> None:
        """Take in one stored event."""
        if event.kind != "state" or not event.job:
            return
        state = event.body.get("state")
        if state == JobState.QUEUED:
            self._queued.setdefault(event.job, self._clock())
            return
        since = self._queued.pop(event.job, None)
        if state == JobState.RUNNING and since is not None:
            self._waits.observe(self._clock() - since)
        elif state in (JobState.DONE, JobState.FAILED, JobState.CANCELLED):
            self._ended[event.job.rpartition("-")[0], str(state)] += 1

    def text(self, *, malformed: int) -> str:
        """All figures in Prometheus' text format."""
        return text(self._families(malformed))

    def step(self, *, malformed: int) -> None:
        """Write the text file when it is time; what cannot be written is told once."""
        if self._textfile is None or self._clock() < self._due:
            return
        self._due = self._clock() + self._interval
        beside = self._textfile.with_name(f".{self._textfile.name}.{os.getpid()}")
        try:
            beside.write_text(self.text(malformed=malformed), encoding="utf-8")
            os.chmod(beside, 0o644)  # node_exporter is another user
            os.replace(beside, self._textfile)
            self._told = False
        except OSError as wrong:
            if not self._told:
                log.warning("the metrics cannot be written to %s: %s", self._textfile, wrong.strerror)
            self._told = True
            with contextlib.suppress(OSError):
                beside.unlink()

    def close(self) -> None:
        """Remove the text file, because figures of a daemon that has stopped are none."""
        if self._textfile is not None:
            with contextlib.suppress(OSError):
                self._textfile.unlink()

    def _families(self, malformed: int) -> Iterator[Family]:
        store, sampler, now = self._store, self._worker.resources, self._clock()
        versions = {"version": __version__, "protocol": wire.PROTOCOL}
        yield Family("alloyd_build_info", "gauge", "Versions, as labels of a 1.", [("", versions, 1)])
        yield single("alloyd_start_time_seconds", "gauge", "When the daemon started (Unix).", self._started)
        yield single("alloyd_uptime_seconds", "gauge", "How long it has run.", now - self._begun)
        yield single("alloyd_resident_bytes", "gauge", "Memory of the daemon itself.", resident_memory())
        yield single("alloyd_open_files", "gauge", "Descriptors that the daemon has open.", open_files())
        counts = store.counts()
        states = {state.value: float(counts.get(state.value, 0)) for state in JobState}
        yield by_label("alloyd_jobs", "gauge", "Jobs of this home by state.", "state", states)
        ended = [("", {"kind": kind, "state": state}, float(number))
                 for (kind, state), number in sorted(self._ended.items())]  # fmt: skip
        yield Family("alloyd_jobs_ended_total", "counter", "Ends of jobs since the daemon started.", ended)
        yield self._waits.family("alloyd_queue_seconds", "How long jobs that were started had been queued.")
        oldest = max((now - since for since in self._queued.values()), default=0.0)
        yield single("alloyd_queue_oldest_seconds", "gauge", "The longest wait of a queued job.", oldest)
        used, total = sampler.now(), sampler.totals
        yield single("alloyd_children_resident_bytes", "gauge", "Memory of running jobs.", used.resident)
        yield single(
            "alloyd_children_private_bytes", "gauge", "Private memory of running jobs.", used.private
        )
        yield single("alloyd_children_read_bytes_total", "counter", "Read from storage by jobs.", total.read)
        yield single(
            "alloyd_children_written_bytes_total", "counter", "Written to it by jobs.", total.written
        )
        yield single("alloyd_children_cpu_seconds_total", "counter", "Processor time of jobs.", total.cpu)
        with contextlib.suppress(OSError):
            free = shutil.disk_usage(self._home.root).free
            place = {"path": str(self._home.root)}
            yield Family("alloyd_disk_free_bytes", "gauge", "Room on the home's disk.", [("", place, free)])
        yield single("alloyd_events_total", "counter", "Events stored in this home.", store.last_event())
        yield single("alloyd_malformed_messages_total", "counter", "Messages that were refused.", malformed)
        for source in self.sources:
            yield from source()
