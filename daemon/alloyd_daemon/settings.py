"""The daemon's settings: defaults here, then a TOML file, then the environment; each value knows its origin.

The file is ``--config``, else ``$ALLOYD_CONFIG``, else ``$XDG_CONFIG_HOME/alloyd/config.toml``, else
``/etc/alloyd/config.toml``. A variable ``ALLOYD_<SECTION>_<KEY>`` overrides one key. configs/alloyd.toml lists all.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from alloyd.errors import AlloydError, ServiceError, UsageError, did_you_mean, raise_all
from alloyd.paths import expanded
from alloyd.units import parse_age, parse_size, total_memory

NEVER: Final = "never"
_TCP: Final = re.compile(r"tcp://(\[[0-9a-fA-F:.]+\]|[\w.*-]+):([0-9]{1,5})", re.ASCII)
MOST: Final = 1_000_000
"""Of jobs, connections and requests a second; more is a slip."""
MOST_KEPT: Final = 10**12
"""Ended jobs; no home ever has more."""
MOST_THREADS: Final = 1024
"""Threads of a job: plans try every number of them that fits into the memory."""


class JobSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """How jobs run.

    ``memory``: private memory a job may use when it names none. ``threads``: 0 is one more than there are cores,
    because a thread that writes waits for the disk. ``parallel``: merges and scores that run at the same time.
    ``cache``: room on disk for what merges found out about their sources, ``0`` to measure it each time.
    ``queue``: jobs that may wait. ``nice``: added to a job's niceness. ``stop_grace``: seconds a job gets to finish
    its block before it is killed (which loses nothing but time).
    """

    memory: str = "25%"
    threads: int = 0
    cache: str = "1GB"
    parallel: int = 1
    queue: int = 512
    nice: int = 0
    stop_grace: float = 60.0


class ModelSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Where a recipe's model names are looked for.

    ``roots``: folders holding ``org/name`` or ``name``. ``hf_home``: the Hugging Face home; empty follows ``HF_HOME``.
    """

    roots: tuple[str, ...] = ()
    hf_home: str = ""


class ScoringSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """How models are scored.

    ``functions``: the user's own scoring functions by name, each ``/path/file.py:function``; no other code of anybody's
    is run. ``harness_files``: task files of lm-evaluation-harness that remote keys and watch folders may name, for
    such a file can hold code.
    """

    functions: dict[str, str] = {}
    harness_files: tuple[str, ...] = ()


class DaemonSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The service itself.

    ``endpoint``: empty is a socket in this user's runtime folder. ``log_size``: the daemon's log is rotated, and
    a job's log cut, beyond it. ``log_count``: older logs of the daemon that are kept.
    """

    endpoint: str = ""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_size: str = "10MB"
    log_count: int = 3


class MetricsSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Figures for Prometheus.

    ``textfile``: written every ``interval`` seconds, for node_exporter; empty writes none.
    """

    textfile: str = ""
    interval: float = 15.0


class HookSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Commands that are run when a job has ended, each a list of words that begins with an absolute path.

    ``time_limit``: seconds until one is killed.
    """

    on_done: tuple[str, ...] = ()
    on_failed: tuple[str, ...] = ()
    on_cancelled: tuple[str, ...] = ()
    time_limit: float = 60.0


class RetentionSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """What the daemon forgets by itself: docs/space.md. Ages are such as ``90d``, or ``never``.

    ``jobs``: ended jobs, but not scores and searches, with their events and all they left in the home. ``results``:
    scores and searches. ``logs``: logs and resource samples of what is kept. ``backups``: copies of the store made
    before it was brought to a newer version. ``keep``: the newest ended jobs, of either sort, that stay whatever their
    age. ``most``: jobs of the first sort beyond it go whatever their age.
    """

    jobs: str = "90d"
    results: str = NEVER
    logs: str = "90d"
    backups: str = "90d"
    keep: int = 1000
    most: int = 10_000


class RemoteSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Who may come over the network, and what they may touch: docs/remote.md.

    ``listen``: ``tcp://address:port`` of requests, empty for none. ``events``: the same of events, by default on the
    next port. ``roots``: folders that remote jobs keep to. ``rate``: requests a second of one key. ``connections``:
    clients at a time, each of which may have one to requests and one to events. ``memory``: address space of the
    process that talks to the network.
    """

    listen: str = ""
    events: str = ""
    roots: tuple[str, ...] = ()
    rate: float = 50.0
    connections: int = 64
    memory: str = "1GB"


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that can be set, by section."""

    jobs: JobSettings = JobSettings()
    models: ModelSettings = ModelSettings()
    scoring: ScoringSettings = ScoringSettings()
    daemon: DaemonSettings = DaemonSettings()
    metrics: MetricsSettings = MetricsSettings()
    hooks: HookSettings = HookSettings()
    retention: RetentionSettings = RetentionSettings()
    remote: RemoteSettings = RemoteSettings()

    def memory_bytes(self) -> int:
        """The default memory budget of a job in bytes."""
        return parse_size(self.jobs.memory)

    def cache_bytes(self) -> int:
        """The most bytes of findings on disk; 0 keeps none."""
        return 0 if self.jobs.cache.strip() == "0" else parse_size(self.jobs.cache)

    def thread_count(self) -> int:
        """The default number of threads of a job."""
        return self.jobs.threads or len(os.sched_getaffinity(0)) + 1

    def model_roots(self) -> tuple[Path, ...]:
        """The folders that hold models, absolute."""
        return tuple(expanded(root).absolute() for root in self.models.roots)

    def remote_roots(self) -> tuple[Path, ...]:
        """The folders that remote jobs keep to, absolute."""
        return tuple(expanded(root).absolute() for root in self.remote.roots)

    def hub(self) -> Path:
        """The Hugging Face home, where huggingface_hub has it too: ``HF_HOME``, else in the user's cache folder."""
        cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        return expanded(self.models.hf_home or os.environ.get("HF_HOME") or f"{cache}/huggingface")


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings with, for each ``section.key``, the place its value came from."""

    settings: Settings
    origins: Mapping[str, str]


def load(*, config: Path | None = None, environ: Mapping[str, str] | None = None) -> Loaded:
    """Read the settings.

    Raises
    ------
    UsageError
        A file that is missing or no TOML, an unknown section or key, a value of the wrong kind; all at once.
    """
    environ = os.environ if environ is None else environ
    origins = {f"{section}.{key}": "default" for section, key in _keys()}
    values: dict[str, dict[str, Any]] = {}
    problems: list[AlloydError] = []
    file = find_config(config, environ)
    if file is not None:
        for section, table in _read(file).items():
            if section not in Settings.__struct_fields__:
                hint = did_you_mean(section, Settings.__struct_fields__)
                problems.append(
                    UsageError(f"{file} has the unknown section [{section}]", hint=hint, path=str(file))
                )
                continue
            if not isinstance(table, dict):
                problems.append(
                    UsageError(
                        f"'{section}' in {file} must be a section", hint=f"Write [{section}].", path=str(file)
                    )
                )
                continue
            for key, value in table.items():
                if f"{section}.{key}" not in origins:
                    hint = did_you_mean(key, _fields(section))
                    text = f"{file} has the unknown key '{key}' in [{section}]"
                    problems.append(UsageError(text, hint=hint, path=str(file), key=key))
                    continue
                values.setdefault(section, {})[key] = value
                origins[f"{section}.{key}"] = str(file)
    for name, text in sorted(environ.items()):
        section, _, key = name.removeprefix("ALLOYD_").lower().partition("_")
        if not name.startswith("ALLOYD_") or section not in Settings.__struct_fields__ or not key:
            continue
        if key not in _fields(section):
            hint = did_you_mean(key, _fields(section))
            problems.append(
                UsageError(f"the variable {name} sets the unknown key '{key}'", hint=hint, key=name)
            )
            continue
        default = getattr(getattr(Settings(), section), key)
        values.setdefault(section, {})[key] = (
            tuple(filter(None, text.split(os.pathsep))) if default == () else text
        )
        origins[f"{section}.{key}"] = f"${name}"
    settings = Settings()
    for section in Settings.__struct_fields__:
        kind = type(getattr(settings, section))
        parts: dict[str, Any] = {}
        for key, value in values.get(section, {}).items():
            origin = origins[f"{section}.{key}"]
            try:
                one = msgspec.convert({key: value}, kind, strict=not origin.startswith("$"))
                parts[key] = getattr(one, key)
                _check(section, key, parts[key])
            except (msgspec.ValidationError, UsageError) as wrong:
                reason = str(wrong).split(" - at ")[0]
                hint = getattr(wrong, "hint", "") or "configs/alloyd.toml shows every key with a good value."
                problems.append(
                    UsageError(f"{section}.{key} from {origin}: {reason}", hint=hint, key=f"{section}.{key}")
                )
        settings = msgspec.structs.replace(settings, **{section: kind(**parts)})
    raise_all(problems)
    return Loaded(settings, origins)


def find_config(config: Path | None, environ: Mapping[str, str]) -> Path | None:
    """The configuration file that counts, or ``None``; one that was named must exist."""
    named = str(config) if config is not None else environ.get("ALLOYD_CONFIG", "")
    if named:
        path = expanded(named)
        if not path.is_file():
            raise UsageError(f"the configuration file {path} does not exist", path=str(path))
        return path
    folder = environ.get("XDG_CONFIG_HOME") or os.path.join(environ.get("HOME", "~"), ".config")
    for path in (expanded(folder) / "alloyd" / "config.toml", Path("/etc/alloyd/config.toml")):
        if path.is_file():
            return path
    return None


def check_endpoint(endpoint: str) -> None:
    """Refuse an endpoint that would let others in."""
    if endpoint.startswith("tcp://"):
        raise ServiceError(
            f"the endpoint {endpoint} is open to the network and needs CURVE keys; this socket is a local one",
            hint="Leave daemon.endpoint empty, and serve remote keys by [remote] listen: docs/remote.md.",
            endpoint=endpoint,
        )
    if endpoint and not endpoint.startswith("ipc:///"):
        raise ServiceError(
            f"the endpoint {endpoint} is of an unknown kind",
            hint="Write ipc:///absolute/path.",
            endpoint=endpoint,
        )


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as wrong:
        raise UsageError(
            f"the configuration file {file} cannot be read: {wrong}",
            hint="It is TOML in UTF-8; configs/alloyd.toml is a good one.",
            path=str(file),
        ) from wrong


def _fields(section: str) -> tuple[str, ...]:
    fields: tuple[str, ...] = type(getattr(Settings(), section)).__struct_fields__
    return fields


def _keys() -> list[tuple[str, str]]:
    return [(section, key) for section in Settings.__struct_fields__ for key in _fields(section)]


def _check(section: str, key: str, value: Any) -> None:
    """Refuse a value of the right kind that makes no sense."""
    try:
        json.dumps(value, ensure_ascii=False).encode()  # as jobs and clients are told it
    except UnicodeEncodeError:
        raise UsageError("expected text in UTF-8") from None
    if key == "memory":
        parse_size(value, total=total_memory())
    elif key == "cache" and "%" in value:
        raise UsageError("expected a size such as 1GB, or 0")
    elif key == "log_size" or (key == "cache" and value.strip() != "0"):
        parse_size(value)
    elif section == "retention" and isinstance(value, str):
        if value != NEVER and parse_age(value) < 3600:
            raise UsageError("expected an age of an hour or more, such as 90d, or never")
    elif section == "retention" and not 0 <= value <= MOST_KEPT:
        raise UsageError(f"expected 0 to {MOST_KEPT}")
    elif key in ("parallel", "queue", "connections", "rate") and not 1 <= value <= MOST:
        raise UsageError(f"expected 1 to {MOST}")
    elif key == "log_count" and not 1 <= value <= 100:
        raise UsageError("expected 1 to 100")
    elif key == "threads" and not 0 <= value <= MOST_THREADS:
        raise UsageError(f"expected 0 (one more than there are cores) to {MOST_THREADS}")
    elif key == "stop_grace" and not 0 <= value <= 3600:
        raise UsageError("expected 0 to 3600 seconds")
    elif key in ("listen", "events") and value and not _TCP.fullmatch(value):
        raise UsageError("expected tcp://address:port, such as tcp://0.0.0.0:5757")
    elif key in ("roots", "harness_files") and not all(expanded(root).is_absolute() for root in value):
        raise UsageError("expected absolute paths (or below ~): the daemon runs in a folder of its own")
    elif key == "functions":
        for name, place in value.items():
            path, _, function = place.rpartition(":")
            if not (Path(path).is_absolute() and function.isidentifier()):
                raise UsageError(f"'{name}' must be '/path/file.py:function', not '{place}'")
    elif key == "textfile" and value and not Path(value).is_absolute():
        raise UsageError("expected an absolute path: the daemon runs in a folder of its own")
    elif key in ("interval", "time_limit") and not 1 <= value <= 86400:
        raise UsageError("expected 1 to 86400 seconds")
    elif key.startswith("on_") and value and not Path(value[0]).is_absolute():
        raise UsageError("expected an absolute path first, and then its arguments")
    elif key == "nice" and not 0 <= value <= 19:
        raise UsageError("expected 0 to 19")
