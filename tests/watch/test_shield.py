"""Models that watched folders need, by whatever name, are among those whose weights stay."""

from __future__ import annotations

from pathlib import Path

from alloyd.watch_schema import Rule, RunningSoup, Soup, Watch, WatchSettings
from alloyd_daemon.watch.shield import shield

TEMPLATE = """
merge_method: ties
base_model: {base}
models:
  - {model: "other+adapter", parameters: {weight: 1}}
  - model: {model: {path: /abs/model}}
"""


def test_everything_that_a_watched_folder_needs_is_named() -> None:
    rule = Rule("r", ("*",), "recipe", TEMPLATE, base="org/base@main", soup=Soup("start", ("t.jsonl",)))
    broken = Rule("b", ("*",), "recipe", "a: [b\n  loose-model")
    settings = WatchSettings(out="/out", roots=("/root",), rules=(rule, broken))
    watch = Watch("/drop", settings, soups=(RunningSoup("r", "/elsewhere/now"),))
    found = set(shield([watch], [Path("/models")]))
    assert {"/drop", "/root", "/out/soups", "/elsewhere/now"} <= found
    for name in ("org/base", "start", "other", "adapter", "other+adapter", "loose-model"):
        assert {f"/drop/{name}", f"/models/{name}"} <= found
    assert "/abs/model" in found
    assert "/out" not in found
