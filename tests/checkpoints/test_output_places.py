"""Where an output may go and what becomes of what is there: force, locks, full disks, mount points, rights."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from alloyd.errors import DiskFull, OutputError, OutputExists
from alloyd_daemon.checkpoints import place, staging
from alloyd_daemon.checkpoints.digest import PIECE
from alloyd_daemon.checkpoints.sink import already_published, check_output, discard_staging
from checkpoints import sink_driver
from checkpoints.sink_driver import IDENTITY, SIDE_FILES, expected, files, make, only, publish, write_all


@pytest.fixture
def final(tmp_path: Path) -> Path:
    return tmp_path / "models" / "merged"


def test_an_empty_folder_is_a_fine_output(final: Path) -> None:
    final.mkdir(parents=True)
    check_output(final, force=False)
    publish(final)
    assert files(final) == expected()
    assert only(final)


def test_a_link_to_another_disk_is_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere" / "merged"
    elsewhere.mkdir(parents=True)
    link = tmp_path / "link"
    link.symlink_to(elsewhere)
    publish(link)
    assert link.is_symlink()
    assert files(elsewhere) == expected()


OLD = {"config.json": b"{}", "model.safetensors": b"old"}


def put(folder: Path, these: dict[str, bytes]) -> None:
    for name, data in these.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def test_what_exists_is_not_touched_without_force(final: Path) -> None:
    put(final, OLD)
    for attempt in (lambda: check_output(final, force=False), lambda: make(final).open()):
        with pytest.raises(OutputExists, match="exists and is not empty") as caught:
            attempt()
        assert "--force" in caught.value.hint
    assert files(final) == OLD
    assert only(final)


def test_force_replaces_a_model(final: Path) -> None:
    put(final, OLD | {"old.jinja": b"x", ".cache/huggingface/x": b"y"})
    publish(final, force=True)
    assert files(final) == expected()
    assert only(final)


@pytest.mark.parametrize(
    ("there", "words"),
    [
        ({"thesis.txt": b"x"}, "does not hold a model"),
        (OLD | {"datasets/important.csv": b"x"}, "holds the folder 'datasets'"),
        (OLD | {".git/HEAD": b"x"}, r"holds the folder '\.git'"),
        (OLD | {"thesis.docx": b"x"}, r"holds 'thesis\.docx', which is no part of a model"),
    ],
)
def test_force_destroys_nothing_but_a_model(final: Path, there: dict[str, bytes], words: str) -> None:
    put(final, there)
    for attempt in (lambda: check_output(final, force=True), lambda: make(final, force=True).open()):
        with pytest.raises(OutputExists, match=words):
            attempt()
    assert files(final) == there


def test_force_replaces_what_a_model_comes_with(final: Path) -> None:
    put(final, OLD | dict.fromkeys((".gitattributes", "LICENSE", "README.md", "loss.png", "vocab.txt"), b"x"))
    publish(final, force=True)
    assert files(final) == expected()


def test_a_name_without_room_for_its_staging_is_refused(final: Path) -> None:
    with pytest.raises(OutputError, match="5 bytes too long") as caught:
        check_output(final.with_name("n" * 250), force=False)
    assert caught.value.hint


def test_a_file_is_no_output(final: Path) -> None:
    put(final.parent, {"merged": b"x"})
    with pytest.raises(OutputExists, match="is a file"):
        check_output(final, force=True)
    with pytest.raises(OutputError, match="is not a folder"):
        check_output(final / "below", force=True)
    with pytest.raises(OutputError, match="cannot be an output"):
        check_output(Path("/"), force=True)


def test_checking_creates_nothing(final: Path) -> None:
    check_output(final, force=False)
    check_output(final, force=True)
    assert not already_published(final, IDENTITY)
    discard_staging(final)
    assert not final.parent.exists()


def test_something_that_came_meanwhile_is_not_overwritten(final: Path) -> None:
    sink = make(final)
    write_all(sink, sink.open())
    put(final, OLD)
    with pytest.raises(OutputExists):
        sink.publish(SIDE_FILES)
    sink.close()
    assert files(final) == OLD
    assert not already_published(final, IDENTITY)
    with pytest.raises(OutputExists):
        make(final).open()
    assert files(final) == OLD

    with pytest.raises(OutputExists) as caught:
        make(final, force=True).open()
    assert caught.value.facts["published"]
    assert files(final) == expected()
    assert only(final)


def test_the_same_output_twice_is_known(final: Path) -> None:
    publish(final)
    assert already_published(final, IDENTITY)
    assert not already_published(final, "another recipe")
    with pytest.raises(OutputExists) as caught:
        make(final, force=True).open()
    assert caught.value.facts["published"]
    (final / "config.json").write_bytes(b"edited")
    assert not already_published(final, IDENTITY)


def test_a_file_system_without_attributes(final: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "not supported")

    monkeypatch.setattr(os, "setxattr", refuse)
    publish(final)
    assert files(final) == expected()
    assert not already_published(final, IDENTITY)


def test_discarding_after_the_seal_leaves_nothing(final: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(final, OLD)
    sink = make(final, force=True)
    write_all(sink, sink.open())

    def die(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(staging, "finish", die)
    with pytest.raises(RuntimeError):
        sink.publish(SIDE_FILES)
    sink.close()
    monkeypatch.undo()
    discard_staging(final)
    assert files(final) == OLD
    assert only(final)


def test_discarding_from_a_mount_point_takes_back_what_was_moved(
    final: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    final.mkdir(parents=True)
    monkeypatch.setattr(place, "is_mount_point", lambda path: path == final)
    sink = make(final)
    write_all(sink, sink.open())
    real, moved = os.rename, []

    def rename(one: Path, other: Path) -> None:
        if len(moved) == 2:
            raise RuntimeError
        real(one, other)
        if Path(other).parent == final:
            moved.append(other)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", rename)
        with pytest.raises(RuntimeError):
            sink.publish(SIDE_FILES)
    sink.close()
    assert len(list(final.glob("*.safetensors"))) == 2
    discard_staging(final)
    assert list(final.iterdir()) == []


def test_a_second_process_waits_and_then_gives_up(final: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    final.parent.mkdir(parents=True)
    monkeypatch.setattr(staging, "LOCK_WAIT", 0.2)
    monkeypatch.setattr(staging.acquire, "__defaults__", (0.2,))
    program = (
        "import sys, time, pathlib\n"
        "from checkpoints.sink_driver import *\n"
        "sink = StagedSink(pathlib.Path(sys.argv[1]), layout(), identity=IDENTITY, force=False)\n"
        "sink.open()\n"
        "print('open', flush=True)\n"
        "sys.stdin.read()\n"
        "sink.close()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(final)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        for attempt in (
            lambda: make(final).open(),
            lambda: already_published(final, IDENTITY),
            lambda: discard_staging(final),
        ):
            with pytest.raises(OutputError, match="another process is writing"):
                attempt()
    finally:
        holder.communicate(b"")
    publish(final)
    assert files(final) == expected()


def test_two_who_wait_for_one_output_do_not_hurt_each_other(final: Path) -> None:
    """Both want to publish; whoever is second finds it published."""
    results: list[str] = []

    def job() -> None:
        try:
            sink_driver.run(final, force=False)
            results.append("done")
        except OutputExists as error:
            results.append("published" if error.facts.get("published") else "exists")

    threads = [threading.Thread(target=job) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert set(results) <= {"done", "published"}
    assert "done" in results
    assert files(final) == expected()
    assert only(final)


@contextlib.contextmanager
def mounted(folder: Path, size: str) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    program = shutil.which("mount")
    done = (
        subprocess.run(
            [program, "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True
        )
        if program
        else None
    )
    if done is None or done.returncode:
        pytest.skip("mounting a tmpfs is not permitted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_known_before_work(final: Path) -> None:
    with mounted(final.parent, "6m"):
        with pytest.raises(DiskFull, match=r"needs .* bytes") as caught:
            make(final).open()
        assert int(caught.value.facts["need"] or 0) > int(caught.value.facts["free"] or 0)
        assert os.listdir(final.parent) == []


def test_a_disk_that_is_filled_by_others_meanwhile(final: Path) -> None:
    """The shards' room is reserved, so only side files can fail; what was done stays and publishing works later."""
    with mounted(final.parent, "16m"):
        sink = make(final)
        write_all(sink, sink.open())
        room = os.statvfs(final.parent)
        (final.parent / "others").write_bytes(bytes(room.f_bavail * room.f_frsize))
        with pytest.raises(DiskFull, match="no room left") as caught:
            sink.publish(SIDE_FILES | {"tokenizer.json": bytes(PIECE)})
        assert caught.value.retryable
        sink.close()
        assert not final.exists()
        (final.parent / "others").unlink()
        again = make(final)
        assert write_all(again, again.open()) == 0
        again.publish(SIDE_FILES)
        again.close()
        assert files(final) == expected()


@pytest.mark.parametrize("force", [False, True])
def test_a_real_mount_point(final: Path, force: bool) -> None:
    with mounted(final, "64m"):
        if force:
            put(final, OLD | {"old-model.safetensors": b"x"})
        sink = make(final, force=force)
        assert sink.place.inside
        write_all(sink, sink.open())
        sink.close()
        assert (final / "config.json").exists() == force
        publish(final, force=force)
        assert files(final) == expected()
        assert already_published(final, IDENTITY) or not hasattr(os, "setxattr")
        assert only(final)


def test_a_bind_mount_of_the_same_disk_is_a_mount_point(tmp_path: Path) -> None:
    source, final = tmp_path / "source", tmp_path / "models" / "merged"
    source.mkdir()
    final.mkdir(parents=True)
    if subprocess.run(["mount", "--bind", str(source), str(final)], capture_output=True).returncode:
        pytest.skip("bind mounts are not permitted here")
    try:
        assert not os.path.ismount(final)
        publish(final)
    finally:
        subprocess.run(["umount", "-l", str(final)], check=True)
    assert files(source) == expected()


def test_a_read_only_disk(final: Path) -> None:
    with mounted(final.parent, "6m"):
        subprocess.run(["mount", "-o", "remount,ro", str(final.parent)], check=True)
        for attempt in (lambda: check_output(final, force=False), lambda: make(final).open()):
            with pytest.raises(OutputError, match="cannot be written") as caught:
                attempt()
            assert caught.value.hint


def test_a_folder_without_rights(final: Path) -> None:
    """As a user without root's powers: a parent that cannot be written, with and without a writable folder in it."""
    final.mkdir(parents=True)
    program = (
        "import os, sys, pathlib\n"
        "from checkpoints.sink_driver import *\n"
        "from alloyd.errors import OutputError\n"
        "from alloyd_daemon.checkpoints.sink import check_output\n"
        "final = pathlib.Path(sys.argv[1])\n"
        "if os.geteuid() == 0: os.setegid(65534); os.seteuid(65534)\n"
        "try: check_output(final.parent / 'other', False)\n"
        "except OutputError as error: print(error.code, error.message)\n"
        "run(final, force=False)\n"
    )
    final.parent.chmod(0o555)
    final.chmod(0o777)
    for parent in final.parents:
        if (
            parent.stat().st_uid == os.geteuid()
            and parent != final.parent
            and parent.stat().st_mode & 0o077 == 0
        ):
            parent.chmod(parent.stat().st_mode | 0o055)
    try:
        done = subprocess.run(
            [sys.executable, "-c", program, str(final)],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
        )
    finally:
        final.parent.chmod(0o755)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("E_OUTPUT ")
    assert "cannot be written" in done.stdout
    assert files(final) == expected()
    assert not [name for name in os.listdir(final) if name.startswith(".")]
