"""What the official client does against a local chain. Runs in the client's own environment.

    python trade.py '{"grpc": [...], ...}'     # the local chain's first line

Prints one JSON object of what it saw. Nothing of the client is changed; `/admin/step` makes the blocks.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import urllib.request
from decimal import Decimal

from dydx_v4_client import MAX_CLIENT_ID, OrderFlags
from dydx_v4_client.indexer.rest.constants import OrderType
from dydx_v4_client.indexer.rest.indexer_client import IndexerClient
from dydx_v4_client.indexer.socket.websocket import IndexerSocket
from dydx_v4_client.network import make_local
from dydx_v4_client.node.authenticators import Authenticator, AuthenticatorType
from dydx_v4_client.node.builder import TxOptions
from dydx_v4_client.node.client import NodeClient
from dydx_v4_client.node.market import Market, since_now
from dydx_v4_client.wallet import Wallet
from google.protobuf.json_format import MessageToDict
from v4_proto.dydxprotocol.clob.order_pb2 import Order
from v4_proto.dydxprotocol.clob.tx_pb2 import OrderBatch
from v4_proto.dydxprotocol.subaccounts.subaccount_pb2 import SubaccountId

SERVING = json.loads(sys.argv[1])


async def step(blocks: int = 1) -> None:
    def post() -> None:
        request = urllib.request.Request(
            f"{SERVING['indexer_rest']}/admin/step",
            data=json.dumps({"blocks": blocks}).encode(),
            method="POST",
        )
        urllib.request.urlopen(request, timeout=60).read()

    await asyncio.to_thread(post)


class Stream:
    """The client's socket in a thread of its own, because its `connect` blocks."""

    def __init__(self, address: str) -> None:
        self.messages: list[dict] = []
        self._changed = threading.Condition()
        self._address = address
        self._socket = IndexerSocket(SERVING["indexer_ws"], on_message=self._on_message)
        self._thread = threading.Thread(target=lambda: asyncio.run(self._socket.connect()))
        self._thread.start()

    def _on_message(self, socket, message) -> None:
        if message["type"] == "connected":
            socket.subaccounts.subscribe(self._address, 0)
            socket.order_book.subscribe("BTC-USD")
            socket.markets.subscribe()
            socket.trades.subscribe("BTC-USD")
        with self._changed:
            self.messages.append(message)
            self._changed.notify_all()

    def wait(self, fits) -> dict:
        def found():
            return next((m for m in self.messages if fits(m)), None)

        with self._changed:
            assert self._changed.wait_for(found, 60), self.messages
            return found()

    def close(self) -> None:
        self._socket.close()
        self._thread.join(60)


def code(response) -> int:
    return response.tx_response.code


async def main() -> dict:
    seen: dict = {}
    account = SERVING["accounts"][0]
    address = account["address"]
    config = make_local(
        node_url=SERVING["grpc"][0],
        rest_indexer=SERVING["indexer_rest"],
        websocket_indexer=SERVING["indexer_ws"],
    )
    node = await NodeClient.connect(config.node)
    indexer = IndexerClient(config.rest_indexer)
    wallet = await Wallet.from_mnemonic(node, account["mnemonic"], address)
    seen["account_number"] = wallet.account_number
    seen["address"] = wallet.address
    stream = Stream(address)
    try:
        stream.wait(lambda m: m["type"] == "subscribed" and m["channel"] == "v4_subaccounts")
        markets = await indexer.markets.get_perpetual_markets("BTC-USD")
        market = Market(markets["markets"]["BTC-USD"])

        async def place(client_id: int, side, size, price, **more):
            order_id = market.order_id(
                address, 0, client_id, more.pop("flags", OrderFlags.SHORT_TERM)
            )
            height = await node.latest_block_height()
            if "good_til_block_time" not in more:
                more.setdefault("good_til_block", height + 10)
            order = market.order(
                order_id=order_id,
                order_type=OrderType.LIMIT,
                side=side,
                size=Decimal(size),
                price=price,
                time_in_force=more.pop("time_in_force", Order.TIME_IN_FORCE_UNSPECIFIED),
                reduce_only=False,
                **more,
            )
            return order_id, order, await node.place_order(wallet, order, more.get("tx_options"))

        # Short-term: place, see it, cancel it.
        order_id, order, placed = await place(1, Order.SIDE_BUY, "0.01", 80000)
        seen["place"] = code(placed)
        shown = await indexer.account.get_subaccount_orders(address, 0)
        seen["orders"] = [(o["clientId"], o["status"]) for o in shown]
        cancelled = await node.cancel_order(wallet, order_id, good_til_block=order.good_til_block)
        seen["cancel"] = code(cancelled)
        stream.wait(
            lambda m: any(
                o.get("removalReason") == "ORDER_REMOVAL_REASON_USER_CANCELED"
                for o in (m.get("contents") or {}).get("orders", [])
                if m["type"] == "channel_data"
            )
        )
        # A taker.
        _, _, taken = await place(
            2, Order.SIDE_BUY, "0.01", 95000, time_in_force=Order.TIME_IN_FORCE_IOC
        )
        seen["take"] = code(taken)
        await step()
        fills = (await indexer.account.get_subaccount_fills(address, 0, "BTC-USD"))["fills"]
        seen["fills"] = [(f["side"], f["size"], f["liquidity"]) for f in fills]
        positions = await indexer.account.get_subaccount_perpetual_positions(address, 0)
        seen["positions"] = [(p["market"], p["side"], p["size"]) for p in positions["positions"]]
        streamed = stream.wait(
            lambda m: m["type"] == "channel_data" and "fills" in m.get("contents", {})
        )
        seen["streamed"] = [f["size"] for f in streamed["contents"]["fills"]]
        on_chain = await node.get_subaccount(address, 0)
        seen["perpetuals_on_chain"] = len(on_chain.perpetual_positions)
        # Batch cancel.
        batch = [await place(client_id, Order.SIDE_SELL, "0.01", 99000) for client_id in (3, 4)]
        seen["batch_places"] = [code(placed) for _, _, placed in batch]
        gtb = max(order.good_til_block for _, order, _ in batch)
        batched = await node.batch_cancel_orders(
            wallet,
            SubaccountId(owner=address, number=0),
            [OrderBatch(clob_pair_id=0, client_ids=[3, 4])],
            gtb,
        )
        seen["batch_cancel"] = code(batched)
        left = await indexer.account.get_subaccount_orders(address, 0)
        seen["left_after_batch"] = [
            o["clientId"] for o in left if o["status"] == "BEST_EFFORT_OPENED"
        ]
        # Long-term: a transaction, a block, a look at it, and its cancel.
        flags = OrderFlags.LONG_TERM
        long_id, long_order, placed = await place(
            5,
            Order.SIDE_SELL,
            "0.02",
            99000,
            flags=flags,
            good_til_block_time=since_now(seconds=600),
        )
        seen["long_term"] = code(placed)
        await step()
        tx = await node.query_transaction(placed.tx_response.txhash)
        seen["tx_messages"] = [m.type_url for m in tx.body.messages]
        shown = await indexer.account.get_subaccount_orders(address, 0)
        seen["long_term_status"] = [o["status"] for o in shown if o["clientId"] == "5"]
        cancelled = await node.cancel_order(
            wallet, long_id, good_til_block_time=long_order.good_til_block_time
        )
        seen["cancel_long_term"] = code(cancelled)
        await step()
        shown = await indexer.account.get_subaccount_orders(address, 0)
        seen["long_term_after"] = [o["status"] for o in shown if o["clientId"] == "5"]
        # Funds, with gas by simulation.
        moved = await node.deposit(
            wallet, address, SubaccountId(owner=address, number=1), 0, 5_000_000
        )
        seen["deposit"] = code(moved)
        await step()
        second = await indexer.account.get_subaccount(address, 1)
        seen["second_subaccount"] = second["subaccount"]["equity"]
        moved = await node.transfer(
            wallet,
            SubaccountId(owner=address, number=1),
            SubaccountId(owner=address, number=0),
            0,
            2_000_000,
        )
        seen["transfer"] = code(moved)
        await step()
        # Another key, with leave to trade this account.
        other = SERVING["accounts"][2]
        trader = await Wallet.from_mnemonic(node, other["mnemonic"], other["address"])
        leave = Authenticator.compose(
            AuthenticatorType.AllOf,
            [
                Authenticator.signature_verification(trader.public_key.key),
                Authenticator.message_filter("/dydxprotocol.clob.MsgPlaceOrder"),
            ],
        )
        seen["add_authenticator"] = code(await node.add_authenticator(wallet, leave))
        await step()
        known = (await node.get_authenticators(address)).account_authenticators
        options = TxOptions([known[-1].id], 0, wallet.account_number)
        height = await node.latest_block_height()
        order = market.order(
            market.order_id(address, 0, 6, OrderFlags.SHORT_TERM),
            OrderType.LIMIT,
            Order.SIDE_BUY,
            Decimal("0.01"),
            80000,
            Order.TIME_IN_FORCE_UNSPECIFIED,
            False,
            good_til_block=height + 5,
        )
        seen["permissioned_place"] = code(await node.place_order(trader, order, options))
        refused = await node.cancel_order(
            trader, order.order_id, good_til_block=height + 5, tx_options=options
        )
        seen["permissioned_cancel"] = (refused.tx_response.codespace, code(refused))
        # Queries.
        seen["pairs"] = len((await node.get_clob_pairs()).clob_pair)
        seen["pair"] = (await node.get_clob_pair(5)).step_base_quantums
        seen["prices"] = len((await node.get_prices()).market_prices)
        seen["price"] = (await node.get_price(0)).exponent
        seen["perpetuals"] = [p.params.ticker for p in (await node.get_perpetuals()).perpetual]
        fees = (await node.get_fee_tiers()).params.tiers
        seen["fees"] = [(t.maker_fee_ppm, t.taker_fee_ppm) for t in fees]
        seen["my_fee_tier"] = (await node.get_user_fee_tier(address)).tier.name
        coins = (await node.get_account_balances(address)).balances
        seen["coins"] = sorted(c.denom[:4] for c in coins)
        one = await node.get_account_balance(address, config.node.usdc_denom)
        seen["coin"] = [c.amount for c in coins if c.denom.startswith("ibc")] == [
            one.balance.amount
        ]
        seen["all_subaccounts"] = len((await node.get_subaccounts()).subaccount)
        tiers = MessageToDict(await node.get_equity_tier_limit_config())
        seen["tiers"] = len(tiers["statefulOrderEquityTiers"])
        seen["height"] = (await indexer.utility.get_height())["height"]
        seen["time"] = sorted(await indexer.utility.get_time())
        book = await indexer.markets.get_perpetual_market_orderbook("BTC-USD")
        seen["book"] = [len(book["bids"]) > 0, len(book["asks"]) > 0]
        trades = await indexer.markets.get_perpetual_market_trades("BTC-USD")
        seen["trades"] = [t["size"] for t in trades["trades"]]
        subaccounts = await indexer.account.get_subaccounts(address)
        seen["subaccounts"] = [s["subaccountNumber"] for s in subaccounts["subaccounts"]]
        assets = await indexer.account.get_subaccount_asset_positions(address, 0)
        seen["assets"] = [a["symbol"] for a in assets["positions"]]
        seen["max_client_id"] = MAX_CLIENT_ID
        stream.wait(lambda m: m["type"] == "channel_batch_data" and m["channel"] == "v4_trades")
        stream.wait(lambda m: m["type"] == "channel_batch_data" and m["channel"] == "v4_orderbook")
        stream.wait(lambda m: m["type"] == "subscribed" and m["channel"] == "v4_markets")
        numbers = [m["message_id"] for m in stream.messages]
        seen["gaps"] = sorted(set(range(max(numbers) + 1)) - set(numbers))
    finally:
        stream.close()
    return seen


sys.stdout.write(json.dumps(asyncio.run(main())))
