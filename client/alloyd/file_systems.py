"""Tells file systems of the network from local ones: neither locks nor shared memory can be trusted on them."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

# f_type of statfs(2), from linux/magic.h and the file systems' own headers.
NETWORK = {
    0x6969: "NFS",
    0x517B: "SMB",
    0xFE534D42: "SMB2",
    0xFF534D42: "CIFS",
    0x5346414F: "AFS",
    0x6B414653: "kAFS",
    0x73757245: "Coda",
    0x00C36400: "Ceph",
    0x0BD00BD0: "Lustre",
    0x47504653: "GPFS",
    0x19830326: "BeeGFS",
    0xAAD7AAEA: "PanFS",
    0x7461636F: "OCFS2",
    0x01161970: "GFS2",
    0x01021997: "9P",
}


def file_system_type(path: Path) -> int | None:
    """The ``f_type`` that statfs(2) gives for ``path``; ``None`` where it cannot be asked."""
    try:
        statfs = ctypes.CDLL(None, use_errno=True).statfs
    except (OSError, AttributeError):
        return None
    buffer = ctypes.create_string_buffer(512)
    if statfs(os.fsencode(path), buffer) != 0:
        return None
    # struct statfs begins with f_type, a long.
    return int(ctypes.c_ulong.from_buffer(buffer).value) & 0xFFFFFFFF


def network_file_system(path: Path) -> str:
    """The name of the network file system that ``path`` lies on; empty for a local one."""
    kind = file_system_type(path)
    return NETWORK.get(kind, "") if kind is not None else ""
