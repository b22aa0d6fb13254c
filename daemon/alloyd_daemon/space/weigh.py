"""How much room files take: what they say and what their disk gave them; links are never followed."""

from __future__ import annotations

import os
import stat
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from alloyd.space_schema import Room

BLOCK = 512
"""The unit of st_blocks, whatever the file system's own is."""


@dataclass(slots=True)
class Scale:
    """Weighs one thing after the other. A file with several names counts where it is met first.

    ``held`` adds up, by device, what was weighed; ``newest`` is the latest change of anything in the last thing.
    """

    held: Counter[int] = field(default_factory=Counter)
    newest: float = 0.0
    _seen: set[tuple[int, int]] = field(default_factory=set)

    def weigh(self, path: str | Path) -> Room:
        """The room of a file, or of a folder with all in it; what vanishes meanwhile, or cannot be read, is nothing."""
        self.newest = 0.0
        files = apparent = real = 0
        waiting = [os.fspath(path)]
        while waiting:
            each = waiting.pop()
            try:
                facts = os.lstat(each)
                if stat.S_ISDIR(facts.st_mode):
                    with os.scandir(each) as entries:
                        waiting += [entry.path for entry in entries]
            except OSError:
                continue
            self.newest = max(self.newest, facts.st_mtime)
            if not stat.S_ISDIR(facts.st_mode):
                if facts.st_nlink > 1:
                    if (facts.st_dev, facts.st_ino) in self._seen:
                        continue
                    self._seen.add((facts.st_dev, facts.st_ino))
                files += 1
                apparent += facts.st_size
            real += facts.st_blocks * BLOCK
            self.held[facts.st_dev] += facts.st_blocks * BLOCK
        return Room(files, apparent, real)
