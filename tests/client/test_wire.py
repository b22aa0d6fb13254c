"""The frames: what is written can be read, and whatever else arrives is one clear error."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloyd import wire
from alloyd.errors import REGISTRY, AlloydError, Problems, ProtocolError, RecipeError, UsageError
from alloyd.jobs import Event, MergeSpec, VerifySpec, spec_fields
from alloyd.space_schema import GetSpace, Prune
from alloyd.watch_schema import WatchSettings

EXAMPLES: list[wire.Request] = [
    wire.Hello(),
    wire.Submit({"kind": "verify", "path": "/x"}, "token"),
    wire.GetJob("1"),
    wire.ListJobs(limit=3),
    wire.ListJobs(order="next", past=12),
    wire.ListEvents(5, "merge-1"),
    wire.Cancel("1"),
    wire.Pause("1"),
    wire.Resume("1"),
    wire.Retry("1"),
    wire.Move("1", "top"),
    wire.Move("1", -5),
    wire.ReadLog("1", -10),
    wire.GetResults("search-1"),
    wire.GetStatus(),
    wire.GetConfig(),
    wire.GetResources("1"),
    wire.GetMetrics(),
    wire.WatchAdd("/drop", WatchSettings(settle=1.0)),
    wire.WatchRemove("/drop"),
    wire.ListWatches(),
    GetSpace(),
    Prune(keep=5, dry_run=True),
    wire.Shutdown(now=True),
]


@pytest.mark.parametrize("request_", EXAMPLES, ids=lambda each: type(each).__name__)
def test_a_request_arrives_as_it_was_sent(request_: wire.Request) -> None:
    name, frames = wire.ask(request_, "session")
    header, arrived = wire.read_request(frames)
    assert arrived == request_
    assert (header.id, header.kind, header.session) == (name, wire.kind_of(request_), "session")
    assert header.protocol == wire.PROTOCOL


def test_every_request_has_an_example() -> None:
    assert {type(each) for each in EXAMPLES} == set(wire.REQUESTS.values())


def test_every_request_names_the_least_role_that_may_make_it() -> None:
    assert wire.ROLES.keys() == wire.REQUESTS.keys()


def test_a_reply_names_its_request_and_brings_the_value() -> None:
    name, frames = wire.ask(wire.Hello(), "s")
    header, _ = wire.read_request(frames)
    greeting = wire.Greeting("0.1.0", "1.0", 7, "/home", datetime.now(UTC))
    reply = wire.answer(header, "d", greeting)
    assert wire.answers(reply) == name
    assert wire.read_answer(reply, wire.Greeting) == greeting


@pytest.mark.parametrize("code", sorted(REGISTRY))
def test_every_error_crosses_the_wire(code: str) -> None:
    kind = REGISTRY[code]
    error: AlloydError
    if kind is Problems:
        error = Problems([RecipeError("one", hint="a"), UsageError("two", key="k")])
    else:
        error = kind("what was wrong", hint="the cure", path="/x", count=3)
    with pytest.raises(kind) as caught:
        wire.read_answer(wire.answer(None, "d", error=error), object)
    assert caught.value.to_dict() == error.to_dict()
    assert caught.value.status == error.status


@given(st.lists(st.binary(max_size=200), max_size=6))
def test_any_frames_are_a_request_or_one_error(frames: list[bytes]) -> None:
    with pytest.raises((ProtocolError, UsageError)):
        wire.read_request(frames)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES)
def test_any_json_in_the_content_is_a_request_or_one_error(content: Any) -> None:
    for request in EXAMPLES:
        _, frames = wire.ask(request, "s")
        frames[3] = json.dumps(content).encode()
        try:
            _, arrived = wire.read_request(frames)
        except UsageError as error:
            arrived = None
            told = error.facts["id"]
        assert type(arrived) is type(request) if arrived is not None else told


@given(st.binary(max_size=300))
def test_any_bytes_as_header_or_publication_are_refused(data: bytes) -> None:
    for frames in ([wire.MARK, data, b"{}", b"{}"], [wire.MARK, b"{}", b"{}", data]):
        with pytest.raises((ProtocolError, UsageError)):
            wire.read_request(frames)
    with pytest.raises(ProtocolError):
        wire.read_publication([b"topic", wire.MARK, data, b"{}", b"{}"])


def test_lies_are_told_apart() -> None:
    _, frames = wire.ask(wire.GetJob("1"), "s")
    header = json.loads(frames[1])

    def read(**changes: Any) -> None:
        wire.read_request([frames[0], json.dumps({**header, **changes}).encode(), *frames[2:]])

    with pytest.raises(ProtocolError, match="unsupported request 'jop'") as caught:
        read(kind="jop")
    assert caught.value.hint == "Did you mean 'job'?"
    with pytest.raises(ProtocolError, match=r"speaks protocol 2\.0"):
        read(protocol="2.0")
    read(protocol="1.7")
    read(unknown_field="is ignored")
    with pytest.raises(UsageError, match="unknown field `jobb`") as usage:
        wire.read_request([*frames[:3], b'{"jobb": "1"}'])
    assert usage.value.hint == "Did you mean 'job'?"


@pytest.mark.parametrize("number", [2**63, -(2**63), 10**30])
def test_numbers_that_no_store_holds_are_refused(number: int) -> None:
    for request in (wire.ListJobs(limit=number), wire.ListEvents(since=number), wire.ReadLog("1", number)):
        with pytest.raises(UsageError, match="9223372036854775807"):
            wire.read_request(wire.ask(request, "s")[1])


def test_an_error_about_a_name_that_is_no_text_can_be_sent() -> None:
    told = AlloydError("lost \udcff", hint="\ud800", path="/\udcff").to_dict()
    assert (told["message"], told["hint"], told["facts"]["path"]) == ("lost \\udcff", "\\ud800", "/\\udcff")


def test_a_deeply_nested_message_is_an_error_and_no_crash() -> None:
    _, frames = wire.ask(wire.GetJob("1"), "s")
    for place in (1, 3):
        nested = [*frames]
        nested[place] = b"[" * 100_000
        with pytest.raises((ProtocolError, UsageError)):
            wire.read_request(nested)


def test_publications_bring_events() -> None:
    event = Event(4, "merge-1", "state", datetime.now(UTC), {"state": "done"})
    frames = wire.publish("event", event, "d", job="merge-1")
    assert frames[0] == b"job.merge-1.state"
    assert wire.read_publication(frames) == ("event", event)
    assert wire.read_publication(wire.publish("heartbeat", {"last": 4}, "d")) == ("heartbeat", {"last": 4})
    assert wire.read_publication([b"welcome"]) == ("welcome", {})


def test_specs_are_read_strictly() -> None:
    spec = MergeSpec(recipe="a: 1\n", base_dir="/b", out="/o", memory=5)
    assert wire.read_spec(spec_fields(spec)) == spec
    assert wire.read_spec({"kind": "verify", "path": "/x"}) == VerifySpec("/x")
    with pytest.raises(UsageError, match="unknown kind of job 'merg'") as caught:
        wire.read_spec({"kind": "merg"})
    assert caught.value.hint == "Did you mean 'merge'?"
    with pytest.raises(UsageError, match="unknown field `memmory`") as caught:
        wire.read_spec({**spec_fields(spec), "memmory": 4})
    assert caught.value.hint == "Did you mean 'memory'?"
    with pytest.raises(UsageError, match="missing required field `recipe`"):
        wire.read_spec({"kind": "merge", "out": "/o", "base_dir": "/"})
    with pytest.raises(UsageError, match=r"Expected `int \| null`, got `str`"):
        wire.read_spec({**spec_fields(spec), "memory": "4"})
    for key, value in (("threads", 10**30), ("form", {"options": [-(10**30)]})):
        with pytest.raises(UsageError, match=f"{key} is, or holds, a number beyond"):
            wire.read_spec({**spec_fields(spec), key: value})


def test_content_frames_are_plain_json() -> None:
    _, frames = wire.ask(wire.Submit({"kind": "verify", "path": "/x"}, "t"), "s")
    spec = {"kind": "verify", "path": "/x"}
    assert msgspec.json.decode(frames[3]) == {"spec": spec, "token": "t"}
