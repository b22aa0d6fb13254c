"""Following events without missing any: what to ask the store for, and when. Knows no socket.

A publication is a doorbell: it says that the store has something new. What is yielded comes from the store, in order
and by sequence number, so a lost publication, a slow reader or a new daemon make no difference. Progress is not
stored and is taken from the publication itself.
"""

from __future__ import annotations

from collections.abc import Sequence

from .jobs import Event, JobState
from .wire import read_publication

# A daemon that says nothing for so long (it beats every second) is looked after.
SILENCE = 3.0
# A daemon that announced its end may be replaced (alloy restart); so long its followers wait for that.
REPLACEMENT = 10.0
PAGE = 1000


class Follower:
    """Where one reader of events stands. ``job`` is a full id, or empty for all jobs."""

    def __init__(self, job: str, since: int) -> None:
        self.job = job
        self.cursor = since
        self.rung = True
        self.stopped = False
        self._heard = 0

    @property
    def topics(self) -> tuple[bytes, ...]:
        """What to subscribe to."""
        return (b"welcome", b"daemon.", f"job.{self.job}.".encode() if self.job else b"job.")

    def take(self, page: Sequence[Event]) -> bool:
        """A page of stored events was read; whether there may be another."""
        for event in page:
            self.cursor = event.seq
            # The end of the one job is in: its reader looks once more, finds it ended, and stops.
            self.rung |= bool(self.job) and event.kind == "state" and JobState(event.body["state"]).ended
        return len(page) >= PAGE

    def hear(self, frames: Sequence[bytes]) -> Event | None:
        """A publication arrived: a progress tick is returned, anything else may ring."""
        kind, content = read_publication(frames)
        if kind == "event":
            if content.seq == 0:
                event: Event = content
                return event
            self.rung |= content.seq > self.cursor
        elif kind == "heartbeat":
            last = int(content.get("last", 0))
            self.rung |= last > max(self.cursor, self._heard)
            self._heard = max(self._heard, last)
        elif kind == "stopping":
            self.stopped = True
        elif kind == "welcome":
            self.rung = True
        return None
