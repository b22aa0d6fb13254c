"""What a client raises when an answer is missing, late, or says no; what sync and async clients have in common."""

from __future__ import annotations

from . import __version__, wire
from . import follow as _follow
from .errors import AlloydError, DaemonUnreachable, RateLimited, VersionMismatch, WaitTimedOut
from .jobs import Job, JobState
from .space_schema import GetSpace, Prune

SLOW = 3600.0


def patience(limited: RateLimited, timeout: float) -> float:
    """The seconds that a key must wait that asked too often; ``limited`` is raised where that is over ``timeout``."""
    seconds = limited.facts.get("wait")
    if not isinstance(seconds, int | float) or not 0 <= seconds <= timeout:
        raise limited
    return float(seconds)


def time_for(request: wire.Request, timeout: float) -> float:
    """The seconds that an answer may take: to look through disks, or to remove what is on them, takes its time."""
    return max(timeout, SLOW) if isinstance(request, GetSpace | Prune) else timeout


def ended_well(job: Job) -> Job:
    """``job`` if it is done; else what it ended with is raised."""
    if job.state is JobState.DONE:
        return job
    raise AlloydError.from_dict(job.error or {"message": f"{job.id} is {job.state.value}"})


def timed_out(job: str, timeout: float) -> WaitTimedOut:
    """The error of a wait that was too short."""
    what = f"{job} had not ended" if job else "nothing more happened"
    return WaitTimedOut(f"{what} after {timeout:g} s", hint="It goes on; wait again, or cancel it.", job=job)


def busy(connection: wire.Connection | None, timeout: float) -> DaemonUnreachable:
    """The error for a daemon that lives but does not answer."""
    pid = connection.pid if connection else 0
    return DaemonUnreachable(
        f"the daemon (process {pid}) lives but has not answered for {timeout:g} s",
        hint="Its disk may be slow; try again, or 'alloy restart'.",
        pid=pid,
    )


def stopped(follower: _follow.Follower) -> DaemonUnreachable:
    """The error for a daemon that was stopped under a follower."""
    return DaemonUnreachable(
        f"the daemon was stopped; {follower.job or 'its work'} is kept",
        hint="It goes on when a daemon is started, by 'alloyd' or by any command that needs one.",
        job=follower.job,
    )


def check_version(connection: wire.Connection, *, strict: bool) -> None:
    """Raise VersionMismatch for a daemon that this client should not talk to."""
    other = connection.protocol.partition(".")[0] != wire.PROTOCOL.partition(".")[0]
    if other or (strict and connection.software != __version__):
        age = "older" if _parts(connection.software) < _parts(__version__) else "newer"
        raise VersionMismatch(
            f"the daemon is {age}: it is alloyd {connection.software}, this is {__version__}",
            hint="Run 'alloy restart'."
            if age == "older"
            else "Use the alloy of that version, or 'alloy restart'.",
            daemon=connection.software,
            client=__version__,
        )


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
