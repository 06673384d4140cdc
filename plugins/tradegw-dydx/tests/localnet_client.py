"""A plain client of the local chain: gRPC and HTTP by hand, nothing of the venue."""

from __future__ import annotations

import asyncio
import itertools
import json
import urllib.error
import urllib.request
from dataclasses import dataclass, replace

import grpc
import grpc.aio
from tradegw_dydx.localnet.genesis import ACCOUNTS
from tradegw_dydx.orders import ChainOrder, ChainOrderId, OrderFlags, cancel_message
from tradegw_dydx.tx import TxTerms, sign
from tradegw_dydx.wallet import Wallet
from tradegw_dydx.wire import messages as wire

BUY, SELL = 1, 2
BTC, ETH = 0, 1
STEP = 1_000_000
"""One step of BTC's size, 0.0001."""
DOLLAR = 100_000
"""One dollar of BTC's price."""
WALLETS = [Wallet.from_mnemonic(item.mnemonic) for item in ACCOUNTS]
_ids = itertools.count(1000)


def an_order(**changes) -> ChainOrder:
    """A bid for 0.01 BTC far below the market that lives until block 20."""
    trader = changes.pop("trader", 0)
    flags = OrderFlags(changes.pop("flags", 0))
    order_id = ChainOrderId(
        owner=WALLETS[trader].address,
        subaccount=changes.pop("subaccount", 0),
        client_id=changes.pop("client_id", None) or next(_ids),
        flags=flags,
        clob_pair_id=changes.pop("pair", BTC),
    )
    price = changes.pop("price", 80_000)
    values = {
        "side": BUY,
        "quantums": 100 * STEP,
        "subticks": price * DOLLAR,
        "good_til_block": 20 if flags is OrderFlags.SHORT_TERM else None,
    }
    return ChainOrder(order_id=order_id, **{**values, **changes})


def signed(
    *messages, trader=0, account_number=None, sequence=0, chain_id="localdydxprotocol", **terms
):
    """Sign messages: the bytes that a node takes."""
    messages = [m.to_message() if hasattr(m, "to_message") else m for m in messages]
    return sign(
        messages,
        TxTerms(
            chain_id=chain_id,
            account_number=trader + 1 if account_number is None else account_number,
            sequence=sequence,
            **terms,
        ),
        WALLETS[trader],
    ).tx_bytes


def a_cancel(order: ChainOrder, **end):
    if not end:
        end = {"good_til_block": order.good_til_block} if order.good_til_block else {}
        if order.good_til_block_time:
            end = {"good_til_block_time": order.good_til_block_time}
    return cancel_message(order.order_id, **end)


@dataclass
class Client:
    """Speaks to the nodes and the indexer that a local chain's first line names."""

    serving: dict

    def __post_init__(self):
        # Or channels would share connections, and how long a failed one waits.
        own = [("grpc.use_local_subchannel_pool", 1)]
        self.channels = [
            grpc.aio.insecure_channel(address, options=own) for address in self.serving["grpc"]
        ]

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        for channel in self.channels:
            await channel.close(None)

    async def call(self, method, request, response, *, node=0, deadline_s=30.0):
        call = self.channels[node].unary_unary(
            method,
            request_serializer=lambda m: m.SerializeToString(),
            response_deserializer=response.FromString,
        )(request, timeout=deadline_s)
        answer = await call
        self.height_header = dict(await call.initial_metadata())["x-cosmos-block-height"]
        return answer

    async def send(self, tx_bytes, *, node=0, deadline_s=30.0):
        """Broadcast; return (codespace, code)."""
        answer = await self.call(
            "/cosmos.tx.v1beta1.Service/BroadcastTx",
            wire.BroadcastTxRequest(tx_bytes=tx_bytes, mode=2),
            wire.BroadcastTxResponse,
            node=node,
            deadline_s=deadline_s,
        )
        self.log = answer.tx_response.raw_log
        return answer.tx_response.codespace, answer.tx_response.code

    async def place(self, order, *, node=0, **terms):
        trader = next(i for i, w in enumerate(WALLETS) if w.address == order.order_id.owner)
        return await self.send(signed(order, trader=trader, **terms), node=node)

    async def height(self, node=0):
        return (await self.latest_block(node)).height

    async def latest_block(self, node=0):
        block = await self.call(
            "/cosmos.base.tendermint.v1beta1.Service/GetLatestBlock",
            wire.GetLatestBlockRequest(),
            wire.GetLatestBlockResponse,
            node=node,
        )
        return block.block.header

    async def get_tx(self, tx_hash, node=0):
        answer = await self.call(
            "/cosmos.tx.v1beta1.Service/GetTx",
            wire.GetTxRequest(hash=tx_hash),
            wire.GetTxResponse,
            node=node,
        )
        return answer.tx_response

    async def sequence(self, trader=0, node=0):
        answer = await self.call(
            "/cosmos.auth.v1beta1.Query/Account",
            wire.QueryAccountRequest(address=WALLETS[trader].address),
            wire.QueryAccountResponse,
            node=node,
        )
        return wire.BaseAccount.FromString(answer.account.value).sequence

    # HTTP

    async def http(self, method, path, body=None):
        """Ask; return the status, the headers and the JSON."""

        def ask():
            request = urllib.request.Request(
                self.serving["indexer_rest"] + path,
                data=None if body is None else json.dumps(body).encode(),
                method=method,
            )
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    return answer.status, answer.headers, json.load(answer)
            except urllib.error.HTTPError as e:
                with e:
                    return e.code, e.headers, json.load(e)

        return await asyncio.to_thread(ask)

    async def get(self, path):
        status, _, body = await self.http("GET", path)
        assert status == 200, body
        return body

    async def post(self, path, **body):
        status, _, answer = await self.http("POST", f"/admin{path}", body)
        assert status == 200, answer
        return answer

    async def step(self, blocks=1):
        return await self.post("/step", blocks=blocks)

    async def fault(self, kind, **spec):
        return await self.post("/faults", kind=kind, **spec)

    async def end_faults(self):
        status, _, _ = await self.http("DELETE", "/admin/faults")
        assert status == 200

    async def orders(self, trader=0):
        address = WALLETS[trader].address
        return await self.get(f"/v4/orders?address={address}&subaccountNumber=0")

    async def fills(self, trader=0):
        address = WALLETS[trader].address
        return (await self.get(f"/v4/fills?address={address}&subaccountNumber=0"))["fills"]

    async def truth(self, order):
        """What the chain knows of an order: its versions and what is filled; None: never accepted."""
        ledger = await self.get("/admin/ledger")
        name = order.order_id
        for item in ledger["orders"]:
            if (item["owner"], item["client_id"], item["flags"]) == (
                name.owner,
                name.client_id,
                name.flags,
            ):
                return item["versions"], item["filled"]
        return None


def again(order: ChainOrder, **changes) -> ChainOrder:
    """The same order with other terms."""
    return replace(order, **changes)
