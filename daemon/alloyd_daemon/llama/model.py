"""One llama.cpp model and its context by ctypes: loads, runs tokens, measures likelihoods; for the process only."""

from __future__ import annotations

import ctypes
import re
import resource
import sys
from typing import Any, Final

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from .messages import Decode, Decoded, Load, Loaded

FLOAT32: Final = 0
FLOAT16: Final = 1
LEVEL_WARNING: Final = 3
LEVEL_ERROR: Final = 4
LEVEL_CONTINUE: Final = 5
NO_TOKEN: Final = -1
MOST_UBATCH: Final = 512
"""Tokens that llama.cpp computes together, its own default."""
ROWS_AT_ONCE: Final = 16
"""Rows of logits that are held in float64 at once."""


LEAST_LIMIT: Final = 2**29
"""A limit of memory below this would hit the library itself."""


class Refusal(Exception):
    """llama.cpp said no; the text is its first complaint."""


class _Log:
    """Keeps the library quiet but for warnings and errors, and remembers what it complained of."""

    def __init__(self) -> None:
        self._complaints: list[str] = []
        self._level = 0
        # The library keeps the pointer, so the object must live as long as it.
        self._callback = llama_cpp.llama_log_callback(self._hear)
        llama_cpp.llama_log_set(self._callback, ctypes.c_void_p(0))

    def _hear(self, level: int, text: bytes, _: Any) -> None:
        if level != LEVEL_CONTINUE:
            self._level = level
        if self._level not in (LEVEL_WARNING, LEVEL_ERROR):
            return
        said = text.decode("utf-8", "replace")
        if self._level == LEVEL_ERROR and said.strip():
            self._complaints.append(said.strip())
        sys.stderr.write(said)
        sys.stderr.flush()

    def forget(self) -> None:
        """Another order begins."""
        self._complaints.clear()

    def refusal(self, what: str) -> Refusal:
        """What went wrong, in the library's first words for it, if it had some: later ones tell of consequences."""
        said = self._complaints[0] if self._complaints else what
        return Refusal(re.sub(r"^\w+: ", "", said))


class Model:
    """A model file with its context.

    Raises
    ------
    Refusal
        llama.cpp does not open the file, or has no room for the context.
    """

    _log: _Log | None = None

    def __init__(self, order: Load) -> None:
        if Model._log is None:
            Model._log = _Log()
            llama_cpp.llama_backend_init()
        self._complaints = Model._log
        self._complaints.forget()
        if order.memory and not llama_cpp.llama_supports_gpu_offload():
            # A driver of a GPU maps far more than it uses.
            limit = max(order.memory, LEAST_LIMIT)
            resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.getrlimit(resource.RLIMIT_DATA)[1]))
        wanted = llama_cpp.llama_model_default_params()
        wanted.n_gpu_layers = order.gpu_layers
        # Repacked weights would be copies: what is written into the file later would not be seen. They also crash
        # where a compiler sets AMX tiles up wrongly.
        wanted.use_extra_bufts = False
        self._model = llama_cpp.llama_model_load_from_file(order.path.encode(), wanted)
        if not self._model:
            raise self._complaints.refusal("llama.cpp does not open the file")
        self._context: Any = None
        try:
            self._open(order)
        except BaseException:
            self.close()
            raise

    def _open(self, order: Load) -> None:
        self._vocabulary = llama_cpp.llama_model_get_vocab(self._model)
        self._tokens = int(llama_cpp.llama_vocab_n_tokens(self._vocabulary))
        room = order.logits // (4 * max(self._tokens, 1))
        self._outputs = max(order.sequences, min(order.batch, room))
        wanted = llama_cpp.llama_context_default_params()
        wanted.n_ctx = order.cells
        wanted.n_batch = order.batch
        wanted.n_ubatch = min(order.batch, MOST_UBATCH)
        wanted.n_seq_max = order.sequences
        wanted.n_outputs_max = self._outputs
        wanted.n_threads = wanted.n_threads_batch = order.threads
        wanted.flash_attn_type = int(order.flash)
        wanted.type_k = wanted.type_v = FLOAT32 if order.full_cache else FLOAT16
        # One store of keys and values for all sequences, so that they can share their first tokens.
        wanted.kv_unified = True
        wanted.swa_full = True
        wanted.no_perf = True
        self._context = llama_cpp.llama_init_from_model(self._model, wanted)
        if not self._context:
            raise self._complaints.refusal(f"no room for a context of {order.cells} tokens")
        self._memory = llama_cpp.llama_get_memory(self._context)
        if not self._memory:
            raise Refusal(
                "the model keeps no state from token to token, so it cannot be scored as a language model"
            )

    def close(self) -> None:
        """Free the context and the model."""
        if self._context:
            llama_cpp.llama_free(self._context)
            self._context = None
        if self._model:
            llama_cpp.llama_model_free(self._model)
            self._model = None

    def loaded(self) -> Loaded:
        """What the file says of itself."""
        vocabulary = self._vocabulary
        texts = llama_cpp.llama_vocab_type(vocabulary) != llama_cpp.LLAMA_VOCAB_TYPE_NONE
        begin = int(llama_cpp.llama_vocab_bos(vocabulary))
        said = llama_cpp.llama_vocab_get_text(vocabulary, begin) if texts and begin != NO_TOKEN else b""
        recurrent = llama_cpp.llama_model_is_recurrent(self._model) or llama_cpp.llama_model_is_hybrid(
            self._model
        )
        return Loaded(
            vocabulary=self._tokens,
            context=int(llama_cpp.llama_model_n_ctx_train(self._model)),
            outputs=self._outputs,
            texts=texts,
            begin=begin,
            begin_text=(said or b"").decode("utf-8", "replace"),
            end=int(llama_cpp.llama_vocab_eos(vocabulary)),
            ends=tuple(n for n in range(self._tokens) if llama_cpp.llama_vocab_is_eog(vocabulary, n)),
            branches=not recurrent,
            offloads=bool(llama_cpp.llama_supports_gpu_offload()),
        )

    def decode(self, order: Decode) -> Decoded:
        """Run tokens and measure what was asked of their logits; :class:`Refusal` when llama.cpp cannot."""
        self._complaints.forget()
        if order.fresh:
            # With its data: a NaN that is left there would spoil what comes after, masked or not.
            llama_cpp.llama_memory_clear(self._memory, True)
        outputs = np.frombuffer(order.outputs, np.int32)
        self._run(order, outputs)
        rows, targets = np.frombuffer(order.rows, np.int32), np.frombuffer(order.targets, np.int32)
        best = np.empty(len(outputs), np.int32)
        logprobs = np.empty(len(targets), np.float64)
        if not len(outputs):
            return Decoded(best.tobytes(), logprobs.tobytes(), 0)
        pointer = llama_cpp.llama_get_logits(self._context)
        logits = np.ctypeslib.as_array(pointer, shape=(len(outputs), self._tokens))
        broken = 0
        for first in range(0, len(outputs), ROWS_AT_ONCE):
            part = logits[first : first + ROWS_AT_ONCE]
            mine = np.nonzero((rows >= first) & (rows < first + len(part)))[0]
            best[first : first + len(part)] = part.argmax(axis=1)
            highest = part.max(axis=1)
            broken += int((~np.isfinite(highest)).sum())
            if len(mine):
                logprobs[mine] = _log_softmax(part, highest, rows[mine] - first, targets[mine])
        broken += int(np.isnan(logprobs).sum())
        return Decoded(best.tobytes(), logprobs.tobytes(), broken)

    def _run(self, order: Decode, outputs: NDArray[np.int32]) -> None:
        tokens = np.frombuffer(order.tokens, np.int32)
        positions = np.frombuffer(order.positions, np.int32)
        counts = np.frombuffer(order.counts, np.int32)
        sequences = np.frombuffer(order.sequences, np.int32)
        begins = np.concatenate([[0], np.cumsum(counts[:-1], dtype=np.int64)])
        pointers = (sequences.ctypes.data + 4 * begins).astype(np.uint64)
        wanted = np.zeros(len(tokens), np.int8)
        wanted[outputs] = 1
        batch = llama_cpp.llama_batch(
            n_tokens=len(tokens),
            token=tokens.ctypes.data_as(ctypes.POINTER(llama_cpp.llama_token)),
            embd=None,
            pos=positions.ctypes.data_as(ctypes.POINTER(llama_cpp.llama_pos)),
            n_seq_id=counts.ctypes.data_as(ctypes.POINTER(ctypes.c_int32)),
            seq_id=pointers.ctypes.data_as(ctypes.POINTER(ctypes.POINTER(llama_cpp.llama_seq_id))),
            logits=wanted.ctypes.data_as(ctypes.POINTER(ctypes.c_int8)),
        )
        code = llama_cpp.llama_decode(self._context, batch)
        if code:
            raise self._complaints.refusal(f"llama_decode returned {code}")

    def tokenize(self, text: str, *, special: bool) -> NDArray[np.int32]:
        """The ids of a text; names of special tokens in it are read as these tokens, as transformers does."""
        data = text.encode("utf-8", "surrogatepass")
        room = len(data) + 8
        ids = (llama_cpp.llama_token * room)()
        found = llama_cpp.llama_tokenize(self._vocabulary, data, len(data), ids, room, special, True)
        if found < 0:
            room = -found
            ids = (llama_cpp.llama_token * room)()
            found = llama_cpp.llama_tokenize(self._vocabulary, data, len(data), ids, room, special, True)
        return np.array(ids[:found], np.int32)

    def detokenize(self, data: bytes) -> str:
        """The text of ids, without special tokens."""
        ids = np.frombuffer(data, np.int32)
        pointer = ids.ctypes.data_as(ctypes.POINTER(llama_cpp.llama_token))
        room = 8 * len(ids) + 64
        text = ctypes.create_string_buffer(room)
        found = llama_cpp.llama_detokenize(self._vocabulary, pointer, len(ids), text, room, True, False)
        if found < 0:
            room = -found
            text = ctypes.create_string_buffer(room)
            found = llama_cpp.llama_detokenize(self._vocabulary, pointer, len(ids), text, room, True, False)
        return text.raw[:found].decode("utf-8", "replace")


def _log_softmax(
    logits: NDArray[np.float32],
    highest: NDArray[np.float32],
    rows: NDArray[np.int32],
    targets: NDArray[np.int32],
) -> NDArray[np.float64]:
    """log p(target) in each of ``rows``; the sum of exponentials is taken in float64."""
    with np.errstate(invalid="ignore"):
        shifted = logits.astype(np.float64) - highest[:, None]
        total = np.log(np.exp(shifted).sum(axis=1))
    found: NDArray[np.float64] = shifted[rows, targets] - total[rows]
    return found
