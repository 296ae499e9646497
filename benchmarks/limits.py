"""What this machine allows at most, of what a message needs: python benchmarks/limits.py [DIRECTORY]

    copy       one kilobyte copied in memory
    checksum   CRC-32 of one kilobyte
    encode     the head of a message to CBOR, and back
    turn       one turn of trio's loop, another task's step in it
    thread     a call given to a worker thread by trio, and its end back
    loopback   a small message to another process and one back, without trio
    write      LevelDB, a write of four small records that need not reach the disk
    sync       the same, on disk
    fdatasync  4 KiB appended to a file and synced
    path       one message from a client to a leader and two followers, each in a process, and the answer once
               two have it on disk: nothing but blocking sockets and LevelDB, as quick as any program is here

Medians, in microseconds.  `dmq-internals(7)` sets what a message takes beside them.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import cbor2
import plyvel
import trio
from fsync import fdatasync_seconds

ROUNDS = 2000
SMALL = bytes(100)


def median(act: Callable[[], object], rounds: int = ROUNDS, times: int = 1) -> float:
    """Return the seconds that `act` takes, called `times` times at once to be measured at all."""
    taken = []
    for _ in range(rounds):
        begun = time.perf_counter()
        for _ in range(times):
            act()
        taken.append((time.perf_counter() - begun) / times)
    return statistics.median(taken)


def copy() -> float:
    source = bytes(1 << 20)
    return median(lambda: bytearray(source), 200) / 1024


def checksum() -> float:
    source = bytes(1 << 20)
    return median(lambda: crc32(source), 200) / 1024


def encode() -> float:
    head = [17, 123456, "orders", bytes(16), 100, 90, None, False, 320]
    return median(lambda: cbor2.loads(cbor2.dumps(head)), times=10)


def turn() -> float:
    async def run() -> float:
        begun = time.perf_counter()
        for _ in range(10 * ROUNDS):
            await trio.lowlevel.checkpoint()
        return (time.perf_counter() - begun) / ROUNDS / 10

    return trio.run(run)


def thread() -> float:
    async def run() -> float:
        taken = []
        for _ in range(ROUNDS):
            begun = time.perf_counter()
            await trio.to_thread.run_sync(int)
            taken.append(time.perf_counter() - begun)
        return statistics.median(taken)

    return trio.run(run)


def loopback() -> float:
    with socket.create_server(("127.0.0.1", 0)) as server:
        if not os.fork():
            with server.accept()[0] as other:
                while data := other.recv(4096):
                    other.send(data)
            os._exit(0)
        with socket.create_connection(server.getsockname()) as ours:
            ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

            def there_and_back() -> None:
                ours.send(SMALL)
                ours.recv(4096)

            found = median(there_and_back)
        os.wait()
    return found


def write(directory: Path, *, sync: bool) -> float:
    with tempfile.TemporaryDirectory(dir=directory) as place:
        store = plyvel.DB(place, create_if_missing=True, write_buffer_size=16 << 20, compression=None)
        numbers = iter(range(1 << 30))

        def one() -> None:
            batch = store.write_batch(sync=sync)
            for _ in range(4):
                batch.put(b"%016d" % next(numbers), SMALL)
            batch.write()

        found = median(one)
        store.close()
    return found


def serve(listener: socket.socket, act: Callable[[socket.socket, bytes], None]) -> int:
    """Call `act` for whatever comes to `listener`'s one connection, in a process of its own; return that."""
    pid = os.fork()
    if pid:
        return pid
    with listener.accept()[0] as other:
        other.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while data := other.recv(4096):
            act(other, data)
    os._exit(0)


def path(directory: Path) -> float:
    def storing(name: str) -> Callable[[bytes], None]:
        store = plyvel.DB(f"{place}/{name}", create_if_missing=True, compression=None)
        numbers = iter(range(1 << 30))

        def write(data: bytes) -> None:
            with store.write_batch(sync=True) as batch:
                for _ in range(4):
                    batch.put(b"%016d" % next(numbers), data)

        return write

    def keep(data: bytes) -> None:
        if not keepers:
            keepers.append(storing(str(os.getpid())))
        keepers[0](data)

    def follow(other: socket.socket, data: bytes) -> None:
        keep(data)
        other.send(b"stored")

    def lead(other: socket.socket, data: bytes) -> None:
        if not links:
            links.extend(socket.create_connection(f.getsockname()) for f in followers)
        for link in links:
            link.send(data)
        keep(data)
        # The first that has it is enough, the other is heard before the next.
        links[0].recv(4096)
        other.send(b"answer")
        links[1].recv(4096)

    keepers: list[Callable[[bytes], None]] = []
    links: list[socket.socket] = []
    with tempfile.TemporaryDirectory(dir=directory) as place:
        followers = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        leader = socket.create_server(("127.0.0.1", 0))
        pids = [*(serve(one, follow) for one in followers), serve(leader, lead)]
        with socket.create_connection(leader.getsockname()) as ours:

            def send() -> None:
                ours.send(SMALL)
                ours.recv(4096)

            found = median(send)
        for pid in reversed(pids):
            os.waitpid(pid, 0)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="What this machine allows at most.")
    parser.add_argument("directory", nargs="?", default=tempfile.gettempdir(), type=Path)
    directory = parser.parse_args().directory
    measures: dict[str, Callable[[], float]] = {
        "copy": copy,
        "checksum": checksum,
        "encode": encode,
        "turn": turn,
        "thread": thread,
        "loopback": loopback,
        "write": lambda: write(directory, sync=False),
        "sync": lambda: write(directory, sync=True),
        "fdatasync": lambda: statistics.median(fdatasync_seconds(directory)),
        "path": lambda: path(directory),
    }
    for name, measure in measures.items():
        print(f"{name:10}{measure() * 1e6:10.2f} µs", flush=True)


if __name__ == "__main__":
    main()
