"""Who is let in: token, cookie, address, origin; and the file that the token lies in."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from alloyd.errors import ServiceError
from alloyd.page import gate
from alloyd.page.gate import Gate, token_file, token_of
from alloyd.page.http import Request
from alloyd.paths import Home

TOKEN = "t" * 43
GATE = Gate(TOKEN)
COOKIE = GATE.cookie.partition(";")[0]


def asked(**headers: str) -> Request:
    return Request("GET", "/", {name.replace("_", "-"): value for name, value in headers.items()})


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8642", "localhost:8642", "localhost", "LocalHost:1", "[::1]:9", "127.0.0.1"]
)
def test_addresses_of_this_machine(host: str) -> None:
    assert GATE.near(asked(host=host))


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "evil.example:8642",
        "127.0.0.1.evil.example",
        "localhost.evil.example:8642",
        "127.0.0.1:8642, evil.example",
        "127.0.0.1:",
        "127.0.0.1:80x",
        "127.0.0.1@evil.example",
        "0.0.0.0:8642",
        "[::]:8642",
        "10.0.0.1:8642",
        "127.0.0.1\u00e9",
    ],
)
def test_names_that_others_gave_it(host: str) -> None:
    assert not GATE.near(asked(host=host))


def test_the_token_and_the_cookie_are_known_and_nothing_else_is() -> None:
    assert GATE.knows(asked(authorization=f"Bearer {TOKEN}"))
    assert GATE.knows(asked(authorization=f"bearer  {TOKEN}"))
    assert GATE.knows(asked(cookie=COOKIE))
    assert GATE.knows(asked(cookie=f'other="; x; {COOKIE}; more=1'))
    name = COOKIE.partition("=")[0]
    for wrong in ("", TOKEN[:-1], TOKEN + "t", "\u00e9" * 43):
        assert not GATE.knows(asked(authorization=f"Bearer {wrong}"))
        assert not GATE.knows(asked(authorization=wrong))
        assert not GATE.knows(asked(cookie=f"{name}={wrong}"))
    assert not GATE.knows(asked(cookie=f"{name}={TOKEN}"))
    assert not GATE.knows(asked(authorization=f"Basic {TOKEN}"))
    assert not Gate("u" * 43).knows(asked(cookie=COOKIE)), "another daemon's page"


def test_the_cookie_is_not_the_token_and_scripts_do_not_see_it() -> None:
    assert TOKEN not in GATE.cookie
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(GATE.cookie.split("; "))
    assert TOKEN not in GATE.order


def test_orders_come_from_the_page_itself() -> None:
    host, origin = "127.0.0.1:8642", "http://127.0.0.1:8642"
    page = {"host": host, "cookie": COOKIE, "origin": origin, "alloyd_order": GATE.order}
    assert GATE.orders(asked(**page))
    assert GATE.orders(asked(**page, sec_fetch_site="same-origin"))
    for wrong in (
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": "https://127.0.0.1:8642"},
        {"alloyd_order": ""},
        {"alloyd_order": TOKEN},
        {"cookie": ""},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "cross-site"},
    ):
        assert not GATE.orders(asked(**(page | wrong))), wrong
    script = {"host": host, "authorization": f"Bearer {TOKEN}"}
    assert GATE.orders(asked(**script)), "a script has the token and no origin"
    assert not GATE.orders(asked(**script, origin="http://evil.example"))


def test_the_token_is_kept_for_this_user_alone(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    token = token_of(home)
    assert len(token) >= 43
    assert token_file(home).stat().st_mode & 0o777 == 0o600
    assert token_of(home) == token
    token_file(home).unlink()
    assert token_of(home) != token


def test_two_pages_that_begin_at_once_have_one_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, other = Home(tmp_path / "home"), "t" * 43
    write = gate.write_private

    def overtaken(file: Path, data: bytes, **how: bool) -> None:
        file.write_text(f"{other}\n")
        file.chmod(0o600)
        write(file, data, **how)

    monkeypatch.setattr(gate, "write_private", overtaken)
    assert token_of(home) == other
    assert token_file(home).read_text().strip() == other


@pytest.mark.parametrize("lie", [b"", b"short\n", b"x" * 20 + b" " + b"x" * 20, b"\xff" * 43, b"\x07" * 43])
def test_a_file_that_holds_no_token_is_refused(lie: bytes, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    token_of(home)
    token_file(home).write_bytes(lie)
    with pytest.raises(ServiceError, match=r"page\.token") as told:
        token_of(home)
    assert "Remove it" in told.value.hint


def test_a_token_that_others_can_read_is_refused(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    token_of(home)
    os.chmod(token_file(home), 0o644)
    with pytest.raises(ServiceError, match="this user's alone"):
        token_of(home)
