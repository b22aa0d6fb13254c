"""docs/errors.md: every error with its code, exit status and first sentence, from the classes."""

from __future__ import annotations

from alloyd import errors

HEAD = """\
# Errors and exit statuses

Every error has a stable code, an exit status, one sentence and, where there is a cure, a hint:

    error: unknown merge method 'tie'
    hint: Did you mean 'ties'?

A command ends with the status of its error, 0 without one, and 141 when whoever read its output has left.
*Again* marks what may go well when it is tried again unchanged. [troubleshooting.md](troubleshooting.md)
says what to do about each.

| code | status | again | |
|---|---|---|---|
"""


def page() -> str:
    """The whole page."""
    rows = []
    for kind in errors.REGISTRY.values():
        status = "of the first" if kind is errors.Problems else str(kind.exit_status)
        what = (kind.__doc__ or "").strip().splitlines()[0].replace("``", "`")
        link = f"[`{kind.code}`](troubleshooting.md#{kind.code.lower()})"
        rows.append(f"| {link} | {status} | {'yes' if kind.retryable else ''} | {what} |\n")
    return HEAD + "".join(rows)
