"""Golden vectors: what the chain's own client makes of ten orders, byte for byte."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from tradegw_dydx.orders import (
    ChainOrder,
    ChainOrderId,
    OrderFlags,
    Owner,
    batch_cancel_message,
    cancel_message,
)
from tradegw_dydx.tx import TxTerms, sign
from tradegw_dydx.wallet import Wallet
from tradegw_dydx.wire import bigint
from tradegw_dydx.wire import messages as wire

from .keys import A1, A2, M1, M2

VECTORS = json.loads(Path(__file__).with_name("vectors.json").read_text())
MAINNET, TESTNET = "dydx-mainnet-1", "dydx-testnet-4"
USDC = "ibc/8E27BA2D5493AF5636760E354E46004562C46AB7EC0CC4C1CA14E9E20E2545B5"
GTBT = 1_767_225_600


def order_id(client_id, flags=OrderFlags.SHORT_TERM, owner=A1, subaccount=0, pair=0):
    return ChainOrderId(
        owner=owner, subaccount=subaccount, client_id=client_id, flags=flags, clob_pair_id=pair
    )


V1 = ChainOrder(
    order_id=order_id(12345),
    side=1,
    quantums=100_000_000,
    subticks=6_400_000_000,
    good_til_block=1_000_040,
    client_metadata=2,
)
V2 = ChainOrder(
    order_id=order_id(2**32 - 1, OrderFlags.LONG_TERM, A2, 3, 1),
    side=2,
    quantums=1_234_000_000,
    subticks=3_103_000_000,
    good_til_block_time=GTBT,
    time_in_force=2,
    client_metadata=2,
)
V6 = ChainOrder(
    order_id=order_id(777, OrderFlags.CONDITIONAL),
    side=2,
    quantums=1_000_000,
    subticks=5_000_000_000,
    good_til_block_time=GTBT,
    time_in_force=1,
    reduce_only=True,
    client_metadata=2,
    condition_type=1,
    trigger_subticks=5_500_000_000,
)
# Of the permissioned key's order only the bytes are told; these are its fields.
V7 = ChainOrder(
    order_id=order_id(9, OrderFlags.SHORT_TERM, A1, 2, 1),
    side=1,
    quantums=1_000_000,
    subticks=3_000_000_000,
    good_til_block=500,
    time_in_force=3,
    client_metadata=2,
)


def twap():
    return wire.MsgPlaceOrder(
        order=wire.Order(
            order_id=wire.OrderId(
                subaccount_id=wire.SubaccountId(owner=A1, number=0),
                client_id=42,
                order_flags=128,
                clob_pair_id=0,
            ),
            side=1,
            quantums=100_000_000,
            subticks=6_400_000_000,
            good_til_block_time=GTBT,
            client_metadata=2,
            twap_parameters=wire.TwapParameters(duration=300, interval=30, price_tolerance=10_000),
        )
    )


def with_builder():
    message = V1.to_message()
    message.order.builder_code_parameters.CopyFrom(
        wire.BuilderCodeParameters(builder_address=A2, fee_ppm=500)
    )
    return message


def deposit():
    return wire.MsgDepositToSubaccount(
        sender=A1,
        recipient=wire.SubaccountId(owner=A1, number=0),
        asset_id=0,
        quantums=1_000_000,
    )


def terms(chain_id, account_number, sequence, memo="Client Example", **more):
    return TxTerms(
        chain_id=chain_id, account_number=account_number, sequence=sequence, memo=memo, **more
    )


CASES = {
    "V1": (V1.to_message, terms(MAINNET, 33, 7), M1),
    "V2": (V2.to_message, terms(TESTNET, 0, 0), M2),
    "V3": (
        lambda: cancel_message(V1.order_id, good_til_block=1_000_041),
        terms(MAINNET, 33, 7),
        M1,
    ),
    "V4": (
        lambda: cancel_message(V2.order_id, good_til_block_time=1_767_225_660),
        terms(TESTNET, 0, 1),
        M2,
    ),
    "V5": (
        lambda: batch_cancel_message(
            Owner(address=A1), {0: [12345, 1, 300], 1: [2**32 - 1]}, 1_000_042
        ),
        terms(MAINNET, 33, 7),
        M1,
    ),
    "V6": (V6.to_message, terms(MAINNET, 33, 1_765_210_316_125, memo=""), M1),
    "V7": (None, terms(MAINNET, 33, 5, authenticators=(7,)), M2),
    "V8": (deposit, terms(MAINNET, 33, 8, gas_limit=180_000, fee=((USDC, 4500),)), M1),
    "V9": (with_builder, terms(MAINNET, 33, 7), M1),
    "V10": (twap, terms(MAINNET, 33, 8), M1),
}


def test_every_vector_has_a_case():
    assert list(CASES) == list(VECTORS)
    assert len(CASES) == 10


@pytest.mark.parametrize("name", list(CASES))
def test_bytes_are_those_of_the_official_client(name):
    make, tx_terms, mnemonic = CASES[name]
    told = VECTORS[name]
    if make is None:
        message = wire.MsgPlaceOrder.FromString(bytes.fromhex(told["msg"]))
        assert message.order.order_id.subaccount_id.owner == A1
    else:
        message = make()
    assert f"/{message.DESCRIPTOR.full_name}" == told["type_url"]
    assert message.SerializeToString().hex() == told["msg"]
    signed = sign([message], tx_terms, Wallet.from_mnemonic(mnemonic))
    document = wire.SignDoc.FromString(signed.sign_bytes)
    assert document.body_bytes.hex() == told["body"]
    assert document.auth_info_bytes.hex() == told["auth_info"]
    assert hashlib.sha256(signed.sign_bytes).hexdigest() == told["sign_doc_sha256"]
    raw = wire.TxRaw.FromString(signed.tx_bytes)
    assert [s.hex() for s in raw.signatures] == [told["signature"]]
    assert signed.tx_bytes.hex() == told["tx"]
    assert signed.hash == told["txhash"]


def test_a_signed_transaction_reads_back_as_one():
    told = bytes.fromhex(VECTORS["V7"]["tx"])
    tx = wire.Tx.FromString(told)
    assert tx.SerializeToString() == told
    [extension] = tx.body.non_critical_extension_options
    assert wire.TxExtension.FromString(extension.value).selected_authenticators == [7]


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (0, "02"),
        (1, "0201"),
        (-1, "0301"),
        (256, "020100"),
        (-100_000_000, "0305f5e100"),
        (10**12, "02e8d4a51000"),
    ],
)
def test_big_integers(number, told):
    assert bigint.to_bytes(number).hex() == told
    assert bigint.from_bytes(bytes.fromhex(told)) == number


def test_a_big_integer_without_a_sign_is_refused():
    assert bigint.from_bytes(b"") == 0
    with pytest.raises(ValueError, match="begins with 02 or 03"):
        bigint.from_bytes(b"\x01\x02")
