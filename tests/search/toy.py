"""A runner without a model: how right a candidate is follows from its weights alone, so that searches are fast."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Sequence
from hashlib import blake2b

from alloyd.errors import MemoryTooSmall, SourceError
from alloyd.jobs import Progress
from alloyd_daemon.candidate import Candidate, Subject
from alloyd_daemon.runner import Answered, Lost, Outcome, Runner, RunOptions
from alloyd_daemon.scoring.requests import Continuation, Likelihood, Request

BEST = {"math": 1.2, "lang": 0.9}


class Toy:
    """``asked`` has the name of the candidate for every answer; those whose name ``breaks`` are lost at once,
    and a run with one whose name it ``refuses`` ends with the ``refusal``. ``now`` is a clock, which every
    answer puts forward by what it ``takes``.

    ``noise``: a type of weights by which answers have nothing to do with the candidate.
    """

    def __init__(
        self,
        *,
        at_once: bool = False,
        breaks: Callable[[str], bool] = lambda _: False,
        refuses: Callable[[str], bool] = lambda _: False,
        refusal: BaseException | None = None,
        takes: Callable[[str], float] = lambda _: 0.0,
    ) -> None:
        self.takes = takes
        self.now = 0.0
        self.refuses = refuses
        self.refusal = refusal or MemoryTooSmall("it needs more", least=7)
        self.asked: list[str] = []
        self.breaks = breaks
        self.at_once = at_once
        self.runs = 0

    def runner(self) -> Runner:
        return Runner(
            name="toy",
            summary="toy",
            run=self.run,
            generates=True,
            at_once=self.at_once,
            quantises=("coarse", "noise"),
        )

    def run(
        self, subjects: Sequence[Subject], requests: Sequence[Request], options: RunOptions
    ) -> Generator[Outcome, None, None]:
        self.runs += 1
        for subject in subjects:
            if self.refuses(subject.name):
                raise self.refusal
        for number, subject in enumerate(subjects):
            assert isinstance(subject, Candidate)
            if self.breaks(subject.name):
                yield Lost(number, SourceError(f"{subject.name} is broken", hint="Mend it."))
                continue
            skill = skill_of(subject, options.quantise)
            for request, asked in enumerate(requests):
                if (number, request) in options.known:
                    continue
                assert isinstance(asked, Continuation)
                self.asked.append(subject.name)
                self.now += self.takes(subject.name)
                right = draw(asked.context) < skill
                yield Answered(number, request, Likelihood(-0.1 if right else -3.0, right, 1))
                yield Progress(request + 1, len(requests), "items", subject.name)


def skill_of(candidate: Candidate, quantise: str | None) -> float:
    """The share of all conceivable items that a candidate is right on."""
    recipe = json.loads(candidate.prepared.text)
    if quantise == "noise":
        return draw(candidate.name)
    if "models" not in recipe:
        return draw(candidate.prepared.text)  # a path, of which nobody knows what it can do
    weights = dict.fromkeys(BEST, 0.0)
    for each in recipe["models"]:
        for name in BEST:
            if str(each["model"]).endswith(f"/{name}"):
                weights[name] = float(each.get("parameters", {}).get("weight", 1.0))
    distance = sum(abs(weights[name] - best) for name, best in BEST.items())
    return max(0.02, 0.98 - 0.6 * distance)


def draw(text: str) -> float:
    """A number in [0, 1) that follows from ``text``."""
    return int.from_bytes(blake2b(text.encode(), digest_size=4).digest(), "big") / 2**32
