"""docs/api.md: the Python client and what it takes and gives, from signatures and docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import alloyd
from alloyd import wire

HEAD = """\
# The Python client

`pip install alloyd` brings it, without numpy or torch. This page is made from the code by `python -m docs.generate`.

```python
import alloyd

with alloyd.Client() as client:
    job = client.merge("ties.yaml", out="merged")
    for event in client.events(job.id, follow=True):
        print(event.kind, event.body)
    print(client.wait(job.id).result)
```

Errors are those of [errors.md](errors.md), as classes of `alloyd.errors`, with `code`, `hint`, `facts` and `status`.
`AsyncClient` is the same with `async with`, `await` and `async for`.
"""
STRUCTS = ("Job", "Event", "Sample", "MergeSpec", "PlanSpec", "VerifySpec", "RebuildSpec", "Subject", "ScoreSpec",
           "SearchSpec", "OpenTestSpec", "KinshipSpec", "Watch", "WatchSettings", "Rule", "Soup",
           "Prune", "Pruned", "Space")  # fmt: skip
ANSWERS = ("Greeting", "Status", "LogPiece", "Configured")


def page() -> str:
    """The whole page."""
    parts = [HEAD, *_class(alloyd.Client), "## `alloyd.AsyncClient`\n", _prose(alloyd.AsyncClient.__doc__)]
    different = sorted(set(_methods(alloyd.Client)) ^ set(_methods(alloyd.AsyncClient)))
    assert not different, f"the two clients differ in {different}"
    parts.append("Its methods are those of `Client`.\n")
    parts.append("## What is submitted and answered\n")
    for name in STRUCTS:
        parts += _struct(f"alloyd.{name}", getattr(alloyd, name))
    for name in ANSWERS:
        parts += _struct(f"alloyd.wire.{name}", getattr(wire, name))
    return "\n".join(parts)


def _methods(kind: type) -> list[str]:
    """The public methods of a client, in the order of the file."""
    return [
        name for name, each in vars(kind).items() if inspect.isfunction(each) and not name.startswith("_")
    ]


def _class(kind: type) -> Iterator[str]:
    yield f"## `alloyd.{kind.__name__}`\n"
    yield f"```py\n{kind.__name__}{_signature(kind.__init__)}\n```\n"
    yield _prose(kind.__doc__)
    for name in _methods(kind):
        method = getattr(kind, name)
        yield f"### `{name}`\n"
        yield f"```py\n{name}{_signature(method)}\n```\n"
        yield _prose(method.__doc__)


def _signature(function: object) -> str:
    """The signature as it is written, without ``self``."""
    found = inspect.signature(function)  # type: ignore[arg-type]
    rest = [each for name, each in found.parameters.items() if name != "self"]
    text = str(found.replace(parameters=rest)).replace("'", "").removesuffix(" -> None")
    return text if len(text) < 100 else re.sub(r", (?=\*|\w+:)", ",\n    ", text.replace("(", "(\n    ", 1))


def _struct(name: str, kind: type) -> Iterator[str]:
    yield f"### `{name}`\n"
    yield _prose(kind.__doc__)
    rows = [f"| `{field}` | `{note}` |" for field, note in kind.__annotations__.items()]
    yield (
        "\n".join(["| field | type |", "|---|---|", *(row.replace(" | None", " or None") for row in rows)])
        + "\n"
    )


def _prose(text: str | None) -> str:
    """A docstring as Markdown: its sections become lists."""
    lines: list[str] = []
    section = False
    rows = inspect.cleandoc(text or "").splitlines()
    for place, row in enumerate(rows):
        if set(row) == {"-"}:
            continue
        if place + 1 < len(rows) and rows[place + 1] and set(rows[place + 1]) == {"-"}:
            lines += [f"**{row}**", ""]
            section = True
        elif section and row and not row.startswith(" "):
            lines.append(f"- `{row.rstrip(':')}`")
        else:
            lines.append(row)
    return re.sub(r":\w+:`~?([^`]*)`", r"`\1`", "\n".join(lines)).replace("``", "`") + "\n"
