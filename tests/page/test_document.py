"""The document: complete in itself, the same for the same story, and nothing from outside is ever markup."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import cycle

import msgspec
import pytest

from alloyd.page.document import document
from alloyd.page.markup import data, escape
from alloyd.page.parts import Code, Facts, Figure, Head, Rows, Section, Table, Toggle, Words
from alloyd.page.report import report
from alloyd.page.sections import head, sections
from extras import need
from page.real_stories import HOSTILE, NAMES, told, with_results

need("page", "plotly")


class Reader(HTMLParser):
    """Every element and text of a document, scripts and styles apart."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.texts: list[str] = []
        self._inside = ""
        self._attributes: dict[str, str | None] = {}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside, self._attributes = tag, dict(attrs)
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + data)
        elif self._inside != "style":
            self.texts.append(data)


def everything(text: str) -> list[Section]:
    """A section of every kind of block, all of which say ``text``."""
    table = Table((text, text), [(text, text)], frozenset({1}), left_out=3)
    plot = {"data": [{"x": [1.0], "hovertext": [text]}], "layout": {"height": 100}}
    return [
        Section(
            "all",
            text,
            [
                Figure(text, text, plot, table, [Toggle(text, [0])]),
                Rows(text, text, table),
                Facts(text, [(text, text)]),
                Code(text, text),
                Code(text, text, folded=True),
                Words([text], "error"),
            ],
        )
    ]


def test_the_same_story_is_the_same_file() -> None:
    assert report(told("search")) == report(told("search"))


@pytest.mark.parametrize("name", NAMES)
def test_a_report_needs_nothing_else(name: str) -> None:
    text = report(told(name))
    found = Reader(text)
    for tag, attributes in found.elements:
        assert tag not in ("iframe", "object", "embed", "base", "form", "img", "video", "audio")
        assert attributes.get("src") is None
        href = attributes.get("href")
        assert href is None or href.startswith("#") or href == "data:,"
        assert not [key for key in attributes if key.startswith("on")]
    (policy,) = (each["content"] for tag, each in found.elements if each.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "http:" not in policy
    assert "connect-src" not in policy
    run = [body for attributes, body in found.scripts if attributes.get("type") is None]
    assert len(run) == 2
    for body in run:
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    ours = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert ours is not None
    assert "url(" not in ours[1]
    assert "@import" not in ours[1]


@pytest.mark.parametrize("name", NAMES)
def test_a_report_is_not_much_larger_than_what_draws_it(name: str) -> None:
    assert len(report(told(name)).encode()) < 5_500_000


def test_what_comes_from_outside_is_text() -> None:
    plain = Reader(document(Head("x", "x", "x"), everything("x"), live=True))
    found = Reader(document(Head(HOSTILE, HOSTILE, HOSTILE), everything(HOSTILE), live=True))
    assert [tag for tag, _ in found.elements] == [tag for tag, _ in plain.elements]
    shown = [each for each in found.texts if "<img" in each]
    assert len(shown) > 15
    for each in found.texts:
        assert "\u202e" not in each
        assert "\x1b" not in each
    (drawn,) = (
        json.loads(body) for attributes, body in found.scripts if attributes.get("type") == "application/json"
    )
    assert drawn["plot"]["data"][0]["hovertext"] == [HOSTILE]


def test_a_hostile_job_makes_no_element_of_its_own() -> None:
    story = told("merge")
    job = msgspec.structs.replace(
        story.job, out=HOSTILE, spec={**story.job.spec, "recipe": HOSTILE}, owner=HOSTILE
    )
    hostile = Reader(report(replace(story, job=job, log=HOSTILE, home=HOSTILE)))
    assert not [tag for tag, _ in hostile.elements if tag == "img"]
    assert not [each for _, each in hostile.elements if "onerror" in each]


def test_data_ends_no_script() -> None:
    text = data({"name": HOSTILE + "<!--<script>"})
    assert "<" not in text
    assert text.isascii()
    assert json.loads(text) == {"name": HOSTILE + "<!--<script>"}
    with pytest.raises(ValueError, match="JSON compliant"):
        data({"value": float("nan")})


def test_a_text_keeps_its_lines() -> None:
    assert escape("a\n\tb") == "a\n\tb"
    code = Section("x", "x", [Code("recipe", "\n\nmerge_method: ties\n")])
    assert "<pre" in document(Head("x"), [code], live=True)
    assert "\n\n\nmerge_method: ties\n</pre>" in document(Head("x"), [code], live=True)


def test_every_id_is_there_once_and_every_reference_leads_somewhere() -> None:
    found = Reader(report(told("front")))
    ids = [each["id"] for _, each in found.elements if "id" in each]
    assert len(ids) == len(set(ids))
    for _, each in found.elements:
        for key in ("aria-labelledby", "aria-describedby", "data-of"):
            assert each.get(key) is None or each[key] in ids
        href = each.get("href")
        assert href is None or not href.startswith("#") or href[1:] in ids


WRONG = (7, [None], {"x": []}, "text", None)


def test_a_damaged_record_costs_its_section_and_no_other() -> None:
    whole, damaged = told("search"), "the record that it is made of is damaged"
    assert damaged not in str(sections(whole))
    for key, wrong in zip(whole.results or {}, cycle(WRONG), strict=False):
        story = with_results(whole, **{key: wrong})
        text = document(head(story), sections(story), live=True)
        assert text.count(damaged) <= len(sections(whole)) / 2
    story = with_results(whole, trials=[{}])
    assert damaged in str(sections(story))
    assert [each.key for each in sections(story)][-3:] == ["history", "asked", "replay"]


@pytest.mark.parametrize("name", ["merge", "kinship", "score", "failed"])
def test_a_damaged_job_has_a_page_too(name: str) -> None:
    whole = told(name)
    for part in ("result", "summary", "spec"):
        fields = getattr(whole.job, part) or {}
        for key, wrong in zip(fields, cycle(WRONG), strict=False):
            job = msgspec.structs.replace(whole.job, **{part: {**fields, key: wrong}})
            story = replace(whole, job=job)
            assert document(head(story), sections(story), live=True)
