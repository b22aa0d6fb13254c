"""Damaged requests: every kind that the protocol has, taken apart as frames, as JSON, as text and as bytes."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from alloyd import wire
from alloyd.errors import AlloydError
from alloyd.jobs import SPECS, spec_fields
from alloyd.watch_schema import Rule, WatchSettings
from trial_daemon import trial

from .mutations import JSON, Mutator

LARGE: Final = 600_000
HUGE: Final = 3_000_000
DAY: Final = 86400.0
KEPT: Final = 50


class Messages:
    """Messages from one seed. What is written below ``sandbox``, and jobs but ``canaries``, may be changed by them.

    The last canary is paused: most jobs are to follow it, so that not each of them starts a process.
    """

    def __init__(self, chance: random.Random, sandbox: Path, canaries: Sequence[str], *, huge: bool) -> None:
        self._chance = chance
        self._sandbox = sandbox
        self._canaries = frozenset(int(each.rpartition("-")[2]) for each in canaries)
        self._paused = canaries[-1]
        self._huge = huge
        self._sent: list[list[bytes]] = []
        fields = {
            field for each in (*wire.REQUESTS.values(), *SPECS.values()) for field in each.__struct_fields__
        }
        words = {
            *fields,
            *wire.REQUESTS,
            *SPECS,
            *wire.Header.__struct_fields__,
            *WatchSettings.__struct_fields__,
        }
        self._mutator = Mutator(chance, tuple(sorted(words)))
        self._ways: tuple[Callable[[list[bytes]], list[bytes]], ...] = (
            self._tree,
            self._tree,
            self._tree,
            self._scrawl,
            self._bits,
            self._frames,
            self._other_encoding,
            self._replay,
            self._large,
            lambda frames: frames,
        )

    def one(self) -> list[bytes]:
        """The next message; one that would do what no test may is passed over."""
        while True:
            _, frames = wire.ask(self._request(), self._mutator.pick(("session", "", "s" * 500)))
            for _ in range(self._mutator.pick((1, 1, 1, 2))):
                frames = self._mutator.pick(self._ways)(frames)
            if frames and self.harmless(frames) and self.harmless(frames[1:]):
                self._sent = [*self._sent[-KEPT:], frames]
                return frames

    def _request(self) -> wire.Request:
        chance = self._chance
        job = self._mutator.pick(
            ("merge-5", "6", "verify-7", "merge-8", "search-9", "daemon", str(chance.randrange(5, 400)))
        )
        place = str(self._sandbox / f"out-{chance.randrange(1000)}")
        spec = self._mutator.pick(
            (
                spec_fields(trial(Path(place), 1)),
                {"kind": "verify", "path": place},
                {
                    "kind": "plan",
                    "recipe": "merge_method: linear",
                    "base_dir": place,
                    "memory": 5,
                    "threads": 2,
                },
                {
                    "kind": "score",
                    "subjects": [{"name": "a", "path": place}],
                    "tasks": ["perplexity:x.jsonl"],
                },
                {"kind": "search", "spec": "recipe: {}", "base_dir": place, "seconds": 1.5, "mode": "async"},
                {"kind": "kinship", "base": place, "models": [place, place]},
                {"kind": "rebuild", "path": place, "out": place, "base_dir": place},
                {"kind": "open_test", "search": "search-9"},
            )
        )
        after = self._mutator.pick((*[(self._paused,)] * 8, (), (job,)))
        confined = self._mutator.pick(((), (), (str(self._sandbox),), ("relative",)))
        token = self._mutator.pick((wire.token_of(None), wire.KEY + "same", "t" * chance.randint(1, 1001)))
        rule = Rule("soup", ("*",), "recipe", "merge_method: linear\nmodels: [{model: '{model}'}]", place)
        settings = WatchSettings(
            settle=chance.uniform(-1, 5),
            rescan=chance.uniform(0.5, 90),
            rules=self._mutator.pick(((), (rule,))),
        )
        requests: tuple[wire.Request, ...] = (
            wire.Hello(),
            wire.Submit(spec, token, chance.randint(-101, 101), after, confined),
            wire.GetJob(job),
            wire.ListJobs((wire.JobState.QUEUED,), chance.randint(-2, 20)),
            wire.ListJobs((), chance.randint(-2, 20), "next", chance.randint(-5, 50)),
            wire.ListEvents(chance.randint(-5, 500), job, chance.randint(-2, 20)),
            wire.Cancel(job),
            wire.Pause(job),
            wire.Resume(job),
            wire.Retry(job),
            wire.Move(job, self._mutator.pick(("top", "bottom", 5))),
            wire.ReadLog(job, chance.randint(-100, 100)),
            wire.GetResults(job),
            wire.GetStatus(),
            wire.GetConfig(),
            wire.GetResources(job),
            wire.GetMetrics(),
            wire.WatchAdd(str(self._sandbox / f"drop-{chance.randrange(3)}"), settings),
            wire.WatchRemove(str(self._sandbox / f"drop-{chance.randrange(3)}")),
            wire.ListWatches(),
            wire.GetSpace(),
            wire.Prune(chance.uniform(0, 1e8), keep=chance.choice((None, 3)), dry_run=chance.random() < 0.7),
            wire.Shutdown(now=True),
        )
        assert {type(each) for each in requests} == set(wire.REQUESTS.values())
        while True:
            request: wire.Request = self._mutator.pick(requests)
            # Each of these starts a process.
            if not isinstance(request, wire.GetSpace | wire.Prune) or chance.random() < 0.03:
                return request

    def harmless(self, frames: Sequence[bytes]) -> bool:
        """Whether the daemon would refuse it, or change nothing but what it may."""
        try:
            _, request = wire.read_request(frames)
        except AlloydError:
            return True
        match request:
            case wire.Shutdown():
                return False
            case wire.WatchAdd():
                return all(map(self._inside, (request.path, request.settings.out, *request.settings.roots)))
            case wire.WatchRemove():
                return self._inside(request.path)
            case wire.Prune():
                return request.dry_run or (request.before is None and request.older_than > DAY)
            case wire.Submit():
                return self._inside(str(request.spec.get("out", "")))
            case wire.Cancel() | wire.Pause() | wire.Resume() | wire.Retry() | wire.Move():
                digits = request.job.rpartition("-")[2]
                return not digits.isdecimal() or len(digits) > 18 or int(digits) not in self._canaries
        return True

    def _inside(self, path: str) -> bool:
        return not path.startswith("/") or os.path.normpath(path).startswith(f"{self._sandbox}{os.sep}")

    def _tree(self, frames: list[bytes]) -> list[bytes]:
        """One frame's JSON with values lost, renamed or put in place of another."""
        place = self._mutator.pick((3, 3, 3, 1, 2))
        try:
            tree: Any = json.loads(frames[place])
        except (IndexError, ValueError, RecursionError):
            return frames
        return [*frames[:place], json.dumps(self._mutator.tree(tree)).encode(), *frames[place + 1 :]]

    def _scrawl(self, frames: list[bytes]) -> list[bytes]:
        place = self._chance.randrange(len(frames))
        text = frames[place].decode("utf-8", "surrogateescape")
        data = self._mutator.text(text, JSON).encode("utf-8", "surrogatepass")
        return [*frames[:place], data, *frames[place + 1 :]]

    def _bits(self, frames: list[bytes]) -> list[bytes]:
        place = self._chance.randrange(len(frames))
        return [*frames[:place], self._mutator.data(frames[place]), *frames[place + 1 :]]

    def _frames(self, frames: list[bytes]) -> list[bytes]:
        """Frames lost, doubled, moved, joined or cut in two, and frames that were never there."""
        frames = list(frames)
        place = self._chance.randrange(len(frames))
        match self._chance.randrange(7):
            case 0:
                del frames[place]
            case 1:
                frames.insert(place, frames[place])
            case 2:
                self._chance.shuffle(frames)
            case 3:
                frames.insert(place, self._mutator.pick((b"", b"\0", b"{}", wire.MARK, b"\xff" * 300)))
            case 4:
                frames = [*frames[:place], b"".join(frames[place : place + 2]), *frames[place + 2 :]]
            case 5:
                half = len(frames[place]) // 2
                frames[place : place + 1] = [frames[place][:half], frames[place][half:]]
            case _:
                frames += [b"x"] * self._mutator.pick((1, 2, 3, 300))
        return frames or [b""]

    def _other_encoding(self, frames: list[bytes]) -> list[bytes]:
        """MessagePack where JSON belongs, with its extension types; other alphabets; numbers beyond all types."""
        place = self._chance.randrange(len(frames))
        text = frames[place].decode("utf-8", "replace")
        data: bytes = self._mutator.pick(
            (
                msgspec.msgpack.encode({"job": 1, "more": msgspec.msgpack.Ext(5, b"x" * 9)}),
                msgspec.msgpack.encode(msgspec.msgpack.Ext(-1, b"\xff" * 12)),
                text.encode("utf-16"),
                text.encode("utf-32-be"),
                b"\xef\xbb\xbf" + frames[place],
                frames[place].replace(b'"', b"'"),
                b'{"job": 1e999}',
                b'{"limit": ' + b"9" * 5000 + b"}",
                b'{"job": "\\ud800"}',
                b'{"job": "\xed\xa0\x80"}',
                b'{"job": NaN, "offset": -Infinity}',
                b'{"spec": ' + b"[" * 5000 + b"]" * 5000 + b', "token": "x"}',
                b'{"spec": ' + b'{"a":' * 50_000,
            )
        )
        return [*frames[:place], data, *frames[place + 1 :]]

    def _replay(self, frames: list[bytes]) -> list[bytes]:
        """A message that was sent before, or this content under an id that was used before."""
        if not self._sent:
            return frames
        earlier = self._mutator.pick(self._sent)
        return earlier if len(earlier) < 4 or self._chance.random() < 0.5 else [*earlier[:2], *frames[2:]]

    def _large(self, frames: list[bytes]) -> list[bytes]:
        if self._chance.random() > 0.03:
            return frames
        size = HUGE if self._huge and self._chance.random() < 0.3 else LARGE
        filler = self._mutator.pick(
            (
                b'{"job": "' + b"x" * size + b'"}',
                b"[" * size,
                b" " * size,
                b"\0" * size,
                b'{"a":1,' * (size // 7),
            )
        )
        place = self._chance.randrange(len(frames))
        return [*frames[:place], filler, *frames[place + 1 :]]
