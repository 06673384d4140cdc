"""Trades a little on dYdX's public testnet: place, status, cancel, fill, positions, close.

Exit codes: 0 all of it happened; 77 nobody could be reached, so nothing is known; 1 something is wrong.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from decimal import Decimal

import tradegw
from tradegw import Order, OrdStatus

SYMBOL = "ETH/USD:USDC"
NOT_RUN = 77
PATIENCE_S = 60.0


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def until_closed(gateway: tradegw.Gateway, order: Order) -> Order:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            order = await gateway.get_order(order.order_id)
            if not order.is_open:
                return order
            await asyncio.sleep(0.2)


async def main(directory: str) -> int:
    config = {
        "store": {"url": f"sqlite:///{directory}/testnet.db"},
        "venues": {"dydx": {"plugin": "dydx", "network": "testnet"}},
        "accounts": {"perp": {"venue": "dydx", "mnemonic": "env:TRADEGW_DYDX_TESTNET_MNEMONIC"}},
    }
    async with tradegw.open(config, ready_timeout_s=PATIENCE_S) as gateway:
        [venue] = await gateway.list_venues()
        [account] = venue.accounts
        if account.state != "READY":
            say(f"not run: {account.why}")
            return NOT_RUN
        [market] = [i for i in await gateway.list_instruments("dydx") if i.symbol == SYMBOL]
        resting = await gateway.place_order(
            account="perp",
            symbol=SYMBOL,
            side="BUY",
            ord_type="LIMIT",
            order_qty=market.step_size,
            price=market.tick_size * 1000,
            post_only=True,
        )
        say(f"placed: {resting.ord_status} {resting.reason}")
        assert resting.ord_status is OrdStatus.NEW, resting
        await gateway.cancel_order(resting.order_id)
        cancelled = await until_closed(gateway, resting)
        say(f"cancelled: {cancelled.ord_status}")
        assert cancelled.ord_status is OrdStatus.CANCELED, cancelled
        bought = await until_closed(
            gateway,
            await gateway.place_order(
                account="perp",
                symbol=SYMBOL,
                side="BUY",
                ord_type="MARKET",
                order_qty=market.step_size,
                time_in_force="IOC",
            ),
        )
        say(f"bought: {bought.ord_status} {bought.cum_qty} at {bought.avg_px}")
        assert bought.cum_qty > Decimal(0), bought
        positions = await gateway.list_positions("perp")
        say(f"positions: {[(p.symbol, str(p.qty)) for p in positions]}")
        closing = await gateway.close_position("perp", SYMBOL, idempotency_key="testnet-close")
        assert closing is not None
        closed = await until_closed(gateway, closing)
        again = await gateway.close_position("perp", SYMBOL, idempotency_key="testnet-close")
        say(f"closed: {closed.ord_status} {closed.cum_qty}")
        assert again is not None
        assert again.order_id == closing.order_id
    return 0


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        raise SystemExit(asyncio.run(main(scratch)))
