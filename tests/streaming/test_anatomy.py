"""A model is taken apart where its forward is its layers one after the other, and refused by name where it is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import nn

from alloyd.errors import AlloydError, PlanError, ShapeMismatch
from alloyd_daemon.scoring.encoding import Span
from alloyd_daemon.scoring.packing import compose
from alloyd_daemon.streaming.anatomy import Anatomy
from alloyd_daemon.streaming.forwards import Inputs
from checkpoint_factory import Model, config, shapes

SMALL = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 96,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
# Beside the spine: a sliding window and two ropes, parallel blocks and scaled logits, four multipliers, post-norms,
# learned positions with an offset, partial rotary, a convolution in every second layer.
MORE: dict[str, dict[str, Any]] = {
    "gemma3_text": {"sliding_window": 16},
    "cohere": {},
    "granite": {"embedding_multiplier": 3.0, "logits_scaling": 2.0, "residual_multiplier": 0.5},
    "olmo2": {},
    "opt": {"ffn_dim": 128},
    "phi": {},
    "lfm2": {"layer_types": ["conv", "full_attention", "conv"]},
}
ASKED = [
    Span(each, (1, *range(3, 20), *((7 * each + k) % 90 + 3 for k in range(3 + each))), 18)
    for each in range(4)
]


def saved(folder: Path, kind: str, dtype: torch.dtype, **facts: Any) -> Any:
    """A model of random weights, saved and loaded again as people do."""
    torch.manual_seed(3)
    made = transformers.AutoModelForCausalLM.from_config(
        transformers.CONFIG_MAPPING[kind](**SMALL | facts), dtype=dtype
    )
    made.save_pretrained(folder)
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()


def logits(anatomy: Anatomy, weights: dict[str, torch.Tensor], inputs: Inputs) -> torch.Tensor:
    """The logits of every token [rows, width, vocabulary], part by part."""

    def of(part: Any) -> dict[str, torch.Tensor]:
        return {place: weights[name] for place, name in part.items()}

    with torch.inference_mode():
        hidden = anatomy.embed(inputs, of(anatomy.first))
        arguments = anatomy.arguments(inputs)
        for number, part in enumerate(anatomy.layers):
            hidden = anatomy.layer(number, of(part))(hidden, arguments[number])
        return torch.stack([anatomy.logits(row, of(anatomy.last)) for row in hidden])


@pytest.mark.parametrize("kind", MORE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["F32", "BF16"])
def test_the_parts_give_the_bits_of_the_whole(kind: str, dtype: torch.dtype, tmp_path: Path) -> None:
    model = saved(tmp_path, kind, dtype, **MORE[kind])
    weights = load_file(tmp_path / "model.safetensors")
    facts = transformers.PretrainedConfig.get_config_dict(tmp_path)[0]
    anatomy = Anatomy(facts, {name: tuple(each.shape) for name, each in weights.items()})
    ids = torch.randint(3, 90, (3, 20), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert torch.equal(logits(anatomy, weights, Inputs(ids)), model(ids).logits)
    batches = compose(ASKED, share=anatomy.shares, window=anatomy.window)
    assert any(each.parents is not None for each in batches) == (
        kind in ("cohere", "granite", "olmo2", "phi")
    )
    close = 2e-6 if dtype == torch.float32 else 0.02
    for batch in batches:
        found = logits(anatomy, weights, anatomy.inputs(batch))
        for each in batch.wanted:
            span = ASKED[each.span]
            with torch.inference_mode():
                alone = model(torch.tensor([span.ids[:-1]])).logits[0, span.first - 1 :]
            assert torch.allclose(found[each.row, list(each.positions)], alone, atol=close, rtol=close)


class Odd(transformers.LlamaForCausalLM):
    """A Llama whose body does something else between its layers."""

    config_class = transformers.LlamaConfig

    def __init__(self, facts: Any) -> None:
        super().__init__(facts)
        self.extra = nn.Parameter(torch.zeros(facts.hidden_size)) if facts.odd == "unused" else None
        if facts.odd in BODIES:
            self.model.forward = BODIES[facts.odd].__get__(self.model)


def _body(step: Callable[[Any, Any, Any, list[Any]], Any]) -> Callable[..., Any]:
    def forward(self: Any, input_ids: Any = None, inputs_embeds: Any = None, **rest: Any) -> Any:
        hidden = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        places = torch.arange(hidden.shape[1])[None]
        kept: list[Any] = [hidden]
        self.gain = self.embed_tokens.weight.sum()
        angles = self.rotary_emb(hidden, position_ids=places)
        for layer in self.layers:
            hidden = step(
                self, layer, (hidden, {"position_embeddings": angles, "attention_mask": None}), kept
            )
            kept.append(hidden)
        if self.config.odd == "all outputs":
            hidden = sum(kept)
        return transformers.modeling_outputs.BaseModelOutputWithPast(last_hidden_state=self.norm(hidden))

    return forward


def _with_first_mlp(body: Any, layer: Any) -> Any:
    layer.mlp = body.layers[0].mlp
    return layer


BODIES = {
    "between": _body(lambda self, layer, call, kept: layer(call[0] * 2, **call[1])),
    "skips": _body(lambda self, layer, call, kept: layer(kept[-2] if len(kept) > 1 else call[0], **call[1])),
    "twice": _body(lambda self, layer, call, kept: layer(layer(call[0], **call[1]), **call[1])),
    "weights": _body(lambda self, layer, call, kept: layer(call[0], **call[1], extra=self.gain)),
    "all outputs": _body(lambda self, layer, call, kept: layer(call[0], **call[1])),
    "shared": _body(lambda self, layer, call, kept: _with_first_mlp(self, layer)(call[0], **call[1])),
}
REASONS = {
    "between": "the input of layer 1 is not the output of the layer before|something is computed",
    "skips": "the input of layer 1 is not the output",
    "twice": "layer 0 is called at place 1",
    "weights": "depends on the weights",
    "all outputs": "more than the last one's output",
    "shared": "layer 1 computes with",
    "unused": "used neither in its layers nor around them",
}


class OddConfig(transformers.LlamaConfig):
    model_type = "odd_llama"
    odd: str = ""


@pytest.fixture
def odd() -> Iterator[None]:
    transformers.AutoConfig.register("odd_llama", OddConfig)
    Odd.config_class = OddConfig
    transformers.AutoModelForCausalLM.register(OddConfig, Odd)
    yield
    transformers.CONFIG_MAPPING._extra_content.pop("odd_llama")
    transformers.AutoModelForCausalLM._model_mapping._extra_content.pop(OddConfig)


@pytest.mark.usefixtures("odd")
@pytest.mark.parametrize("how", REASONS)
def test_a_model_that_cannot_be_taken_apart_is_refused_by_name(how: str) -> None:
    facts = SMALL | {"model_type": "odd_llama", "odd": how, "architectures": ["Odd"]}
    model = Odd(OddConfig(**facts))
    names = {name: tuple(each.shape) for name, each in model.state_dict().items()}
    with pytest.raises(PlanError, match=REASONS[how]) as raised:
        Anatomy(facts, names)
    assert "Odd" in raised.value.message
    assert "--runner resident" in raised.value.hint


def test_tensors_that_do_not_fit_are_named_together() -> None:
    model = Model(architecture="llama")
    names = shapes(model)
    del names["model.layers.1.mlp.up_proj.weight"]
    names["model.layers.0.odd.weight"] = (3,)
    names["model.norm.weight"] = (7,)
    with pytest.raises(AlloydError) as raised:
        Anatomy(config(model), names)
    norm = "'model.norm.weight' has the shape [7]"
    for each in ("model.layers.1.mlp.up_proj.weight", "model.layers.0.odd.weight", norm):
        assert each in raised.value.message
    with pytest.raises(ShapeMismatch, match="norm"):
        Anatomy(config(model), shapes(model) | {"model.norm.weight": (7,)})


def test_a_tied_model_whose_head_differs_keeps_both() -> None:
    model = Model(architecture="qwen2")
    both = shapes(model) | {"lm_head.weight": (model.vocab, model.hidden)}
    anatomy = Anatomy(config(model), both)
    assert anatomy.last["lm_head.weight"] == "lm_head.weight"
    assert (
        Anatomy(config(model), shapes(model)).last["model.embed_tokens.weight"] == "model.embed_tokens.weight"
    )
