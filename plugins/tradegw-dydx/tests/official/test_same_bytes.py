"""Random orders through our builders and through the official client's: the same bytes.

`nox -s dydx-client` runs it, and makes the official client's environment. By hand:
`TRADEGW_DYDX_CLIENT=/path/to/its/python pytest plugins/tradegw-dydx/tests/official`.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
from pathlib import Path

import pytest
from tradegw_dydx.markets import SAMPLES
from tradegw_dydx.orders import (
    ChainOrderId,
    OrderFlags,
    Owner,
    Policy,
    batch_cancel_message,
    cancel_message,
    choose,
)
from tradegw_dydx.tx import TxTerms, sign
from tradegw_dydx.wallet import Wallet

from tradegw import NewOrder, OrdType, Side, TimeInForce
from tradegw.venue import VenueTime

from ..keys import A1, M1, M2, M3  # noqa: TID252

PEER = Path(__file__).with_name("peer.py")
NOW_S = 1_790_000_000
FEW, MANY = 400, 20_000
WALLETS = {words: Wallet.from_mnemonic(words) for words in (M1, M2, M3)}


@pytest.fixture(scope="module")
def official():
    python = os.environ.get("TRADEGW_DYDX_CLIENT")
    if not python:
        pytest.fail(
            "TRADEGW_DYDX_CLIENT names no Python with the official client: nox -s dydx-client"
        )
    with subprocess.Popen(
        [python, str(PEER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as peer:
        assert peer.stdin is not None
        assert peer.stdout is not None

        def ask(question):
            peer.stdin.write(json.dumps(question) + "\n")
            peer.stdin.flush()
            return json.loads(peer.stdout.readline())

        yield ask
        peer.stdin.close()


def told(market):
    return {
        "clobPairId": str(market.clob_pair_id),
        "atomicResolution": market.atomic_resolution,
        "quantumConversionExponent": market.quantum_conversion_exponent,
        "stepBaseQuantums": market.step_base_quantums,
        "subticksPerTick": market.subticks_per_tick,
    }


def random_order(rng, market):
    """Return an order of any kind, on the market's grid."""
    fields = {
        "symbol": market.symbol,
        "side": rng.choice(list(Side)),
        "order_qty": market.step_size * rng.randint(1, 10 ** rng.randint(1, 7)),
        "ord_type": OrdType.LIMIT,
        "price": market.tick_size * rng.randint(1, 10 ** rng.randint(1, 7)),
    }
    match rng.randrange(5):
        case 0:
            fields |= {"time_in_force": TimeInForce.IOC, "reduce_only": rng.random() < 0.3}
        case 1:
            fields |= {
                "time_in_force": TimeInForce.GTD,
                "expire_time_ns": (NOW_S + rng.randint(1, 20)) * 10**9,
                "post_only": rng.random() < 0.5,
            }
        case 2:
            fields |= {
                "time_in_force": TimeInForce.GTD,
                "expire_time_ns": (NOW_S + rng.randint(60, 10**6)) * 10**9,
                "post_only": rng.random() < 0.5,
            }
        case 3:
            fields |= {
                "ord_type": rng.choice([OrdType.STOP_LIMIT, OrdType.TAKE_PROFIT_LIMIT]),
                "trigger_price": market.tick_size * rng.randint(1, 10**6),
                "time_in_force": rng.choice([TimeInForce.IOC, TimeInForce.GTC]),
            }
        case 4:
            fields |= {
                "ord_type": rng.choice([OrdType.MARKET, OrdType.STOP, OrdType.TAKE_PROFIT]),
                "price": None,
                "reduce_only": rng.random() < 0.3,
            }
            if fields["ord_type"] is not OrdType.MARKET:
                fields["trigger_price"] = market.tick_size * rng.randint(1, 10**6)
    return NewOrder(**fields)


def random_case(rng):
    """Return a question for the official client, our message, and with what it is signed."""
    market = rng.choice(list(SAMPLES.values()))
    words = rng.choice([M1, M2, M3])
    is_permitted = words != M1 and rng.random() < 0.2
    owner = Owner(
        address=A1 if is_permitted else WALLETS[words].address,
        subaccount=rng.choice([0, 1, 127, 128_000]),
        metadata=2,
    )
    terms = TxTerms(
        chain_id=rng.choice(["dydx-mainnet-1", "dydx-testnet-4", "localdydxprotocol"]),
        account_number=rng.choice([0, 1, rng.getrandbits(20)]),
        sequence=rng.choice([0, 7, 1_790_000_000_123]),
        memo=rng.choice(["", "Client Example", "ünïcode"]),
        authenticators=(rng.randint(0, 300),) if is_permitted else (),
    )
    client_id = rng.choice([0, 1, 2**32 - 1, rng.getrandbits(32)])
    question = {
        "mnemonic": words,
        "owner": owner.address,
        "account_number": terms.account_number,
        "sequence": terms.sequence,
        "chain_id": terms.chain_id,
        "memo": terms.memo,
        "authenticators": list(terms.authenticators),
        "market": told(market),
        "subaccount": owner.subaccount,
        "client_id": client_id,
    }
    what = rng.choice(["place", "place", "place", "cancel", "batch"])
    if what == "place":
        asked = random_order(rng, market)
        placed = choose(
            asked,
            owner=owner,
            client_id=client_id,
            market=market,
            now=VenueTime(time_ns=NOW_S * 10**9, height=rng.getrandbits(30)),
            policy=Policy(),
            reference_px=market.oracle_price,
        )
        question |= {
            "flags": int(placed.order_id.flags),
            "side": 1 if asked.side is Side.BUY else 2,
            "size": str(asked.order_qty),
            "price": str(placed.price),
            "trigger": str(asked.trigger_price or ""),
            "time_in_force": placed.time_in_force,
            "reduce_only": asked.reduce_only,
            "condition_type": placed.condition_type,
        }
        ends = {
            "good_til_block": placed.good_til_block,
            "good_til_block_time": placed.good_til_block_time,
        }
        question |= {name: end for name, end in ends.items() if end is not None}
        message = placed.to_message()
    elif what == "cancel":
        flags = rng.choice(list(OrderFlags))
        name = "good_til_block" if flags is OrderFlags.SHORT_TERM else "good_til_block_time"
        end = {name: rng.getrandbits(31)}
        question |= {"flags": int(flags), **end}
        order_id = ChainOrderId(
            owner=owner.address,
            subaccount=owner.subaccount,
            client_id=client_id,
            flags=flags,
            clob_pair_id=market.clob_pair_id,
        )
        message = cancel_message(order_id, **end)
    else:
        batches = {
            pair: [rng.getrandbits(32) for _ in range(rng.randint(1, 30))]
            for pair in rng.sample([0, 1, 5], rng.randint(1, 3))
        }
        question |= {"batches": list(batches.items()), "good_til_block": rng.getrandbits(31)}
        message = batch_cancel_message(owner, batches, question["good_til_block"])
    return {**question, "what": what}, message, terms


def compare(official, seed, count):
    rng = random.Random(seed)
    seen = dict.fromkeys(("place", "cancel", "batch"), 0)
    for number in range(count):
        question, message, terms = random_case(rng)
        signed = sign([message], terms, WALLETS[question["mnemonic"]])
        ours = {
            "message": message.SerializeToString().hex(),
            "sign_bytes": signed.sign_bytes.hex(),
            "tx": signed.tx_bytes.hex(),
        }
        assert ours == official(question), f"seed {seed}, case {number}: {question}"
        seen[question["what"]] += 1
    assert all(seen.values()), seen


def test_few(official):
    seed = random.SystemRandom().getrandbits(32)
    compare(official, seed, FEW)


@pytest.mark.long
def test_many(official):
    compare(official, 6, MANY)
