"""One client of the soak, a process of its own: ``python -m soak.caller FOLDER NUMBER``.

It does the orders that ``FOLDER/plan.json`` gives it, one after the other, and follows all events meanwhile. It says
``done`` and is told the number of the last event; ``FOLDER/caller-NUMBER.json`` then says what it saw, and what it saw
that should not have been.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

from alloyd import Client

from .deeds import DEEDS, Desk
from .ear import Ear


def main(folder: Path, number: int) -> None:
    plan = json.loads((folder / "plan.json").read_text())
    ear = Ear(Path(plan["home"]))
    ear.start()
    troubles: Counter[str] = Counter()
    orders = []
    with Client(home=plan["home"]) as client:
        for order in plan["orders"][number]:
            chance = random.Random(f"{plan['seed']} {order['number']}")
            desk = Desk(client, folder, order, plan["wanted"], chance, troubles)
            begun, wrong = time.monotonic(), ""
            try:
                DEEDS[order["deed"]](desk)
            except Exception:
                wrong = traceback.format_exc()
            seconds = round(time.monotonic() - begun, 1)
            orders.append({**order, "jobs": desk.ended, "seconds": seconds, "wrong": wrong})
    print("done", flush=True)
    ear.hears(int(sys.stdin.readline()))
    told = {"orders": orders, "heard": ear.heard, "broken": ear.broken, "troubles": troubles}
    (folder / f"caller-{number}.json").write_text(json.dumps(told))
    os._exit(0)  # the ear is still listening


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
