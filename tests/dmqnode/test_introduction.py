"""Why a dial failed is said in the system's words."""

from __future__ import annotations

import errno
import socket

import pytest
import trio

from dmqnode.errors import system_error
from dmqnode.introduction import reason


async def test_what_is_behind_trios_own_error_is_said() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(OSError, match="all attempts") as caught:
            await trio.open_tcp_stream("127.0.0.1", unused.getsockname()[1])
    assert system_error(caught.value).errno == errno.ECONNREFUSED
    assert reason(caught.value) == "connection refused"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (TimeoutError(), "no answer to the dial"),
        (ConnectionResetError(104, "Connection reset by peer"), "connection reset by peer"),
        (OSError("Something else"), "something else"),
        (OSError(), "oserror"),
    ],
)
def test_other_errors_speak_for_themselves(error: OSError, said: str) -> None:
    assert reason(error) == said
