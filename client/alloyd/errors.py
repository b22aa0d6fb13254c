"""Every error a user can meet: one tree, each with a stable code, an exit status and a hint.

AlloydError                    E_ALLOYD            1
├── UsageError                 E_USAGE             2   a command line or request that makes no sense
├── RecipeError                E_RECIPE            3   YAML, key, value, method or parameter of a recipe
├── SourceError                E_SOURCE            4   an input checkpoint
│   ├── SourceNotFound         E_SOURCE_NOT_FOUND  4   no such path, cache entry or shard
│   ├── HeaderError            E_HEADER            4   a safetensors or GGUF header, or an index, that lies
│   ├── SourceChanged          E_SOURCE_CHANGED    4   changed or became unreadable while it was read
│   └── DigestMismatch         E_DIGEST            4   bytes differ from the manifest
├── PlanError                  E_PLAN              5   a recipe that these sources cannot satisfy
│   ├── ShapeMismatch          E_SHAPE             5   tensors that cannot be combined
│   └── MemoryTooSmall         E_MEMORY            5   a budget below the least that works
├── OutputError                E_OUTPUT            6   the place where the result should go
│   ├── OutputExists           E_OUTPUT_EXISTS     6   something is there already
│   └── DiskFull               E_DISK_FULL         6   not enough room
├── TaskError                  E_TASK              7   a scoring task or its items
├── JobError                   E_JOB               8   a job that failed, is unknown, or is in the wrong state
│   ├── JobNotFound            E_JOB_NOT_FOUND     8
│   ├── JobCancelled           E_CANCELLED       130   cancelled on request
│   ├── DependencyFailed       E_DEPENDENCY        8   a job that this one was to follow did not end well
│   ├── Quarantined            E_QUARANTINED       8   the same job crashed too often; it waits for a retry
│   ├── ChildDied              E_CHILD_DIED        8   the process that did the work ended unexpectedly
│   │   └── OutOfMemory        E_OUT_OF_MEMORY     8   the kernel killed it for want of memory
│   ├── EngineRefused          E_ENGINE            8   the library that runs a model said no
│   ├── Interrupted            E_INTERRUPTED     130   left by Ctrl-C; what was staged is kept
│   └── WaitTimedOut           E_TIMEOUT         124   the job had not ended when the wait was over
├── ServiceError               E_SERVICE           9   talking to the daemon
│   ├── DaemonUnreachable      E_UNREACHABLE       9
│   ├── VersionMismatch        E_VERSION           9   client and daemon differ
│   ├── ProtocolError          E_PROTOCOL          9   a malformed message
│   ├── AccessDenied           E_ACCESS            9   a key, a role, a path or code that is not allowed here
│   ├── RateLimited            E_RATE              9   a remote key that asks too often
│   ├── HomeBusy               E_HOME_BUSY         9   another daemon owns this home
│   └── StoreError             E_STORE             9   the job store is newer, damaged or on a network disk
└── Problems                   E_PROBLEMS          *   several of the above, found together before work began
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Final

from .foreign import in_one_line, shortened

REGISTRY: dict[str, type[AlloydError]] = {}

LONGEST_FACT: Final = 2_000
"""Characters of a fact, such as a path; of a longer one the end of its middle is left out."""
MOST_PROBLEMS: Final = 100
"""Of the problems found together, how many are told."""


class AlloydError(Exception):
    """Base of the tree.

    Parameters
    ----------
    message:
        One sentence: what was wrong with which input, and what was expected.
    hint:
        One sentence on how to cure it; may be empty.
    facts:
        Plain values (str, int, float, bool, None) for scripts: ``path``, ``tensor``, ``key``...
    """

    code: ClassVar[str] = "E_ALLOYD"
    exit_status: ClassVar[int] = 1
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str = "", **facts: str | int | float | bool | None) -> None:
        # A message quotes what others wrote: names, keys, values of any length with anything in them.
        self.message = in_one_line(message)
        self.hint = in_one_line(hint)
        self.facts = {
            name: shortened(each, LONGEST_FACT) if isinstance(each, str) else each
            for name, each in facts.items()
        }
        super().__init__(self.message)

    def __init_subclass__(cls) -> None:
        REGISTRY[cls.code] = cls

    def __str__(self) -> str:
        return self.message

    @property
    def status(self) -> int:
        """The exit status of a command that ends with this error."""
        return self.exit_status

    def to_dict(self) -> dict[str, Any]:
        """The error as plain data, for the wire, the store and ``--json``."""
        # A file's name need not be text.
        facts = {
            name: _sendable(each) if isinstance(each, str) else each for name, each in self.facts.items()
        }
        return {
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "exit_status": self.status,
            "retryable": self.retryable,
            "facts": facts,
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> AlloydError:
        """Rebuild an error from :meth:`to_dict`; an unknown code becomes a plain ``AlloydError``."""
        if data.get("code") == Problems.code:
            return Problems([AlloydError.from_dict(each) for each in data.get("problems", ())])
        kind = REGISTRY.get(str(data.get("code")), AlloydError)
        facts = {
            str(key): value
            for key, value in dict(data.get("facts", {})).items()
            if key not in ("hint", "message", "self")
        }
        return kind(str(data.get("message", "")), hint=str(data.get("hint", "")), **facts)


def _sendable(text: str) -> str:
    """``text`` with an escape for whatever UTF-8 cannot hold."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


REGISTRY[AlloydError.code] = AlloydError


class UsageError(AlloydError):
    """A command line or request that makes no sense."""

    code = "E_USAGE"
    exit_status = 2


class RecipeError(AlloydError):
    """YAML, a key, a value, a method or a parameter of a recipe."""

    code = "E_RECIPE"
    exit_status = 3


class SourceError(AlloydError):
    """An input checkpoint."""

    code = "E_SOURCE"
    exit_status = 4


class SourceNotFound(SourceError):
    """No such path, cache entry or shard."""

    code = "E_SOURCE_NOT_FOUND"


class HeaderError(SourceError):
    """A safetensors or GGUF header, or an index, that lies; ``facts['lie']`` names the lie."""

    code = "E_HEADER"


class SourceChanged(SourceError):
    """A source changed or became unreadable while it was read."""

    code = "E_SOURCE_CHANGED"
    retryable = True


class DigestMismatch(SourceError):
    """Bytes differ from what the manifest recorded."""

    code = "E_DIGEST"


class PlanError(AlloydError):
    """A recipe that these sources cannot satisfy."""

    code = "E_PLAN"
    exit_status = 5


class ShapeMismatch(PlanError):
    """Tensors that cannot be combined."""

    code = "E_SHAPE"


class MemoryTooSmall(PlanError):
    """A memory budget below the least that works; ``facts['least']`` in bytes."""

    code = "E_MEMORY"


class OutputError(AlloydError):
    """The place where the result should go."""

    code = "E_OUTPUT"
    exit_status = 6


class OutputExists(OutputError):
    """Something is there already."""

    code = "E_OUTPUT_EXISTS"


class DiskFull(OutputError):
    """Not enough room on the output's file system."""

    code = "E_DISK_FULL"
    retryable = True


class TaskError(AlloydError):
    """A scoring task or its items."""

    code = "E_TASK"
    exit_status = 7


class JobError(AlloydError):
    """A job that failed, or is in the wrong state for the request."""

    code = "E_JOB"
    exit_status = 8


class JobNotFound(JobError):
    """No job of that id."""

    code = "E_JOB_NOT_FOUND"


class JobCancelled(JobError):
    """A job that was cancelled on request."""

    code = "E_CANCELLED"
    exit_status = 130


class DependencyFailed(JobError):
    """A job that this one was to follow failed or was cancelled; ``facts['after']`` names it."""

    code = "E_DEPENDENCY"


class Quarantined(JobError):
    """The same job's process died too often; it is not begun again until it is retried."""

    code = "E_QUARANTINED"


class ChildDied(JobError):
    """The process that did a job's work ended unexpectedly."""

    code = "E_CHILD_DIED"
    retryable = True


class OutOfMemory(ChildDied):
    """The kernel killed a job's process for want of memory; ``facts['memory']`` is the budget it had, in bytes."""

    code = "E_OUT_OF_MEMORY"


class EngineRefused(JobError):
    """The library that runs a model said no to a file or a batch; its process lives on."""

    code = "E_ENGINE"


class Interrupted(JobError):
    """A command was left by Ctrl-C; what its job staged is kept."""

    code = "E_INTERRUPTED"
    exit_status = 130
    retryable = True


class WaitTimedOut(JobError):
    """The job had not ended when the wait was over; it goes on."""

    code = "E_TIMEOUT"
    exit_status = 124
    retryable = True


class ServiceError(AlloydError):
    """Talking to the daemon."""

    code = "E_SERVICE"
    exit_status = 9


class DaemonUnreachable(ServiceError):
    """No daemon answers on the socket."""

    code = "E_UNREACHABLE"
    retryable = True


class VersionMismatch(ServiceError):
    """Client and daemon are of different versions."""

    code = "E_VERSION"


class ProtocolError(ServiceError):
    """A malformed message."""

    code = "E_PROTOCOL"


class AccessDenied(ServiceError):
    """A key, a role, a path or code that is not allowed here."""

    code = "E_ACCESS"


class RateLimited(ServiceError):
    """A remote key asks more often than it may; ``facts['wait']`` is how many seconds to wait."""

    code = "E_RATE"
    retryable = True


class HomeBusy(ServiceError):
    """Another daemon owns this home."""

    code = "E_HOME_BUSY"


class StoreError(ServiceError):
    """The job store is newer than this program, damaged, or on a network file system."""

    code = "E_STORE"


class Problems(AlloydError):
    """Several errors found together before work began; its exit status is that of the first."""

    code = "E_PROBLEMS"

    def __init__(self, problems: Iterable[AlloydError]) -> None:
        found: tuple[AlloydError, ...] = tuple(
            one for each in problems for one in (each.problems if isinstance(each, Problems) else (each,))
        )
        if len(found) > MOST_PROBLEMS:
            rest = f"{len(found) - MOST_PROBLEMS + 1:,} more problems like these"
            more = type(found[-1])(rest, hint="Mend the first ones, then look again.", **found[-1].facts)
            found = (*found[: MOST_PROBLEMS - 1], more)
        self.problems: tuple[AlloydError, ...] = found
        super().__init__("; ".join(each.message for each in self.problems))

    @property
    def status(self) -> int:
        return self.problems[0].status if self.problems else self.exit_status

    def to_dict(self) -> dict[str, Any]:
        return super().to_dict() | {"problems": [each.to_dict() for each in self.problems]}


def raise_all(problems: Iterable[AlloydError]) -> None:
    """Raise nothing for no problem, the problem itself for one, :class:`Problems` for several."""
    found = tuple(problems)
    if len(found) == 1:
        raise found[0]
    if found:
        raise Problems(found)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint for an unknown ``word``: the nearest of ``known``, else the list of them."""
    names = sorted(set(known))
    near = nearest(word, names)
    if near is not None:
        return f"Did you mean '{near}'?"
    return f"Known: {', '.join(names)}." if names else ""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The one of ``known`` that an unknown ``word`` was most likely meant as, if any is like it."""
    return next(iter(difflib.get_close_matches(word, sorted(set(known)), n=1, cutoff=0.6)), None)
