"""``python -m alloyd_daemon.space ORDER``: does what the file of descriptor ORDER says; the answer goes to stdout.

A process of its own, so that a disk that is slow, or gone, keeps nobody waiting; it ends at once when its stdin does.
"""

from __future__ import annotations

import os
import sys
import threading
import traceback
from pathlib import Path

import msgspec

from alloyd.errors import AlloydError, ServiceError
from alloyd.paths import Home

from .clear import Sweep
from .look import look
from .orders import Answer, Clear, Failed, Look, Orders, Seen
from .weighing import weigh

PATIENT = 10
"""Added to the niceness: nothing here is urgent."""


def main(descriptor: int) -> None:
    """Read the order, do it, answer."""
    os.nice(PATIENT)
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    with os.fdopen(descriptor, "rb") as file:
        file.seek(0)
        orders = msgspec.json.decode(file.read(), type=Orders)
    sys.stdout.buffer.write(msgspec.json.encode(_do(orders)))


def _do(orders: Orders) -> Answer:
    home, order = Home(Path(orders.home)), orders.order
    try:
        if isinstance(order, Look):
            return Seen(look(home))
        if isinstance(order, Clear):
            return Sweep(home).run(order)
        return weigh(order, home, orders.settings)
    except AlloydError as error:
        return Failed(error.to_dict())
    except Exception as error:
        traceback.print_exc()
        text = f"what takes room could not be looked at: {type(error).__name__}: {error}"
        return Failed(ServiceError(text, path=str(home.root)).to_dict())


def _end_with_stdin() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)


if __name__ == "__main__":
    main(int(sys.argv[1]))
