"""`alloy ui` as a process beside a daemon of throw-away jobs, and a browser that looks at it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from trial_daemon import PATIENCE, TrialDaemon


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: dict[str, str]
    text: str


@dataclass(slots=True)
class Ui:
    """The page's server."""

    process: subprocess.Popen[str]
    url: str
    token: str
    printed: Path

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2].rstrip("/"))

    @property
    def entry(self) -> str:
        """The address with its token."""
        return f"{self.url}#token={self.token}"

    def ask(self, method: str, path: str, *, bearer: bool = True, **headers: str) -> Reply:
        """One request, whose path is sent as it is."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        connection.putrequest(method, path, skip_host="host" in headers, skip_accept_encoding=True)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        sent |= {"authorization": f"Bearer {self.token}"} if bearer else {}
        for name, value in sent.items():
            connection.putheader(name, value)
        if method == "POST":
            connection.putheader("content-length", "0")
        connection.endheaders()
        answer = connection.getresponse()
        reply = Reply(answer.status, dict(answer.getheaders()), answer.read().decode())
        connection.close()
        return reply

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(PATIENCE)


@contextmanager
def serving(daemon: TrialDaemon, folder: Path, *, port: int = 0) -> Iterator[Ui]:
    """``alloy ui`` for a daemon; what it prints goes to files in ``folder``."""
    printed = folder / "printed"
    with open(printed, "a") as errors:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "alloyd.cli", "--home", str(daemon.home.root)),
                *("--json", "ui", "--port", str(port)),
            ],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **daemon.environ},
            start_new_session=True,
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, printed.read_text()
        said = json.loads(line)
        yield Ui(process, said["url"], Path(said["token_file"]).read_text().strip(), printed)
    finally:
        process.kill()
        process.wait(PATIENCE)
        assert process.stdout is not None
        process.stdout.close()
