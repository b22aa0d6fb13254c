"""The doors for plug-ins (merge method, architecture, evaluator, job) and the registry behind them.

A door is a folder of leaves. A leaf registers itself with the door's decorator or ``register``; no list is edited. The
folder is imported on first use; where a leaf has the name that is asked for, it is imported alone. A leaf whose library
is absent is remembered and named when it is asked for.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import re
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from alloyd.errors import RecipeError, did_you_mean

T = TypeVar("T")


class Door(Generic[T]):
    """One kind of plug-in: a name for people, the package its leaves live in, and what is registered."""

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self.package = package
        self._found: dict[str, T] = {}
        self._absent: dict[str, str] = {}
        self._tried: set[str] = set()
        self._opened = False
        self._lock = threading.RLock()

    def register(self, name: str, plugin: T) -> T:
        """Add ``plugin`` under ``name``; a name can be taken once."""
        if name in self._found:
            raise ValueError(f"{self.kind} '{name}' is registered twice")
        self._found[name] = plugin
        return plugin

    def named(self, name: str) -> Callable[[T], T]:
        """A decorator that registers what it decorates."""
        return lambda plugin: self.register(name, plugin)

    def open(self) -> None:
        """Import every leaf of the folder, once."""
        with self._lock:
            if self._opened:
                return
            folder = importlib.import_module(self.package)
            for leaf in pkgutil.iter_modules(folder.__path__):
                if not leaf.name.startswith("_"):
                    self._load(leaf.name)
            self._opened = True

    def _load(self, leaf: str) -> None:
        """Import one leaf, once."""
        if leaf in self._tried:
            return
        try:
            importlib.import_module(f"{self.package}.{leaf}")
        except ModuleNotFoundError as missing:
            if (missing.name or "").startswith(self.package):
                raise
            self._absent[leaf] = missing.name or "a library"
        self._tried.add(leaf)

    def _load_its_own(self, name: str) -> None:
        """Import the leaf of the name ``name``, if there is one: most plug-ins lie in it, and it is all they need."""
        if not name.isidentifier() or name.startswith("_"):
            return
        with self._lock:
            if importlib.util.find_spec(f"{self.package}.{name}") is not None:
                self._load(name)

    def names(self) -> tuple[str, ...]:
        """Every registered name, sorted."""
        self.open()
        return tuple(sorted(self._found))

    def items(self) -> Iterator[tuple[str, T]]:
        """Every registered name with its plug-in, sorted by name."""
        return ((name, self._found[name]) for name in self.names())

    def get(self, name: str) -> T:
        """The plug-in called ``name``.

        Raises
        ------
        RecipeError
            The name is unknown (with the nearest known one), or its library is not installed.
        """
        if not self._opened and name not in self._found:
            self._load_its_own(name)
        if name in self._found:
            return self._found[name]
        self.open()
        if name in self._found:
            return self._found[name]
        if name in self._absent:
            library = self._absent[name]
            raise RecipeError(
                f"{self.kind} '{name}' needs the library '{library}', which is not installed",
                hint=_cure(library),
                name=name,
            )
        raise RecipeError(f"unknown {self.kind} '{name}'", hint=did_you_mean(name, self._found), name=name)


def _cure(library: str) -> str:
    """The pip line that brings ``library``: the extra of alloyd that lists it, where one does."""
    import importlib.metadata  # slow to load, and wanted only for this sentence

    try:
        required = importlib.metadata.requires("alloyd") or []
    except importlib.metadata.PackageNotFoundError:
        required = []
    extras: dict[str, set[str]] = {}
    for line in required:
        found = re.match(r"([\w-]+).*extra == ['\"]([\w-]+)['\"]", line)
        if found:
            extras.setdefault(found[2], set()).add(found[1].replace("-", "_"))
    # Of several the least: an extra lists what those that it builds on list, too.
    wanted = library.replace("-", "_")
    fitting = sorted((len(names), extra) for extra, names in extras.items() if wanted in names)
    if fitting:
        return f"pip install 'alloyd[{fitting[0][1]}]'"
    return f"pip install {library}"
