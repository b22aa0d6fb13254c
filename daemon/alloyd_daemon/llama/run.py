"""Runs subjects one after the other: makes the file each candidate, asks the engine; a crash costs one candidate."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from alloyd.errors import AlloydError, EngineRefused, MemoryTooSmall, PlanError, SourceError
from alloyd.jobs import Note, Progress

from ..candidate import Candidate, GgufFile, Subject
from ..engine.in_memory import Weights, population
from ..gguf.imatrix import read_imatrix
from ..gguf.layout import GgufLayout, describe
from ..gguf.library import ggml_base
from ..gguf.reader import read_head
from ..runner import Answered, Lost, Outcome, RunOptions
from ..scoring.encoding import context_length, encode
from ..scoring.requests import Request
from .image import Image
from .language import Language, beside, from_file, from_folder
from .messages import Load
from .needs import Confined, confine
from .options import EngineOptions
from .questions import Questions, ask, compose
from .warm import WarmEngine

TICK: Final = 0.1
"""Seconds between reports while a candidate is merged."""
TYPES: Final = {"F32": "F32", "F16": "F16"}
"""The type of a candidate's file when nobody asks for one, by its element type; BF16 for any other."""


@dataclass(frozen=True, slots=True)
class _Ready:
    """A candidate as it will be run: its file, what it is asked, and what it may take of memory."""

    layout: GgufLayout
    questions: Questions
    confined: Confined


def run_subjects(
    subjects: Sequence[Subject], requests: Sequence[Request], options: RunOptions
) -> Generator[Outcome, None, None]:
    """Run ``subjects``; see :class:`alloyd_daemon.runner.Runner`. Candidates of one layout share file and engine.

    Raises
    ------
    UsageError, RecipeError
        A library is not installed, or an option or type is unknown.
    MemoryTooSmall
        The budget is below the least that works.
    TaskError
        A request does not fit into a candidate's context.
    """
    ggml_base()
    run = _Run(requests, options)
    ready: dict[int, _Ready] = {}
    files: set[int] = set()
    for number, subject in enumerate(subjects):
        try:
            if isinstance(subject, GgufFile):
                # llama.cpp itself may crash over a head that lies.
                read_head(subject.path)
                files.add(number)
            else:
                ready[number] = run.prepare(subject)
        except MemoryTooSmall:
            raise
        except (SourceError, PlanError) as error:
            yield Lost(number, error)
    # Candidates' texts are cut by their own tokenizers, whatever their files hold.
    warnings = dict.fromkeys(
        text
        for each in ready.values()
        for text in each.layout.warnings
        if text not in each.layout.about_vocabulary
    )
    yield from (Note("warning", text) for text in warnings)
    with population([each.confined.candidate for each in ready.values()], options.findings) as sources, run:
        weights = dict(zip(ready, sources.members, strict=True))
        for number, subject in enumerate(subjects):
            try:
                if isinstance(subject, GgufFile) and number in files:
                    yield from run.file(number, subject, len(subjects))
                elif number in ready:
                    yield from run.candidate(number, weights[number], ready[number], len(subjects))
            except AlloydError as error:
                run.held.engine.forget()
                yield Lost(number, error)


class _Held:
    """What lasts from one run to the next: layouts, the file that becomes one candidate after another, its engine."""

    def __init__(self) -> None:
        self.layouts: dict[object, GgufLayout] = {}
        self.image: Image | None = None
        self.engine = WarmEngine()

    def close(self) -> None:
        """End the engine, and give the file back."""
        self.engine.forget()
        if self.image is not None:
            self.image.close()
            self.image = None
        self.engine = WarmEngine()


class _Run:
    """What is shared by the subjects of one run: languages, and what is held from run to run."""

    def __init__(self, requests: Sequence[Request], options: RunOptions) -> None:
        self._requests = requests
        self._options = options
        self._until = None if options.seconds is None else time.monotonic() + options.seconds
        self._settings = EngineOptions.read(options.settings)
        # One thread too many makes all others wait for it at every step.
        self._threads = min(options.threads, len(os.sched_getaffinity(0)))
        self._imatrix = read_imatrix(self._settings.imatrix) if self._settings.imatrix else None
        self._questions: dict[tuple[Path, str], Questions] = {}
        self.held = self._find()

    def _find(self) -> _Held:
        """What an earlier run left, if runs are to leave something."""
        if self._options.warm is None:
            return _Held()
        key = ("gguf", self._options.quantise, str(self._settings.imatrix))
        # The file's pages and the engine count as its memory: no other model is kept beside them.
        room = self._options.memory
        return self._options.warm.get(key, _Held, end=_Held.close, nbytes=room, room=room)

    def __enter__(self) -> _Run:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._options.warm is None:
            self.held.close()
        elif kind is not None:
            self.held.engine.forget()  # it may be in the middle of an answer

    def prepare(self, candidate: Candidate) -> _Ready:
        """Everything that headers, configs and requests can reveal."""
        config = candidate.config
        layout = self._layout(candidate, config)
        key = (candidate.folder, json.dumps(config, sort_keys=True))
        if key not in self._questions:
            language = from_folder(candidate.folder, config)
            self._questions[key] = self._compose(language, context_length(config))
        questions = self._questions[key]
        confined = confine(
            candidate,
            layout,
            questions,
            config,
            memory=self._options.memory,
            threads=self._threads,
            full_cache=self._settings.full_cache,
        )
        return _Ready(layout, questions, confined)

    def _layout(self, candidate: Candidate, config: Mapping[str, Any]) -> GgufLayout:
        tensors = tuple((each.name, each.dtype, each.shape) for each in candidate.prepared.plan.tensors)
        kind = self._options.quantise or TYPES.get(tensors[0][1], "BF16")
        key = (candidate.folder, json.dumps(config, sort_keys=True), tensors)
        if key not in self.held.layouts:
            self.held.layouts[key] = describe(
                tensors, config, candidate.folder, kind, filename=candidate.name, imatrix=self._imatrix
            )
        return self.held.layouts[key]

    def _compose(self, language: Language, context: int | None, *, share: bool = True) -> Questions:
        encoded = encode(self._requests, language.tokenizer, context, where=self._options.where)
        return compose(encoded, language, context, batch_size=self._options.batch_size, share=share)

    def candidate(
        self, number: int, weights: Weights, ready: _Ready, subjects: int
    ) -> Generator[Outcome, None, None]:
        """Make the file the candidate, and ask it."""
        known = self._known(number)
        if len(known) == len(self._requests):
            return
        if self.held.image is None or self.held.image.layout is not ready.layout:
            self.held.close()
            image = Image(ready.layout, self._options.scratch, in_memory=ready.confined.in_memory)
            self.held.image, self.held.engine = image, WarmEngine(image.handle)
        image = self.held.image
        name = weights.candidate.name
        said = 0.0
        for _ in image.become(weights):
            # Nothing is answered meanwhile; this lets the job be stopped between blocks.
            if time.monotonic() - said > TICK:
                said = time.monotonic()
                yield self._progress(number, len(known), subjects, name)
        order = ready.questions.load(image.path, self._threads, self._settings, memory=self._options.memory)
        yield from self._asked(number, order, ready.questions, subjects, name)

    def file(self, number: int, subject: GgufFile, subjects: int) -> Generator[Outcome, None, None]:
        """Open the file, and ask it."""
        if len(self._known(number)) == len(self._requests):
            return
        self.held.close()
        path = str(subject.path)
        least = Load(
            path=path,
            cells=256,
            batch=256,
            sequences=1,
            logits=0,
            threads=self._threads,
            flash=self._settings.flash,
            full_cache=self._settings.full_cache,
            gpu_layers=0,
            memory=self._options.memory,
        )
        try:
            engine, loaded = self.held.engine.ready(least, until=self._until)
        except EngineRefused as error:
            raise SourceError(
                f"{path} is no model that llama.cpp can run: {error.message}",
                hint="It may be cut short or damaged, or be made for a newer llama.cpp.",
                path=path,
            ) from error
        folder = subject.tokenizer or self._settings.tokenizer
        if folder is None and not loaded.texts:
            folder = beside(subject.path)
        language = (
            from_folder(folder, ends=loaded.ends) if folder else from_file(engine, loaded, subject.name)
        )
        questions = self._compose(language, loaded.context or None, share=loaded.branches)
        order = questions.load(path, self._threads, self._settings, memory=self._options.memory)
        yield from self._asked(number, order, questions, subjects, subject.name)

    def _asked(
        self, number: int, order: Load, questions: Questions, subjects: int, name: str
    ) -> Generator[Outcome, None, None]:
        known = self._known(number)
        engine, loaded = self.held.engine.ready(order, changed=True, until=self._until)
        done = len(known)
        for request, answer in ask(engine, questions, known, loaded.outputs):
            done += 1
            yield Answered(number, request, answer)
            yield self._progress(number, done, subjects, name)

    def _known(self, number: int) -> set[int]:
        return {request for subject, request in self._options.known if subject == number}

    def _progress(self, number: int, done: int, subjects: int, name: str) -> Progress:
        size = len(self._requests)
        return Progress(number * size + done, subjects * size, "items", name)
