"""Appends orders and fills until it is killed, and prints each order that was stored. Run by a test.

Arguments: the store's file, and a number that keeps names apart from those of earlier runs.
"""

from __future__ import annotations

import asyncio
import sys
from itertools import count
from pathlib import Path

from conftest import Desk, StillClock, a_trade

from tradegw.store import open_sqlite


async def main(path: Path, run: str) -> None:
    store = open_sqlite(path, clock=StillClock())
    desk = await Desk.open(store)
    numbers = count()

    async def trade() -> None:
        for i in numbers:
            order = await desk.place(f"{run}-{i}")
            _tell(f"placed {order.order_id}")
            await desk.report(order, a_trade(order, "t1"))
            _tell(f"filled {order.order_id}")

    await asyncio.gather(*(trade() for _ in range(8)))


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
