"""docs/protocol.md and docs/quantised.md say what the code does, and errors.py draws its tree truly."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from alloyd import cli, errors, jobs, recipe, recipe_schema, wire

DOCS = Path(__file__).parents[2] / "docs"


def test_the_tree_at_the_head_of_errors_is_true() -> None:
    assert errors.__doc__ is not None
    drawn = dict(re.findall(r"(E_\w+) +(\d+|\*)", errors.__doc__))
    assert drawn == {
        code: "*" if kind is errors.Problems else str(kind.exit_status)
        for code, kind in errors.REGISTRY.items()
    }


@pytest.fixture
def page() -> str:
    return (DOCS / "protocol.md").read_text()


def test_the_protocol_page_names_every_request_with_its_fields(page: str) -> None:
    assert f"**{wire.PROTOCOL}**" in page
    for kind, request in wire.REQUESTS.items():
        fields = ", ".join(f'"{name}"' for name in request.__struct_fields__)
        assert f"| `{kind}` | " + (f"`{{{fields}}}` |" if fields else "|") in page, kind


@pytest.mark.parametrize(
    "kind",
    [wire.Greeting, wire.Status, wire.LogPiece, wire.Configured, wire.Connection, jobs.Job, jobs.Event],
)
def test_the_protocol_page_lists_the_fields_of(page: str, kind: type) -> None:
    fields = ", ".join(f'"{name}"' for name in kind.__struct_fields__)  # type: ignore[attr-defined]
    assert f"`{{{fields}}}`" in page


def test_the_protocol_page_lists_states_and_where_they_lead(page: str) -> None:
    from alloyd_daemon.service.job_moves import MOVES

    for state, targets in MOVES.items():
        row = next(line for line in page.splitlines() if line.startswith(f"| `{state.value}` |"))
        named = {name.strip() for name in row.split("|")[2].split(",")} - {""}
        assert named == {target.value for target in targets}


def test_the_page_of_quantised_outputs_says_what_recipes_and_commands_take() -> None:
    page = (DOCS / "quantised.md").read_text()
    head = "merge_method: linear\nmodels: [{model: a, parameters: {weight: 1}}]\n"
    yaml = re.findall(r"^out: .*$", page, re.MULTILINE)
    forms = [recipe.load(head + line)[0].out for line in yaml]
    assert {each.format for each in forms if each is not None} == set(recipe_schema.FORMATS)
    commands = re.findall(r"^alloy (.*?)(?: +#.*)?$", page, re.MULTILINE)
    assert len(commands) >= 4
    for command in commands:
        cli.parser().parse_args(command.split())


def test_the_page_of_the_service_names_every_metric_and_variable() -> None:
    from alloyd_daemon.service import hooks, metrics

    page = (DOCS / "service.md").read_text()
    for module, pattern in ((metrics, r'"(alloyd_\w+)"'), (hooks, r'"(alloyd_\w+|ALLOYD_\w+)"')):
        assert module.__file__ is not None
        names = set(re.findall(pattern, Path(module.__file__).read_text()))
        assert len(names) >= 5
        assert not {name for name in names if f"`{name}`" not in page}
