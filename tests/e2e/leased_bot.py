"""A bot with a lease, to be killed or frozen.

    python leased_bot.py TARGET LEASE_S ORDERS

It places orders that rest, in a session that cancels them when it ends; prints their ids as one line of JSON;
and then only shows that it lives.
"""

from __future__ import annotations

import asyncio
import json
import sys

import tradegw


async def main(target: str, lease_s: float, orders: int) -> None:
    async with (
        tradegw.connect(target) as gateway,
        gateway.session(cancel_on_disconnect=True, lease_s=lease_s) as session,
    ):
        placed = [
            await session.place_order(
                account="paper",
                symbol="BTC/USDT",
                side="buy",
                ord_type="limit",
                order_qty="0.001",
                price=str(30000 + number),
            )
            for number in range(orders)
        ]
        sys.stdout.write(json.dumps([str(order.order_id) for order in placed]) + "\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3])))
