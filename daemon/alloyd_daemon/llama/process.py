"""The process that holds a llama.cpp model: orders on stdin, replies on stdout.

It is started as ``python -m alloyd_daemon.llama.process`` and ends when stdin does, also in the middle of work, so that
it never outlives whoever started it. A crash in here costs one candidate. Nothing but the library's warnings and errors
goes to stderr.
"""

from __future__ import annotations

import contextlib
import os
import queue
import resource
import signal
import sys
import threading
import traceback
from typing import NoReturn

import msgspec

from ..service.pipe import Frames, frame, write_all
from .messages import Decode, Load, Order, Refused, Reply, Text, Tokenize, Tokens
from .model import Model, Refusal


def main() -> NoReturn:
    """Serve orders until there are no more."""
    # What libraries print to fd 1 goes to the log; replies keep a descriptor of their own.
    replies = os.dup(1)
    os.dup2(2, 1)
    # A crash is told by its signal and the library's last words; the image of a large model would fill the disk.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(orders,), name="orders", daemon=True).start()
    served = _Served()
    while True:
        try:
            reply = served.answer(orders.get())
        except Refusal as refusal:
            reply = Refused(str(refusal))
        except Exception as error:
            traceback.print_exc()
            reply = Refused(f"{type(error).__name__}: {error}")
        write_all(replies, frame(reply))


def _listen(orders: queue.SimpleQueue[Order]) -> None:
    """Hear orders until stdin ends; then nobody wants what is being computed."""
    frames = Frames()
    while data := os.read(0, 1 << 20):
        for body in frames.feed(data):
            orders.put(msgspec.msgpack.decode(body, type=Order))
    os._exit(0)


class _Served:
    """The model that is open, if one is."""

    def __init__(self) -> None:
        self._model: Model | None = None

    def answer(self, order: Order) -> Reply:
        if isinstance(order, Load):
            if self._model is not None:
                self._model.close()
                self._model = None
            self._model = Model(order)
            return self._model.loaded()
        if self._model is None:
            raise Refusal("no model is open")
        if isinstance(order, Decode):
            return self._model.decode(order)
        if isinstance(order, Tokenize):
            return Tokens(self._model.tokenize(order.text, special=order.special).tobytes())
        return Text(self._model.detokenize(order.ids))


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        sys.exit(0)
