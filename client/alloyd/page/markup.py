"""Sections as HTML. Everything that comes from outside is text here: escaped, and never markup."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from typing import Any, Final

from ..foreign import printable
from .parts import Block, Choice, Code, Facts, Figure, Head, Rows, Section, Table, Toggle, Words

_NO_KEY: Final = re.compile(r"[^a-z0-9]+")
_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d) UTC")


def tag(name: str, inside: str = "", /, **attributes: str) -> str:
    """One element around ``inside``, which is HTML; its attributes are text (``class_``, ``aria_label``...)."""
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"' for key, value in attributes.items()
    )
    return f"<{name}{said}>{inside}</{name}>"


def escape(text: Any) -> str:
    """``text`` as it may stand in HTML, in quotes too; control characters as escapes, for they would act."""
    return html.escape(printable(str(text)), quote=True)


def data(value: Any) -> str:
    """``value`` as JSON that may stand in a ``<script>``: it holds nothing that HTML or JavaScript would end at."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def head(top: Head, *, live: bool) -> str:
    """The bar at the top of a page, which stays there."""
    return tag(
        "header",
        (tag("a", "all jobs", class_="back", href="/") if live and top.kind else "")
        + tag("h1", escape(top.title))
        + (tag("span", escape(top.state), class_="state", data_state=top.state) if top.state else "")
        + tag("button", "theme: auto", type="button", class_="theme", data_do="theme")
        + (tag("p", escape(top.says), class_="says") if top.says else ""),
        class_="top",
        id="top",
    )


def navigation(sections: Sequence[Section]) -> str:
    """Links to the sections."""
    links = [tag("li", tag("a", escape(each.title), href=f"#{each.key}")) for each in sections]
    return tag("nav", tag("ul", "".join(links)), aria_label="Sections")


def section(one: Section) -> str:
    """One section."""
    title = f"{one.key}-title"
    keys = _keys(one)
    blocks = [_block(key, each) for key, each in zip(keys, one.blocks, strict=True)]
    inside = tag("h2", escape(one.title), id=title) + "".join(blocks)
    return tag("section", inside, id=one.key, aria_labelledby=title)


def _keys(one: Section) -> list[str]:
    """A key for each block, by its title: it is the same block when others have come before it."""
    keys: list[str] = []
    for block in one.blocks:
        named = block.kind if isinstance(block, Words) else block.title
        key = f"{one.key}-{_NO_KEY.sub('-', named.lower())[:60].strip('-')}"
        again = sum(each == key or each.startswith(f"{key}--") for each in keys)
        keys.append(f"{key}--{again + 1}" if again else key)
    return keys


def _block(key: str, block: Block) -> str:
    match block:
        case Figure():
            return _figure(key, block)
        case Rows():
            inside = _says(block.says) + _table(block.table, block.title)
            return tag("div", tag("h3", escape(block.title)) + inside, class_=_card(block.half), id=key)
        case Facts():
            rows = [tag("dt", escape(name)) + tag("dd", _text(value)) for name, value in block.facts]
            inside = tag("h3", escape(block.title)) + tag("dl", "".join(rows))
            return tag("div", inside, class_=_card(block.half), id=key)
        case Code():
            return _code(key, block)
        case Words():
            said = [tag("p", _text(each)) for each in block.sentences]
            return tag("div", "".join(said), class_=f"words {block.kind}", id=key)


def _figure(key: str, figure: Figure) -> str:
    title, says = f"{key}-title", f"{key}-says"
    height = int(figure.plot["layout"]["height"])
    drawn = {"plot": figure.plot, "controls": [_plain(each) for each in figure.controls]}
    controls = [_control(key, place, each) for place, each in enumerate(figure.controls)]
    return tag(
        "figure",
        tag("h3", escape(figure.title), id=title)
        + tag("figcaption", escape(figure.says), id=says)
        + (tag("div", "".join(controls), class_="controls") if controls else "")
        # What a picture shows is said beside it, and its rows are below.
        + tag(
            "div",
            class_="plot",
            role="img",
            aria_label=figure.title,
            aria_describedby=says,
            style=f"height:{height}px",
        )
        + f'<script type="application/json">{data(drawn)}</script>'
        + _numbers(key, figure),
        class_=_card(figure.half),
        id=key,
        aria_labelledby=title,
    )


def _card(half: bool) -> str:
    return "card half" if half else "card"


def _numbers(key: str, figure: Figure) -> str:
    if figure.table is None:
        return ""
    return tag(
        "details", tag("summary", "The numbers") + _table(figure.table, figure.title), id=f"{key}-rows"
    )


def _control(key: str, place: int, control: Toggle | Choice) -> str:
    name = f"{key}-control-{place}"
    if isinstance(control, Toggle):
        on = " checked" if control.on else ""
        box = f'<input type="checkbox" id="{name}" data-control="{place}"{on}>'
        return tag("label", f"{box} {escape(control.label)}")
    options = [
        tag("option", escape(each.label), value=str(number)) for number, each in enumerate(control.options)
    ]
    chosen = tag("select", "".join(options), id=name, data_control=str(place))
    return tag("label", f"{escape(control.label)} {chosen}")


def _plain(control: Toggle | Choice) -> dict[str, Any]:
    if isinstance(control, Toggle):
        return {"traces": list(control.traces)}
    options = [{"trace": dict(each.trace), "layout": dict(each.layout)} for each in control.options]
    return {"trace": control.trace, "options": options}


def _table(table: Table, title: str) -> str:
    classes = [{"class_": "number"} if place in table.numeric else {} for place in range(len(table.head))]
    top = [tag("th", escape(each), scope="col", **how) for each, how in zip(table.head, classes, strict=True)]
    rows = [
        tag("tr", "".join(tag("td", _text(each), **how) for each, how in zip(row, classes, strict=True)))
        for row in table.rows
    ]
    inside = tag("thead", tag("tr", "".join(top))) + tag("tbody", "".join(rows))
    more = tag("p", f"and {table.left_out:,} more", class_="more") if table.left_out else ""
    # A table that is wider than the page is scrolled, by keyboard too.
    return (
        tag("div", tag("table", inside), class_="scroll", tabindex="0", role="region", aria_label=title)
        + more
    )


def _code(key: str, code: Code) -> str:
    copy = tag("button", "copy", type="button", data_do="copy", data_of=f"{key}-text")
    # In <pre> a first line break would be lost.
    text = tag(
        "pre", "\n" + escape(code.text), id=f"{key}-text", tabindex="0", role="region", aria_label=code.title
    )
    if code.folded:
        return tag("details", tag("summary", escape(code.title)) + copy + text, class_="card code", id=key)
    return tag("div", tag("h3", escape(code.title)) + copy + text, class_="card code", id=key)


def _says(text: str) -> str:
    return tag("p", escape(text), class_="caption") if text else ""


def _text(text: str) -> str:
    """A text, its times marked so that the page can tell them in the reader's own zone."""
    return _TIME.sub(r'<time datetime="\1T\2Z">\1 \2 UTC</time>', escape(text))
