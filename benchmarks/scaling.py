"""What dmq's figures depend on: python benchmarks/scaling.py [PART]...

    nodes       nodes (1, 3, 5), partitions (1, 4, 16), clients (1, 16): processor time per message and node
    backlog     messages that wait (0, 1 million, 10 million): throughput stays within 20 %
    queues      1,000 queues in use at once beside one: within a factor of 2
    processes   `dmq send` and `dmq receive` as whole processes, beside others that are installed
    lines       `dmq send --lines` and `dmq receive --all` in MB/s, beside cat

One machine's cores are shared by all nodes here: look at the processor time, not at the wall clock.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from pathlib import Path
from threading import Thread

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import trio
from brokers import QUEUE, cpu_seconds, free_ports
from compiled_broker import Compiled
from trio_broker import ROOT, Dmq

import dmqnode

BODY = os.urandom(100)
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "none",
    "AWS_SECRET_ACCESS_KEY": "none",
    "AWS_DEFAULT_REGION": "eu-central-1",
    **os.environ,
    "PYTHONPATH": str(ROOT),
}


@contextmanager
def running(nodes: int = 3, partitions: int = 1, kind: type[Dmq] = Dmq) -> Iterator[Dmq]:
    """Run a cluster for as long as the block lasts."""
    with tempfile.TemporaryDirectory(prefix="dmq-scaling-") as directory:
        broker = kind(Path(directory), nodes, partitions)
        try:
            broker.start()
            yield broker
        finally:
            broker.stop()


def nodes(args: argparse.Namespace) -> None:
    """Throughput and processor time by nodes, partitions and clients."""
    print(
        f"\n{'nodes':>6}{'partitions':>12}{'clients':>9}{'stream/s':>12}{'drain/s':>12}"
        f"{'CPU µs per message and node':>30}"
    )
    for many, partitions, clients in product(args.nodes, (1, 4, 16), (1, args.clients)):
        with running(many, partitions, Compiled if args.compiled else Dmq) as broker:
            rates, used = [], []
            for _ in range(args.rounds):
                begun = cpu_seconds(broker.pids)
                rates.append(
                    (
                        broker.stream(args.messages, BODY, clients),
                        broker.drain(args.messages, clients),
                    )
                )
                used.append((cpu_seconds(broker.pids) - begun) / args.messages / many * 1e6)
            stream, drain = (statistics.median(rate) for rate in zip(*rates))
            cpu = statistics.median(used)
            figures = f"{stream:>12,.0f}{drain:>12,.0f}{cpu:>30.2f}"
            print(f"{many:>6}{partitions:>12}{clients:>9}{figures}", flush=True)


def backlog(args: argparse.Namespace) -> None:
    """Throughput by what waits."""
    print(
        f"\n{'waiting':>12}{'stream/s':>12}{'drain/s':>12}"
        f"{'CPU µs per message':>20}{'one by one, p50 ms':>20}"
    )
    with running() as broker:
        there = 0
        for wanted in (0, args.backlog // 10, args.backlog):
            broker.stream(wanted - there, BODY)
            there = wanted
            come_to_rest(broker)
            rates, used = [], []
            for _ in range(args.rounds):
                begun = cpu_seconds(broker.pids)
                rates.append((broker.stream(args.messages, BODY), broker.drain(args.messages)))
                used.append((cpu_seconds(broker.pids) - begun) / args.messages * 1e6)
            stream, drain = (statistics.median(rate) for rate in zip(*rates))
            cpu = statistics.median(used)
            _, taken = broker.singles(1, 1.0, BODY)
            there += len(taken) + 1
            one = statistics.median(taken) * 1e3
            print(f"{wanted:>12,}{stream:>12,.0f}{drain:>12,.0f}{cpu:>20.2f}{one:>20.2f}", flush=True)


def come_to_rest(broker: Dmq) -> None:
    """Wait until the nodes have put in order on disk what was sent, a minute at most."""
    for _ in range(60):
        begun = cpu_seconds(broker.pids)
        time.sleep(1)
        if cpu_seconds(broker.pids) - begun < 0.15:
            return


def queues(args: argparse.Namespace) -> None:
    """Many queues in use beside one."""
    with running(kind=Compiled if args.compiled else Dmq) as broker:
        names = [f"queue-{number}" for number in range(args.queues)]

        async def make(client: dmqnode.Client) -> None:
            limit = trio.CapacityLimiter(32)

            async def one(name: str) -> None:
                async with limit:
                    await client.create_queue(name)
                    await client.send(name, BODY)

            async with trio.open_nursery() as nursery:
                for name in names:
                    nursery.start_soon(one, name)

        async def send(client: dmqnode.Client, chosen: list[str]) -> float:
            left = iter(range(args.singles))
            begun = time.perf_counter()

            async def worker(at: int) -> None:
                for number in left:
                    await client.send(chosen[(at + number) % len(chosen)], BODY)

            async with trio.open_nursery() as nursery:
                for at in range(64):
                    nursery.start_soon(worker, at)
            return args.singles / (time.perf_counter() - begun)

        broker.run(make)
        print(f"\n{'queues in use':>14}{'64 at once, /s':>16}{'CPU µs per message':>20}")
        for chosen in ([QUEUE], names):
            rates, used = [], []
            for _ in range(args.rounds):
                begun = cpu_seconds(broker.pids)
                rates.append(broker.run(partial(send, chosen=chosen)))
                used.append((cpu_seconds(broker.pids) - begun) / args.singles * 1e6)
            median, cpu = statistics.median(rates), statistics.median(used)
            print(f"{len(chosen):>14,}{median:>16,.0f}{cpu:>20.1f}", flush=True)


def processes(args: argparse.Namespace) -> None:
    """Whole processes."""
    with running() as broker:
        dmq = [sys.executable, "-m", "cli.main", "--node", broker.addresses[0]]
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "dmq send": [*dmq, "send", QUEUE, "hello"],
            "dmq receive": [*dmq, "receive", QUEUE],
        }
        with ExitStack() as others:
            if shutil.which("redis-cli") and shutil.which("redis-server"):
                cli = ["redis-cli", "-p", others.enter_context(redis())]
                commands["redis-cli XADD"] = [*cli, "XADD", QUEUE, "*", "b", "hello"]
                commands["redis-cli XREAD"] = [*cli, "XREAD", "COUNT", "1", "STREAMS", QUEUE, "0"]
            if shutil.which("aws"):
                where = ["--endpoint-url", others.enter_context(sqs()), "--queue-url", f"http://sqs/{QUEUE}"]
                commands["aws sqs send-message"] = [
                    *("aws", "sqs", "send-message", "--message-body", "hello", *where)
                ]
                commands["aws sqs receive-message"] = ["aws", "sqs", "receive-message", *where]
            taken: dict[str, list[float]] = {name: [] for name in commands}
            for _ in range(4 * args.rounds):
                for name, command in commands.items():
                    begun = time.perf_counter()
                    subprocess.run(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, check=True)
                    taken[name].append(time.perf_counter() - begun)
        print(f"\n{'process':<24}{'median ms':>12}")
        for name, times in taken.items():
            print(f"{name:<24}{statistics.median(times) * 1e3:>12.1f}", flush=True)


@contextmanager
def redis() -> Iterator[str]:
    """Run one Redis server, which syncs every write; return its port."""
    (port,) = map(str, free_ports(1))
    directory = tempfile.TemporaryDirectory(prefix="dmq-scaling-")
    durable = ["--appendonly", "yes", "--appendfsync", "always", "--save", "", "--dir", directory.name]
    server = subprocess.Popen(
        ["redis-server", "--port", port, "--bind", "127.0.0.1", *durable], stdout=subprocess.DEVNULL
    )
    try:
        while subprocess.run(["redis-cli", "-p", port, "PING"], capture_output=True, check=False).returncode:
            time.sleep(0.05)
        yield port
    finally:
        server.terminate()
        server.wait()
        directory.cleanup()


class Stub(BaseHTTPRequestHandler):
    """Answers `aws sqs send-message` and `receive-message` at once."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        body = asked.get("MessageBody", "hello")
        digest = md5(body.encode(), usedforsecurity=False).hexdigest()
        found: dict[str, object] = {"MessageId": "1", "MD5OfMessageBody": digest}
        if "MessageBody" not in asked:
            found = {
                "Messages": [{"MessageId": "1", "ReceiptHandle": "1", "Body": body, "MD5OfBody": digest}]
            }
        answer = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-amz-json-1.0")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def sqs() -> Iterator[str]:
    """Run what answers `aws sqs` in the place of the service, which would take longer; return its URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Stub) as server:
        Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def lines(args: argparse.Namespace) -> None:
    """Lines through a pipe."""
    with running() as broker, tempfile.TemporaryDirectory() as place:
        dmq = [sys.executable, "-m", "cli.main", "--node", broker.addresses[0]]
        text = Path(place) / "lines"
        count = 5 * args.messages
        text.write_text(f"{'x' * 99}\n" * count)
        size = text.stat().st_size / 1e6
        print(f"\n{count:,} lines, {size:.0f} MB{'MB/s':>20}")
        commands = {
            "cat": ["cat"],
            "dmq send --lines": [*dmq, "send", QUEUE, "--lines", "--quiet"],
            "dmq receive --all": [*dmq, "receive", QUEUE, "--all", "--lines", "--quiet"],
        }
        rates: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(args.rounds):
            for name, command in commands.items():
                begun = time.perf_counter()
                with text.open("rb") as given, (Path(place) / "out").open("wb") as out:
                    subprocess.run(command, env=ENVIRONMENT, stdin=given, stdout=out, check=True)
                rates[name].append(size / (time.perf_counter() - begun))
        for name, found in rates.items():
            print(f"{name:<32}{statistics.median(found):>12.1f}", flush=True)


PARTS: dict[str, Callable[[argparse.Namespace], None]] = {
    "nodes": nodes,
    "backlog": backlog,
    "queues": queues,
    "processes": processes,
    "lines": lines,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="What dmq's figures depend on.")
    parser.add_argument("parts", nargs="*", help=f"some of: {', '.join(PARTS)} (all)")
    parser.add_argument("--rounds", type=int, default=5, help="of each; the median is told (5)")
    parser.add_argument("--messages", type=int, default=200_000, help="of each round (200000)")
    parser.add_argument("--singles", type=int, default=20_000, help="sent one by one (20000)")
    parser.add_argument("--backlog", type=int, default=10_000_000, help="messages that wait (10000000)")
    parser.add_argument("--queues", type=int, default=1000, help="in use at once (1000)")
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 3, 5], help="nodes: how many (1 3 5)")
    parser.add_argument("--clients", type=int, default=16, help="nodes: at once, beside a single one (16)")
    parser.add_argument("--compiled", action="store_true", help="nodes, queues: of dmq's path in C++ instead")
    args = parser.parse_args()
    if wrong := [part for part in args.parts if part not in PARTS]:
        parser.error(f"there is no {wrong[0]!r}; there are {', '.join(PARTS)}")
    for part in args.parts or PARTS:
        PARTS[part](args)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
