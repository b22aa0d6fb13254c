"""Key files as people leave them: edited, cut off, mixed up; no private byte is told to anybody."""

from __future__ import annotations

import codecs
import os
from pathlib import Path

import pytest

from alloyd import key_files, profiles
from alloyd.authorised_keys import FILE, AuthorisedKeys
from alloyd.errors import ServiceError, UsageError
from alloyd.roles import Role


@pytest.mark.parametrize(("kept", "filled"), [(20, 0), (20, 20)])
def test_a_private_key_that_is_damaged_is_not_told(tmp_path: Path, kept: int, filled: int) -> None:
    pair = key_files.make(tmp_path / "keys", "mine")
    file = tmp_path / "keys" / "mine.key_secret"
    text = file.read_text()
    file.write_text(text[: text.index(pair.secret) + kept] + "#" * filled)
    with pytest.raises(ServiceError, match="cannot be read") as refused:
        key_files.read_pair(file)
    assert pair.secret[:6] not in refused.value.message


def test_keys_that_are_no_pair_are_noticed_before_anybody_waits_for_an_answer(tmp_path: Path) -> None:
    mine, other = (key_files.make(tmp_path / "keys", name) for name in ("mine", "other"))
    file = tmp_path / "keys" / "mine.key_secret"
    file.write_text(file.read_text().replace(mine.public, other.public))
    with pytest.raises(ServiceError, match="are no pair"):
        key_files.read_pair(file)


def test_a_server_key_is_read_from_a_small_file_only(tmp_path: Path) -> None:
    """To open a pipe would wait for a writer."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b"#" * 5000)
    for name in ("pipe", "large"):
        with pytest.raises(UsageError, match="it is no small file"):
            profiles.make("tcp://box:5757", server_key=str(tmp_path / name), key="any")


def test_a_list_of_keys_that_an_editor_gave_a_mark_is_read(tmp_path: Path) -> None:
    pair = key_files.make(tmp_path / "keys", "mine")
    known = AuthorisedKeys(tmp_path / "keys")
    known.add("mine", pair.public, Role.SUBMIT)
    file = tmp_path / "keys" / FILE
    file.write_bytes(codecs.BOM_UTF8 + file.read_bytes().replace(b"\n", b"\r\n"))
    found = known.find(pair.public)
    assert found is not None
    assert found[0] == "mine"
