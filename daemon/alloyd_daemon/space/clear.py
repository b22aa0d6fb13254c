"""Removes what the store says is to be removed, and may be killed at any moment: whoever comes next does the same.

A folder is renamed before it is emptied, so that nobody takes what is left of it for the whole. Links are removed and
never followed; a folder of the home that is a link is left alone with all in it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from pathlib import Path

from alloyd.errors import AlloydError
from alloyd.paths import Home
from alloyd.space_schema import Place, Room

from ..checkpoints import staging
from ..faults import reach
from ..service.store_prune import Removal, Weights
from .job_files import BACKUP, GONE, LOGS, names_of
from .look import MOST_TOLD, text
from .orders import Clear, Cleared
from .rows import Rows, reading
from .weigh import Scale


class Sweep:
    """One round of removing."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._scale = Scale()
        self._folders: dict[str, tuple[int, set[str]]] = {}
        self._parts: dict[str, Room] = {}
        self._left: list[Place] = []

    def run(self, order: Clear) -> Cleared:
        """Remove all that can be removed."""
        numbers: list[int] = []
        try:
            with reading(self._home) as rows:
                for number, removal in rows.removals():
                    if self._remove(removal, rows):
                        numbers.append(number)
                    reach("prune-removed")
            for job in order.quiet:
                self._remove_files(job, LOGS)
            for job in order.whole:
                self._remove_files(job)
            for name in order.backups:
                self._remove_backup(name)
            for handle, _ in self._folders.values():
                if handle >= 0:
                    os.fsync(handle)
        finally:
            for handle, _ in self._folders.values():
                if handle >= 0:
                    os.close(handle)
        return Cleared(tuple(numbers), self._parts, tuple(self._left[:MOST_TOLD]))

    def _remove(self, removal: Removal, rows: Rows) -> bool:
        """Remove what is to be removed of one job; whether nothing of it is left to do."""
        well = self._remove_files(removal.job)
        for final in removal.staged:
            well = self._remove_staging(Path(final), removal, rows) and well
        for weights in removal.weights:
            well = self._remove_weights(weights, removal.job) and well
        return well

    def _remove_files(self, job: str, classes: tuple[str, ...] = ()) -> bool:
        well = True
        for kind, folder, name in names_of(job, classes):
            handle, present = self._folder(folder)
            for each in (GONE.format(name), name):
                if each not in present:
                    continue
                try:
                    self._remove_one(handle, folder, each, kind)
                except OSError as wrong:
                    well = False
                    self._leave(self._home.root / folder / each, job, wrong.strerror or str(wrong))
        return well

    def _remove_one(self, handle: int, folder: str, name: str, kind: str) -> None:
        try:
            facts = os.lstat(name, dir_fd=handle)
        except FileNotFoundError:
            return
        room = self._scale.weigh(self._home.root / folder / name)
        if stat.S_ISDIR(facts.st_mode):
            gone = name if name.startswith(".") else GONE.format(name)
            if gone != name:
                os.rename(name, gone, src_dir_fd=handle, dst_dir_fd=handle)
                reach("prune-renamed")
            shutil.rmtree(gone, dir_fd=handle)
        else:
            os.unlink(name, dir_fd=handle)
        self._add(kind, room)

    def _remove_backup(self, name: str) -> None:
        path = self._home.root / name
        try:
            if BACKUP.fullmatch(name) and stat.S_ISREG(os.lstat(path).st_mode):
                room = self._scale.weigh(path)
                os.unlink(path)
                reach("prune-backup")
                self._add("backups", room)
        except FileNotFoundError:
            return
        except OSError as wrong:
            self._leave(path, "", wrong.strerror or str(wrong))

    def _remove_staging(self, final: Path, removal: Removal, rows: Rows) -> bool:
        """Remove what a job staged, unless another one has come that goes on with it."""
        if rows.undone_at(removal.out):
            return True
        try:
            place = staging.Place.of(final)
            if not os.path.lexists(place.staging):
                return True
            room = self._scale.weigh(place.staging)
            lock = staging.acquire(place, wait=0)
            try:
                staging.discard(place)
            finally:
                staging.release(place, lock)
        except (AlloydError, OSError) as wrong:
            self._leave(final, removal.job, str(wrong))
            return False
        self._add("staged", room)
        return True

    def _remove_weights(self, weights: Weights, job: str) -> bool:
        """Remove files that are still what they were when it was decided; what has taken their place stays."""
        try:
            folder = os.open(weights.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return True
        try:
            for name, *known in weights.files:
                with contextlib.suppress(FileNotFoundError):
                    facts = os.lstat(name, dir_fd=folder)
                    if [facts.st_size, facts.st_mtime_ns, facts.st_ino] == known:
                        room = self._scale.weigh(os.path.join(weights.folder, name))
                        os.unlink(name, dir_fd=folder)
                        self._add("outputs", room)
                        reach("prune-weights")
            os.fsync(folder)
        except OSError as wrong:
            self._leave(Path(weights.folder), job, wrong.strerror or str(wrong))
            return False
        finally:
            os.close(folder)
        return True

    def _folder(self, name: str) -> tuple[int, set[str]]:
        """The folder ``name`` of the home, open, and what is in it; -1 where there is none, or a link in its place."""
        if name not in self._folders:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            try:
                handle = os.open(self._home.root / name, flags)
                self._folders[name] = handle, set(os.listdir(handle))
            except OSError:
                self._folders[name] = -1, set()
        return self._folders[name]

    def _add(self, kind: str, room: Room) -> None:
        self._parts[kind] = self._parts.get(kind, Room()).plus(room)

    def _leave(self, path: Path, job: str, why: str) -> None:
        self._left.append(Place(text(path), Room(), job, why))
