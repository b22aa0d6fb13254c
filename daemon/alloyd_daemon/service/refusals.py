"""What is said of jobs that will not be run, or are not there: cancelled, in quarantine, never heard of, pruned."""

from __future__ import annotations

from alloyd.errors import DependencyFailed, JobCancelled, JobError, JobNotFound, Quarantined, UsageError
from alloyd.jobs import JobState


def cancelled(name: str) -> JobCancelled:
    """The error that a cancelled job carries."""
    return JobCancelled(f"{name} was cancelled", job=name)


def not_now(name: str, state: JobState, what: str) -> JobError:
    """Why nothing is done to a job: it is in a ``state`` in which ``what`` holds of it."""
    return JobError(
        f"{name} is {state.value} {what}",
        hint=f"'alloy show {name}' tells where it stands.",
        job=name,
        state=state.value,
    )


def cannot_follow(first: str, state: JobState, *, job: str = "") -> DependencyFailed:
    """Why ``job``, or one that is only asked for, cannot be begun after ``first``."""
    what = "failed" if state is JobState.FAILED else "was cancelled"
    again = f"'alloy retry {first}'" + (f", then 'alloy retry {job}'." if job else ", then ask again.")
    return DependencyFailed(
        f"{job or 'the job'} was to follow {first}, which {what}", hint=again, job=job or None, after=first
    )


def in_quarantine(name: str) -> Quarantined:
    """Why a job that has been asked for is not begun: the same one, ``name``, crashed too often."""
    return Quarantined(
        f"{name} is the same job, and its process has crashed too often",
        hint=f"'alloy show {name}' says how; 'alloy retry {name}' tries it again.",
        job=name,
    )


def key_of_another(key: str, name: str) -> UsageError:
    """Why a key is refused: it stands for the job ``name``, which is another."""
    return UsageError(
        f"the key '{key}' was used for {name}, which is another job",
        hint="A key belongs to one job for good; use another.",
        key=key,
        job=name,
    )


def key_of_pruned(key: str, name: str) -> JobNotFound:
    """Why a key is refused: the job ``name`` that it stood for was done, and is no longer known."""
    return JobNotFound(
        f"the key '{key}' was used for {name}, which has been pruned",
        hint="A key belongs to one job for good; use another to have the work done again.",
        key=key,
        job=name,
    )


def unknown(name: str, *, pruned: bool) -> JobNotFound:
    """The error for a name that is no job's, or is no longer."""
    what = f"the job '{name}' was pruned" if pruned else f"there is no job '{name}'"
    return JobNotFound(what, hint="'alloy ps --all' lists the jobs.", job=name)
