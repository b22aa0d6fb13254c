"""Which file system a path lies on, from /proc/self/mountinfo."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

MOUNTINFO: Final = Path("/proc/self/mountinfo")
BDI: Final = Path("/sys/class/bdi")

# fmt: off
_NETWORK: Final = frozenset({
    "9p", "afs", "afpfs", "beegfs", "ceph", "cifs", "coda", "davfs", "drvfs", "gfs", "gfs2",
    "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "prl_fs", "pvfs2",
    "smb3", "smbfs", "vboxsf", "virtiofs", "vmhgfs",
})
# fmt: on


def _mounts() -> Iterator[tuple[str, str]]:
    """Every mount point with the type of its file system, later mounts after those they cover."""
    try:
        lines = MOUNTINFO.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return
    for line in lines:
        fields = line.split(" ")
        if "-" in fields[6:-1]:
            place = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), fields[4])
            yield place, fields[fields.index("-", 6) + 1]


def is_mount_point(path: Path) -> bool:
    """Whether something is mounted at ``path``; unlike ``os.path.ismount``, also a bind mount."""
    wanted = os.path.realpath(path)
    return os.path.ismount(wanted) or any(place == wanted for place, _ in _mounts())


def read_ahead(device: int) -> int:
    """How many bytes the kernel reads ahead on a device (``st_dev``) by itself; 0 if unknown."""
    try:
        text = (BDI / f"{os.major(device)}:{os.minor(device)}" / "read_ahead_kb").read_text()
        return int(text) * 1024
    except (OSError, ValueError):
        return 0


def file_system(path: Path) -> str:
    """The type of the file system that holds ``path`` (``ext4``, ``nfs4``, ``fuse.sshfs``), or ``""``."""
    wanted = os.path.realpath(path)
    best, found = -1, ""
    for place, kind in _mounts():
        inside = wanted == place or wanted.startswith(place.rstrip("/") + "/")
        if inside and len(place) >= best:
            best, found = len(place), kind
    return found


def is_network(path: Path) -> bool:
    """Whether ``path`` lies on another machine, or behind FUSE, where mapping files is slow or unsafe."""
    kind = file_system(path)
    return kind in _NETWORK or kind == "fuse" or kind.startswith("fuse.")
