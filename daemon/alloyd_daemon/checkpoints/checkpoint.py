"""A checkpoint on disk: which files, which tensors where, read from headers, index and config.json alone."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, Final

from alloyd.errors import AlloydError, HeaderError, SourceError, SourceNotFound, raise_all
from alloyd_kernels.dtypes import TILE

from .fingerprint import FilePrint, file_print
from .header import MAX_HEADER, Header, header_length, parse
from .json_object import Lie, load_object
from .safetensors_layout import INDEX, SINGLE
from .small_file import read_small

_NUMBERED: Final = re.compile(r"(.*)-(\d+)-of-(\d+)\.safetensors")
_MAX_READ: Final = 2**30
_DAMAGED: Final = "The file is damaged; download the model again."


@dataclass(frozen=True, slots=True)
class LowRank:
    """What an adapter makes of a stored tensor ``weight``: weight + ``scale`` * (b @ a), in float32.

    ``a`` is stored as [rank, columns] and ``b`` as [rows, rank] of that product; ``transposed`` says that the weight
    lies the other way round, so that the product's transpose is added.
    """

    weight: Tensor
    a: Tensor
    b: Tensor
    scale: float
    transposed: bool

    @property
    def factor_bytes(self) -> int:
        """Private bytes of both factors as they are computed with, and as they were read."""
        decoded = 4 * self.rank * (self.rows + -(-self.columns // TILE) * TILE)
        return decoded + self.a.nbytes + self.b.nbytes

    @property
    def rank(self) -> int:
        return self.a.shape[0]

    @property
    def rows(self) -> int:
        return self.weight.shape[0]

    @property
    def columns(self) -> int:
        return self.weight.shape[1]


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor: number of its file, absolute offset in it, bytes.

    A tensor with a ``low_rank`` is not stored: it is of F32, and a reader computes what is asked of it. ``like`` is the
    element type that a result takes after it, where that is not its own.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: int
    offset: int
    nbytes: int
    low_rank: LowRank | None = None
    like: str | None = None

    @property
    def stored(self) -> tuple[Tensor, ...]:
        """The tensors on disk that it is read from."""
        one = self.low_rank
        return (self,) if one is None else (one.weight, one.a, one.b)

    @property
    def stored_bytes(self) -> int:
        """Bytes on disk that it is read from."""
        return sum(each.nbytes for each in self.stored)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint whose headers were read and believed.

    ``tensors`` are in stored order: files by name, offsets within a file. ``config`` is the parsed
    config.json of the folder, if there is one. ``metadata`` joins the files' metadata. ``prints`` is for
    ``fingerprint``. ``adapter`` is the folder of the adapter that the tensors are read with; its files are among
    ``files``.
    """

    path: Path
    files: tuple[Path, ...]
    tensors: Mapping[str, Tensor]
    config: Mapping[str, Any] | None
    metadata: Mapping[str, str]
    prints: tuple[FilePrint, ...]
    adapter: Path | None = None

    @property
    def folder(self) -> Path:
        """Where config.json and the tokenizer's files are looked for."""
        return self.path if self.path.is_dir() else self.path.parent

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors, on disk."""
        return sum(each.stored_bytes for each in self.tensors.values())


def open_checkpoint(path: Path) -> Checkpoint:
    """Open a folder, one .safetensors file, or an index.

    In a folder ``model.safetensors`` comes first, then ``model.safetensors.index.json``, then the only other
    index, then every ``*.safetensors``.

    Raises
    ------
    SourceNotFound
        Nothing there, no safetensors in the folder, or missing shards (all are named).
    HeaderError
        A header or index that lies; ``facts['lie']`` names the lie.
    SourceError
        Something that cannot be read, or a config.json that is not JSON.
    """
    path = Path(path)
    names, weight_map = _choose(path)
    folder = path if path.is_dir() else path.parent
    files = tuple(folder / name for name in names)
    tensors: dict[str, Tensor] = {}
    metadata: dict[str, str] = {}
    prints: list[FilePrint] = []
    problems: list[AlloydError] = []
    for number, (name, file) in enumerate(zip(names, files, strict=True)):
        try:
            header, seen = _read_header(file)
        except AlloydError as wrong:
            problems.append(wrong)
            continue
        prints.append(seen)
        metadata = dict(header.metadata) | metadata
        for each in header.tensors:
            if each.name in tensors:
                other = files[tensors[each.name].file]
                problems.append(
                    HeaderError(
                        f"tensor '{each.name}' is in two files: {other.name} and {name} of {folder}",
                        hint="Keep one of the two files, or name the one that is meant.",
                        lie="duplicate-tensor",
                        file=str(file),
                        tensor=each.name,
                    )
                )
                break
            offset = header.data_start + each.start
            tensors[each.name] = Tensor(
                each.name, each.dtype, each.shape, number, offset, each.stop - each.start
            )
    if not problems and weight_map is not None:
        problems = _check_index(weight_map, tensors, names, folder)
    raise_all(problems)
    return Checkpoint(
        path, files, MappingProxyType(tensors), read_config(folder), MappingProxyType(metadata), tuple(prints)
    )


def read_config(folder: Path) -> dict[str, Any] | None:
    """The folder's config.json, or ``None`` when there is none.

    Raises
    ------
    SourceError
        It cannot be read, or is not a JSON object.
    """
    path = folder / "config.json"
    try:
        text = read_small(path)
    except FileNotFoundError:
        return None
    except OSError as wrong:
        raise _unreadable(path, wrong) from None
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as wrong:
        raise SourceError(f"{path} is not JSON ({wrong})", hint=_DAMAGED, path=str(path)) from None
    if not isinstance(config, dict):
        raise SourceError(f"{path} is not a JSON object", hint=_DAMAGED, path=str(path))
    return config


def _unreadable(path: Path, wrong: OSError) -> SourceError:
    return SourceError(
        f"{path} cannot be read ({wrong.strerror})",
        hint="Check its rights, and that it is a file on a healthy disk.",
        path=str(path),
    )


def _choose(path: Path) -> tuple[tuple[str, ...], Mapping[str, str] | None]:
    """The names of the files to read, sorted, and the index's weight map if there is an index."""
    if path.is_dir():
        return _choose_in(path)
    if not path.exists():
        raise SourceNotFound(f"{path} does not exist", hint="Check the spelling.", path=str(path))
    if path.name.endswith(".index.json"):
        return _from_index(path)
    return (path.name,), None


def _choose_in(folder: Path) -> tuple[tuple[str, ...], Mapping[str, str] | None]:
    try:
        present = sorted(each.name for each in folder.iterdir() if not each.name.startswith("."))
    except OSError as wrong:
        raise _unreadable(folder, wrong) from None
    if SINGLE in present:
        return (SINGLE,), None
    indexes = [each for each in present if each.endswith(".safetensors.index.json")]
    if INDEX in indexes:
        return _from_index(folder / INDEX)
    if len(indexes) > 1:
        raise SourceError(
            f"{folder} has several indexes: {', '.join(indexes)}", hint="Name one of them.", path=str(folder)
        )
    if indexes:
        return _from_index(folder / indexes[0])
    names = tuple(each for each in present if each.endswith(".safetensors"))
    if names == ("adapter_model.safetensors",):
        raise SourceError(
            f"{folder} holds a LoRA adapter, not a model",
            hint="Name it with its model: MODEL+ADAPTER.",
            path=str(folder),
        )
    if not names:
        raise SourceNotFound(f"{folder} holds no safetensors file", hint=_instead(present), path=str(folder))
    _check_numbers(folder, names)
    return names, None


def _instead(present: Sequence[str]) -> str:
    for ending, advice in (
        (".bin", "Its weights are PyTorch pickles: convert them to safetensors first."),
        (".pth", "Its weights are PyTorch pickles: convert them to safetensors first."),
        (".pt", "Its weights are PyTorch pickles: convert them to safetensors first."),
        (".gguf", "GGUF cannot be merged: use the safetensors it was made from."),
    ):
        if any(each.endswith(ending) for each in present):
            return advice
    return "Give the folder that holds model.safetensors or its shards."


def _check_numbers(folder: Path, names: Sequence[str]) -> None:
    """Without an index, the names of the shards themselves say how many there should be."""
    missing: list[str] = []
    for name in names:
        parts = _NUMBERED.fullmatch(name)
        if parts is None:
            continue
        stem, width, total = parts[1], len(parts[2]), int(parts[3])
        if total > len(names) * 1000:
            continue
        expected = (f"{stem}-{each:0{width}d}-of-{parts[3]}.safetensors" for each in range(1, total + 1))
        missing.extend(each for each in expected if each not in names and each not in missing)
    if missing:
        raise _missing(folder, missing)


def _missing(folder: Path, names: Sequence[str]) -> SourceNotFound:
    some = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return SourceNotFound(
        f"{folder} lacks {'the shard' if len(names) == 1 else f'{len(names)} shards:'} {some}",
        hint="Download the model again, or wait until the download is complete.",
        path=str(folder / names[0]),
        lie="missing-shard",
    )


def _from_index(path: Path) -> tuple[tuple[str, ...], Mapping[str, str]]:
    def error(lie: str, found: str, tensor: str | None = None) -> HeaderError:
        facts = {"lie": lie, "file": str(path)} | ({} if tensor is None else {"tensor": tensor})
        return HeaderError(f"{path} {found}", hint="The index is damaged; download the model again.", **facts)

    try:
        if path.stat().st_size > MAX_HEADER:
            raise error("too-large", f"has more than {MAX_HEADER} bytes")
        text = read_small(path)
    except OSError as wrong:
        raise _unreadable(path, wrong) from None
    if text.startswith(b"version https://git-lfs"):
        raise error("git-lfs-pointer", "is a Git LFS pointer, not the file itself")
    try:
        index = load_object(text)
    except Lie as wrong:
        raise error(wrong.lie, wrong.found) from None
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise error("no-weight-map", "has no weight_map")
    for tensor, name in weight_map.items():
        if not isinstance(name, str):
            raise error("weight-map", f"does not name a file for tensor '{tensor}'", tensor)
        if not name or name.endswith("/") or not _stays_inside(name):
            raise error("escape", f"sends tensor '{tensor}' outside its folder: {name!r}", tensor)
    names = tuple(sorted(set(weight_map.values())))
    missing = [each for each in names if not os.path.exists(path.parent / each)]
    if missing:
        raise _missing(path.parent, missing)
    return names, weight_map


def _stays_inside(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return not ("\0" in name or "\\" in name or name.startswith("/") or ".." in parts or ":" in name)


def _check_index(
    weight_map: Mapping[str, str], tensors: Mapping[str, Tensor], names: Sequence[str], folder: Path
) -> list[AlloydError]:
    def error(lie: str, found: str, tensor: str) -> HeaderError:
        return HeaderError(
            f"{folder}: {found}",
            hint="Index and shards do not belong together; download the model again.",
            lie=lie,
            file=str(folder),
            tensor=tensor,
        )

    for tensor, name in weight_map.items():
        found = tensors.get(tensor)
        if found is None:
            return [
                error(
                    "absent-from-shard",
                    f"tensor '{tensor}' is not in {name}, where the index puts it",
                    tensor,
                )
            ]
        if names[found.file] != name:
            said = f"tensor '{tensor}' is in {names[found.file]}, but the index puts it in {name}"
            return [error("absent-from-shard", said, tensor)]
    for tensor, found in tensors.items():
        if tensor not in weight_map:
            said = f"tensor '{tensor}' of {names[found.file]} is not in the index"
            return [error("not-in-index", said, tensor)]
    return []


def _read_header(path: Path) -> tuple[Header, FilePrint]:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        hint = "It is a link that leads nowhere." if path.is_symlink() else "Download the model again."
        raise SourceNotFound(
            f"{path} does not exist", hint=hint, path=str(path), lie="missing-shard"
        ) from None
    except OSError as wrong:
        raise _unreadable(path, wrong) from None
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise SourceError(
                f"{path} is not a file", hint="Put the file itself, or a link to it, there.", path=str(path)
            )
        first = os.pread(handle, 8, 0)
        length = header_length(first, status.st_size, file=str(path))
        prefix = bytearray(first)
        while len(prefix) < 8 + length:
            more = os.pread(handle, min(8 + length - len(prefix), _MAX_READ), len(prefix))
            if not more:
                break
            prefix += more
        text = bytes(prefix)
        return parse(text, status.st_size, file=str(path)), file_print(path.name, text, status)
    except OSError as wrong:
        raise _unreadable(path, wrong) from None
    finally:
        os.close(handle)
