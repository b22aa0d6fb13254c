"""A GGUF file in llama.cpp, with the settings that compute as transformers does: ids of a text, logits of ids."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alloyd_daemon.gguf.library import llama, log_lines

F32 = 0


class LlamaModel:
    """One loaded model; use it by :func:`open_model`."""

    def __init__(self, library: Any, model: Any) -> None:
        self._library = library
        self._model = model
        self.vocabulary = library.llama_model_get_vocab(model)
        self.size = library.llama_vocab_n_tokens(self.vocabulary)

    def ids(self, text: str, *, control: bool = True) -> list[int]:
        """The ids of ``text``, with what begins and ends one; ``control``: look for control tokens in it."""
        data = text.encode()
        room = len(data) + 8
        found = (ctypes.c_int32 * room)()
        count = self._library.llama_tokenize(self.vocabulary, data, len(data), found, room, True, control)
        assert count >= 0
        return list(found[:count])

    def logits(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Float32 of (ids, vocabulary): key-value cache in F32, no flash attention."""
        library = self._library
        parameters = library.llama_context_default_params()
        parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = 256
        parameters.n_threads = parameters.n_threads_batch = 1
        parameters.type_k = parameters.type_v = F32
        parameters.flash_attn_type = 0
        context = library.llama_init_from_model(self._model, parameters)
        assert context
        batch = library.llama_batch_init(len(ids), 0, 1)
        try:
            batch.n_tokens = len(ids)
            for place, number in enumerate(ids):
                batch.token[place], batch.pos[place] = number, place
                batch.n_seq_id[place], batch.seq_id[place][0] = 1, 0
                batch.logits[place] = 1
            assert library.llama_decode(context, batch) == 0
            found = library.llama_get_logits(context)
            return np.ctypeslib.as_array(found, shape=(len(ids), self.size)).copy()
        finally:
            library.llama_batch_free(batch)
            library.llama_free(context)


@contextmanager
def open_model(path: Path) -> Iterator[LlamaModel]:
    """Load ``path``; what llama.cpp logs is shown when it does not load."""
    library = llama()
    parameters = library.llama_model_default_params()
    parameters.n_gpu_layers = 0
    # The repacking backends compute otherwise, and crash where gcc miscompiles their tiles.
    parameters.use_extra_bufts = False
    with log_lines() as lines:
        model = library.llama_model_load_from_file(str(path).encode(), parameters)
    assert model, "\n".join(lines[-8:])
    try:
        yield LlamaModel(library, model)
    finally:
        library.llama_model_free(model)
