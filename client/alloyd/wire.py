"""The frames between client and daemon: requests, replies, published events. Nothing else knows a frame.

A request or reply is four frames of UTF-8 JSON behind a mark (a ROUTER puts the peer's address in front)::

    b"<alloyd>"   header   parent   content

    header   {"id", "kind", "session", "at", "protocol": "1.0", "software": "0.1.0"}
    parent   the header of the request that a reply answers; {} in a request
    content  the request's fields; in a reply {"status": "ok", "value": ...} or {"status": "error", "error": {...}}

A publication has the topic in front: ``job.<id>.<kind>``, ``daemon.<kind>``. Within one major protocol version fields
and kinds are only added; whoever reads ignores header fields it does not know. docs/protocol.md has the whole of it.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from . import __version__
from .errors import AlloydError, ProtocolError, UsageError, did_you_mean
from .jobs import SPECS, Event, JobState, Order, Spec
from .numbers import LARGEST_NUMBER, sendable
from .priority import LARGEST_PRIORITY
from .roles import Role
from .space_schema import GetSpace, Prune
from .watch_schema import WatchSettings

PROTOCOL = "1.0"
MARK = b"<alloyd>"
LARGEST_MESSAGE = 64 * 2**20
Number = Annotated[int, Meta(ge=-LARGEST_NUMBER, le=LARGEST_NUMBER)]

Priority = Annotated[int, Meta(ge=-LARGEST_PRIORITY, le=LARGEST_PRIORITY)]
"""Of two jobs that wait, the one of the higher priority is begun first."""

Token = Annotated[str, Meta(min_length=1, max_length=1000)]
KEY: Final = "key:"
"""What the token of a submission begins with that its caller named: an idempotency key."""

_PAGE: Final = "docs/protocol.md says what messages hold."

T = TypeVar("T")


class Header(Struct, frozen=True):
    """Who says what, when, in which version.

    ``caller`` is the public key of the remote peer that the gateway speaks for. Whoever sets it on the local socket
    only gives up rights, and over what comes from the network the gateway writes it itself.
    """

    id: str
    kind: str
    session: str = ""
    at: datetime | None = None
    protocol: str = PROTOCOL
    software: str = ""
    caller: str = ""


class Hello(Struct, frozen=True, forbid_unknown_fields=True):
    """Ask who is there."""


class Submit(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Add a job. A second request with the same ``token`` answers with the first one's job.

    ``after`` names jobs that must be done first. ``confined``: folders that the job must
    keep to, whatever its spec names (none: any, for the local user).
    """

    spec: dict[str, Any]
    token: Token
    priority: Priority = 0
    after: Annotated[tuple[str, ...], Meta(max_length=1000)] = ()
    confined: Annotated[tuple[str, ...], Meta(max_length=1000)] = ()


class GetJob(Struct, frozen=True, forbid_unknown_fields=True):
    """Ask for one job by its id, or by its number."""

    job: str


class ListJobs(Struct, frozen=True, forbid_unknown_fields=True):
    """Ask for at most ``limit`` jobs in ``states`` (all states when empty), as many as go into a message.

    They are the ``newest``, oldest first, or those that are to be begun ``next``, in that order. To go on, say the
    number of the last job ``past`` which one has come: of the newest that is the oldest.
    """

    states: tuple[JobState, ...] = ()
    limit: Number = 1000
    order: Order = "newest"
    past: Number = 0


class ListEvents(Struct, frozen=True, forbid_unknown_fields=True):
    """Ask for stored events after ``since``, of one job or of all."""

    since: Number = 0
    job: str = ""
    limit: Number = 1000


class Cancel(Struct, frozen=True, forbid_unknown_fields=True):
    """End a job and remove what it staged."""

    job: str


class Pause(Struct, frozen=True, forbid_unknown_fields=True):
    """Stop a job at the next block and keep what it staged."""

    job: str


class Resume(Struct, frozen=True, forbid_unknown_fields=True):
    """Queue a paused or failed job again."""

    job: str


class Retry(Struct, frozen=True, forbid_unknown_fields=True):
    """Queue a failed, quarantined or cancelled job again, as if it had never been tried."""

    job: str


class Move(Struct, frozen=True, forbid_unknown_fields=True):
    """Put a job that has not ended first or last in the queue, or give it another priority."""

    job: str
    to: Literal["top", "bottom"] | Priority


class ReadLog(Struct, frozen=True, forbid_unknown_fields=True):
    """Ask for a piece of a job's log from byte ``offset``; below 0 counts from the end."""

    job: str
    offset: Number = 0


class GetResults(Struct, frozen=True, forbid_unknown_fields=True):
    """Ask for what a search has written of itself: docs/search_results.md."""

    job: str


class GetStatus(Struct, frozen=True, forbid_unknown_fields=True):
    """Ask how the daemon is."""


class GetConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Ask for the settings that count and where each came from."""


class GetResources(Struct, frozen=True, forbid_unknown_fields=True):
    """Ask what a job's processes used, as samples over time."""

    job: str


class GetMetrics(Struct, frozen=True, forbid_unknown_fields=True):
    """Ask for the daemon's figures in Prometheus' text format."""


class WatchAdd(Struct, frozen=True, forbid_unknown_fields=True):
    """Watch the folder ``path``, or watch it otherwise.

    ``existing``: models that are there already count as new, and those that a rule failed with are tried again.
    """

    path: str
    settings: WatchSettings = WatchSettings()
    existing: bool = False


class WatchRemove(Struct, frozen=True, forbid_unknown_fields=True):
    """Watch the folder ``path`` no longer."""

    path: str


class ListWatches(Struct, frozen=True, forbid_unknown_fields=True):
    """Ask for the watched folders."""


class Shutdown(Struct, frozen=True, forbid_unknown_fields=True):
    """Stop the daemon: after the blocks in flight, or at once with ``now``."""

    now: bool = False


Request = (
    Hello
    | Submit
    | GetJob
    | ListJobs
    | ListEvents
    | Cancel
    | Pause
    | Resume
    | Retry
    | Move
    | ReadLog
    | GetResults
    | GetStatus
    | GetConfig
    | GetResources
    | GetMetrics
    | WatchAdd
    | WatchRemove
    | ListWatches
    | GetSpace
    | Prune
    | Shutdown
)
REQUESTS: dict[str, type[Request]] = {
    "hello": Hello,
    "submit": Submit,
    "job": GetJob,
    "jobs": ListJobs,
    "events": ListEvents,
    "cancel": Cancel,
    "pause": Pause,
    "resume": Resume,
    "retry": Retry,
    "move": Move,
    "log": ReadLog,
    "results": GetResults,
    "status": GetStatus,
    "config": GetConfig,
    "resources": GetResources,
    "metrics": GetMetrics,
    "watch_add": WatchAdd,
    "watch_remove": WatchRemove,
    "watches": ListWatches,
    "space": GetSpace,
    "prune": Prune,
    "shutdown": Shutdown,
}
_KINDS = {request: kind for kind, request in REQUESTS.items()}

ROLES: Final[dict[str, Role]] = {
    "hello": Role.READ,
    "submit": Role.SUBMIT,
    "job": Role.READ,
    "jobs": Role.READ,
    "events": Role.READ,
    "cancel": Role.SUBMIT,
    "pause": Role.SUBMIT,
    "resume": Role.SUBMIT,
    "retry": Role.SUBMIT,
    "move": Role.SUBMIT,
    "log": Role.READ,
    "results": Role.READ,
    "status": Role.READ,
    "resources": Role.READ,
    "metrics": Role.READ,
    "watch_add": Role.ADMIN,
    "watch_remove": Role.ADMIN,
    "watches": Role.READ,
    "space": Role.READ,
    "prune": Role.ADMIN,
    "config": Role.ADMIN,
    "shutdown": Role.ADMIN,
}
"""The least role that may make each request. The local user may make them all."""


class Greeting(Struct, frozen=True):
    """The daemon's answer to ``hello``."""

    software: str
    protocol: str
    pid: int
    home: str
    started: datetime


class Status(Struct, frozen=True):
    """How the daemon is: jobs by state, what waits, what was last stored."""

    software: str
    pid: int
    home: str
    started: datetime
    uptime: float
    resident: int
    jobs: dict[str, int]
    last_event: int
    malformed: int
    stopping: bool
    log: str


class LogPiece(Struct, frozen=True):
    """Bytes [offset, next) of a log as text; ``end`` when nothing more will come."""

    text: str
    offset: int
    next: int
    end: bool


class Configured(Struct, frozen=True):
    """The settings that count by ``section.key``, each with its origin."""

    values: dict[str, Any]
    origins: dict[str, str]


class Connection(Struct, frozen=True):
    """What the connection file of a home says."""

    pid: int
    software: str
    protocol: str
    requests: str
    events: str


class _Reply(Struct, frozen=True):
    status: str
    value: msgspec.Raw = msgspec.Raw(b"null")
    error: dict[str, Any] | None = None


def kind_of(request: Request) -> str:
    """The name of a request on the wire."""
    return _KINDS[type(request)]


def new_session() -> str:
    """A name for one client, carried in its headers."""
    return uuid.uuid4().hex


def token_of(key: str | None) -> str:
    """A name for one submission, so that repeating it does no harm: of the caller's own ``key``, or a new one."""
    return uuid.uuid4().hex if key is None else KEY + key


def ask(request: Request, session: str) -> tuple[str, list[bytes]]:
    """The id and the frames of a request. UsageError for a text in it that is none."""
    header = Header(uuid.uuid4().hex, kind_of(request), session, datetime.now(UTC), PROTOCOL, __version__)
    try:
        return header.id, [MARK, msgspec.json.encode(header), b"{}", msgspec.json.encode(request)]
    except UnicodeEncodeError as wrong:
        raise UsageError(f"this is not text in UTF-8: {wrong.object!a}", hint="Check the spelling.") from None


def read_request(frames: Sequence[bytes]) -> tuple[Header, Request]:
    """The header and the request in ``frames`` (the peer's address taken off).

    Raises
    ------
    ProtocolError
        Frames that are no request of this protocol; ``facts['id']`` names the request where it could be read.
    UsageError
        A request whose fields are wrong.
    """
    header = read_header(frames)
    if header.protocol.partition(".")[0] != PROTOCOL.partition(".")[0]:
        raise ProtocolError(
            f"the client speaks protocol {header.protocol}, this daemon {PROTOCOL}",
            hint="Run 'alloy restart' with the newer program.",
            id=header.id,
        )
    kind = REQUESTS.get(header.kind)
    if kind is None:
        hint = did_you_mean(header.kind, REQUESTS)
        raise ProtocolError(f"unsupported request '{header.kind}'", hint=hint, id=header.id)
    try:
        return header, msgspec.json.decode(frames[3], type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
        raise UsageError(
            f"the request '{header.kind}' is wrong: {wrong}", hint=_hint(str(wrong), kind), id=header.id
        ) from None


def read_header(frames: Sequence[bytes]) -> Header:
    """The header in ``frames``; ProtocolError when they are not four frames of this protocol."""
    if len(frames) != 4 or frames[0] != MARK:
        raise ProtocolError(f"a message of {len(frames)} frames is not of this protocol", hint=_PAGE, id="")
    try:
        return msgspec.json.decode(frames[1], type=Header)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
        raise ProtocolError(f"the header of a message is wrong: {wrong}", hint=_PAGE, id="") from None


def answer(
    parent: Header | None, session: str, value: object = None, error: AlloydError | None = None
) -> list[bytes]:
    """The frames of a reply to the request whose header is ``parent``."""
    header = Header(uuid.uuid4().hex, "reply", session, datetime.now(UTC), PROTOCOL, __version__)
    content: dict[str, Any] = {"status": "ok", "value": value}
    if error is not None:
        content = {"status": "error", "error": error.to_dict()}
    above = b"{}" if parent is None else msgspec.json.encode(parent)
    return [MARK, msgspec.json.encode(header), above, msgspec.json.encode(content)]


def refit(frames: Sequence[bytes], error: AlloydError) -> list[bytes]:
    """A reply to the same request that says ``error`` instead."""
    return [*frames[:3], msgspec.json.encode({"status": "error", "error": error.to_dict()})]


def answers(frames: Sequence[bytes]) -> str:
    """The id of the request that a reply answers; empty when the daemon could not read which."""
    read_header(frames)
    try:
        above: dict[str, Any] = msgspec.json.decode(frames[2], type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
        raise ProtocolError(f"a reply names its request wrongly: {wrong}", hint=_PAGE) from None
    return str(above.get("id", ""))


def read_answer(frames: Sequence[bytes], kind: type[T]) -> T:
    """The value in a reply.

    Raises
    ------
    AlloydError
        What the daemon answered instead.
    ProtocolError
        A reply that cannot be read.
    """
    try:
        reply = msgspec.json.decode(frames[3], type=_Reply)
        if reply.status == "ok":
            return msgspec.json.decode(reply.value, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
        raise ProtocolError(
            f"the daemon's reply cannot be read: {wrong}", hint="Run 'alloy restart'."
        ) from None
    raise AlloydError.from_dict(reply.error or {"message": "the daemon answered without a reason"})


def publish(kind: str, content: object, session: str, *, job: str = "") -> list[bytes]:
    """The frames of a publication; events go out as kind ``event`` under their job's topic."""
    topic = f"job.{job}.{getattr(content, 'kind', kind)}" if job else f"daemon.{kind}"
    header = Header(uuid.uuid4().hex, kind, session, datetime.now(UTC), PROTOCOL, __version__)
    return [topic.encode(), MARK, msgspec.json.encode(header), b"{}", msgspec.json.encode(content)]


def read_publication(frames: Sequence[bytes]) -> tuple[str, Any]:
    """The kind and content of a publication: ``event`` with an Event, ``heartbeat``, ``stopping``, ``welcome``."""
    if len(frames) == 1:
        return "welcome", {}
    header = read_header(frames[1:])
    try:
        kind: Any = Event if header.kind == "event" else dict[str, Any]
        return header.kind, msgspec.json.decode(frames[4], type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
        raise ProtocolError(f"a publication cannot be read: {wrong}", hint=_PAGE) from None


def read_spec(fields: dict[str, Any]) -> Spec:
    """The spec in a submission.

    Raises
    ------
    UsageError
        An unknown kind or field, a missing field, or a value of the wrong kind; with a suggestion.
    """
    kind = SPECS.get(str(fields.get("kind")))
    if kind is None:
        hint = did_you_mean(str(fields.get("kind")), SPECS)
        raise UsageError(f"unknown kind of job '{fields.get('kind')}'", hint=hint)
    for key, value in fields.items():
        if not sendable(value):
            raise UsageError(
                f"the {fields['kind']} job is wrong: {key} is, or holds, a number beyond {LARGEST_NUMBER}",
                hint="Write a smaller one.",
                key=key,
            )
    try:
        return msgspec.convert(fields, type=kind)
    except msgspec.ValidationError as wrong:
        raise UsageError(
            f"the {fields['kind']} job is wrong: {wrong}", hint=_hint(str(wrong), kind)
        ) from None


def _hint(message: str, kind: type[Any]) -> str:
    unknown = re.search(r"unknown field `([^`]*)`", message)
    if unknown:
        return did_you_mean(unknown[1], kind.__struct_fields__) or "It has no fields."
    size = re.search(r"at `\$\.(memory|shard_size)`", message)
    return f"{size[1]} is a number of bytes; alloyd.units.parse_size('512MiB') gives it." if size else _PAGE
