"""Jobs from elsewhere keep to the folders they were given: over the wire, by links, and against a swap."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from alloyd.errors import AccessDenied
from alloyd.jobs import (
    KinshipSpec,
    MergeSpec,
    OpenTestSpec,
    PlanSpec,
    RebuildSpec,
    ScoreSpec,
    SearchSpec,
    Spec,
    Subject,
    VerifySpec,
)
from alloyd.roles import Role
from alloyd_daemon.confinement import available
from alloyd_daemon.job import JOBS, Context
from alloyd_daemon.search.history import History
from alloyd_daemon.search.history_file import RECORD, folder_of
from alloyd_daemon.service.roots import CONFINED, check, confine
from alloyd_daemon.settings import ScoringSettings, Settings
from remote.conftest import Far
from trial_daemon import eventually, trial

LINEAR = "merge_method: linear\nmodels:\n  - {{model: {}, parameters: {{weight: 1}}}}\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder that is open, beside one that is not."""
    for name in ("open/model", "secret/model"):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        (folder / "task.jsonl").write_text('{"text": "x"}\n')
    return tmp_path / "open"


def merge(root: Path, model: str, out: str = "") -> MergeSpec:
    return MergeSpec(LINEAR.format(model), str(root), out or str(root / "out"))


def outside(root: Path) -> dict[str, Spec]:
    """A spec of each kind that names what lies outside ``root``."""
    secret = str(root.parent / "secret" / "model")
    task = f"{secret}/task.jsonl"
    own = str(root / "model" / "task.jsonl")

    def search(model: str, searched: str, **more: object) -> SearchSpec:
        models = [{"model": model, "parameters": {"weight": {"low": 0, "high": 1}}}]
        spec = {
            "recipe": {"merge_method": "linear", "models": models},
            "tasks": {"search": [searched], "validation": [f"{own}.2"]},
            "budget": {"candidates": 2},
        }
        return SearchSpec(json.dumps(spec | more), str(root))

    return {
        "a model of a merge": merge(root, secret),
        "a model by ..": merge(root, "../secret/model"),
        "an adapter": merge(root, f"model+{secret}"),
        "a base": PlanSpec(LINEAR.format("model") + f"base_model: {secret}\n", str(root)),
        "a tokenizer": PlanSpec(LINEAR.format("model") + f"tokenizer_source: {secret}\n", str(root)),
        "a token": PlanSpec(
            LINEAR.format("model") + f"tokenizer: {{tokens: {{x: {{source: {secret}}}}}}}\n", str(root)
        ),
        "a matrix": PlanSpec(
            LINEAR.format("model") + f"out: {{format: gguf, type: Q4_K_M, imatrix: {secret}/config.json}}\n",
            str(root),
        ),
        "what is not there": merge(root, str(root.parent / "secret" / "nothing")),
        "an output": merge(root, "model", str(root.parent / "secret" / "out")),
        "an output that is the root": merge(root, "model", str(root)),
        "a folder of a recipe": MergeSpec(
            LINEAR.format("model"), str(root.parent / "secret"), str(root / "out")
        ),
        "a checkpoint": VerifySpec(secret),
        "a manifest": RebuildSpec(secret, str(root / "out"), str(root)),
        "a place to rebuild": RebuildSpec(
            str(root / "model"), str(root.parent / "secret" / "out"), str(root)
        ),
        "a subject": ScoreSpec((Subject("m", secret),), (str(root / "model" / "task.jsonl"),)),
        "a subject's recipe": ScoreSpec(
            (Subject("m", recipe=LINEAR.format(secret), base_dir=str(root)),),
            (str(root / "model/task.jsonl"),),
        ),
        "a task": ScoreSpec((Subject("m", "model", base_dir=str(root)),), (task,)),
        "a named task": ScoreSpec((Subject("m", "model", base_dir=str(root)),), (f"perplexity:{task}",)),
        "an option": ScoreSpec(
            (Subject("m", "model", base_dir=str(root)),),
            (str(root / "model/task.jsonl"),),
            options={"tokenizer": secret},
        ),
        "a search's task": search("model", task),
        "a search's adapter": search(f"model+{secret}", own),
        "an adapter of a path": search("model", own, path={"models": [f"{root}/model+{secret}"]}),
        "a subject's adapter": ScoreSpec(
            (Subject("m", f"model+{secret}", base_dir=str(root)),), (str(root / "model/task.jsonl"),)
        ),
        "a subject's adapter by its whole path": ScoreSpec((Subject("m", f"{root}/model+{secret}"),), (own,)),
        "a kin's adapter": KinshipSpec("model", ("model", f"model+{secret}"), str(root)),
        "a kin's adapter by its whole path": KinshipSpec("model", ("model", f"{root}/model+{secret}")),
        "a kin": KinshipSpec("model", ("model", secret), str(root)),
    }


def test_every_kind_of_job_that_names_files_is_among_them(root: Path) -> None:
    assert {type(each) for each in outside(root).values()} == set(CONFINED)


def test_what_lies_inside_is_let_through(root: Path) -> None:
    held = confine(merge(root, "model"), [root], Settings(), root / "home")
    assert isinstance(held, MergeSpec)
    assert held.roots == (str(root),)
    check(held, Settings(), root / "home")


@pytest.mark.parametrize("what", sorted(outside(Path("/x/open"))))
def test_what_lies_outside_is_refused(root: Path, what: str) -> None:
    with pytest.raises(AccessDenied, match="outside the folders"):
        confine(outside(root)[what], [root], Settings(), root / "home")


@pytest.mark.parametrize("what", ["model", "file in a model", "folder in a model", "output"])
def test_a_link_that_leads_out_is_refused(root: Path, what: str) -> None:
    secret = root.parent / "secret"
    spec = merge(root, "model")
    if what == "model":
        (root / "link").symlink_to(secret / "model")
        spec = merge(root, "link")
    elif what == "file in a model":
        (root / "model" / "tokenizer.json").symlink_to(secret / "model" / "config.json")
    elif what == "folder in a model":
        (root / "model" / "more").symlink_to(secret)
    else:
        (root / "link").symlink_to(secret)
        spec = merge(root, "model", str(root / "link" / "out"))
    with pytest.raises(AccessDenied, match="outside the folders"):
        confine(spec, [root], Settings(), root / "home")


def test_a_link_that_leads_out_by_way_of_a_link_within_is_refused(root: Path) -> None:
    (root / "other").mkdir()
    (root / "other" / "round").symlink_to(root)
    (root / "other" / "config.json").symlink_to(root.parent / "secret" / "model" / "config.json")
    (root / "model" / "more").symlink_to(root / "other")
    with pytest.raises(AccessDenied, match="holds a link that leads outside"):
        confine(VerifySpec("model"), [root], Settings(), root / "home")
    (root / "other" / "config.json").unlink()
    confine(VerifySpec("model"), [root], Settings(), root / "home")


def test_a_link_within_is_let_through(root: Path) -> None:
    (root / "model" / "tokenizer.json").symlink_to("config.json")
    confine(merge(root, "model"), [root], Settings(), root / "home")


def test_no_root_opens_nothing(root: Path) -> None:
    with pytest.raises(AccessDenied, match="no folder of this machine is open"):
        confine(merge(root, "model"), [], Settings(), root / "home")


def test_a_task_file_that_can_hold_code_must_be_listed(root: Path) -> None:
    file = root / "task.yaml"
    file.write_text("task: x\ndoc_to_text: !function code.f\n")
    spec = ScoreSpec((Subject("m", "model", base_dir=str(root)),), (f"lm_eval:{file}",))
    with pytest.raises(AccessDenied, match="can hold code"):
        confine(spec, [root], Settings(), root / "home")
    listed = Settings(scoring=ScoringSettings(harness_files=(str(file),)))
    confine(spec, [root], listed, root / "home")
    named = ScoreSpec((Subject("m", "model", base_dir=str(root)),), ("lm_eval:arc_easy",))
    confine(named, [root], Settings(), root / "home")


@pytest.mark.parametrize("what", ["a model of a merge", "a checkpoint", "an output", "a task"])
def test_over_the_wire_it_is_refused_and_logged(far: Far, what: str) -> None:
    far.key("laptop", Role.SUBMIT)
    with far.client("laptop") as client:
        with pytest.raises(AccessDenied, match="outside the folders"):
            client.submit(outside(far.root)[what])
        assert client.jobs() == []
    eventually(lambda: "refused the key 'laptop': submit" in far.log)


def test_a_local_submission_may_be_confined_too(far: Far) -> None:
    from alloyd import wire
    from alloyd.jobs import Job, spec_fields

    spec = spec_fields(VerifySpec(str(far.root.parent)))
    with far.daemon.client() as client, pytest.raises(AccessDenied, match="outside the folders"):
        client._ask(wire.Submit(spec, "token", confined=(str(far.root),)), Job)


@pytest.mark.skipif(not available(), reason="this kernel has no Landlock")
def test_a_remote_submission_may_be_confined_further_and_no_wider(far: Far) -> None:
    far.key("laptop", Role.SUBMIT)
    (far.root / "mine").mkdir()
    (far.root / "out").symlink_to(far.root.parent)
    with far.client("laptop") as client:
        inside = client.submit(trial(far.root / "mine" / "a", 1), confined=[str(far.root / "mine")])
        assert inside.spec["roots"] == [str(far.root / "mine")]
        with pytest.raises(AccessDenied, match="outside the folders"):
            client.submit(trial(far.root / "b", 1), confined=[str(far.root / "mine")])
        for wider in (str(far.root.parent), str(far.root / "out"), "models", "/", str(far.root / "a\0b")):
            with pytest.raises(AccessDenied, match="outside the folders"):
                client.submit(trial(far.root / "c", 1), confined=[wider])


def test_the_kernel_holds_a_confined_process_to_its_roots(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "home" / "keys").mkdir(parents=True)
    secret = tmp_path / "home" / "keys" / "server.key_secret"
    secret.write_text("secret")
    (tmp_path / "open" / "link").symlink_to(secret)
    (tmp_path / "open" / "fine").write_text("fine")
    code = f"""
import os, tempfile
from pathlib import Path
from alloyd_daemon.confinement import hold_to
from alloyd_daemon.settings import Settings
root, home = Path({str(tmp_path / "open")!r}), Path({str(tmp_path / "home")!r})
assert hold_to([str(root)], home=home, settings=Settings())
assert (root / "fine").read_text() == "fine"
(root / "new").write_text("x"); os.rename(root / "new", root / "newer"); (root / "newer").unlink()
for place in (root / "link", root / ".." / "home" / "keys" / "server.key_secret"):
    try: place.read_text()
    except PermissionError: continue
    raise SystemExit("read " + str(place))
try: (root.parent / "out").write_text("x")
except PermissionError: pass
else: raise SystemExit("wrote outside")
with tempfile.TemporaryDirectory() as made: Path(made, "x").write_text("x")
import numpy, json.tool
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr + done.stdout


def test_a_remote_admin_watches_folders_inside_the_roots_only(far: Far, tmp_path: Path) -> None:
    far.key("boss", Role.ADMIN)
    inside, outside = far.root / "drop", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (far.root / "link").symlink_to(outside)
    with far.client("boss") as client:
        for path in (outside, far.root / "link", far.root.parent / "home"):
            with pytest.raises(AccessDenied, match="outside the folders"):
                client.watch_add(path)
        for settings in ({"out": str(outside)}, {"roots": (str(outside),)}):
            with pytest.raises(AccessDenied, match="outside the folders"):
                client.watch_add(inside, **settings)
        assert client.watch_add(inside).path == str(inside)
        assert client.watch_remove(inside)
    far.key("clerk", Role.SUBMIT)
    with far.client("clerk") as client, pytest.raises(AccessDenied, match="needs the role admin"):
        client.watch_add(inside)


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of models that jobs may read."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    monkeypatch.setenv("ALLOYD_MODELS_ROOTS", str(folder))
    return folder


def test_a_folder_that_may_only_be_read_is_not_watched_for_a_remote_admin(shelf: Path, far: Far) -> None:
    """What is taken from a watched folder is moved."""
    far.key("boss", Role.ADMIN)
    with far.client("boss") as client, pytest.raises(AccessDenied, match="outside the folders"):
        client.watch_add(shelf, roots=(str(shelf),))


def test_the_daemon_looks_through_a_limited_number_of_files(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = root / "many"
    many.mkdir()
    for number in range(30):
        (many / str(number)).touch()
    (many / "zz").symlink_to(root.parent / "secret")
    spec = VerifySpec(str(many), (str(root),))
    with pytest.raises(AccessDenied, match="holds a link"):
        check(spec, Settings(), root / "home")
    monkeypatch.setattr("alloyd_daemon.service.roots.SEEN_AT_ONCE", 0)
    check(spec, Settings(), root / "home", most=10)  # the job looks for itself before it opens anything


def test_an_opened_test_is_held_to_the_folders_of_its_caller(root: Path) -> None:
    held = confine(OpenTestSpec("search-1"), [root], Settings(), root / "home")
    assert isinstance(held, OpenTestSpec)
    assert held.roots == (str(root),)


@pytest.mark.parametrize("what", ["a search's task", "a search's adapter"])
def test_an_opened_test_reads_no_search_that_names_what_lies_outside(root: Path, what: str) -> None:
    """The kernel may have no Landlock: what the search named when it was submitted here is looked at."""
    home = root.parent / "home"
    with History(folder_of(home, "search-1") / RECORD) as history:
        history.set_fact("search", msgspec.to_builtins(outside(root)[what]))
    opening = JOBS.get("open_test").run(
        OpenTestSpec("search-1", roots=(str(root),)), Context(home, Settings(), "open_test-2")
    )
    with pytest.raises(AccessDenied, match="outside the folders"):
        next(opening)


def test_a_remote_opening_of_a_local_search_is_checked_as_the_search_would_be(far: Far) -> None:
    far.key("laptop", Role.SUBMIT)
    with far.daemon.client() as here:
        search = here.submit(outside(far.root)["a search's task"])
    with far.client("laptop") as client:
        with pytest.raises(AccessDenied, match="outside the folders"):
            client.open_test(search.id)
        assert [job.id for job in client.jobs()] == [search.id]


def test_a_link_beside_what_is_named_does_no_harm(root: Path) -> None:
    """One that somebody else dropped there would else stop every job of the folder."""
    (root / "link").symlink_to(root.parent / "secret")
    confine(merge(root, "model"), [root], Settings(), root / "home")
    with pytest.raises(AccessDenied, match="outside the folders"):
        confine(merge(root, "link"), [root], Settings(), root / "home")
