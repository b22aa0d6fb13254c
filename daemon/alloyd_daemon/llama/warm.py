"""An engine that stays open from candidate to candidate, and is started anew when it has died."""

from __future__ import annotations

from types import TracebackType

from .engine import Engine
from .messages import Load, Loaded


class WarmEngine:
    """One process with one model file; ``image`` is a descriptor that it may open as a file."""

    def __init__(self, image: int | None = None) -> None:
        self._image = image
        self._engine: Engine | None = None
        self._order: Load | None = None
        self._loaded: Loaded | None = None

    def __enter__(self) -> WarmEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.forget()

    @property
    def pid(self) -> int | None:
        """The process's number, while there is one."""
        return None if self._engine is None else self._engine.pid

    def ready(
        self, order: Load, *, changed: bool = False, until: float | None = None
    ) -> tuple[Engine, Loaded]:
        """The engine with the file of ``order`` open; ``changed`` says that the file has other weights than before.

        ``until`` is when, on the monotonic clock, no more answers are waited for.

        A model whose weights lie in the mapped file sees them change; one that was copied to a GPU is opened again.

        Raises
        ------
        EngineRefused
            llama.cpp does not open the file.
        ChildDied
            It crashed over it, or the time was over.
        """
        if self._engine is None:
            self._engine = Engine(self._image)
            self._loaded = None
        self._engine.until = until
        copied = self._loaded is not None and self._loaded.offloads and order.gpu_layers != 0
        if self._loaded is None or order != self._order or (changed and copied):
            self._loaded = None
            self._order = order
            self._loaded = self._engine.load(order)
        return self._engine, self._loaded

    def forget(self) -> None:
        """End the process, if there is one."""
        if self._engine is not None:
            self._engine.close()
        self._engine = self._loaded = None
