"""Values of parameters: types, gradients, filters, precedence; compared with the rules written out plainly."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloyd.errors import RecipeError
from alloyd.recipe import Condition, Setting
from alloyd_daemon.merge_method import METHODS, REQUIRED, MergeMethod, Parameter, Scalar
from alloyd_daemon.recipes.parameters import Level, as_declared, check, resolve


def parameter(kind: type = float, **more: Any) -> Parameter:
    return Parameter(name="p", kind=kind, scope="shared", **more)


def method(*parameters: Parameter) -> MergeMethod:
    def program(operands: Any) -> Any:
        raise AssertionError("never run here")

    return MergeMethod(
        name="tried",
        summary="",
        reference="",
        parameters=parameters,
        base="ignored",
        program=program,
        passes=lambda operands: 1,
    )


def level(setting: Setting, kind: type = float, **more: Any) -> Level:
    found, errors, warnings = check({"p": setting}, method(parameter(kind, **more)), "parameters")
    assert (errors, warnings) == ([], [])
    return found


def at(setting: Setting, t: float = 0.0, name: str = "x", kind: type = float) -> Scalar | None:
    return level(setting, kind).evaluate(parameter(kind), name, t)


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (float, 1, 1.0),
        (float, "1e-5", 1e-5),
        (float, " 0.5 ", 0.5),
        (float, True, 1.0),
        (int, 3, 3),
        (int, 3.0, 3),
        (int, "4", 4),
        (int, "1e3", 1000),
        (bool, True, True),
        (bool, 1, True),
        (bool, 0.0, False),
        (bool, "Yes", True),
        (bool, "off", False),
        (str, "word", "word"),
    ],
)
def test_values_take_the_declared_type(kind: type, value: Scalar, expected: Scalar) -> None:
    got = as_declared(value, parameter(kind), "parameters.p")
    assert got == expected
    assert type(got) is kind


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (float, "half"),
        (float, "nan"),
        (float, "1e999"),
        (float, ""),
        (int, 1.5),
        (int, "1.5"),
        (int, "9" * 400),
        (bool, 2),
        (bool, "maybe"),
        (str, 3),
        (str, True),
    ],
)
def test_other_types_are_refused_by_place(kind: type, value: Scalar) -> None:
    with pytest.raises(RecipeError, match=r"^parameters\.p must be ") as caught:
        as_declared(value, parameter(kind), "parameters.p")
    assert caught.value.facts["key"] == "parameters.p"


@pytest.mark.parametrize("value", [-0.01, 1.01, "2"])
def test_bounds(value: Scalar) -> None:
    with pytest.raises(RecipeError, match="must be a number from 0 to 1"):
        as_declared(value, parameter(low=0.0, high=1.0), "p")
    assert as_declared(0, parameter(low=0.0, high=1.0), "p") == 0.0


@pytest.mark.parametrize(("t", "expected"), [(0.0, 0.0), (0.25, 0.25), (0.5, 0.5), (0.75, 0.4), (1.0, 0.3)])
def test_a_list_of_numbers_is_piecewise_linear(t: float, expected: float) -> None:
    assert at((0, 0.5, 0.3), t) == pytest.approx(expected)


def test_scientific_notation_in_a_gradient() -> None:
    assert at(("1e-5", "1e-3"), 0.5) == pytest.approx(0.000505)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8), st.floats(0, 1))
def test_gradients_follow_the_formula(points: list[float], t: float) -> None:
    x = t * (len(points) - 1)
    low = math.floor(x)
    fraction = x - low
    expected = (1 - fraction) * points[low] + fraction * points[min(len(points) - 1, low + 1)]
    got = at(tuple(points), t)
    assert got == expected
    assert at(tuple(points), 0.0) == points[0]
    assert at(tuple(points), 1.0) == points[-1]
    assert min(points) - 1e-6 <= float(got) <= max(points) + 1e-6


def test_true_and_false_and_text_step() -> None:
    assert [at((False, True), t, kind=bool) for t in (0.0, 0.99, 1.0)] == [False, False, True]
    assert [at((0, 1), t, kind=bool) for t in (0.0, 0.99, 1.0)] == [False, False, True]
    assert [at(("a", "b", "c"), t, kind=str) for t in (0.0, 0.5, 0.9, 1.0)] == ["a", "b", "b", "c"]


def test_a_gradient_of_whole_numbers_lands_on_whole_numbers() -> None:
    assert at((2, 4), 0.5, kind=int) == 3
    with pytest.raises(
        RecipeError, match=r"parameters\.p is 2\.5 at position 0\.25, and must be a whole number"
    ):
        at((2, 4), 0.25, kind=int)


def test_the_first_filter_that_fits_decides() -> None:
    rules = (Condition(1.0, "self_attn"), Condition((2.0, 4.0), "attn"), Condition(9.0))
    assert at(rules, name="model.layers.0.self_attn.q") == 1.0
    assert at(rules, 0.5, name="model.layers.0.attn.q") == 3.0
    assert at(rules, name="model.norm") == 9.0
    assert at(Condition(5.0, "*"), name="anything") == 5.0
    assert at(Condition(5.0, "SELF"), name="self") is None
    assert at(Condition(5.0, "a.c"), name="abc") is None


NAMES = st.text("ab.", max_size=6)
RULES = st.lists(st.builds(Condition, st.integers(0, 9), st.none() | st.just("*") | NAMES), max_size=5)


@given(RULES, NAMES)
def test_filters_follow_the_rule(rules: list[Condition], name: str) -> None:
    expected = None
    for rule in rules:
        if rule.filter is None or rule.filter == "*" or rule.filter in name:
            expected = rule.value
            break
    assert at(tuple(rules), name=name, kind=int) == expected


@given(st.lists(st.none() | RULES, max_size=4), NAMES, st.booleans())
def test_the_nearest_level_that_says_something_wins(
    levels: list[list[Condition] | None], name: str, required: bool
) -> None:
    declared = parameter(int, default=REQUIRED if required else -1)
    built = [Level("p") if rules is None else level(tuple(rules), int) for rules in levels]
    said = [each for each in (each.evaluate(declared, name, 0.0) for each in built) if each is not None]
    given_, value = resolve(declared, built, name, 0.0)
    if said:
        assert (given_, value) == (True, said[0])
    else:
        assert (given_, value) == ((False, None) if required else (True, -1))


def test_a_default_of_none_is_a_value() -> None:
    assert resolve(parameter(default=None), (), "x", 0.0) == (True, None)
    assert resolve(parameter(bool, default=False), (), "x", 0.0) == (True, False)


def test_zero_is_a_value_and_not_absent() -> None:
    assert resolve(parameter(default=1.0), (level(0), level(5)), "x", 0.0) == (True, 0.0)


def test_unknown_parameters_get_the_nearest_name() -> None:
    ties = METHODS.get("ties")
    _, (error,), warnings = check({"densty": 0.5}, ties, "models[0].parameters")
    assert error.message == "models[0].parameters.densty: ties has no parameter 'densty'"
    assert "'density'" in error.hint
    assert "--lenient" in error.hint
    assert warnings == []


def test_lenient_ignores_unknown_parameters_with_a_warning() -> None:
    found, errors, (warning,) = check({"densty": 0.5}, METHODS.get("ties"), "parameters", lenient=True)
    assert errors == []
    assert "densty" in warning
    assert found.rules == {}


def test_a_parameter_of_other_methods_says_whose_it_is() -> None:
    _, (error,), _ = check({"density": 0.5}, METHODS.get("slerp"), "parameters")
    assert "'density' belongs to" in error.hint
    assert "ties" in error.hint


def test_a_shared_parameter_under_a_model_is_told() -> None:
    _, (error,), _ = check(
        {"t": 0.5}, METHODS.get("slerp"), "models[0].parameters", scopes=("input", "non_base")
    )
    assert (
        error.message == "models[0].parameters.t has no effect: 't' of slerp is one value for a whole tensor"
    )
    assert "Move it" in error.hint


def test_every_wrong_value_of_a_setting_is_told() -> None:
    setting = (Condition(("a", 1, "b"), "x"), Condition("c"))
    _, errors, _ = check({"p": setting}, method(parameter()), "parameters")
    assert [each.facts["key"] for each in errors] == [
        "parameters.p[0].value[0]",
        "parameters.p[0].value[2]",
        "parameters.p[1].value",
    ]


SCALARS = st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=False) | st.text("1e-.xtrue", max_size=5)
SETTINGS = st.one_of(
    SCALARS,
    st.lists(SCALARS, min_size=1, max_size=3).map(tuple),
    st.builds(Condition, SCALARS | st.lists(SCALARS, max_size=3).map(tuple), st.none() | NAMES),
    st.lists(st.builds(Condition, SCALARS, st.none() | NAMES), max_size=3).map(tuple),
)


@given(SETTINGS, st.sampled_from([float, int, bool, str]), st.floats(0, 1), NAMES)
def test_any_setting_is_refused_or_gives_the_declared_type(
    setting: Setting, kind: type, t: float, name: str
) -> None:
    found, errors, _ = check({"p": setting}, method(parameter(kind)), "parameters")
    assert all(isinstance(each, RecipeError) for each in errors)
    if errors:
        return
    if kind is int:
        # A gradient of whole numbers may pass between them; its ends never do.
        t = round(t)
    value = found.evaluate(parameter(kind), name, t)
    assert value is None or type(value) is kind
