"""Who may use a node: a file of names and tokens."""

from __future__ import annotations

import hmac
from pathlib import Path

from dmqnode.errors import NotAuthorized, UsageError

SHORTEST = 8
"""Characters that a token must have."""


class Tokens:
    """The tokens that a node accepts.

    Arguments:
        names: token to the name of who shows it.
    """

    def __init__(self, names: dict[str, str]) -> None:
        self._names = names

    @classmethod
    def read(cls, path: Path) -> Tokens:
        """Read lines `name:token`; empty lines and those that begin with # do not count.

        Errors: UsageError, naming the line.
        """
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise UsageError(f"cannot read the tokens file {path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise UsageError(f"the tokens file {path} is not UTF-8 text; write lines name:token") from None
        names: dict[str, str] = {}
        for number, line in enumerate(map(str.strip, lines), 1):
            if not line or line.startswith("#"):
                continue
            name, _, token = line.partition(":")
            if not name or len(token) < SHORTEST:
                raise UsageError(
                    f"{path}, line {number}: write name:token, the token at least {SHORTEST} characters long"
                )
            if token in names:
                raise UsageError(f"{path}, line {number}: {names[token]} has this token; give each its own")
            names[token] = name
        if not names:
            raise UsageError(f"the tokens file {path} holds no token; nobody could use this node")
        return cls(names)

    @property
    def first(self) -> str:
        """The first token of the file: this node shows it to others, which have the same file."""
        return next(iter(self._names))

    def check(self, token: str | None) -> str:
        """Return the name of who shows `token`.

        Errors: NotAuthorized.
        """
        given = (token or "").encode()
        found = None
        for known, name in self._names.items():
            if hmac.compare_digest(known.encode(), given):
                found = name
        if found is None:
            what = "this token is not known here" if token else "this node asks for a token"
            raise NotAuthorized(f"{what}; set DMQ_TOKEN to one that its operator gave you")
        return found
