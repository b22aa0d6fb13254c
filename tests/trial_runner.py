"""A runner for tests of what stands on runners: it answers from the names of candidates and the text of requests."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from hashlib import blake2b

from alloyd.errors import SourceError
from alloyd.jobs import Progress
from alloyd_daemon.candidate import Subject
from alloyd_daemon.runner import Answered, Lost, Outcome, Runner, RunOptions
from alloyd_daemon.scoring.requests import Answer, Likelihood, Prompt, Request, Written


class TrialRunner:
    """Answers in batches; ``ran`` has every (candidate, request) that was computed; ``broken`` names are lost."""

    def __init__(self, *, pause: float = 0.0, broken: Sequence[str] = (), names: bool = True) -> None:
        self.names = names
        self.pause = pause
        self.broken = broken
        self.ran: list[tuple[str, int]] = []
        self.options: RunOptions | None = None

    def runner(self, name: str = "resident", *, generates: bool = True) -> Runner:
        """What stands at the door."""
        return Runner(
            name=name, summary="trial", run=self.run, generates=generates, quantises=("nf4", "int8")
        )

    def run(
        self, candidates: Sequence[Subject], requests: Sequence[Request], options: RunOptions
    ) -> Generator[Outcome, None, None]:
        self.options = options
        size = options.batch_size or 4
        done, total = 0, len(candidates) * len(requests)
        for number, candidate in enumerate(candidates):
            for start in range(0, len(requests), size):
                batch = range(start, min(start + size, len(requests)))
                done += len(batch)
                if all((number, request) in options.known for request in batch):
                    continue
                time.sleep(self.pause)
                if candidate.name in self.broken and start:
                    said = candidate.name if self.names else "it"
                    yield Lost(number, SourceError(f"{said} is broken", hint="Mend it."))
                    break
                for request in batch:
                    self.ran.append((candidate.name, request))
                    yield Answered(number, request, answer_of(candidate.name, requests[request]))
                yield Progress(done, total, "items", candidate.name)


def answer_of(candidate: str, request: Request) -> Answer:
    """The same answer to the same request of the same candidate."""
    draw = int.from_bytes(blake2b(f"{candidate} {request}".encode(), digest_size=4).digest(), "big") / 2**32
    if isinstance(request, Prompt):
        return Written("4" if draw < 0.5 else "5")
    return Likelihood(logprob=-5 * draw, greedy=draw < 0.2, tokens=1 + int(draw * 3))
