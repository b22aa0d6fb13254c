"""The runner of pages notices what a page says wrongly."""

from __future__ import annotations

from pathlib import Path

import pytest

from pages.page import Clone, alike, blocks


def run(text: str, root: Path, *, soak: bool = False) -> None:
    Clone(root).run(blocks(text), soak=soak, seconds=240)


def test_blocks_share_one_shell_and_files_are_written(tmp_path: Path) -> None:
    run(
        "```yaml\n# a.yaml: one\nkey: 1\n```\n\n```sh\nword=$(tail -1 a.yaml)\nls zoo > list\n```\n"
        'and\n```sh\necho "$word"\n```\n```text\nkey: 2\n```\n',
        tmp_path,
    )
    assert (tmp_path / "alloyd" / "a.yaml").read_text() == "# a.yaml: one\nkey: 1\n"


@pytest.mark.parametrize(
    "text",
    [
        "```sh\nfalse\ntrue\n```\n",
        "```sh\nfalse | true\n```\n",
        "```sh status=3\nexit 2\n```\n",
        "```sh status=3\ntrue\n```\n",
        "```sh\necho one\n```\n```text\ntwo\n```\n",
        "```sh\necho one; echo two\n```\n```text\none\n```\n",
    ],
)
def test_a_page_that_is_wrong_fails(text: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="line"):
        run(text, tmp_path)


def test_statuses_and_blocks_that_are_not_for_now(tmp_path: Path) -> None:
    text = "```sh status=3\nfalse || exit 3\n```\n```sh skip\nfalse\n```\n```sh soak\nexit 1\n```\n"
    run(text, tmp_path)
    (tmp_path / "again").mkdir()
    with pytest.raises(AssertionError, match="line 7"):
        run(text, tmp_path / "again", soak=True)


def test_what_is_alike() -> None:
    assert alike("read  9.8 MB in 3 passes\n", "read 10.1 KB in 2 passes\n")
    assert alike("took 1 min 5 s\n", "took 45 s\n")
    assert alike("a\n...\nz\n", "a\nb\nc\nz\n")
    assert alike("job ... is done\n", "job merge-1 is done\n")
    assert not alike("read 9.8 MB\n", "wrote 9.8 MB\n")
    assert not alike("a\n...\nz\n", "a\nb\n")


def test_a_block_that_is_not_closed_is_told() -> None:
    with pytest.raises(AssertionError, match="not closed"):
        blocks("text\n```sh\ntrue\n")
