"""Rings when something happens in a watched folder (inotify, by watchdog); what has happened is found by looking.

An event is a doorbell and no more: one that is lost costs the time until the next look, and a queue that overflowed
rings for every folder. Where the kernel has no more watches to give, the folder is polled instead.
"""

from __future__ import annotations

import os
import threading
from typing import Any

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers.api import BaseObserver, ObservedWatch
from watchdog.observers.inotify import InotifyEmitter
from watchdog.observers.inotify_c import InotifyEvent, InotifyFD


class Bell:
    """The folders that are listened to; ``descriptor`` becomes readable when one of them rings."""

    def __init__(self) -> None:
        self.descriptor, self._writing = os.pipe()
        os.set_blocking(self.descriptor, False)
        os.set_blocking(self._writing, False)
        self._lock = threading.Lock()
        self._rung: set[str] = set()
        self._watches: dict[str, ObservedWatch] = {}
        self._observer: BaseObserver | None = None

    def listen(self, folder: str, path: str) -> str:
        """Listen to a folder; empty, or why the system does not allow it."""
        known = self._watches.get(folder)
        if known is not None and self._observer is not None and known in self._observer._emitter_for_watch:
            emitter = self._observer._emitter_for_watch[known]
            if emitter.is_alive():
                return ""
            self.leave(folder)
        try:
            if self._observer is None:
                descriptor = _Inotify(self)
                descriptor.start()
                self._observer = BaseObserver(InotifyEmitter, inotify_fd=descriptor)
                self._observer.start()
            self._watches[folder] = self._observer.schedule(_Ringer(self, folder), path, recursive=False)
        except OSError as wrong:
            return str(wrong.strerror or wrong)
        return ""

    def leave(self, folder: str) -> None:
        """Listen to a folder no longer."""
        watch = self._watches.pop(folder, None)
        if watch is not None and self._observer is not None:
            try:
                self._observer.unschedule(watch)
            except (KeyError, OSError):
                return

    def ring(self, folder: str) -> None:
        """Something happened in ``folder``; called by watchdog's threads."""
        with self._lock:
            self._rung.add(folder)
        self._wake()

    def ring_all(self) -> None:
        """Something happened, and nobody knows where."""
        with self._lock:
            self._rung |= self._watches.keys()
        self._wake()

    def rung(self) -> set[str]:
        """The folders that rang since the last call."""
        try:
            while os.read(self.descriptor, 4096):
                pass
        except BlockingIOError:
            pass
        with self._lock:
            rung, self._rung = self._rung, set()
        return rung

    def _wake(self) -> None:
        try:
            os.write(self._writing, b"!")
        except BlockingIOError:
            return


class _Ringer(FileSystemEventHandler):
    def __init__(self, bell: Bell, folder: str) -> None:
        self._bell = bell
        self._folder = folder

    def on_any_event(self, event: FileSystemEvent) -> None:
        # To look at a folder opens it and closes it again, which must not ring.
        if event.event_type not in ("opened", "closed_no_write"):
            self._bell.ring(self._folder)


class _Inotify(InotifyFD):
    """The kernel's queue of events, which says when it overflowed."""

    def __init__(self, bell: Bell) -> None:
        super().__init__()
        self._bell = bell

    def handle_event(self, event: InotifyEvent) -> Any:
        super().handle_event(event)
        if event.is_queue_overflow:
            self._bell.ring_all()
