"""Another key trades for an account on the local chain, and then may not any more."""

from __future__ import annotations

import asyncio
import base64
import json
import sys

import pytest
from tradegw_dydx.authenticators import add_message, terms_with_gas
from tradegw_dydx.chain import fetch_account
from tradegw_dydx.localnet import Settings, open_localnet
from tradegw_dydx.nodes import open_nodes
from tradegw_dydx.orders import ChainOrder, ChainOrderId, OrderFlags
from tradegw_dydx.tx import TxTerms, sign
from tradegw_dydx.wallet import Wallet

from .keys import A1, M1, M2

CHAIN_ID = "localdydxprotocol"
TRADER = Wallet.from_mnemonic(M2)


def test_what_the_chain_is_told():
    message = add_message(A1, TRADER.public_key, subaccounts=(0, 3), clob_pairs=(1,))
    assert (message.sender, message.authenticator_type) == (A1, "AllOf")
    parts = {p["type"]: base64.b64decode(p["config"]) for p in json.loads(message.data)}
    assert parts["SignatureVerification"] == TRADER.public_key
    assert (parts["SubaccountFilter"], parts["ClobPairIdFilter"]) == (b"0,3", b"1")
    # It trades, and moves no money.
    assert all(
        name.startswith(b"/dydxprotocol.clob.") for name in parts["MessageFilter"].split(b",")
    )


@pytest.mark.parametrize(
    ("public_key", "subaccounts", "told"),
    [
        (b"\x05" + b"0" * 32, (), "33 bytes"),
        (b"\x02" * 32, (), "33 bytes"),
        (TRADER.public_key, range(1000), "1024 bytes at most"),
    ],
)
def test_what_cannot_be_added(public_key, subaccounts, told):
    with pytest.raises(ValueError, match=told):
        add_message(A1, public_key, subaccounts=subaccounts)


def an_order(client_id, height):
    return ChainOrder(
        order_id=ChainOrderId(
            owner=A1, subaccount=0, client_id=client_id, flags=OrderFlags.SHORT_TERM, clob_pair_id=0
        ),
        side=1,
        quantums=1_000_000,
        subticks=100_000,
        good_til_block=height + 20,
    ).to_message()


async def authenticator(*args, directory, node):
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tradegw.transports.cli", "dydx", "authenticator", *args),
        *("--network", "localnet", "--node", node, "--json"),
        cwd=directory,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(child.communicate(), 100)
    assert child.returncode == 0, err
    return json.loads(out)


async def test_a_key_is_let_in_and_out(tmp_path):
    words = tmp_path / "words"
    words.write_text(M1)
    words.chmod(0o600)
    async with open_localnet(Settings(nodes=1), block_time_s=0.05) as net:
        node = f"http://{net.serving.grpc[0]}"
        own = ("--mnemonic-file", str(words))
        where = {"directory": tmp_path, "node": node}
        told = await authenticator(
            "add", *own, "--public-key", TRADER.public_key.hex(), "--subaccount", "0", **where
        )
        [added] = told["authenticators"]
        assert added["type"] == "AllOf"
        assert await authenticator("list", "--address", A1, **where) == {"authenticators": [added]}
        async with open_nodes([node], timeout_s=20) as nodes:
            account = await fetch_account(nodes, A1)

            async def place(client_id):
                terms = TxTerms(
                    chain_id=CHAIN_ID,
                    account_number=account.number,
                    sequence=0,
                    authenticators=(added["id"],),
                )
                await nodes.look()
                message = an_order(client_id, nodes.head.height)
                [attempt] = await nodes.broadcast(sign([message], terms, TRADER))
                return attempt.verdict.key

            assert await place(1) == "0"
            told = await authenticator("remove", *own, "--id", str(added["id"]), **where)
            assert told["authenticators"] == []
            assert await place(2) == "dydxaccountplus/1"


async def test_gas_is_asked_for_and_paid():
    async with (
        open_localnet(Settings(nodes=1), block_time_s=0.05) as net,
        open_nodes([f"http://{net.serving.grpc[0]}"], timeout_s=20) as nodes,
    ):
        terms = await terms_with_gas(
            nodes, Wallet.from_mnemonic(M1), CHAIN_ID, add_message(A1, TRADER.public_key)
        )
        [(denom, fee)] = terms.fee
        assert denom.startswith("ibc/8E27BA2D")
        assert terms.gas_limit > 100_000
        assert fee == -(-terms.gas_limit * 25 // 1000)
