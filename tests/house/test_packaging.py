"""The distribution: wheel and sdist hold what the editable install has, and a light install works alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import PathDistribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from house.tree import PARTS, ROOT


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Wheel and sdist, built without an index."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--sdist", "--wheel", "--outdir", str(folder)]
    done = subprocess.run([*command, str(ROOT)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("*.whl")), next(folder.glob("*.tar.gz"))


def _sources() -> set[str]:
    """Every file of the three parts, as it is named from its source root."""
    return {
        file.relative_to(home.parent).as_posix()
        for home in PARTS.values()
        for file in home.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }


def test_the_wheel_holds_the_three_parts_a_manual_page_and_nothing_else(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[0]) as wheel:
        names = set(wheel.namelist())
    inside = {name for name in names if ".dist-info/" not in name}
    (manual,) = (name for name in inside if name.endswith(".data/data/share/man/man1/alloy.1"))
    assert inside - {manual} == _sources()
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_the_sdist_holds_what_it_takes_to_build_and_use(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[1]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {f"{home.parent.name}/{name}" for home in PARTS.values() for name in _sources_of(home)} <= names
    assert {"pyproject.toml", "LICENSE", "README.md", "configs/alloyd.toml"} <= names
    assert not any(name.startswith(("zoo/", ".ci", "tests/")) for name in names)


def _sources_of(home: Path) -> set[str]:
    return {name for name in _sources() if name.startswith(f"{home.name}/")}


def _copy_with_dependencies(name: str, site: Path, seen: set[str]) -> None:
    """Copy an installed distribution and what it requires (without extras) into ``site``."""
    found = distribution(name)
    for file in found.files or ():
        if ".." in file.parts:
            continue
        target = site / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(str(found.locate_file(file)), target)
    for text in found.requires or ():
        requirement = Requirement(text)
        if requirement.name not in seen and (not requirement.marker or requirement.marker.evaluate()):
            seen.add(requirement.name)
            _copy_with_dependencies(requirement.name, site, seen)


@pytest.fixture(scope="module")
def light(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a venv that holds the built wheel and its base dependencies only."""
    venv = tmp_path_factory.mktemp("light") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    python = venv / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python)]
    subprocess.run([*pip, "install", "--quiet", "--no-index", "--no-deps", str(built[0])], check=True)
    site = next((venv / "lib").glob("python*/site-packages"))
    seen: set[str] = set()
    (metadata,) = site.glob("alloyd-*.dist-info")
    for text in PathDistribution(metadata).requires or ():
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            seen.add(requirement.name)
            _copy_with_dependencies(requirement.name, site, seen)
    assert {"msgspec", "pyzmq", "rich"} <= {name.lower() for name in seen}
    return venv / "bin"


def _run(light: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        [str(light / command[0]), *command[1:]], capture_output=True, text=True, env=environment, check=False
    )


def test_a_light_install_has_no_arithmetic(light: Path) -> None:
    for heavy in ("numpy", "numba", "torch", "ml_dtypes", "blake3"):
        assert _run(light, "python", "-c", f"import {heavy}").returncode


def test_a_light_install_reads_recipes_and_speaks(light: Path) -> None:
    recipe = "merge_method: linear\nmodels: [{model: a, parameters: {weight: 1}}]\n"
    code = (
        "import alloyd, alloyd.recipe, alloyd.wire, alloyd.api, alloyd.aio, alloyd.cli, rich\n"
        f"assert alloyd.recipe.load({recipe!r})[0].merge_method == 'linear'\n"
        "alloyd.Client, alloyd.AsyncClient"
    )
    done = _run(light, "python", "-W", "error", "-c", code)
    assert done.returncode == 0, done.stderr
    done = _run(light, "alloy", "--help")
    assert done.returncode == 0, done.stderr
    assert "merge" in done.stdout


def test_a_light_install_says_what_a_merge_needs(light: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("merge_method: linear\nmodels: [{model: a, parameters: {weight: 1}}]\n")
    command = ["merge", str(recipe), "--out", str(tmp_path / "out"), "--no-daemon"]
    done = _run(light, "alloy", "--home", str(tmp_path / "home"), *command)
    assert done.returncode not in (0, 1), done.stderr
    assert "alloyd[daemon]" in done.stderr
    assert "Traceback" not in done.stderr
