"""What a client says of itself, and the chance that it takes from the system."""

from __future__ import annotations

import os
from collections.abc import Sequence

from dmqnode.addresses import DEFAULT_ADDRESS, Dialling
from dmqnode.asking import Asking
from dmqnode.checks import number, text
from dmqnode.connection import PROTOCOL_HIGHEST, PROTOCOL_LOWEST
from dmqnode.errors import UsageError, said_by_system
from dmqnode.leaders import Leaders
from dmqnode.link import Link
from dmqnode.messages import LEADS, Hello
from dmqnode.routes import Routes
from dmqnode.wire import MAX_FRAME

LONGEST_TIMEOUT = 86_400.0


def new_asking(
    addresses: Sequence[str],
    token: str | None,
    timeout: float,
    client_name: str | None,
    direct: bool = False,
) -> Asking:
    """Return the core of a new client; arguments as for `connect`.

    Errors: UsageError for what is not an address or a time.
    """
    if not 0 < number("timeout", timeout) <= LONGEST_TIMEOUT:
        raise UsageError(f"timeout is {timeout} s; it must be above 0 s and at most a day")
    if token is not None and not _is_text(token):
        # Which is not shown: it is a secret.
        raise UsageError("the token is not a text in UTF-8; set DMQ_TOKEN or give token= as the node has it")
    name = (
        text("client_name", client_name) if client_name else f"{_readable(os.uname().nodename)}:{os.getpid()}"
    )
    user = _readable(os.environ.get("USER", ""))
    can = [LEADS] if direct else []
    hello = Hello(PROTOCOL_LOWEST, PROTOCOL_HIGHEST, name, user, can, MAX_FRAME, token)
    link = Link(hello, Dialling(addresses or (DEFAULT_ADDRESS,), _chance))
    producer = os.urandom(16)
    routes = Routes(link, Leaders(producer) if direct else None, _chance, guarded=token is not None)
    return Asking(routes, producer, timeout, _chance)


def _is_text(token: object) -> bool:
    try:
        text("token", token)
    except UsageError:
        return False
    return True


def _readable(name: str) -> str:
    """Return what the system calls something, of which bytes that are not UTF-8 have become "?"."""
    return name.encode("utf-8", "replace").decode()


def _chance() -> float:
    # `random` would do, but importing it takes a one-shot command several milliseconds.
    return int.from_bytes(os.urandom(4), "big") / 2**32


def reason(error: OSError) -> str:
    """Return why a dial failed, to stand behind "no node is reachable at …: "."""
    if isinstance(error, TimeoutError):
        return "no answer to the dial"
    return (said_by_system(error) or type(error).__name__).lower()
