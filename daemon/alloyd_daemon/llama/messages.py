"""What is said between a job and the process that holds its llama.cpp model; the frames are those of ``service.pipe``.

Arrays travel as the bytes of little-endian numpy arrays; the field says of what type.
"""

from __future__ import annotations

from msgspec import Struct


class Load(Struct, frozen=True, tag_field="order", tag="load"):
    """Open the model file ``path``, instead of one that is open, with room for ``cells`` tokens.

    No message has more than ``batch`` tokens or ``sequences`` sequences; the logits of one take at most ``logits``
    bytes. ``flash``: flash attention. ``full_cache``: keys and values in float32, not float16. ``gpu_layers``: how many
    layers a GPU takes, where the library was built for one; -1 is all. ``memory``: private bytes beyond which the
    process gets none, so that a file that lies about its sizes fells nobody else; 0 is any.
    """

    path: str
    cells: int
    batch: int
    sequences: int
    logits: int
    threads: int
    flash: bool
    full_cache: bool
    gpu_layers: int
    memory: int = 0


class Decode(Struct, frozen=True, tag_field="order", tag="decode"):
    """Run tokens through the model, after forgetting all former ones when ``fresh``.

    ``tokens``, ``positions``: int32 of n. ``counts``: int32 of n, how many sequences each token belongs to;
    ``sequences``: int32, their numbers one token after another. ``outputs``: int32, places in ``tokens``, ascending,
    whose logits are wanted. ``rows``, ``targets``: int32 of m; how likely is the token ``targets[i]`` after the token
    at ``outputs[rows[i]]``?
    """

    tokens: bytes
    positions: bytes
    counts: bytes
    sequences: bytes
    outputs: bytes
    rows: bytes
    targets: bytes
    fresh: bool


class Tokenize(Struct, frozen=True, tag_field="order", tag="tokenize"):
    """Cut ``text`` into tokens by the file's own vocabulary, with those that frame a text when ``special``."""

    text: str
    special: bool


class Detokenize(Struct, frozen=True, tag_field="order", tag="detokenize"):
    """Write ``ids`` (int32) as text by the file's own vocabulary, without special tokens."""

    ids: bytes


class Loaded(Struct, frozen=True, tag_field="reply", tag="loaded"):
    """The model is open.

    ``vocabulary``: how many tokens it knows; ``context``: how many it was trained on at once; ``outputs``: how many of
    one message may be asked for their logits. ``texts``: whether the file can turn text into tokens. ``begin`` and
    ``end``: the tokens that begin and end a text, -1 where there is none; ``begin_text``: the first as text. ``ends``:
    every token that ends an answer. ``branches``: whether sequences can share their first tokens (a recurrent model's
    cannot). ``offloads``: whether the library was built for a GPU.
    """

    vocabulary: int
    context: int
    outputs: int
    texts: bool
    begin: int
    begin_text: str
    end: int
    ends: tuple[int, ...]
    branches: bool
    offloads: bool


class Decoded(Struct, frozen=True, tag_field="reply", tag="decoded"):
    """``best``: int32, the most likely token of each output. ``logprobs``: float64, natural, of each target.

    ``broken``: outputs whose logits have no largest number, or whose target has no number (NaN or +infinity).
    """

    best: bytes
    logprobs: bytes
    broken: int


class Tokens(Struct, frozen=True, tag_field="reply", tag="tokens"):
    """``ids``: int32."""

    ids: bytes


class Text(Struct, frozen=True, tag_field="reply", tag="text"):
    """A text; bytes that are no UTF-8 were replaced."""

    text: str


class Refused(Struct, frozen=True, tag_field="reply", tag="refused"):
    """llama.cpp said no; ``reason`` is its first complaint. A former model is closed, unless this is to ``Decode``."""

    reason: str


Order = Load | Decode | Tokenize | Detokenize
Reply = Loaded | Decoded | Tokens | Text | Refused
