"""The file of tokens, and what is wrong with one that is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from dmqnode.errors import NotAuthorized, UsageError
from dmqnode.tokens import Tokens


def read(tmp_path: Path, text: str) -> Tokens:
    path = tmp_path / "tokens"
    path.write_text(text, encoding="utf-8")
    return Tokens.read(path)


def test_whoever_shows_a_known_token_has_its_name(tmp_path: Path) -> None:
    tokens = read(tmp_path, "# who may\n\nann:abcdefgh\n  bob:with:colon \n")
    assert tokens.check("abcdefgh") == "ann"
    assert tokens.check("with:colon") == "bob"


@pytest.mark.parametrize("shown", [None, "", "abcdefg", "abcdefghi", "ann", "ann:abcdefgh", "ü" * 8])
def test_whoever_does_not_is_refused(tmp_path: Path, shown: str | None) -> None:
    with pytest.raises(NotAuthorized, match="DMQ_TOKEN"):
        read(tmp_path, "ann:abcdefgh\n").check(shown)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("ann\n", "line 1: write name:token"),
        ("\n:abcdefgh\n", "line 2: write name:token"),
        ("ann:short\n", "at least 8 characters"),
        ("ann:abcdefgh\nbob:abcdefgh\n", "line 2: ann has this token"),
        ("# nobody\n", "holds no token"),
    ],
)
def test_a_wrong_file_is_explained(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        read(tmp_path, text)


def test_a_file_that_cannot_be_read_is_explained(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"No such file or directory$"):
        Tokens.read(tmp_path / "missing")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="not UTF-8"):
        Tokens.read(tmp_path / "binary")
