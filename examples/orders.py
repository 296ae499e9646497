"""A shop and its packers: python examples/orders.py [HOST:PORT]

The shop sends orders while two packers take them. An order that cannot be packed is given back, tried again,
and after its third attempt moved to a queue of its own, where somebody can look at it. Needs a node, as from:
dmq node start
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import trio

import dmqnode

ORDERS = 200
BROKEN = 13
"""The number of an order that nobody can pack."""


def orders() -> Iterator[bytes]:
    """Make the orders as they come in."""
    for number in range(ORDERS):
        yield json.dumps({"number": number, "items": number % 5 + 1}).encode()


async def shop(client: dmqnode.Client) -> None:
    """Send every order; what is sent is on disk when the call returns."""
    for order in orders():
        await client.send("orders", order, attributes={"shop": "main street"})


async def packer(client: dmqnode.Client, packed: set[int], done: trio.Event) -> None:
    """Pack orders for ever.  An order stays hidden from others while it is held, however long that is."""
    async with client.consume("orders", prefetch=10) as stream:
        async for message in stream:
            order = json.loads(message.body)
            if order["number"] == BROKEN:
                # Given back at once; a real packer would give a delay.
                await message.nack()
                continue
            await trio.sleep(0.001 * order["items"])
            await message.ack()
            packed.add(order["number"])
            if len(packed) == ORDERS - 1:
                done.set()


async def main(address: str) -> None:
    """Run the shop until all is packed, then look at what could not be."""
    packed: set[int] = set()
    done = trio.Event()
    async with dmqnode.connect(address) as client:
        await client.create_queue("orders-dead", if_not_exists=True)
        await client.create_queue("orders", max_attempts=3, dead_letter="orders-dead", if_not_exists=True)
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(packer, client, packed, done)
            await shop(client)
            await done.wait()
            dead = await client.receive("orders-dead", wait=10)
            nursery.cancel_scope.cancel()
        print(f"{len(packed)} orders packed")
        for message in dead:
            print(f"not packed: {message.body.decode()}")
            for name, value in sorted(message.attributes.items()):
                print(f"  {name}: {value}")
            await message.ack()


if __name__ == "__main__":
    try:
        trio.run(main, sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:7367")
    except dmqnode.DMQError as error:
        sys.exit(f"orders: {error}")
