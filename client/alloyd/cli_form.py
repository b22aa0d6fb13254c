"""What the command line says of an output's form, and the recipe of a conversion."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path
from typing import Any, Final

from .connecting import is_far
from .errors import UsageError, did_you_mean
from .recipe_schema import DTYPES, ModelRef
from .specs import place_for

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def form_of(options: argparse.Namespace) -> dict[str, Any] | None:
    """The form that ``--gguf``, ``--imatrix`` and ``--bitsandbytes`` ask for; ``None`` leaves it to the recipe.

    Raises
    ------
    UsageError
        Options that do not go together.
    """
    if options.imatrix is not None and options.gguf is None:
        raise UsageError(
            "--imatrix is for GGUF",
            hint="Say --gguf TYPE too; in a recipe: out: {format: gguf, imatrix: FILE}.",
        )
    if options.gguf is not None:
        form: dict[str, Any] = {"format": "gguf", "type": options.gguf}
        return (
            form
            if options.imatrix is None
            else form | {"imatrix": place_for(options.imatrix, is_far(options))}
        )
    if options.bitsandbytes is not None:
        return {"format": "bitsandbytes", "type": options.bitsandbytes}
    return None


def conversion(model: str, dtype: str | None, form: dict[str, Any] | None) -> dict[str, Any]:
    """The recipe that takes every tensor of ``model`` (a path or org/name[@revision]) as it is, or as an adapter that
    follows after ``+`` makes it.

    Raises
    ------
    UsageError
        Nothing would change, or the dtype is unknown.
    RecipeError
        ``model`` is neither a path nor a model's name.
    """
    if dtype is not None and dtype not in DTYPES:
        raise UsageError(f"'{dtype}' is not a dtype to convert to", hint=did_you_mean(dtype, DTYPES))
    if os.path.exists(model):
        # As a mapping: a path may hold '+' and '@'. With a separator: a bare name may be that of the recipe itself.
        half: dict[str, Any] = {"path": model if os.sep in model else os.path.join(os.curdir, model)}
        source = {"model": half}
        name = Path(os.path.abspath(model)).name
    else:
        ref = ModelRef.parse(model)
        half = _half(ref)
        source = {"model": half}
        name = Path(ref.path).name
        if ref.lora is not None:
            source["lora"] = _half(ref.lora)
            name += f"-{Path(ref.lora.path).name}"
    if dtype is None and form is None and "lora" not in source:
        raise UsageError(
            "what should the model become?", hint="Say --gguf Q4_K_M, --bitsandbytes nf4 or --dtype."
        )
    recipe: dict[str, Any] = {"merge_method": "passthrough", "models": [{"model": source}]}
    if dtype is not None:
        recipe["out_dtype"] = dtype
    named = _NAME.fullmatch(name) and name != half["path"]
    return recipe | ({"name": name} if named else {})


def _half(ref: ModelRef) -> dict[str, Any]:
    return {"path": ref.path} | ({"revision": ref.revision} if ref.revision else {})
