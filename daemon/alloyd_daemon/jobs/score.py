"""The job `score`: checkpoints, GGUF files and recipes that were never written, on one task or several.

Every item's score is on disk as soon as it is known. A job that was killed goes on from there, in the same batches, and
ends with the same bytes. A model that cannot be scored costs itself; the job is done if at least one was.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blake3 import blake3

from alloyd import __version__
from alloyd.errors import AlloydError, Problems, SourceChanged, SourceNotFound, UsageError, raise_all
from alloyd.jobs import Finished, Note, Planned, PlanSpec, Progress, Report, ScoreSpec
from alloyd.jobs import Subject as ScoreSubject
from alloyd.recipe import ModelRef

from .. import tasks
from ..candidate import Candidate, GgufFile, Subject, from_adapter, from_checkpoint, from_recipe
from ..checkpoints.files import side_digest
from ..checkpoints.fingerprint import check_unchanged
from ..engine.findings import open_findings
from ..evaluator import Choices
from ..gguf.checkpoint import is_gguf, the_file
from ..job import JOBS, Context, JobKind
from ..recipes.models import as_given, resolve
from ..runner import RUNNERS, RunOptions
from ..scoring.choose import Group, group
from ..scoring.records import Journal, write_items
from ..scoring.report import left_out, report
from ..scoring.run import Posed, Questions, Scored, score
from ..settings import MOST_THREADS, Settings


@dataclass(frozen=True, slots=True)
class _Files:
    """What a job leaves on disk: its journal while it runs, every item's record at its end, and room to work in."""

    journal: Path
    items: Path
    scratch: Path

    @staticmethod
    def of(context: Context) -> _Files:
        folder = context.home / "scores"
        name = context.job_id
        return _Files(folder / f"{name}.journal", folder / f"{name}.jsonl", folder / f"{name}.scratch")


def run(spec: ScoreSpec, context: Context) -> Generator[Report, None, None]:
    """Score every subject; docs/protocol.md says what the result holds.

    Raises
    ------
    AlloydError
        Before work: what is wrong with tasks, subjects, runner and options. After it: what the subjects were lost to,
        where none could be scored; SourceChanged where a source changed meanwhile.
    """
    _check(spec)
    subjects = _subjects(spec, context)
    questions, groups, settings = _pose(spec, context, subjects)
    files = _Files.of(context)
    contents = {each.name: _content(each) for each in subjects}
    memory = spec.memory if spec.memory is not None else context.settings.memory_bytes()
    yield Planned(_summary(questions, groups, memory))
    for subject in subjects:
        if isinstance(subject, Candidate):
            yield from (Note("warning", f"{subject.name}: {text}") for text in subject.warnings)
    with (
        open_findings(context.home, context.settings.cache_bytes()) as findings,
        Journal(files.journal, _identity(spec, contents, questions)) as journal,
    ):
        if journal.stale:
            yield Note(
                "warning", "models or tasks are not what they were when this job stopped: it begins anew"
            )
            shutil.rmtree(files.scratch, ignore_errors=True)
        done, total = 0, len(subjects) * len(questions.requests)
        found: dict[str, Scored] = {}
        for number, each in enumerate(groups):
            options = RunOptions(
                scratch=files.scratch / str(number),
                memory=memory,
                threads=spec.threads or context.settings.thread_count(),
                batch_size=spec.batch_size,
                quantise=spec.quantise,
                findings=findings,
                settings=settings,
            )
            options.scratch.mkdir(parents=True, exist_ok=True)
            running = score(each.subjects, questions, each.runner, options, journal)
            scored = yield from _counted(running, done, total)
            done += len(each.subjects) * len(questions.requests)
            found |= {subject.name: one for subject, one in zip(each.subjects, scored, strict=True)}
        _check_unchanged(subjects, contents, files)
        lost = [_of(name, each.error) for name, each in found.items() if each.error is not None]
        if len(lost) == len(found):
            journal.forget_lost()  # so that a resumed job tries again
            raise_all(lost)
    names = [each.name for each in subjects]
    runners = {subject.name: each.runner.name for each in groups for subject in each.subjects}
    write_items(files.items, questions.names, found, order=names)
    shutil.rmtree(files.scratch, ignore_errors=True)
    files.journal.unlink(missing_ok=True)
    for task, values in left_out(questions, found).items():
        yield Note(
            "warning", f"{task}: no figure for {', '.join(values[:5])}, which some items have no value of"
        )
    result = report(questions, {name: found[name] for name in names}, runners)
    yield Finished({**result, "quantise": spec.quantise, "items": str(files.items)})


def discard(_: ScoreSpec, context: Context) -> None:
    """Remove what a cancelled score left behind."""
    files = _Files.of(context)
    shutil.rmtree(files.scratch, ignore_errors=True)
    for each in (files.journal, files.items, files.items.with_name(f"{files.items.name}.new")):
        each.unlink(missing_ok=True)


def _check(spec: ScoreSpec) -> None:
    for name, value in (("batch size", spec.batch_size), ("number of threads", spec.threads)):
        if value is not None and value < 1:
            raise UsageError(
                f"the {name} must be at least 1, not {value}", hint="Leave it out for the usual."
            )
    if spec.threads is not None and spec.threads > MOST_THREADS:
        raise UsageError(
            f"the number of threads must be at most {MOST_THREADS}, not {spec.threads}",
            hint="Leave it out for the usual.",
        )
    names = [each.name for each in spec.subjects]
    if not names or len(set(names)) != len(names):
        raise UsageError(
            "a score needs one model or more, each named once", hint="alloy score MODEL... --task FILE"
        )


def _subjects(spec: ScoreSpec, context: Context) -> tuple[Subject, ...]:
    """What is to be scored, opened. Raises all that is wrong with it, together."""
    home, settings = context.home, context.settings
    found: list[Subject] = []
    problems: list[AlloydError] = []
    for each in spec.subjects:
        try:
            if each.recipe:
                plan = PlanSpec(
                    each.recipe,
                    each.base_dir,
                    memory=spec.memory,
                    threads=spec.threads,
                    recipe_name=each.name,
                )
                found.append(from_recipe(plan, name=each.name, home=home, settings=settings))
                continue
            ref = as_given(each.path)
            if ref.lora is not None:
                found.append(
                    from_adapter(
                        ref, base_dir=each.base_dir, name=each.name, home=home, settings=settings,
                        memory=spec.memory,
                    )
                )  # fmt: skip
                continue
            path = _place(each, ref, settings)
            if is_gguf(path):
                found.append(_gguf_file(each.name, path, spec.options.get("tokenizer")))
            else:
                found.append(
                    from_checkpoint(path, name=each.name, home=home, settings=settings, memory=spec.memory)
                )
        except AlloydError as problem:
            problems.append(problem)
    raise_all(problems)
    return tuple(found)


def _place(subject: ScoreSubject, ref: ModelRef, settings: Settings) -> Path:
    """The folder or file of a subject: its absolute path, or where its name leads as it would in a recipe."""
    if os.path.isabs(ref.path) and ref.revision is None:
        return Path(ref.path)
    return resolve(ref, base_dir=Path(subject.base_dir), roots=settings.model_roots(), hf_home=settings.hub())


def _gguf_file(name: str, path: Path, tokenizer: str | None) -> GgufFile:
    file = the_file(path)
    if not file.is_file():
        raise SourceNotFound(f"there is no file {file}", hint="Check the path.", path=str(file))
    return GgufFile(name, file, Path(tokenizer) if tokenizer else None)


def _pose(
    spec: ScoreSpec, context: Context, subjects: Sequence[Subject]
) -> tuple[Questions, tuple[Group, ...], dict[str, str]]:
    """The tasks' questions, who runs which subjects, and the runners' own options."""
    own = {key for _, each in RUNNERS.items() for key in each.reads}
    choices = Choices(
        limit=spec.limit,
        options={key: value for key, value in spec.options.items() if key not in own},
        functions=context.settings.scoring.functions,
    )
    questions = Questions([Posed(*each) for each in tasks.resolve(spec.tasks, choices)])
    groups = group(subjects, runner=spec.runner, quantise=spec.quantise, generates=bool(questions.prompts))
    settings = {key: value for key, value in spec.options.items() if key in own}
    for key in settings:
        if not any(key in each.runner.reads for each in groups):
            names = ", ".join(sorted({each.runner.name for each in groups}))
            raise UsageError(f"the runner {names} has no option '{key}'", hint="Leave it out.", key=key)
    return questions, groups, settings


def _summary(questions: Questions, groups: Sequence[Group], memory: int) -> dict[str, Any]:
    sources = {
        (checkpoint.path, checkpoint.adapter): {
            "name": model.name,
            "path": str(checkpoint.path),
            "adapter": None if checkpoint.adapter is None else str(checkpoint.adapter),
            "bytes": checkpoint.nbytes,
        }
        for each in groups
        for subject in each.subjects
        if isinstance(subject, Candidate)
        for model, checkpoint in zip(
            subject.prepared.plan.outline.models, subject.prepared.checkpoints, strict=True
        )
    }
    return {
        "runs": [
            {"runner": each.runner.name, "models": [subject.name for subject in each.subjects]}
            for each in groups
        ],
        "tasks": [
            {"name": name, "evaluator": posed.task.evaluator, "items": len(posed.task.items)}
            for name, posed in zip(questions.names, questions.tasks, strict=True)
        ],
        "requests": len(questions.requests),
        "models": list(sources.values()),
        "memory": memory,
    }


def _counted(
    running: Generator[Progress | Note, None, tuple[Scored, ...]], done: int, total: int
) -> Generator[Report, None, tuple[Scored, ...]]:
    """What a group says, its progress as a part of the whole."""
    try:
        while True:
            said = next(running)
            if isinstance(said, Progress):
                said = Progress(done + said.done, total, said.unit, said.what)
            yield said
    except StopIteration as end:
        scored: tuple[Scored, ...] = end.value
        return scored
    finally:
        running.close()


def _identity(spec: ScoreSpec, contents: Mapping[str, str], questions: Questions) -> str:
    """What the scores follow from, as a digest."""
    facts = [
        __version__,
        [spec.runner, spec.quantise, spec.batch_size],
        [[key, value, _named_content(value)] for key, value in sorted(spec.options.items())],
        list(contents.items()),
        [
            [posed.task.evaluator, posed.task.code, [[item.id, item.content] for item in posed.task.items]]
            for posed in questions.tasks
        ],
    ]
    return blake3(json.dumps(facts).encode()).hexdigest()


def _content(subject: Subject) -> str:
    """What a subject's tensors and its tokenizer follow from."""
    if isinstance(subject, Candidate):
        return subject.prepared.plan.identity
    return f"{_file_content(subject.path)} {side_digest(subject.path.parent)}"


def _of(name: str, error: AlloydError) -> AlloydError:
    """``error`` with the name of the model that was lost to it."""
    if isinstance(error, Problems) or name in error.message:
        return error
    return AlloydError.from_dict({**error.to_dict(), "message": f"{name}: {error.message}"})


def _named_content(value: str) -> str:
    """What is in the file, or of a tokenizer in the folder, that an option names; an importance matrix is one."""
    path = Path(value)
    try:
        if path.is_absolute() and path.is_dir():
            return side_digest(path)
        return _file_content(path) if path.is_absolute() and path.is_file() else ""
    except (OSError, ValueError):
        return ""


def _file_content(path: Path) -> str:
    facts = path.stat()
    return f"{facts.st_size} {facts.st_mtime_ns} {facts.st_ino}"


def _check_unchanged(subjects: Sequence[Subject], contents: Mapping[str, str], files: _Files) -> None:
    """Raise SourceChanged where a source is not what it was; then nothing is kept that mixes two states of it."""
    try:
        for subject in subjects:
            if isinstance(subject, GgufFile):
                if _content(subject) != contents[subject.name]:
                    raise SourceChanged(
                        f"{subject.path} changed while it was scored",
                        hint="Let it be, and score it again.",
                        path=str(subject.path),
                    )
                continue
            one = subject.prepared
            for checkpoint, seen in zip(one.checkpoints, one.fingerprints, strict=True):
                check_unchanged(checkpoint, seen)
    except SourceChanged:
        shutil.rmtree(files.scratch, ignore_errors=True)
        files.journal.unlink(missing_ok=True)
        raise


JOBS.register("score", JobKind(spec=ScoreSpec, run=run, discard=discard))
