"""The recipes on which alloyd and mergekit are compared, each written once for all seven architectures.

A recipe names its models ``BASE``, ``ONE``, ``TWO`` (close fine-tunes of four layers) and ``FAR`` (a
fine-tune so distant that slerp takes the arc), and parts of tensor names ``TOKENS``, ``ATTENTION``, ``OUT``,
``DOWN``, ``GAIN`` and ``LAST``; :func:`recipe` fills them in. mergekit's arithmetic is float32 where
``dtype: float32`` is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

FRAGMENTS = {
    "gpt2": {
        "TOKENS": "wte",
        "ATTENTION": "attn",
        "OUT": "attn.c_proj.weight",
        "DOWN": "mlp.c_proj.weight",
        "GAIN": "ln_1.weight",
        "LAST": "ln_f.weight",
    },
    "": {
        "TOKENS": "embed_tokens",
        "ATTENTION": "self_attn",
        "OUT": "o_proj",
        "DOWN": "down_proj",
        "GAIN": "input_layernorm.weight",
        "LAST": "model.norm.weight",
    },
}

EXACT: dict[str, str] = {
    "linear": """
merge_method: linear
models:
  - {model: ONE, parameters: {weight: 0.3}}
  - {model: TWO, parameters: {weight: 0.5}}
  - {model: FAR, parameters: {weight: 0.1}}
dtype: float32
out_dtype: bfloat16
""",
    "linear, unnormalised, gradients and filters": """
merge_method: linear
models:
  - model: ONE
    parameters:
      weight:
        - {filter: ATTENTION, value: [0.1, 0.7, 1.3]}
        - {filter: DOWN, value: -0.25}
        - {value: [0.9, 0.1]}
  - model: TWO
    parameters: {weight: [0.0, 1.0]}
parameters: {normalize: false}
dtype: float32
""",
    "linear, base among the models": """
merge_method: linear
base_model: BASE
models:
  - {model: BASE, parameters: {weight: 0.2}}
  - {model: ONE, parameters: {weight: 0.8}}
dtype: float32
out_dtype: float16
""",
    "linear, base appended under a global weight": """
merge_method: linear
base_model: BASE
models:
  - model: ONE
  - {model: TWO, parameters: {weight: 2}}
parameters: {weight: 1}
dtype: float32
out_dtype: bfloat16
""",
    "linear, slices and every level of precedence": """
merge_method: linear
slices:
  - sources:
      - {model: ONE, layer_range: [0, 2], parameters: {weight: [0.6, 0.9]}}
      - {model: TWO, layer_range: [2, 4]}
    parameters: {weight: 0.35}
  - sources:
      - {model: ONE, layer_range: [1, 4]}
      - model: TWO
        layer_range: [0, 3]
        parameters: {weight: [{filter: DOWN, value: 0.7}]}
    parameters: {weight: [{filter: ATTENTION, value: [0.2, 0.4]}]}
parameters: {weight: [0.5, 1.5]}
dtype: float32
""",
    "linear, a module's level between slice and recipe": """
merge_method: linear
modules:
  default:
    slices:
      - sources:
          - {model: ONE, layer_range: [0, 2]}
          - {model: TWO, layer_range: [0, 2], parameters: {weight: {filter: DOWN, value: 0.9}}}
      - sources: [{model: ONE, layer_range: [2, 4]}, {model: TWO, layer_range: [2, 4]}]
        parameters: {weight: {filter: ATTENTION, value: 0.15}}
    parameters: {weight: [{filter: OUT, value: 0.6}, {filter: ATTENTION, value: [0.3, 0.5]}]}
parameters: {weight: 1.5, normalize: false}
dtype: float32
out_dtype: bfloat16
""",
    "slerp, along the arc": """
merge_method: slerp
base_model: BASE
models: [{model: BASE}, {model: FAR}]
parameters:
  t:
    - {filter: ATTENTION, value: [0, 0.5, 0.3, 0.7, 1]}
    - {filter: DOWN, value: [1, 0.5, 0.7, 0.3, 0]}
    - {value: 0.5}
dtype: float32
out_dtype: bfloat16
""",
    "slerp, close models, t outside 0 to 1": """
merge_method: slerp
base_model: BASE
slices:
  - sources: [{model: BASE, layer_range: [0, 4]}, {model: ONE, layer_range: [0, 4]}]
parameters: {t: [-0.2, 1.2]}
dtype: float32
""",
    "slerp, base second, two slices": """
merge_method: slerp
base_model: FAR
slices:
  - sources: [{model: ONE, layer_range: [0, 1]}, {model: FAR, layer_range: [3, 4]}]
    parameters: {t: [0.1, 0.9]}
  - sources: [{model: ONE, layer_range: [1, 4]}, {model: FAR, layer_range: [0, 3]}]
parameters: {t: 0.25}
dtype: float32
""",
    "task_arithmetic": """
merge_method: task_arithmetic
base_model: BASE
models:
  - {model: ONE, parameters: {weight: 0.7}}
  - {model: TWO, parameters: {weight: [0.2, -0.4, 1.1]}}
  - {model: FAR, parameters: {weight: 1e-1}}
parameters: {lambda: 0.8}
dtype: float32
""",
    "task_arithmetic, normalised": """
merge_method: task_arithmetic
base_model: BASE
models:
  - {model: BASE}
  - {model: ONE, parameters: {weight: 2}}
  - {model: TWO, parameters: {weight: [{filter: ATTENTION, value: 0}, {value: 3}]}}
parameters: {normalize: true, lambda: [{filter: DOWN, value: [0.5, 1.5]}, {filter: "*", value: 1}]}
dtype: float32
out_dtype: bfloat16
""",
    "ties": """
merge_method: ties
base_model: BASE
models:
  - {model: ONE, parameters: {weight: 0.5, density: 0.5}}
  - {model: TWO, parameters: {weight: 0.3, density: 0.3}}
  - {model: FAR, parameters: {weight: 0.1, density: 0.8}}
dtype: float32
out_dtype: bfloat16
""",
    "ties, negative weights, gradients, filters": """
merge_method: ties
base_model: BASE
models:
  - model: ONE
    parameters:
      density: [1, 0.7, 0.1]
      weight: [{filter: DOWN, value: 0.5}, {value: 1.0}]
  - model: TWO
    parameters: {density: 0.33, weight: [{filter: TOKENS, value: 1}, {value: [0, 0.3]}]}
  - model: FAR
    parameters: {density: 0.05, weight: -0.2}
parameters: {normalize: true, lambda: 1.25}
dtype: float32
""",
    "ties, rescaled, unnormalised, int8 mask": """
merge_method: ties
base_model: BASE
models: [{model: ONE}, {model: TWO, parameters: {weight: 0.4}}]
parameters: {weight: 0.6, density: 0.2, normalize: false, rescale: true, int8_mask: true}
dtype: float32
""",
    "ties, slices": """
merge_method: ties
base_model: BASE
slices:
  - sources:
      - {model: BASE, layer_range: [0, 3]}
      - {model: ONE, layer_range: [1, 4], parameters: {density: [0.9, 0.2]}}
      - {model: TWO, layer_range: [0, 3], parameters: {weight: 0.213}}
    parameters: {weight: 0.737, lambda: 0.5}
  - sources:
      - {model: BASE, layer_range: [3, 4]}
      - {model: ONE, layer_range: [3, 4]}
      - {model: TWO, layer_range: [3, 4], parameters: {weight: [0.9, 0.677]}}
parameters: {weight: 0.411, density: 0.6}
dtype: float32
out_dtype: bfloat16
""",
    "dare_linear, nothing dropped": """
merge_method: dare_linear
base_model: BASE
models:
  - {model: ONE, parameters: {weight: [0.7, 0.3], density: 1}}
  - {model: TWO, parameters: {weight: [{filter: ATTENTION, value: 0.2}, {value: 0.5}]}}
parameters: {lambda: 1.1}
dtype: float32
out_dtype: bfloat16
""",
    "dare_ties, nothing dropped": """
merge_method: dare_ties
base_model: BASE
slices:
  - sources:
      - {model: ONE, layer_range: [0, 2]}
      - {model: TWO, layer_range: [0, 2], parameters: {weight: 0.931}}
      - {model: BASE, layer_range: [0, 2]}
  - sources:
      - {model: ONE, layer_range: [0, 4]}
      - {model: TWO, layer_range: [0, 4], parameters: {weight: [0.113, 0.817]}}
      - {model: BASE, layer_range: [0, 4]}
parameters: {weight: 0.453, density: 1.0, normalize: true}
dtype: float32
""",
    "passthrough, stacked with scales": """
merge_method: passthrough
slices:
  - sources: [{model: ONE, layer_range: [0, 3]}]
  - sources:
      - model: TWO
        layer_range: [1, 3]
        parameters:
          scale: [{filter: OUT, value: 0}, {filter: DOWN, value: [0.25, 0.75]}, {value: 1}]
  - sources: [{model: ONE, layer_range: [2, 4]}]
dtype: float32
out_dtype: bfloat16
""",
    "passthrough, a folded path": """
merge_method: passthrough
slices:
  - sources: [{model: ONE, layer_range: [0, 2]}]
  - sources:
      - model: TWO
        layer_range: [1, 2]
        parameters: {scale: [{filter: OUT, value: -1.25}, {filter: DOWN, value: -1.25}, {filter: GAIN, value: -1}]}
  - sources:
      - model: ONE
        layer_range: [2, 4]
        parameters:
          scale:
            - {filter: OUT, value: -0.7142857142857143}
            - {filter: DOWN, value: -0.7142857142857143}
            - {filter: GAIN, value: -1}
            - {filter: LAST, value: -1}
dtype: float32
out_dtype: bfloat16
""",
    "passthrough, one model": """
merge_method: passthrough
models: [{model: ONE}]
dtype: float32
out_dtype: float16
""",
}

RANDOM: dict[str, str] = {
    "dare_linear": """
merge_method: dare_linear
base_model: BASE
models: [{model: ONE, parameters: {weight: 1, density: DENSITY}}]
parameters: {rescale: RESCALE}
dtype: float32
""",
    "dare_ties": """
merge_method: dare_ties
base_model: BASE
models:
  - {model: ONE, parameters: {weight: 1, density: DENSITY}}
  - {model: TWO, parameters: {weight: 0.5, density: DENSITY}}
parameters: {rescale: RESCALE}
dtype: float32
""",
}


def recipe(text: str, *, architecture: str, models: Mapping[str, Path], **values: str) -> str:
    """Fill in the names of ``text``; ``models`` maps BASE, ONE, TWO and FAR to folders."""
    fragments = FRAGMENTS["gpt2" if architecture == "gpt2" else ""]
    for word, value in (*models.items(), *fragments.items(), *values.items()):
        text = text.replace(word, str(value))
    return text.lstrip()
