"""Settings: defaults, file, environment, and what is refused; the commented file is true."""

from __future__ import annotations

import os
import re
from pathlib import Path

import msgspec
import pytest

from alloyd.errors import Problems, ServiceError, UsageError
from alloyd_daemon.settings import Settings, check_endpoint, find_config, load

CONFIGS = Path(__file__).parents[2] / "configs"


def test_the_commented_file_lists_every_setting_with_its_default(tmp_path: Path) -> None:
    text = (CONFIGS / "alloyd.toml").read_text()
    bare = re.sub(r"^# (?=\w+ = )", "", text, flags=re.MULTILINE)
    (tmp_path / "bare.toml").write_text(bare)
    loaded = load(config=tmp_path / "bare.toml", environ={})
    assert loaded.settings == Settings()
    assert set(loaded.origins.values()) == {str(tmp_path / "bare.toml")}
    (tmp_path / "commented.toml").write_text(text)
    assert set(load(config=tmp_path / "commented.toml", environ={}).origins.values()) == {"default"}


def test_the_environment_beats_the_file_and_the_file_the_default(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[jobs]\nmemory = "1GB"\nthreads = 3\n[models]\nroots = ["/a"]\n')
    environ = {"ALLOYD_CONFIG": str(file), "ALLOYD_JOBS_MEMORY": "2GB", "ALLOYD_MODELS_ROOTS": "/b:/c"}
    loaded = load(environ=environ)
    assert loaded.settings.memory_bytes() == 2 * 10**9
    assert loaded.settings.thread_count() == 3
    assert loaded.settings.model_roots() == (Path("/b"), Path("/c"))
    assert loaded.origins["jobs.memory"] == "$ALLOYD_JOBS_MEMORY"
    assert loaded.origins["jobs.threads"] == str(file)
    assert loaded.origins["jobs.queue"] == "default"


def test_the_file_is_found_where_people_look(tmp_path: Path) -> None:
    assert find_config(None, {"XDG_CONFIG_HOME": str(tmp_path)}) != tmp_path / "alloyd" / "config.toml"
    (tmp_path / "alloyd").mkdir()
    (tmp_path / "alloyd" / "config.toml").touch()
    assert find_config(None, {"XDG_CONFIG_HOME": str(tmp_path)}) == tmp_path / "alloyd" / "config.toml"
    with pytest.raises(UsageError, match="does not exist"):
        find_config(None, {"ALLOYD_CONFIG": str(tmp_path / "absent")})


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(
        'top = 1\n[jbos]\n[jobs]\nmemroy = "1GB"\nthreads = "many"\nparallel = 0\nmemory = "4XB"\n'
    )
    with pytest.raises(Problems) as caught:
        load(
            config=file, environ={"ALLOYD_JOBS_THREDS": "3", "ALLOYD_JOBS_NICE": "lots", "ALLOYD_HOME": "/x"}
        )
    told = {problem.message: problem.hint for problem in caught.value.problems}
    assert len(told) == 8
    assert "Did you mean 'jobs'?" in told.values()
    assert "Did you mean 'memory'?" in told.values()
    assert "Did you mean 'threads'?" in told.values()
    assert caught.value.status == 2


def test_a_relative_root_is_refused() -> None:
    with pytest.raises(UsageError, match=r"models\.roots .* expected absolute paths"):
        load(environ={"ALLOYD_MODELS_ROOTS": "/a:models"})
    assert load(environ={"ALLOYD_MODELS_ROOTS": "~/models"}).settings.model_roots() == (
        Path.home() / "models",
    )


@pytest.mark.parametrize(
    "text", ["[jobs", "\x00", "a = \n", f"a = {'[' * 100_000}", f"a = {'9' * 5000}", 'a = "\\UFFFFFFFF"']
)
def test_a_file_that_is_no_toml_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(UsageError, match="cannot be read"):
        load(config=tmp_path / "config.toml", environ={})


@pytest.mark.parametrize(
    "variable", ["REMOTE_RATE=nan", "REMOTE_RATE=inf", f"JOBS_CACHE={'9' * 400}GB", "JOBS_QUEUE=1000000001"]
)
def test_numbers_that_nothing_can_be_done_with_are_refused(variable: str) -> None:
    name, _, text = variable.partition("=")
    with pytest.raises(UsageError) as caught:
        load(environ={f"ALLOYD_{name}": text})
    assert caught.value.hint


def test_no_number_is_larger_than_what_a_child_can_be_told() -> None:
    found = msgspec.to_builtins(Settings())
    numbers = [f"{section}_{key}" for section in found for key, value in found[section].items()
               if isinstance(value, int | float)]  # fmt: skip
    assert "retention_most" in numbers
    for name in numbers:
        with pytest.raises(UsageError, match="expected"):
            load(environ={f"ALLOYD_{name.upper()}": str(10**30)})


def test_an_open_endpoint_is_refused() -> None:
    with pytest.raises(ServiceError, match="needs CURVE keys"):
        check_endpoint("tcp://0.0.0.0:5555")
    with pytest.raises(ServiceError):
        check_endpoint("udp://x")
    check_endpoint("ipc:///run/alloyd")
    check_endpoint("")


def test_settings_travel_to_a_child() -> None:
    settings = load(environ={"ALLOYD_JOBS_THREADS": "3"}).settings
    assert msgspec.convert(msgspec.to_builtins(settings), Settings) == settings


def test_the_cache_lies_where_hugging_face_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert Settings().hub() == Path("~/.cache/huggingface").expanduser()
    monkeypatch.setenv("XDG_CACHE_HOME", "/y")
    assert Settings().hub() == Path("/y/huggingface")
    monkeypatch.setenv("HF_HOME", "/x")
    assert Settings().hub() == Path("/x")
    assert load(environ={"ALLOYD_MODELS_HF_HOME": "/z"}).settings.hub() == Path("/z")


def test_a_variable_that_is_no_text_is_refused() -> None:
    """Neither a job nor a client could be told it."""
    with pytest.raises(UsageError, match=r"models\.roots from \$ALLOYD_MODELS_ROOTS: expected text in UTF-8"):
        load(environ={"ALLOYD_MODELS_ROOTS": os.fsdecode(b"/\xff"), "HOME": "/nowhere"})
