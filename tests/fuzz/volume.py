"""Runs many cases of targets in a process whose memory is bounded: python -m fuzz.volume SEED FIRST COUNT TARGET...

A case follows from target, seed and number alone. One line of JSON on stdout says for each target how it went.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import random
import resource
import sys
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any, Final

from .oracle import judge
from .target import Target
from .targets import TARGETS

MEMORY: Final = 768 * 2**20
"""Bytes of address space beyond what the process has when its libraries are loaded."""
SLOWEST: Final = 10.0
"""Seconds of processor time that a case may take; most take a thousandth."""
HANGS: Final = 300
"""Seconds until a process that is stuck says where, and ends."""
EVERY: Final = 50
MOST_FAILURES: Final = 20


def case(target: Target, name: str, seed: int, number: int) -> Any:
    """The case of this number."""
    return target.make(random.Random(f"{name} {seed} {number}"))


def run(name: str, seed: int, first: int, count: int) -> dict[str, Any]:
    """Judge ``count`` cases; what went wrong is in ``failures``, once for each place in the code."""
    target = TARGETS[name]()
    with contextlib.suppress(Exception):
        target.read(case(target, name, seed, first))  # loads what loads late
    bound_memory(MEMORY)
    codes: Counter[str] = Counter()
    failures: dict[str, dict[str, Any]] = {}
    slowest = (0.0, first)
    for number in range(first, first + count):
        if (number - first) % EVERY == 0:
            faulthandler.dump_traceback_later(HANGS, exit=True)
        one = case(target, name, seed, number)
        begun = time.process_time()
        try:
            codes[judge(lambda one=one: target.read(one), named=target.named)] += 1
        except BaseException as wrong:
            if isinstance(wrong, KeyboardInterrupt | SystemExit):
                raise
            told = traceback.format_exception(wrong, limit=-6)
            where = traceback.extract_tb(wrong.__traceback__)[-1]
            key = f"{type(wrong).__name__} {where.filename}:{where.lineno} {str(wrong)[:24]}"
            failure = failures.setdefault(key, {"number": number, "told": "".join(told)[-4000:], "times": 0})
            failure["times"] += 1
            if len(failures) >= MOST_FAILURES:
                break
        took = time.process_time() - begun
        if took > slowest[0]:
            slowest = (took, number)
    faulthandler.cancel_dump_traceback_later()
    bound_memory(None)
    if slowest[0] > SLOWEST:
        failures["slow"] = {"number": slowest[1], "told": f"a case took {slowest[0]:.1f} s", "times": 1}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "target": name,
        "cases": sum(codes.values()) + sum(each["times"] for each in failures.values()),
        "codes": dict(codes.most_common()),
        "slowest": round(slowest[0], 3),
        "slowest_case": slowest[1],
        "peak_mib": peak >> 10,
        "failures": failures,
    }


def bound_memory(more: int | None) -> None:
    """From now on an allocation of ``more`` bytes in all fails, which a reader must not let happen."""
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft = most if more is None else pages * resource.getpagesize() + more
    resource.setrlimit(resource.RLIMIT_AS, (soft, most))


if __name__ == "__main__":
    for name in sys.argv[4:]:
        print(json.dumps(run(name, *map(int, sys.argv[1:4]))), flush=True)
