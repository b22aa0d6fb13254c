"""Every plug-in of every door: its leaf loads, registers something, and is what the door promises."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from typing import Any

import msgspec
import pytest

import alloyd_daemon
from alloyd.errors import AlloydError
from alloyd_daemon.job import JOBS
from alloyd_daemon.merge_method import METHODS, REQUIRED
from alloyd_daemon.plugins import Door
from house.tree import PARTS


def _doors() -> dict[str, Door[Any]]:
    """Every door there is, found by looking into every module of the daemon that is not a leaf."""
    found: dict[str, Door[Any]] = {}
    for module in pkgutil.walk_packages(alloyd_daemon.__path__, "alloyd_daemon."):
        package = module.name.rpartition(".")[0]
        if (
            module.ispkg
            or module.name.endswith(".__main__")
            or package in {door.package for door in found.values()}
        ):
            continue
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, Door):
                found[value.kind] = value
    return found


DOORS = _doors()


@pytest.mark.parametrize("kind", DOORS)
def test_every_leaf_loads_and_registers(kind: str) -> None:
    door = DOORS[kind]
    names = door.names()
    assert names
    assert not door._absent, "a leaf's library is missing from the development environment"
    folder = PARTS["alloyd_daemon"].joinpath(*door.package.split(".")[1:])
    leaves = [file for file in folder.glob("*.py") if not file.stem.startswith("_")]
    assert not [leaf.name for leaf in leaves if not re.search(r"\b(register|named)\(", leaf.read_text())]


@pytest.mark.parametrize("name", JOBS.names())
def test_a_job_is_a_generator_over_a_spec_that_travels(name: str) -> None:
    kind = JOBS.get(name)
    assert issubclass(kind.spec, msgspec.Struct)
    assert kind.spec.__struct_config__.tag == name
    assert kind.spec.__struct_config__.forbid_unknown_fields
    assert inspect.isgeneratorfunction(kind.run)
    assert len(inspect.signature(kind.run).parameters) == 2


@pytest.mark.parametrize("name", METHODS.names())
def test_a_merge_method_declares_itself_whole(name: str) -> None:
    method = METHODS.get(name)
    assert method.name == name
    assert method.summary
    assert method.reference
    names = [parameter.name for parameter in method.parameters]
    assert len(names) == len(set(names))
    for parameter in method.parameters:
        assert parameter.about, f"{name}.{parameter.name} does not say what it is"
        if parameter.default not in (REQUIRED, None):
            assert isinstance(parameter.default, parameter.kind | int)
            if isinstance(parameter.default, float):
                assert parameter.low is None or parameter.default >= parameter.low
                assert parameter.high is None or parameter.default <= parameter.high


@pytest.mark.parametrize("kind", DOORS)
def test_a_misspelt_name_is_met_with_the_nearest(kind: str) -> None:
    door = DOORS[kind]
    name = max(door.names(), key=len)
    with pytest.raises(AlloydError) as raised:
        door.get(name[:-1] + "x")
    assert name in raised.value.hint
