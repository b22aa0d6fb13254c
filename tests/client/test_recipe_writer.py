"""Recipes as text: what is written is read again, and what mergekit cannot say is refused with the reason."""

from __future__ import annotations

import string
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from alloyd import recipe
from alloyd.recipe_writer import CannotSay, to_mergekit, write

TIES: dict[str, Any] = {
    "merge_method": "ties",
    "base_model": "/models/base",
    "models": [
        {
            "model": "/models/a",
            "parameters": {"weight": [{"filter": "mlp", "value": [0.1, 1e-05]}, {"value": 1}]},
        },
        {"model": "/models/b", "parameters": {"weight": {"filter": "attn", "value": -0.5}, "density": 0.5}},
    ],
    "parameters": {"normalize": False, "weight": 0.1},
    "dtype": "bfloat16",
    "seed": 3,
    "name": "best",
}

VALUES = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-9, 9) | st.booleans()
NAMES = st.text(string.printable, min_size=1, max_size=12)


@given(st.dictionaries(NAMES, VALUES | st.lists(VALUES, max_size=4) | NAMES, max_size=5), st.lists(st.text()))
@settings(max_examples=80, deadline=None)
def test_what_is_written_is_read_again(fields: dict[str, Any], head: list[str]) -> None:
    assert yaml.safe_load(write(fields, head=head)) == (fields or {})


def test_a_recipe_written_is_the_same_recipe() -> None:
    (again,) = recipe.load(write(TIES, head=["search-3", "two\nlines\x85of\u2028one"]))
    assert again == recipe.load(yaml.safe_dump(TIES))[0]
    assert write(TIES, head=["two\nlines"]).startswith("# two lines\nmerge_method: ties\n")


def test_mergekit_is_told_to_compute_as_alloyd_does() -> None:
    said = to_mergekit(TIES, out_dtype="bfloat16")
    assert (said["dtype"], said["out_dtype"]) == ("float32", "bfloat16")
    assert not {"seed", "name", "out"} & set(said)
    assert said["models"][1]["parameters"]["weight"] == [{"filter": "attn", "value": -0.5}]
    assert said["models"][0] == TIES["models"][0]
    assert said["parameters"] == TIES["parameters"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"merge_method": "evolver"}, "has no merge method 'evolver'"),
        ({"parameters": {"lambd": 1.0}}, "ties has no parameter 'lambd'"),
        ({"models": [{"model": "a", "parameters": {"offset": 1.0}}]}, "ties has no parameter 'offset'"),
        (
            {"slices": [{"sources": [{"model": "a", "layer_range": [0, 1], "parameters": {"offset": 1}}]}]},
            "no parameter 'offset'",
        ),
        ({"modules": {"text_decoder": {"parameters": {"offset": 1}}}}, "no parameter 'offset'"),
    ],
)
def test_what_mergekit_cannot_say_is_told(change: dict[str, Any], said: str) -> None:
    with pytest.raises(CannotSay, match=said):
        to_mergekit(TIES | change, out_dtype="bfloat16")
