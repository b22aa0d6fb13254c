"""Pages that are made from the code; a test holds each file to what is made."""

from collections.abc import Callable

from docs.generate import api, errors, man, sizes

PAGES: dict[str, Callable[[], str]] = {
    "api.md": api.page,
    "errors.md": errors.page,
    "alloy.1": man.page,
    "70b.md": sizes.page,
}
