"""A small balancer for TCP: each connection goes to the next of several nodes that can be dialled."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

DIAL = 2.0
"""Seconds that a node has to take a connection."""
CHUNK = 1 << 16


class Balancer:
    """Serves at `address` until it is closed.

    Arguments:
        nodes: their addresses, with numbers for hosts.
    """

    def __init__(self, nodes: Sequence[str]) -> None:
        self._nodes = [(host, int(port)) for host, _, port in (node.rpartition(":") for node in nodes)]
        self._turn = 0
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._door = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._door.getsockname()[1]}"
        self._begin(self._accept)

    def close(self) -> None:
        """Take no more connections, and end those that there are."""
        _end(self._door)
        self._threads[0].join()
        for each in self._open:
            _end(each)
        for thread in self._threads:
            thread.join()
        for each in (self._door, *self._open):
            each.close()

    def _begin(self, work: object, *args: socket.socket) -> None:
        thread = threading.Thread(target=work, args=args)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._door.accept()
            except OSError:
                return
            self._open.append(client)
            node = self._dial()
            if node is None:
                _end(client)
                continue
            self._open.append(node)
            self._begin(_carry, client, node)
            self._begin(_carry, node, client)

    def _dial(self) -> socket.socket | None:
        """Return a connection to the next node that takes one."""
        for _ in self._nodes:
            self._turn += 1
            node = socket.socket()
            node.settimeout(DIAL)
            try:
                node.connect(self._nodes[self._turn % len(self._nodes)])
            except OSError:
                node.close()
                continue
            node.settimeout(None)
            return node
        return None


def _carry(source: socket.socket, target: socket.socket) -> None:
    """Hand on what comes, until either end is gone: then both are."""
    try:
        while data := source.recv(CHUNK):
            target.sendall(data)
    except OSError:
        pass
    _end(source)
    _end(target)


def _end(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


@contextmanager
def round_robin(nodes: Sequence[str]) -> Iterator[str]:
    """Stand before nodes; gives the one address."""
    balancer = Balancer(nodes)
    try:
        yield balancer.address
    finally:
        balancer.close()
