"""Where the home and its sockets lie, and who may own them."""

from __future__ import annotations

import os
import resource
import stat
from pathlib import Path

import pytest

from alloyd.errors import ServiceError
from alloyd.paths import (
    LONGEST_SOCKET_PATH,
    Home,
    endpoints,
    expanded,
    find_home,
    lock_holder,
    private_folder,
    runtime_folder,
    write_private,
)


def test_the_home_is_the_flag_then_the_variable_then_the_state_folder(tmp_path: Path) -> None:
    environ = {"ALLOYD_HOME": str(tmp_path / "b"), "XDG_STATE_HOME": str(tmp_path / "c")}
    assert find_home(str(tmp_path / "a"), environ).root == tmp_path / "a"
    assert find_home(None, environ).root == tmp_path / "b"
    del environ["ALLOYD_HOME"]
    assert find_home(None, environ).root == tmp_path / "c" / "alloyd"
    assert (
        find_home(None, {"XDG_STATE_HOME": "relative"}).root == Path.home().resolve() / ".local/state/alloyd"
    )


def test_two_names_of_one_home_are_one_home(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "home")
    assert find_home(str(tmp_path / "link")) == find_home(str(tmp_path / "home"))


def test_a_long_home_has_short_sockets(tmp_path: Path) -> None:
    home = Home(tmp_path / ("long" * 60))
    environ = {"XDG_RUNTIME_DIR": str(tmp_path)}
    for address in endpoints(home, environ=environ):
        assert address.startswith("ipc:///")
        assert len(address.removeprefix("ipc://")) <= LONGEST_SOCKET_PATH
    assert endpoints(home, environ=environ) != endpoints(Home(tmp_path / "other"), environ=environ)


def test_a_runtime_folder_that_would_make_paths_too_long_is_not_used(tmp_path: Path) -> None:
    long = tmp_path / ("d" * 100)
    long.mkdir()
    assert runtime_folder({"XDG_RUNTIME_DIR": str(long)}) == Path(f"/tmp/alloyd-{os.getuid()}")
    assert runtime_folder({"XDG_RUNTIME_DIR": "relative"}) == Path(f"/tmp/alloyd-{os.getuid()}")
    assert runtime_folder({"XDG_RUNTIME_DIR": "/nowhere"}) == Path(f"/tmp/alloyd-{os.getuid()}")


def test_an_endpoint_that_is_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="longer than 107 bytes"):
        endpoints(Home(tmp_path), "ipc:///" + "x" * 120)


def test_private_folders_are_private(tmp_path: Path) -> None:
    open_folder = tmp_path / "open"
    open_folder.mkdir(mode=0o755)
    for folder in (open_folder, tmp_path / "new" / "deep"):
        private_folder(folder, "it")
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_link_in_place_of_a_private_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ServiceError, match="is not a folder"):
        private_folder(tmp_path / "link", "the runtime folder")
    (tmp_path / "file").touch()
    with pytest.raises(ServiceError):
        private_folder(tmp_path / "file", "the runtime folder")


def test_the_folder_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: os.stat(tmp_path).st_uid + 1)
    with pytest.raises(ServiceError, match="belongs to user"):
        private_folder(tmp_path, "the home")


def test_nobody_holds_a_home_without_a_daemon(tmp_path: Path) -> None:
    assert lock_holder(Home(tmp_path)) is None
    (tmp_path / "daemon.lock").write_text("1234\n")
    assert lock_holder(Home(tmp_path)) is None


def test_a_leading_tilde_is_a_users_home_or_stays() -> None:
    assert expanded("~/models") == Path.home() / "models"
    for text in ("~nobody-is-called-so/x", "~a\0b", "a/~", "/x"):
        assert expanded(text) == Path(text)


def test_a_home_that_no_message_could_name_is_refused() -> None:
    assert find_home("/x/é\n🙂").root == Path("/x/é\n🙂")
    with pytest.raises(ServiceError, match="the home is not text in UTF-8"):
        find_home(os.fsdecode(b"/x/\xff"))


def test_a_private_file_is_the_old_one_or_the_new_one_whole(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    write_private(file, b"old", surely=True)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))  # as a full disk: it takes a part
    try:
        with pytest.raises(OSError, match="too large"):
            write_private(file, b"new" * 1000, surely=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert file.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["keys.json"]
    write_private(file, b"new" * 1000)
    assert file.read_bytes() == b"new" * 1000
    assert file.stat().st_mode & 0o777 == 0o600
