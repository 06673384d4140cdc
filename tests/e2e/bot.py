"""A bot that embeds the gateway, to be killed and run again. It prints nothing that is not true.

    python bot.py CONFIG CALLERS ORDERS

Each of the callers places its orders one after the other, under the same keys at every run. At the end it
waits until nothing is in doubt, and prints the order id of each key.
"""

from __future__ import annotations

import asyncio
import json
import sys

import tradegw
from tests.e2e.orders import an_order, is_settled
from tests.e2e.processes import until

SETTLE_S = 120.0


async def main(config: str, callers: int, orders: int) -> None:
    answers: dict[str, str] = {}
    async with tradegw.open(config) as gateway:

        async def call(number: int) -> None:
            for i in range(orders):
                key = f"k0-c{number}-o{i}"
                answers[key] = str((await gateway.place_order(**an_order(key))).order_id)

        async with asyncio.TaskGroup() as group:
            for number in range(callers):
                group.create_task(call(number))
        await until(lambda: is_settled(gateway), SETTLE_S, "nothing is in doubt")
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
