"""Damages good input as people, disks and attackers do: bytes, lines of text, and the values of a tree."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Sequence
from typing import Any, Final

NUMBERS: Final = (
    0,
    -1,
    1,
    0.5,
    -0.0,
    1e-320,
    1e308,
    float("nan"),
    float("inf"),
    -float("inf"),
    2**31,
    2**53 + 1,
    2**63 - 1,
    2**63,
    -(2**63) - 1,
    2**64,
    10**30,
    10**4000,
)
TEXTS: Final = (
    "",
    " ",
    "\t",
    "two\nlines",
    "\r",
    "\0",
    "\x1b[2J\x1b[31mred",
    "\u2028",
    "\u202egnp",
    "\ufeff",
    "é" * 300,
    "x" * 70_000,
    "😀",
    "~",
    "null",
    "yes",
    "1e5",
    ".nan",
    "-",
    "*",
    ".",
    "..",
    "../../../etc/passwd",
    "/etc/passwd",
    "/dev/zero",
    "/proc/self/mem",
    "~nobody-has-this-name/x",
    "file://x",
    "org/name@main+lora@x",
    "a@b@c+d",
    "!!python/object/apply:os.system",
    "${HOME}",
    "$(id)",
    "{{7*7}}",
    "%s%n",
    "(a+)+$",
    "__proto__",
    "CON",
)
YAML: Final = (
    "&a ",
    "*a",
    "<<: *a\n",
    "? ",
    "!!int ",
    "!!float ",
    "!!binary ",
    "!!python/name:os.system ",
    "!<tag:yaml.org,2002:int> ",
    "! ",
    "---\n",
    "...\n",
    "%YAML 1.1\n---\n",
    f"%YAML 1.{'9' * 5000}\n---\n",
    "%TAG ! tag:x,2000:\n---\n",
    "|\n",
    ">-\n",
    "|9\n",
    '"\\UFFFFFFFF"',
    '"\\xZZ"',
    '"\\ud800"',
    "'",
    '"',
    "\t",
    "#",
    ": ",
    "- ",
    ", ",
    "{",
    "}",
    "[" * 100,
    "{a: " * 100,
    "0x" + "f" * 400,
    "0b" + "1" * 400,
    "1" + ":59" * 2000,
    "1" + ":59" * 2000 + ".5",
    "9" * 5000,
    "1_0_0",
    ".inf",
    "-.inf",
    "2001-01-01",
    "0o777",
    "0777",
    "\u0085",
    "\ufeff",
    "\x07",
    "=",
    "@",
    "`",
)
JSON: Final = (
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    '"',
    "\\",
    '\\ud800"',
    "NaN",
    "-Infinity",
    "1e999",
    "-0",
    "9" * 5000,
    "0." + "3" * 5000,
    "[" * 3000,
    '{"a":' * 3000,
    "null",
    "true",
    "\\u0000",
    "\ufeff",
    "//",
)
DEEP: Final = 60


class Mutator:
    """One source of chance, and the words that the input's grammar knows."""

    def __init__(self, chance: random.Random, words: Sequence[str] = ()) -> None:
        self.chance = chance
        self.words = words

    def pick(self, choices: Sequence[Any]) -> Any:
        """One of them."""
        return choices[self.chance.randrange(len(choices))]

    def often(self, change: Callable[[Any], Any], value: Any) -> Any:
        """``change`` once, mostly, and now and then many times."""
        for _ in range(self.pick((1, 1, 1, 2, 3, 8))):
            value = change(value)
        return value

    def data(self, data: bytes) -> bytes:
        """Bytes with bits flipped, pieces cut, doubled, moved or written over."""
        return bytes(self.often(self._damage, data))

    def _damage(self, data: bytes) -> bytes:
        size = len(data)
        at, to = sorted((self.chance.randint(0, size), self.chance.randint(0, size)))
        near = min(size, at + self.chance.randint(0, 9))
        match self.chance.randrange(8):
            case 0 if size:
                at = self.chance.randrange(size)
                return data[:at] + bytes([data[at] ^ 1 << self.chance.randrange(8)]) + data[at + 1 :]
            case 1:
                return data[:at]
            case 2:
                return data[:at] + data[near:]
            case 3:
                return data[:to] + data[at:to] + data[to:]
            case 4:
                return data[to:] + data[at:to] + data[:at]
            case 5:
                return data[:at] + self.chance.randbytes(near - at) + data[near:]
            case 6:
                number = self.pick((0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1, 8, 10**8))
                return data[:at] + number.to_bytes(8, "little") + data[at + 8 :]
            case _:
                return data[:at] + self.pick((b"\0", b"\xff", b"\xc3(", b"\xed\xa0\x80", b"\n")) + data[at:]

    def text(self, text: str, tokens: Sequence[str]) -> str:
        """Text with lines dropped, doubled, moved or indented, and pieces of its own grammar put in."""
        return str(self.often(lambda each: self._scrawl(each, tokens), text))

    def _scrawl(self, text: str, tokens: Sequence[str]) -> str:
        at = self.chance.randint(0, len(text))
        match self.chance.randrange(7):
            case 0:
                return text[:at] + self.pick(tokens) + text[at:]
            case 1:
                return text[:at] + self.pick(tokens) + text[at + self.chance.randint(0, 12) :]
            case 2 if self.words:
                return text.replace(self.pick(self.words), self.pick(self.words), 1)
            case 3:
                return text[:at]
        lines = text.splitlines(keepends=True) or [""]
        one, other = self.chance.randrange(len(lines)), self.chance.randrange(len(lines))
        match self.chance.randrange(4):
            case 0:
                del lines[one]
            case 1:
                lines.insert(one, lines[other])
            case 2:
                lines[one], lines[other] = lines[other], lines[one]
            case _:
                lines[one] = " " * self.chance.randint(0, 4) + lines[one].lstrip(" ")
        return "".join(lines)

    def tree(self, tree: Any) -> Any:
        """A tree of plain values with some of them lost, renamed, moved, doubled or put in place of another."""
        return self.often(self.graft, copy.deepcopy(tree))

    def graft(self, tree: Any) -> Any:
        """One such change, to ``tree`` itself."""
        spots = list(_spots(tree))
        if not spots or self.chance.random() < 0.01:
            return self.strange()
        parent, key = self.pick(spots)
        value = parent[key]
        match self.chance.randrange(9):
            case 0 if isinstance(parent, dict):
                del parent[key]
            case 1 if isinstance(parent, dict):
                parent[self.pick(self.words or TEXTS)] = parent.pop(key)
            case 2 if isinstance(parent, dict):
                parent[self.pick((*self.words, *TEXTS))] = self.strange()
            case 3 if isinstance(parent, list):
                parent.insert(key, copy.deepcopy(value))
            case 4:
                other, name = self.pick(spots)
                parent[key] = copy.deepcopy(other[name])
            case 5:
                parent[key] = (
                    [value] if self.chance.random() < 0.5 else {self.pick(self.words or ("a",)): value}
                )
            case 6 if isinstance(value, str):
                parent[key] = self.text(value, (*TEXTS, *self.words))
            case 7 if isinstance(value, int | float) and abs(value) < 2**70:
                parent[key] = self.pick(
                    (value + 1, -value, value * 1000, value / 2, float(value), str(value))
                )
            case _:
                parent[key] = self.strange()
        return tree

    def strange(self) -> Any:
        """A value that hardly any place expects."""
        match self.chance.randrange(8):
            case 0 | 1:
                return self.pick(NUMBERS)
            case 2 | 3:
                return self.pick(TEXTS)
            case 4 if self.words:
                return self.pick(self.words)
            case 5:
                return self.pick((None, True, False, [], {}, [[]], [None], {"": {}}))
            case 6:
                return [self.strange() for _ in range(self.chance.randrange(4))]
        value: Any = self.pick(NUMBERS)
        for _ in range(self.pick((1, 2, DEEP))):
            value = [value] if self.chance.random() < 0.5 else {self.pick(self.words or ("a",)): value}
        return value


def _spots(tree: Any) -> Any:
    """Every place of a tree, as its holder and the key or index there."""
    waiting = [tree]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict | list):
            for key in each if isinstance(each, dict) else range(len(each)):
                yield each, key
                waiting.append(each[key])
