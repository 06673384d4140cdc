"""The official client's side of the comparison. Runs in an environment of its own, without ours.

Reads one JSON object a line, and writes for each what the official builders make of it. A line
`{"what": "time", "orders": [...]}` has them built and signed, and `{"what": "placements", ...}` places them
one after the other at a node; both say how many seconds that took.
"""

import asyncio
import json
import sys
import time
from decimal import Decimal

from dydx_v4_client.key_pair import KeyPair
from dydx_v4_client.node.builder import Builder, TxOptions
from dydx_v4_client.node.market import Market
from dydx_v4_client.node.message import batch_cancel, cancel_order, order, place_order, subaccount
from dydx_v4_client.wallet import Wallet
from v4_proto.cosmos.tx.v1beta1.tx_pb2 import SignDoc
from v4_proto.dydxprotocol.clob.tx_pb2 import OrderBatch

_KEYS = {}


def wallet_of(asked):
    words = asked["mnemonic"]
    if words not in _KEYS:
        _KEYS[words] = KeyPair.from_mnemonic(words)
    return Wallet(_KEYS[words], asked["account_number"], asked["sequence"])


def message_of(asked, owner):
    market = Market(asked["market"])
    if asked["what"] == "batch":
        return batch_cancel(
            subaccount(owner, asked["subaccount"]),
            [OrderBatch(clob_pair_id=pair, client_ids=ids) for pair, ids in asked["batches"]],
            asked["good_til_block"],
        )
    order_id = market.order_id(owner, asked["subaccount"], asked["client_id"], asked["flags"])
    ends = {k: asked[k] for k in ("good_til_block", "good_til_block_time") if k in asked}
    if asked["what"] == "cancel":
        return cancel_order(order_id, **ends)
    return place_order(
        order(
            order_id=order_id,
            side=asked["side"],
            # Decimals: its floats are off by a step now and then.
            quantums=market.calculate_quantums(Decimal(asked["size"])),
            subticks=market.calculate_subticks(Decimal(asked["price"])),
            time_in_force=asked["time_in_force"],
            reduce_only=asked["reduce_only"],
            condition_type=asked["condition_type"],
            conditional_order_trigger_subticks=(
                market.calculate_subticks(Decimal(asked["trigger"])) if asked["trigger"] else 0
            ),
            **ends,
        )
    )


def build(asked):
    wallet = wallet_of(asked)
    owner = asked["owner"] or wallet.address
    message = message_of(asked, owner)
    options = None
    if asked["authenticators"]:
        options = TxOptions(asked["authenticators"], asked["sequence"], asked["account_number"])
    tx = Builder(asked["chain_id"], "", asked["memo"]).build(wallet, message, tx_options=options)
    return message, tx


def answer(asked):
    message, tx = build(asked)
    document = SignDoc(
        body_bytes=tx.body.SerializeToString(),
        auth_info_bytes=tx.auth_info.SerializeToString(),
        account_number=asked["account_number"],
        chain_id=asked["chain_id"],
    )
    return {
        "message": message.SerializeToString().hex(),
        "sign_bytes": document.SerializeToString().hex(),
        "tx": tx.SerializeToString().hex(),
    }


async def place_all(asked):
    """Place orders as the client's users do: with the wallet, one after the other."""
    from dydx_v4_client.network import make_local
    from dydx_v4_client.node.client import NodeClient

    rest, ws = asked["indexer_rest"], asked["indexer_ws"]
    config = make_local(node_url=asked["node"], rest_indexer=rest, websocket_indexer=ws)
    node = await NodeClient.connect(config.node)
    orders = asked["orders"]
    wallet = await Wallet.from_mnemonic(node, orders[0]["mnemonic"], orders[0]["owner"])
    messages = [message_of(one, one["owner"]).order for one in orders]
    started = time.perf_counter()
    for message in messages:
        placed = await node.place_order(wallet, message)
        assert placed.tx_response.code == 0, placed
    return time.perf_counter() - started


def main():
    for line in sys.stdin:
        asked = json.loads(line)
        if asked["what"] == "time":
            orders = asked["orders"]
            build(orders[0])
            started = time.perf_counter()
            for one in orders:
                _, tx = build(one)
                tx.SerializeToString()
            told = {"seconds": time.perf_counter() - started}
        elif asked["what"] == "placements":
            told = {"seconds": asyncio.run(place_all(asked))}
        else:
            told = answer(asked)
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
