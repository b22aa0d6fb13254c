"""Whoever asks for what is not theirs is refused, and the log says who it was and why: docs/remote.md's promises."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from alloyd import Client
from alloyd.errors import AccessDenied, AlloydError, UsageError
from alloyd.jobs import Job, JobState, MergeSpec, PlanSpec, ScoreSpec, Subject, VerifySpec
from alloyd.roles import Role
from alloyd_daemon.confinement import available
from checkpoint_factory import Model, write_checkpoint
from remote.conftest import Far
from trial_daemon import TrialDaemon, eventually, let_go, trial

REAL = (sys.executable, "-P", "-m", "alloyd_daemon.child")
LINEAR = "merge_method: linear\nmodels:\n  - {{model: {}, parameters: {{weight: 1}}}}\n"


@pytest.fixture
def real_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs are done by the daemon's own child, not by that of the trials."""
    monkeypatch.setattr(TrialDaemon, "child", REAL)


@pytest.fixture
def secret(far: Far) -> Path:
    """A model outside of the roots."""
    place = far.root.parent / "secret"
    place.mkdir()
    (place / "config.json").write_text("{}")
    return place


def logged(far: Far, *words: str) -> None:
    """Wait until one line of the daemon's log, which is one JSON object, holds all of ``words``."""

    def told() -> list[str]:
        logs = [far.daemon.home.log(name) for name in ("daemon", "gateway")]
        lines = [line for log in logs if log.exists() for line in log.read_text().splitlines()]
        return [str(json.loads(line)["message"]) for line in lines]

    try:
        eventually(lambda: any(all(word in line for word in words) for line in told()))
    except AssertionError:
        raise AssertionError(f"no line has all of {words}:\n" + "\n".join(told())) from None


def ended(client: Client, job: Job) -> Job:
    eventually(lambda: client.job(job.id).state.ended)
    return client.job(job.id)


def test_a_key_that_is_not_authorized(far: Far) -> None:
    pair = far.key("stranger", None)
    with far.client("stranger") as client, pytest.raises(AccessDenied):
        client.status()
    logged(far, "refused 127.0.0.1", pair.public, "is not authorized")


def test_a_key_that_may_read_and_submits(far: Far) -> None:
    far.key("screen", Role.READ)
    with far.client("screen") as client, pytest.raises(AccessDenied):
        client.submit(trial(far.root / "out", 1))
    logged(far, "refused the key 'screen'", "'submit' needs the role submit", "has read")
    with far.daemon.client() as client:
        assert client.jobs() == []


def test_a_path_outside_the_roots(far: Far, secret: Path) -> None:
    far.key("laptop", Role.SUBMIT)
    with far.client("laptop") as client, pytest.raises(AccessDenied):
        client.submit(VerifySpec(str(secret)))
    logged(far, "refused the key 'laptop'", "submit", str(secret), "is outside the folders")


def test_a_link_that_leads_out(far: Far, secret: Path) -> None:
    far.key("laptop", Role.SUBMIT)
    (far.root / "link").symlink_to(secret)
    (far.root / "model").mkdir()
    (far.root / "model" / "config.json").symlink_to(secret / "config.json")
    base = far.root / "recipes"
    base.mkdir()
    with far.client("laptop") as client:
        for name in ("../link", "../model"):
            with pytest.raises(AccessDenied):
                client.submit(PlanSpec(LINEAR.format(name), str(base)))
        with pytest.raises(AccessDenied):
            client.submit(trial(far.root / "link" / "out", 1))
    logged(far, "refused the key 'laptop'", "the model", "link", "is outside the folders")
    logged(far, "refused the key 'laptop'", "the model", "holds a link that leads outside")
    logged(far, "refused the key 'laptop'", "submit", "link")


def test_a_link_that_is_put_there_after_the_check(far: Far, secret: Path) -> None:
    """The job waits in the queue meanwhile; its own process looks again before it opens anything."""
    far.key("laptop", Role.SUBMIT)
    base = far.root / "recipes"
    base.mkdir()
    (far.root / "model").mkdir()
    with far.client("laptop") as client:
        first = client.submit(trial(far.root / "first", at={2: "hold"}))
        eventually(lambda: client.job(first.id).state is JobState.RUNNING)
        job = client.submit(MergeSpec(LINEAR.format("../model"), str(base), str(far.root / "out")))
        (far.root / "model").rmdir()
        (far.root / "model").symlink_to(secret)
        client.cancel(first.id)
        done = ended(client, job)
    assert done.state is JobState.FAILED
    assert (done.error or {})["code"] == "E_ACCESS"
    logged(far, f"{job.id} of the key 'laptop' failed", "the model", "is outside the folders")
    assert not (far.root / "out").exists()


@pytest.mark.skipif(not available(), reason="this kernel has no Landlock")
def test_a_link_that_is_put_there_while_the_job_runs(far: Far, secret: Path) -> None:
    """Between its process's own check and the opening of a file: the kernel looks at what is really opened."""
    far.key("laptop", Role.SUBMIT)
    place = far.root / "place"
    place.mkdir()
    with far.client("laptop") as client:
        job = client.submit(trial(place / "out", 40, at={20: "hold"}))
        eventually((place / "out.partial").exists)
        place.rename(far.root / "away")
        (secret / "out.partial").write_text("not yours")
        place.symlink_to(secret)
        let_go(place / "out")
        done = ended(client, job)
    assert done.state is JobState.FAILED
    assert (done.error or {})["code"] == "E_ACCESS"
    assert sorted(each.name for each in secret.iterdir()) == ["config.json", "out.go", "out.partial"]
    logged(far, f"{job.id} of the key 'laptop' failed", "may not be used")


@pytest.mark.usefixtures("real_jobs")
def test_a_recipe_that_names_code(far: Far) -> None:
    far.key("laptop", Role.SUBMIT)
    ran = far.root / "ran"
    code = far.root / "code.py"
    code.write_text(f"open({str(ran)!r}, 'w')\n")
    write_checkpoint(far.root / "model", Model(layers=1))
    texts = (
        f"merge_method: !!python/object/apply:os.system ['touch {ran}']\n",
        f"merge_method: linear\nmodels: [{{model: !!python/module:{code} x}}]\n",
        f"merge_method: {code}:function\nmodels: [{{model: model}}]\n",
    )
    with far.client("laptop") as client:
        for text in texts:
            job = ended(client, client.submit(PlanSpec(text, str(far.root))))
            error = AlloydError.from_dict(job.error or {})
            assert error.code == "E_RECIPE", error
            logged(far, f"{job.id} of the key 'laptop' failed", error.message)
    assert not ran.exists()


def test_a_task_that_names_code(far: Far) -> None:
    far.key("laptop", Role.SUBMIT)
    (far.root / "task.yaml").write_text("task: x\ndoc_to_text: !function code.f\n")
    (far.root / "code.py").write_text(f"open({str(far.root / 'ran')!r}, 'w')\n")
    subject = (Subject("m", str(far.root)),)
    with far.client("laptop") as client, pytest.raises(AccessDenied, match="can hold code"):
        client.submit(ScoreSpec(subject, (f"lm_eval:{far.root / 'task.yaml'}",)))
    logged(far, "refused the key 'laptop'", "task.yaml", "can hold code")
    assert not (far.root / "ran").exists()


@pytest.mark.usefixtures("real_jobs")
def test_a_scoring_function_that_no_configuration_lists(far: Far) -> None:
    far.key("laptop", Role.SUBMIT)
    (far.root / "code.py").write_text(f"open({str(far.root / 'ran')!r}, 'w')\n")
    (far.root / "task.jsonl").write_text('{"prompt": "x"}\n')
    write_checkpoint(far.root / "model", Model(layers=1))
    spec = ScoreSpec(
        (Subject("m", str(far.root / "model")),),
        (f"function:{far.root / 'task.jsonl'}",),
        options={"function": f"{far.root / 'code.py'}:f"},
    )
    with far.client("laptop") as client:
        job = ended(client, client.submit(spec))
    assert AlloydError.from_dict(job.error or {}).code == UsageError.code
    logged(far, f"{job.id} of the key 'laptop' failed", "lists no scoring function")
    assert not (far.root / "ran").exists()


def test_the_daemons_own_log_is_for_admins(far: Far) -> None:
    """It begins with the settings, which only an admin may read, and names every key."""
    for name, role in (("screen", Role.READ), ("laptop", Role.SUBMIT)):
        far.key(name, role)
        with far.client(name) as client, pytest.raises(AccessDenied, match="own log needs the role admin"):
            client.log("daemon")
    far.key("boss", Role.ADMIN)
    with far.client("boss") as client:
        assert "serves" in client.log("daemon").text
    with far.daemon.client() as client:
        assert "serves" in client.log("daemon").text
