"""A GGUF file as a checkpoint: its tensors where they lie, so that they are read as any others are."""

from __future__ import annotations

import os
from pathlib import Path

from alloyd.errors import SourceError, SourceNotFound

from ..checkpoints.checkpoint import Checkpoint, Tensor
from ..checkpoints.fingerprint import file_print
from .reader import read_head


def is_gguf(path: Path) -> bool:
    """Whether ``path`` is a GGUF file, or a folder whose weights are one."""
    if path.is_dir():
        return any(path.glob("*.gguf")) and not any(path.glob("*.safetensors"))
    return path.suffix == ".gguf"


def the_file(path: Path) -> Path:
    """``path``, or the only GGUF file of the folder that it is.

    Raises
    ------
    SourceNotFound
        None in the folder.
    SourceError
        Several.
    """
    if not path.is_dir():
        return path
    found = sorted(path.glob("*.gguf"))
    if not found:
        raise SourceNotFound(f"{path} holds no GGUF file", path=str(path))
    if len(found) > 1:
        raise SourceError(f"{path} holds {len(found)} GGUF files", hint="Name one of them.", path=str(path))
    return found[0]


def open_gguf(path: Path) -> Checkpoint:
    """Open a GGUF file, or the only one of a folder. Dtype codes are GGUF's; there is no config.

    Raises
    ------
    SourceNotFound
        There is no such file.
    SourceError
        Several files in a folder.
    HeaderError
        A head that lies; ``facts['lie']`` names the lie.
    """
    file = the_file(path).absolute()
    head = read_head(file)
    tensors = {
        each.name: Tensor(each.name, each.type.name, each.shape, 0, each.offset, each.size)
        for each in head.tensors
    }
    with file.open("rb") as opened:
        prints = (file_print(file.name, opened.read(head.data_start), os.fstat(opened.fileno())),)
    return Checkpoint(path, (file,), tensors, None, {}, prints)
