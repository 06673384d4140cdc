"""A bot that embeds the gateway, and whose orders do not rest. To be killed and run again.

    python restless_bot.py CONFIG CALLERS ORDERS [leave]

Each caller takes its keys one after the other, the same at every run: places, replaces, cancels. Then the
bot waits until nothing is in doubt, and prints the order id of each key. With `leave` it goes amid all that.
"""

from __future__ import annotations

import asyncio
import json
import sys

import tradegw
from tests.e2e.orders import is_settled, take_a_turn
from tests.e2e.processes import until

SETTLE_S = 120.0


async def main(config: str, callers: int, orders: int, *, leaves: bool) -> None:
    answers: dict[str, str] = {}
    async with tradegw.open(config, ready_timeout_s=SETTLE_S) as gateway:

        async def call(number: int) -> None:
            for i in range(orders):
                key = f"k0-c{number}-o{i}"
                answers[key] = str((await take_a_turn(gateway, key)).order_id)

        tasks = [asyncio.create_task(call(number)) for number in range(callers)]
        if leaves:
            await until(lambda: _some(answers), SETTLE_S, "some are answered", every_s=0)
            for task in tasks:
                # Only the waiting ends: what was asked goes on until the gateway is left.
                task.cancel()
            return
        await asyncio.gather(*tasks)
        await until(lambda: is_settled(gateway), SETTLE_S, "nothing is in doubt")
    json.dump(answers, sys.stdout)


async def _some(answers: dict[str, str]) -> bool:
    return bool(answers)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), leaves=len(sys.argv) > 4))
