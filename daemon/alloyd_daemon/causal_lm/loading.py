"""Tokenizers and models of local checkpoint folders: safetensors only, no remote code, in their own dtype."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from alloyd.errors import AlloydError, SourceError, SourceNotFound

from .. import late


def library(name: str) -> Any:
    """torch, transformers or a module of theirs; UsageError where it is not installed."""
    return late.library(name, user="scoring a model", extra="score")


def device() -> Any:
    """The CUDA device where there is one, else the CPU."""
    torch = library("torch")
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def processors() -> int:
    """Processors that this process may use; torch gets slower with more threads than those."""
    return len(os.sched_getaffinity(0))


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer in ``folder``. Raises SourceError where there is none."""
    transformers = library("transformers")
    try:
        return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:
        raise _unloadable(
            folder, "tokenizer", error, "It needs tokenizer.json or tokenizer.model."
        ) from error


def load_model(folder: Path) -> Any:
    """The causal language model in ``folder``, in evaluation mode on :func:`device`.

    Raises
    ------
    SourceNotFound
        ``folder`` has no config.json.
    SourceError
        transformers cannot load it, or weights of it are missing or left over.
    """
    if not (folder / "config.json").is_file():
        raise SourceNotFound(
            f"{folder} is no checkpoint folder: it has no config.json",
            hint="Give the folder that holds config.json, the tokenizer and the weights.",
            path=str(folder),
        )
    transformers = library("transformers")
    library("transformers.utils.logging").disable_progress_bar()
    try:
        model, told = transformers.AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype="auto", output_loading_info=True
        )
    except Exception as error:
        cure = "It needs config.json and safetensors weights of a causal language model."
        raise _unloadable(folder, "model", error, cure) from error
    missing = sorted(told["missing_keys"])
    if missing:
        raise SourceError(
            f"{folder} lacks the tensor '{missing[0]}'"
            + (f" and {len(missing) - 1} more" * (len(missing) > 1)),
            hint="Its scores would be those of weights made up at random.",
            path=str(folder),
            tensor=missing[0],
        )
    return model.eval().to(device())


def _unloadable(folder: Path, what: str, error: Exception, cure: str) -> AlloydError:
    reason = " ".join(str(error).split())
    return SourceError(
        f"transformers cannot load the {what} of {folder}: {reason}", hint=cure, path=str(folder)
    )


def load_generation_config(folder: Path) -> Any:
    """The generation config in ``folder``; an empty one where there is none."""
    transformers = library("transformers")
    if not (folder / "generation_config.json").is_file():
        return transformers.GenerationConfig()
    try:
        return transformers.GenerationConfig.from_pretrained(folder, local_files_only=True)
    except Exception as error:
        raise _unloadable(
            folder, "generation config", error, "Mend or remove generation_config.json."
        ) from error
