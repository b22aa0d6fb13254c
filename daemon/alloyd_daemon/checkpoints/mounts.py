"""Which file system a path lies on, from /proc/self/mountinfo."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

MOUNTINFO: Final = Path("/proc/self/mountinfo")

# fmt: off
_NETWORK: Final = frozenset({
    "9p", "afs", "afpfs", "beegfs", "ceph", "cifs", "coda", "davfs", "drvfs", "gfs", "gfs2",
    "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "prl_fs", "pvfs2",
    "smb3", "smbfs", "vboxsf", "virtiofs", "vmhgfs",
})
# fmt: on


def file_system(path: Path) -> str:
    """The type of the file system that holds ``path`` (``ext4``, ``nfs4``, ``fuse.sshfs``), or ``""`` if
    unknown."""
    try:
        lines = MOUNTINFO.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return ""
    wanted = os.path.realpath(path)
    best, found = -1, ""
    for line in lines:
        fields = line.split(" ")
        if "-" not in fields[6:] or len(fields) < 9:
            continue
        place = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), fields[4])
        inside = wanted == place or wanted.startswith(place.rstrip("/") + "/")
        if inside and len(place) >= best:
            best, found = len(place), fields[fields.index("-", 6) + 1]
    return found


def is_network(path: Path) -> bool:
    """Whether ``path`` lies on another machine, or behind FUSE, where mapping files is slow or unsafe."""
    kind = file_system(path)
    return kind in _NETWORK or kind == "fuse" or kind.startswith("fuse.")
