"""The job's side of the process that holds a llama.cpp model: starts it, asks it, and tells how it died."""

from __future__ import annotations

import collections
import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from types import TracebackType
from typing import IO, Final, TypeVar

import msgspec

from alloyd.errors import ChildDied, EngineRefused

from ..service.pipe import Frames, frame, write_all
from .messages import Decode, Decoded, Load, Loaded, Order, Refused, Reply

COMMAND: Final = (sys.executable, "-P", "-m", "alloyd_daemon.llama.process")
LAST_WORDS: Final = 5
"""Lines of its log since the order that are told when a process has died over it."""
RESTARTED: Final = "The engine is started again for the next candidate; the job's log has the rest."
FAREWELL: Final = 5.0
"""Seconds a process gets to leave by itself."""

ENVIRONMENT: Final = {
    # Where it aborts, the library would start a debugger on itself.
    "GGML_NO_BACKTRACE": "1",
    # Its threads wait for each other by spinning, which on a machine that others use too makes it ten times slower.
    "GOMP_SPINCOUNT": "10000",
}

T = TypeVar("T", bound=Reply)


class Engine:
    """One process with one model, which ends with the context; ``image`` is a descriptor that it may open as a file.

    ``until`` is when, on the monotonic clock, no more answers are waited for; ``None``: never.
    """

    def __init__(self, image: int | None = None) -> None:
        self.until: float | None = None
        self._frames = Frames()
        self._words: collections.deque[str] = collections.deque(maxlen=LAST_WORDS)
        self._process = subprocess.Popen(
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            pass_fds=() if image is None else (image,),
            env=ENVIRONMENT | os.environ,
        )
        self._hearing = threading.Thread(target=self._hear_log, name="engine log", daemon=True)
        self._hearing.start()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def load(self, order: Load) -> Loaded:
        """Open a model file. Raises EngineRefused when llama.cpp does not, ChildDied when it crashes over it."""
        return self._ask(order, Loaded)

    def decode(self, order: Decode) -> Decoded:
        """Run tokens. Raises EngineRefused when llama.cpp cannot, ChildDied when it crashes."""
        return self._ask(order, Decoded)

    def ask(self, order: Order, kind: type[T]) -> T:
        """The reply to any order. Raises as :meth:`load` does."""
        return self._ask(order, kind)

    def close(self) -> None:
        """End the process."""
        with contextlib.suppress(OSError):
            self._pipe(self._process.stdin).close()
        try:
            self._process.wait(FAREWELL)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._hearing.join()
        for pipe in (self._process.stdout, self._process.stderr):
            self._pipe(pipe).close()

    def _ask(self, order: Order, kind: type[T]) -> T:
        self._words.clear()
        try:
            write_all(self._pipe(self._process.stdin).fileno(), frame(order))
        except BrokenPipeError:
            raise self._death(order) from None
        try:
            reply = self._reply()
        except (ValueError, msgspec.DecodeError) as wrong:
            self._process.kill()
            raise ChildDied(f"the llama.cpp process answered nonsense: {wrong}", hint=RESTARTED) from wrong
        if isinstance(reply, Refused):
            raise EngineRefused(f"llama.cpp: {reply.reason}")
        if not isinstance(reply, kind):
            raise self._death(order)
        return reply

    def _reply(self) -> Reply | None:
        """The next reply; None when there will be none. Raises ChildDied when none came in time."""
        pipe = self._pipe(self._process.stdout).fileno()
        while self._in_time(pipe) and (data := os.read(pipe, 1 << 20)):
            for body in self._frames.feed(data):
                reply: Reply = msgspec.msgpack.decode(body, type=Reply)
                return reply
        return None

    def _in_time(self, pipe: int) -> bool:
        """Wait until there is something to read. Raises ChildDied when the time is over; the process is ended."""
        if self.until is not None:
            waiting = select.poll()
            waiting.register(pipe, select.POLLIN)
            if not waiting.poll(max(0.0, self.until - time.monotonic()) * 1000):
                self._process.kill()
                raise ChildDied("llama.cpp gave no answer before the time was over", hint=RESTARTED)
        return True

    def _death(self, order: Order) -> ChildDied:
        """What to say of a process that is gone."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(FAREWELL)
        if self._process.returncode is None:
            self._process.kill()
        code = self._process.wait()
        self._hearing.join()
        how = f"exit status {code}" if code >= 0 else signal.Signals(-code).name
        hint = RESTARTED
        if code == -signal.SIGKILL:
            hint = "The kernel kills what takes too much memory: use a smaller type or fewer tokens at once."
        words = " | ".join(self._words)
        doing = "opened the model" if isinstance(order, Load) else "computed"
        return ChildDied(
            f"llama.cpp died ({how}) while it {doing}{': ' if words else ''}{words}", hint=hint, how=how
        )

    def _hear_log(self) -> None:
        with open(self._pipe(self._process.stderr).fileno(), "rb", closefd=False) as log:
            for line in log:
                if said := line.decode("utf-8", "replace").strip():
                    self._words.append(said)
                with contextlib.suppress(OSError, ValueError):
                    sys.stderr.write(line.decode("utf-8", "replace"))
                    sys.stderr.flush()

    @staticmethod
    def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
        assert pipe is not None
        return pipe
