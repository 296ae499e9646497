"""What a client says of itself can be written; why a dial failed is said in the system's words."""

from __future__ import annotations

import errno
import os
import socket
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from dmqnode.connection import Connection
from dmqnode.errors import UsageError, system_error
from dmqnode.introduction import new_asking, reason
from dmqnode.messages import Hello, Welcome
from dmqnode.wire import MAX_FRAME


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


def hello(**given: object) -> Hello:
    """Return what a client says first, as a node reads it."""
    options: dict[str, Any] = {"addresses": (), "token": None, "timeout": 5.0, "client_name": None, **given}
    core = new_asking(**options)
    core.connected(0.0)
    greeted: list[Hello] = []

    def welcome(said: Hello) -> Welcome:
        greeted.append(said)
        return Welcome(1, "dmq", "n", [], MAX_FRAME, 1 << 20, 30.0)

    Connection.server(welcome, MAX_FRAME, 0.0).receive_data(0.0, core.data_to_send(0.0))
    return greeted[0]


def test_a_user_or_host_that_is_not_utf_8_is_no_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USER", "j\udcff")
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(nodename="h\udcfe"))
    said = hello(client_name=None)
    assert said.user == "j?"
    assert said.client == f"h?:{os.getpid()}"


@pytest.mark.parametrize("token", ["geheim\udcff", 5])
def test_a_token_that_cannot_be_written_is_refused_and_not_shown(token: object) -> None:
    with pytest.raises(UsageError, match="token is not a text") as refused:
        hello(token=token)
    assert "geheim" not in str(refused.value)
    assert hello(token="gehäim").token == "gehäim"


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"client_name": "\udcff"}, "client_name"),
        ({"client_name": 5}, "client_name"),
        ({"timeout": "5"}, "timeout"),
    ],
)
def test_options_that_cannot_be_are_named(given: dict[str, object], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        hello(**given)
