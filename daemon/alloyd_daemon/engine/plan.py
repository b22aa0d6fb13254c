"""The plan: every output tensor, byte range, parameter and pass of a merge, known before a byte moves; pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import msgspec
from blake3 import blake3

from alloyd.errors import AlloydError, PlanError, ShapeMismatch, raise_all
from alloyd_kernels.dtypes import CODES, ITEMSIZE, LEAF

from ..checkpoints.checkpoint import Checkpoint, Tensor
from ..checkpoints.digest import PIECE
from ..checkpoints.fingerprint import Fingerprint
from ..checkpoints.layout import Layout, size_of_output
from ..merge_method import METHODS, MergeMethod, Operands
from ..recipes.outline import Assignment, Outline
from .block import Scratch
from .budget import Budget, allot

ARITHMETIC: Final = 1
"""Raised whenever the same recipe on the same sources would give other bytes."""

DTYPE_NAMES: Final[Mapping[str, str]] = {
    "bfloat16": "BF16",
    "float16": "F16",
    "float32": "F32",
    "float64": "F64",
}


@dataclass(frozen=True, slots=True)
class TensorPlan:
    """One output tensor: where its sources lie, how they are merged, and in blocks of how many elements.

    ``sources`` are (model index, tensor) in recipe order. ``verbatim`` tensors are not of a float type: every source
    must hold the same bytes, which are copied. ``passes`` counts sweeps over the sources, the blend included, at most.
    ``encoding`` and ``held`` are the private bytes that storing takes of a worker, and while the tensor is in flight.
    """

    slot: int
    name: str
    dtype: str
    shape: tuple[int, ...]
    elements: int
    nbytes: int
    sources: tuple[tuple[int, Tensor], ...]
    operands: Operands
    method: MergeMethod
    verbatim: bool
    passes: int
    block: int
    encoding: int = 0
    held: int = 0

    @property
    def read_once(self) -> int:
        """Bytes of one sweep over all sources, on disk."""
        return sum(tensor.stored_bytes for _, tensor in self.sources)

    @property
    def pieces(self) -> int:
        """Digests of 4 MiB that this tensor's sources and output have."""
        return -(-self.nbytes // PIECE) + sum(-(-tensor.nbytes // PIECE) for _, tensor in self.sources)

    @property
    def width(self) -> int:
        """Bytes of one element of the output."""
        return self.nbytes // self.elements if self.elements else 1

    @property
    def rows(self) -> int:
        """Rows of scratch that the blend needs beyond those that all have."""
        return 0 if self.verbatim else self.method.rows(self.operands)

    def worker_bytes(self, *, buffered: bool) -> int:
        """Private bytes one worker needs for this tensor: output block, scratch, what storing takes, source blocks that
        are computed, and the others when buffered."""
        block = min(self.block, self.elements)
        read = 0
        for _, tensor in self.sources if self.elements else ():
            computed = tensor.low_rank is not None
            read += block * ITEMSIZE["F32"] if computed else 0
            read += block * (tensor.stored[0].nbytes // self.elements) if buffered else 0
        return block * self.width + Scratch.nbytes(len(self.sources), self.rows) + self.encoding + read

    def state_bytes(self, workers: int) -> int:
        """Private bytes of this tensor's measurements, of what storing holds, and of adapters' factors, while it is in
        flight."""
        held = self.held + sum(
            tensor.low_rank.factor_bytes for _, tensor in self.sources if tensor.low_rank is not None
        )
        if self.verbatim or self.passes == 1:
            return held
        n = len(self.sources)
        leaves = -(-self.elements // LEAF)
        return held + self.method.state_bytes(n, leaves, workers)


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole merge: tensors in processing order, the output's layout, the budget, and what it will move."""

    outline: Outline
    tensors: tuple[TensorPlan, ...]
    layout: Layout
    budget: Budget
    bytes_read: int
    bytes_sweep: int
    identity: str

    @property
    def passes(self) -> int:
        """The most sweeps any tensor takes."""
        return max((each.passes for each in self.tensors), default=0)

    @property
    def parameters(self) -> int:
        """Elements of the output."""
        return sum(each.elements for each in self.tensors)

    @property
    def bytes_write(self) -> int:
        """Bytes of the output's weights."""
        return size_of_output(self.layout)


def make_plan(
    outline: Outline,
    checkpoints: Sequence[Checkpoint],
    *,
    memory: int,
    threads: int,
    lay_out: Callable[[Sequence[tuple[str, str, tuple[int, ...]]]], Layout],
    buffered: bool,
    fingerprints: Sequence[str] = (),
) -> Plan:
    """Lay the outline out over the checkpoints' bytes.

    ``lay_out`` says where merged tensors (name, dtype code, shape) are stored. ``memory`` bytes and ``threads`` are
    upper bounds; ``buffered`` says that the reader copies (``pread``) instead of mapping; ``fingerprints`` of the
    sources go into the plan's identity.

    Raises
    ------
    AlloydError
        Everything that headers reveal, all at once: shapes that differ, element types that cannot be merged, a budget
        that is too small.
    """
    problems: list[AlloydError] = []
    wanted = _output_dtype(outline, problems)
    tensors: list[TensorPlan] = []
    for slot, assignment in enumerate(outline.assignments):
        try:
            tensors.append(_plan_tensor(slot, assignment, outline, checkpoints, wanted))
        except AlloydError as problem:
            problems.append(problem)
    # What is wrong with the values of a method is wrong with every tensor; it is told once.
    raise_all({(type(each), str(each)): each for each in problems}.values())
    layout = lay_out([(each.name, each.dtype, each.shape) for each in tensors])
    tensors = [_stored(each, layout) for each in tensors]
    budget = allot(tensors, memory=memory, threads=threads, buffered=buffered, libraries=layout.fixed_bytes)
    return Plan(
        outline=outline,
        tensors=tuple(tensors),
        layout=layout,
        budget=budget,
        bytes_read=sum(each.read_once for each in tensors),
        bytes_sweep=sum(each.read_once * each.passes for each in tensors),
        identity=_identity(outline, tensors, layout, fingerprints),
    )


def _stored(tensor: TensorPlan, layout: Layout) -> TensorPlan:
    """The tensor with blocks that its place in the output can take, and what storing them needs."""
    block = math.lcm(tensor.block, layout.unit(tensor.slot))
    worker = layout.worker_bytes(tensor.slot, min(block, tensor.elements))
    return replace(tensor, block=block, encoding=worker, held=layout.state_bytes(tensor.slot))


def _output_dtype(outline: Outline, problems: list[AlloydError]) -> str | None:
    name = outline.out_dtype or outline.dtype
    if name is None:
        return None
    code = DTYPE_NAMES.get(name.removeprefix("torch."))
    if code is None:
        problems.append(
            PlanError(
                f"the output cannot be of dtype '{name}'",
                hint=f"Known: {', '.join(DTYPE_NAMES)}.",
                dtype=name,
            )
        )
    return code


def _plan_tensor(
    slot: int, assignment: Assignment, outline: Outline, checkpoints: Sequence[Checkpoint], wanted: str | None
) -> TensorPlan:
    sources = tuple((each.model, checkpoints[each.model].tensors[each.tensor]) for each in assignment.inputs)
    shape = _common_shape(assignment, outline, sources)
    dtypes = [tensor.dtype for _, tensor in sources]
    elements = math.prod(shape)
    verbatim = not any(each in CODES for each in dtypes)
    if (verbatim and len(set(dtypes)) > 1) or (not verbatim and not all(each in CODES for each in dtypes)):
        raise PlanError(
            f"tensor '{assignment.name}' has element types that cannot be merged: "
            + ", ".join(f"{outline.models[model].name} {tensor.dtype}" for model, tensor in sources),
            hint="Convert the sources to one floating type, or leave the tensor to one model with passthrough.",
            tensor=assignment.name,
        )
    dtype = (
        dtypes[0] if verbatim else wanted or promote([tensor.like or tensor.dtype for _, tensor in sources])
    )
    operands = Operands(
        name=assignment.name,
        shape=shape,
        count=len(sources),
        base=assignment.base,
        inputs=tuple(each.parameters for each in assignment.inputs),
        shared=assignment.shared,
        seed=outline.seed,
    )
    method = METHODS.get(assignment.method)
    width = (sources[0][1].nbytes // elements if elements else 1) if verbatim else ITEMSIZE[dtype]
    narrowest = min([width] + ([] if verbatim else [ITEMSIZE[each] for each in dtypes]))
    return TensorPlan(
        slot=slot,
        name=assignment.name,
        dtype=dtype,
        shape=shape,
        elements=elements,
        nbytes=elements * width,
        sources=sources,
        operands=operands,
        method=method,
        verbatim=verbatim,
        passes=1 if verbatim else method.passes(operands),
        block=PIECE // narrowest,
    )


def _common_shape(
    assignment: Assignment, outline: Outline, sources: Sequence[tuple[int, Tensor]]
) -> tuple[int, ...]:
    shapes = {tensor.shape for _, tensor in sources}
    if len(shapes) == 1:
        return shapes.pop()
    axis = assignment.vocabulary_axis
    without = {shape[:axis] + shape[axis + 1 :] for shape in shapes} if axis is not None else shapes
    raise ShapeMismatch(
        f"tensor '{assignment.name}' differs in shape: "
        + ", ".join(f"{outline.models[model].name} has {list(tensor.shape)}" for model, tensor in sources),
        hint="The vocabularies differ, which this version cannot align; give the models one tokenizer first."
        if axis is not None and len(without) == 1
        else "Only models of one architecture and size can be merged.",
        tensor=assignment.name,
    )


def promote(dtypes: Sequence[str]) -> str:
    """The narrowest float type that holds all of ``dtypes``: their own when equal, else float32, else float64.

    Two different 16-bit or 8-bit types promote to float32, as mergekit 0.1.5 does for bfloat16 with float16.
    """
    kinds = set(dtypes)
    if len(kinds) == 1:
        return kinds.pop()
    if "F64" in kinds:
        return "F64"
    small = {"F8_E4M3", "F8_E5M2"}
    rest = kinds - small
    return rest.pop() if len(rest) == 1 else "F32"


def tensor_identity(tensor: TensorPlan, assignment: Assignment, prints: Sequence[Fingerprint]) -> str:
    """All that one output tensor's bytes follow from, as text: the same in every plan that makes the same tensor.

    ``prints`` are of the plan's models.
    """
    sources = [
        (msgspec.json.encode(prints[model]).decode(), _read_as(source), sorted(each.parameters.items()))
        for (model, source), each in zip(tensor.sources, assignment.inputs, strict=True)
    ]
    return repr(
        (
            ARITHMETIC,
            tensor.name,
            tensor.dtype,
            tensor.operands.seed,
            assignment.method,
            assignment.base,
            sources,
            sorted(assignment.shared.items()),
        )
    )


def _read_as(source: Tensor) -> object:
    """A source's name, and how its adapter changes it: what that is follows from the architecture, too."""
    change = source.low_rank
    return source.name if change is None else (source.name, change.scale, change.transposed)


def _identity(
    outline: Outline, tensors: Sequence[TensorPlan], layout: Layout, fingerprints: Sequence[str]
) -> str:
    """A digest of all that the output's bytes follow from: a staging of another identity is not continued."""
    digest = blake3(f"{ARITHMETIC} {outline.seed} {layout.identity}\n".encode())
    for fingerprint in fingerprints:
        digest.update(f"{fingerprint}\n".encode())
    for shard in layout.shards:
        digest.update(shard.header)
    for tensor, assignment in zip(tensors, outline.assignments, strict=True):
        inputs = [(model, _read_as(source), sorted(each.parameters.items())) for (model, source), each in zip(
            tensor.sources, assignment.inputs, strict=True)]  # fmt: skip
        line = (
            tensor.name,
            assignment.method,
            assignment.base,
            inputs,
            sorted(assignment.shared.items()),
            tensor.block,
        )
        digest.update(repr(line).encode())
    return digest.hexdigest()
