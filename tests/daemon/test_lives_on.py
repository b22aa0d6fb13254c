"""What costs one job, one hook or a while, and never the daemon."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from alloyd.jobs import JobState
from trial_daemon import TrialDaemon, eventually, trial


def test_a_stored_job_that_no_pipe_can_carry_fails_alone(tmp_path: Path) -> None:
    with TrialDaemon(tmp_path / "home") as daemon:
        with daemon.client() as client:
            job = client.submit(trial(tmp_path / "a", 900, pause=0.1)).id
            eventually(lambda: client.job(job).state is JobState.RUNNING)
        daemon.kill_all()
        with sqlite3.connect(daemon.home.store) as store:
            ((text,),) = store.execute("SELECT spec FROM jobs")
            spec = json.dumps({**json.loads(text), "threads": 10**30})
            store.execute("UPDATE jobs SET spec = ?", (spec,))
        store.close()
        daemon.start()
        with daemon.client() as client:
            eventually(lambda: client.job(job).state is JobState.FAILED)
            assert client.wait(client.submit(trial(tmp_path / "b", 2)).id).state is JobState.DONE
            client.cancel(job)  # and what it staged is not removed, which is said
            eventually(lambda: any("could not be removed" in str(each.body) for each in client.events(job)))
            client.status()
