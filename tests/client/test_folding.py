"""Lines that are longer than the terminal is wide."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import struct
import termios
from fcntl import ioctl

from hypothesis import given
from hypothesis import strategies as st

from alloyd.console import Console, fitted
from alloyd.folding import fold


def test_words_go_on_under_where_the_text_begins() -> None:
    assert fold("note gguf       absent; wanted for writing GGUF: pip install it", 40) == [
        "note gguf       absent; wanted for",
        "                writing GGUF: pip",
        "                install it",
    ]


def test_a_cell_far_to_the_right_goes_to_a_line_of_its_own() -> None:
    assert fold("a.yaml  0.8300  0.7445 to 0.8911  100  +0.3500 (+0.2400 to +0.4500) better", 60) == [
        "a.yaml  0.8300  0.7445 to 0.8911  100",
        "    +0.3500 (+0.2400 to +0.4500) better",
    ]


def test_a_sentence_goes_on_a_little_to_the_right() -> None:
    assert fold("error: there is no such file, nor a folder", 20) == [
        "error: there is no",
        "    such file, nor a",
        "    folder",
    ]


def test_a_long_word_is_left_to_the_terminal_so_that_it_can_be_copied() -> None:
    line = "  out  /" + "x" * 90
    assert fold(line, 80) == [line]
    assert fold("short", 80) == ["short"]
    assert fold(" " * 90, 80) == [" " * 90]


@given(st.text("ab  -+", max_size=120), st.integers(1, 60))
def test_no_word_is_lost_or_parted(line: str, width: int) -> None:
    assert " ".join(fold(line, width)).split() == line.split()


def test_only_a_terminal_has_its_lines_folded() -> None:
    line = "word " * 30
    assert fitted(line, io.StringIO()) == line
    master, slave = pty.openpty()
    ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
    with os.fdopen(master, "rb"), os.fdopen(slave, "w") as terminal:
        assert max(map(len, fitted(line, terminal).split("\n"))) <= 40
        ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 0, 0, 0, 0))
        assert fitted(line, terminal) == line


def test_what_other_programs_read_is_not_folded() -> None:
    master, slave = pty.openpty()
    ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
    line = ("word " * 12).strip()
    with os.fdopen(master, "rb", buffering=0) as reader, os.fdopen(slave, "w") as terminal:
        with contextlib.redirect_stdout(terminal):
            Console().show(line, as_it_is=True)
        assert reader.read(1000).decode() == line + "\r\n"
