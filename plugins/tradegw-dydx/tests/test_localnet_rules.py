"""The chain's rules, without sockets: each refusal with its codespace and code."""

from __future__ import annotations

import hashlib
import json
import random

import pytest
from tradegw_dydx.localnet.faults import FaultKind, Faults, FaultSpec
from tradegw_dydx.localnet.genesis import Settings
from tradegw_dydx.localnet.ledger import Status
from tradegw_dydx.localnet.network import Network
from tradegw_dydx.localnet.terms import SubaccountId
from tradegw_dydx.wire import messages as wire

from .localnet_client import (
    BUY,
    DOLLAR,
    ETH,
    SELL,
    STEP,
    WALLETS,
    a_cancel,
    again,
    an_order,
    signed,
)

T0_S = 1_767_225_600
LATER_S = T0_S + 600
NS = 1_000_000_000


class World:
    """A network under a clock that the test turns."""

    def __init__(self, **settings) -> None:
        self.now_ns = T0_S * NS
        self.faults = Faults()
        self.news = []
        self.network = Network(
            Settings(**{"nodes": 1, "house": False, **settings}),
            clock=lambda: self.now_ns,
            faults=self.faults,
            sink=self.news.append,
        )
        self.chain = self.network.chain

    def send(self, *messages, node=0, **terms):
        verdict = self.network.broadcast(node, signed(*messages, **terms))
        self.log = verdict.log
        return verdict.codespace, verdict.code

    def step(self, blocks=1):
        for _ in range(blocks):
            self.now_ns += NS
            self.network.step()

    def position(self, trader=0, pair=0):
        return self.chain.ledger.position(SubaccountId(WALLETS[trader].address, 0), pair)

    def usdc(self, trader=0):
        return self.chain.ledger.subaccount(SubaccountId(WALLETS[trader].address, 0)).usdc


@pytest.fixture
def world():
    return World()


OK = ("", 0)


def long_term(**changes):
    return an_order(flags=64, good_til_block_time=LATER_S, **changes)


def conditional(**changes):
    values = {"condition_type": 1, "trigger_subticks": 95_000 * DOLLAR, "time_in_force": 1}
    return an_order(flags=32, good_til_block_time=LATER_S, **{**values, **changes})


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        pytest.param(an_order(), OK, id="a bid"),
        pytest.param(an_order(side=0), ("clob", 3), id="no side"),
        pytest.param(an_order(quantums=0), ("clob", 4), id="no size"),
        pytest.param(an_order(good_til_block=0), ("clob", 5), id="no end"),
        pytest.param(an_order(subticks=0), ("clob", 6), id="no price"),
        pytest.param(an_order(pair=77), ("clob", 8), id="no such market"),
        pytest.param(an_order(good_til_block=1), ("clob", 10), id="ended"),
        pytest.param(an_order(good_til_block=2), OK, id="the next block"),
        pytest.param(an_order(good_til_block=42), OK, id="the last block of the window"),
        pytest.param(an_order(good_til_block=43), ("clob", 11), id="beyond the window"),
        pytest.param(an_order(quantums=STEP + 1), ("clob", 12), id="off the step"),
        pytest.param(an_order(subticks=DOLLAR + 1), ("clob", 12), id="off the tick"),
        pytest.param(
            conditional(trigger_subticks=DOLLAR + 1), ("clob", 12), id="trigger off the tick"
        ),
        pytest.param(an_order(time_in_force=3), ("clob", 48), id="fill or kill"),
        pytest.param(an_order(time_in_force=7), ("clob", 44), id="no such time in force"),
        pytest.param(an_order(reduce_only=True), ("clob", 9003), id="reduce-only that rests"),
        pytest.param(
            an_order(reduce_only=True, time_in_force=1), ("clob", 2001), id="nothing to reduce"
        ),
        pytest.param(an_order(condition_type=1), ("clob", 6000), id="condition on a plain order"),
        pytest.param(an_order(trigger_subticks=1), ("clob", 6001), id="trigger on a plain order"),
        pytest.param(conditional(), OK, id="a stop"),
        pytest.param(conditional(condition_type=0), ("clob", 6000), id="a stop of no kind"),
        pytest.param(conditional(trigger_subticks=0), ("clob", 6001), id="a stop without trigger"),
        pytest.param(long_term(), OK, id="long-term"),
        pytest.param(long_term(time_in_force=1), ("clob", 3002), id="long-term that is immediate"),
        pytest.param(
            again(long_term(), good_til_block_time=0), ("clob", 3001), id="long-term without end"
        ),
        pytest.param(
            again(long_term(), good_til_block_time=T0_S), ("clob", 3003), id="long-term that ended"
        ),
        pytest.param(
            again(long_term(), good_til_block_time=T0_S + 95 * 86_400),
            OK,
            id="long-term for 95 days",
        ),
        pytest.param(
            again(long_term(), good_til_block_time=T0_S + 95 * 86_400 + 1),
            ("clob", 3004),
            id="long-term for longer",
        ),
        pytest.param(
            long_term(quantums=1_000_000 * STEP), ("clob", 3007), id="long-term beyond collateral"
        ),
        pytest.param(an_order(subaccount=128_001), ("subaccounts", 200), id="no such subaccount"),
    ],
)
def test_what_a_node_says_of_an_order(world, order, expected):
    assert world.send(order) == expected, world.log


def test_flags_that_nobody_knows(world):
    message = an_order().to_message()
    message.order.order_id.order_flags = 65
    assert world.send(message) == ("clob", 3000)


def test_an_end_at_a_height_is_no_end_of_a_long_term_order(world):
    assert world.send(an_order(flags=64, good_til_block=20)) == ("clob", 3001)


# --- transactions ---------------------------------------------------------------------------------


def test_bytes_that_are_no_transaction(world):
    verdict = world.network.broadcast(0, b"\xff\xff")
    assert (verdict.codespace, verdict.code) == ("sdk", 2)
    assert world.send(wire.SubaccountId(owner="x")) == ("sdk", 2)


def test_whatever_bytes_come_a_node_has_an_answer(world):
    rng = random.Random(5)
    wholes = [signed(an_order(), memo="x"), signed(long_term()), signed(conditional())]
    codes = set()
    for _ in range(600):
        data = bytearray(rng.choice(wholes))
        for _ in range(rng.randint(1, 4)):
            match rng.randrange(3):
                case 0:
                    data[rng.randrange(len(data))] = rng.randrange(256)
                case 1:
                    del data[rng.randrange(len(data))]
                case _:
                    data.insert(rng.randrange(len(data)), rng.randrange(256))
        if bytes(data) in wholes:
            continue
        verdict = world.network.broadcast(0, bytes(data))
        codes.add((verdict.codespace, verdict.code))
        # Nobody can alter what somebody signed.
        assert verdict.code != 0, data.hex()
    assert {("sdk", 2), ("sdk", 4)} <= codes
    assert world.network.placed == {}


def test_a_transaction_has_one_encoding_and_so_one_name(world):
    good = signed(an_order())
    for more in (b"\x20\x01", good[-66:]):  # A field that nobody knows; the signature once more.
        verdict = world.network.broadcast(0, good + more)
        assert (verdict.codespace, verdict.code) in (("sdk", 2), ("sdk", 4))
    assert world.network.broadcast(0, good).code == 0


def test_the_same_bytes_again_are_in_the_cache_also_after_a_refusal(world):
    good, bad = an_order(), an_order(good_til_block=1)
    assert world.send(good) == OK
    assert world.send(good) == ("sdk", 19)
    assert world.send(bad) == ("clob", 10)
    assert world.send(bad) == ("sdk", 19)
    assert world.log == ""


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        pytest.param({"account_number": 2}, ("sdk", 4), id="another account's number"),
        pytest.param({"chain_id": "dydx-mainnet-1"}, ("sdk", 4), id="another chain"),
        pytest.param({"trader": 1, "account_number": 1}, ("sdk", 8), id="another key"),
        pytest.param({"memo": "x" * 257}, ("sdk", 12), id="a memo too long"),
        pytest.param({"memo": "x" * 256}, OK, id="a memo"),
        pytest.param({"sequence": 4711}, OK, id="any sequence"),
    ],
)
def test_what_a_transaction_is_signed_with(world, terms, expected):
    assert world.send(an_order(), **terms) == expected, world.log


def test_a_signature_that_was_altered(world):
    tx = wire.TxRaw.FromString(signed(an_order()))
    for broken in (b"", tx.signatures[0][:-1], bytes(64), _high_s(tx.signatures[0])):
        raw = wire.TxRaw(
            body_bytes=tx.body_bytes, auth_info_bytes=tx.auth_info_bytes, signatures=[broken]
        )
        verdict = world.network.broadcast(0, raw.SerializeToString())
        assert (verdict.codespace, verdict.code) == ("sdk", 4)


def _high_s(signature):
    n = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    return signature[:32] + (n - int.from_bytes(signature[32:], "big")).to_bytes(32, "big")


def test_an_account_that_was_never_funded(world):
    message = an_order().to_message()
    message.order.order_id.subaccount_id.owner = "dydx18d8wyyqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq"
    assert world.send(message) == ("sdk", 9)


def test_a_short_term_message_stands_alone(world):
    assert world.send(an_order(), an_order()) == ("sdk", 18)
    assert world.send(an_order(), long_term()) == ("sdk", 18)
    assert world.send(long_term(), long_term(client_id=2)) == OK


# --- sequences and nonces -------------------------------------------------------------------------


def test_a_sequence_is_taken_once_and_in_order(world):
    assert world.send(long_term(), sequence=1) == ("sdk", 32)
    assert world.log.startswith("account sequence mismatch, expected 0, got 1")
    assert world.send(long_term(), sequence=0) == OK
    # The node counts what waits in its mempool.
    assert world.send(long_term(), sequence=0) == ("sdk", 32)
    assert world.send(long_term(), sequence=1) == OK
    account = world.chain.accounts[WALLETS[0].address]
    assert account.sequence == 0
    world.step()
    assert account.sequence == 2
    assert len(world.chain.stateful) == 2


def test_what_the_order_book_refuses_keeps_its_sequence(world):
    assert world.send(again(long_term(), good_til_block_time=T0_S), sequence=0) == ("clob", 3003)
    assert world.send(long_term(), sequence=0) == OK


@pytest.mark.parametrize(
    ("offset_ms", "expected"),
    [(0, OK), (-30_000, OK), (30_000, OK), (-30_001, ("sdk", 32)), (30_001, ("sdk", 32))],
)
def test_a_timestamp_nonce_lies_within_half_a_minute(world, offset_ms, expected):
    assert world.send(long_term(), sequence=T0_S * 1000 + offset_ms) == expected
    if expected != OK:
        assert "not within valid time window" in world.log


def test_a_timestamp_nonce_is_taken_once_and_twenty_are_remembered():
    world = World(stateful_limits=())
    first = T0_S * 1000
    for number in range(1, 22):
        assert world.send(long_term(), sequence=first + number) == OK
    assert world.send(long_term(), sequence=first + 21) == ("sdk", 32)
    assert world.log.startswith("timestamp nonce")
    assert "rejected" in world.log
    # Older than the twenty newest.
    assert world.send(long_term(), sequence=first) == ("sdk", 32)
    world.step()
    account = world.chain.accounts[WALLETS[0].address]
    assert account.nonces == [first + n for n in range(2, 22)]
    assert (account.nonce_ejected, account.sequence) == (first + 1, 0)


def test_a_message_that_fails_in_its_block_has_used_its_sequence(world):
    world.faults.add(FaultSpec(kind=FaultKind.DELIVERY_FAILS, code=3007))
    tx_bytes = signed(long_term(), sequence=0)
    assert world.network.broadcast(0, tx_bytes).code == 0
    world.step()
    result = world.chain.results[hashlib.sha256(tx_bytes).hexdigest().upper()]
    assert (result.verdict.codespace, result.verdict.code) == ("clob", 3007)
    assert world.chain.accounts[WALLETS[0].address].sequence == 1
    assert not world.chain.stateful


# --- limits ---------------------------------------------------------------------------------------


def test_stateful_places_are_limited_by_block_failed_ones_included(world):
    assert world.send(long_term(), sequence=0) == OK
    assert world.send(long_term(quantums=STEP + 1), sequence=1) == ("clob", 12)
    assert world.send(long_term(), sequence=1) == ("clob", 5001)
    assert world.log.startswith("Rate of 3 exceeds configured block rate limit of")
    world.step()
    assert world.send(long_term(), sequence=1) == OK


def test_a_batch_counts_twice():
    world = World(short_term_limits=((1, 3),))
    assert world.send(_batch({0: [1, 2, 3, 4]})) == OK
    assert world.send(an_order()) == OK
    assert world.send(an_order()) == ("clob", 5001)


def test_open_stateful_orders_are_limited_by_equity():
    world = World(stateful_limits=(), usdc=25 * 10**6, equity_tiers=((0, 0), (20 * 10**6, 2)))
    for sequence in (0, 1):
        assert world.send(long_term(quantums=STEP), sequence=sequence) == OK
    world.step()
    assert world.send(long_term(quantums=STEP), sequence=2) == ("clob", 10001)


# --- replacing, cancelling ------------------------------------------------------------------------


def test_a_later_version_replaces_and_keeps_what_is_filled(world):
    order = an_order(price=90_000, quantums=100 * STEP)
    assert world.send(order) == OK
    assert world.send(again(order, quantums=200 * STEP)) in (
        OK,
        ("clob", 20),
    )  # Decided by the hash.
    assert world.send(again(order, good_til_block=21, quantums=200 * STEP)) == OK
    assert (
        world.send(an_order(trader=1, side=SELL, price=90_000, quantums=50 * STEP), trader=1) == OK
    )
    world.step()
    assert world.send(again(order, good_til_block=22, quantums=70 * STEP)) == OK
    assert world.network.nodes[0].memclob.depth(0, is_buy=True) == {90_000 * DOLLAR: 20 * STEP}


@pytest.mark.parametrize(
    "changes",
    [
        {"good_til_block": 19},
        {"good_til_block": 21, "side": SELL, "subticks": 99_000 * DOLLAR},
        {"good_til_block": 21, "time_in_force": 2},
    ],
)
def test_what_is_no_replacement(world, changes):
    order = an_order()
    assert world.send(order) == OK
    assert world.send(again(order, **changes)) == ("clob", 20)
    assert world.network.nodes[0].memclob.resting()[0].quantums == order.quantums


def test_the_same_order_in_other_bytes_changes_nothing(world):
    order = an_order()
    assert world.send(order, memo="a") == OK
    assert world.send(order, memo="b") == ("clob", 20)


def test_a_filled_order_is_not_filled_again(world):
    assert (
        world.send(an_order(trader=1, side=SELL, price=90_000, quantums=300 * STEP), trader=1) == OK
    )
    order = an_order(price=90_000)
    immediate = an_order(price=90_000, time_in_force=1)
    for filled, code in ((order, 24), (immediate, 2004)):
        assert world.send(filled, memo="a") == OK
        assert world.send(filled, memo="b") == ("clob", code)
    world.step()
    for filled, code in ((order, 24), (immediate, 2004)):
        assert world.send(filled, memo="c") == ("clob", code)
    assert world.position() == 200 * STEP


def test_cancels_of_short_term_orders(world):
    order = an_order()
    assert world.send(order) == OK
    book = world.network.nodes[0].memclob
    # A cancel that ends before the order does nothing, and says nothing.
    assert world.send(a_cancel(order, good_til_block=19)) == OK
    assert book.find(book.resting()[0].order_id) is not None
    assert world.send(a_cancel(order)) == OK
    assert book.resting() == []
    assert world.send(a_cancel(order), memo="again") == ("clob", 9)
    # Canceled ahead: a copy that comes late is not taken.
    assert world.send(order, memo="late") == ("clob", 7)
    assert world.send(again(order, good_til_block=21)) == OK
    assert world.send(a_cancel(an_order(pair=77))) == ("clob", 8)
    assert world.send(a_cancel(order, good_til_block=1)) == ("clob", 10)
    assert world.send(a_cancel(order, good_til_block=99)) == ("clob", 11)


def _batch(batches, good_til_block=20):
    return wire.MsgBatchCancel(
        subaccount_id=wire.SubaccountId(owner=WALLETS[0].address),
        short_term_cancels=[
            wire.OrderBatch(clob_pair_id=pair, client_ids=ids) for pair, ids in batches.items()
        ],
        good_til_block=good_til_block,
    )


def test_a_batch_cancel_says_yes_whatever_it_finds(world):
    orders = [an_order(client_id=n, good_til_block=end) for n, end in ((1, 20), (2, 25), (3, 20))]
    for order in orders:
        assert world.send(order) == OK
    assert world.send(_batch({0: [1, 2, 99], 77: [5]})) == OK
    assert [o.order_id.client_id for o in world.network.nodes[0].memclob.resting()] == [2, 3]
    assert world.send(_batch({0: [1] * 2})) == ("clob", 45)
    assert world.send(_batch({0: list(range(1, 102))})) == ("clob", 45)
    assert world.send(_batch({0: [3]}, good_til_block=99)) == ("clob", 11)


def test_cancels_of_stateful_orders(world):
    order = long_term()
    assert world.send(a_cancel(order)) == ("clob", 3006)
    assert world.send(order, sequence=0) == OK
    assert world.send(a_cancel(order, good_til_block_time=LATER_S - 1), sequence=1) == ("clob", 29)
    world.step()
    assert world.send(order, sequence=1) == ("clob", 3005)
    assert world.send(a_cancel(order), sequence=1) == OK
    assert world.send(a_cancel(order), sequence=2, memo="again") == ("clob", 32)
    assert world.chain.stateful
    world.step()
    assert not world.chain.stateful
    assert world.network.nodes[0].memclob.resting() == []


# --- matching -------------------------------------------------------------------------------------


def test_a_match_moves_positions_and_money_when_its_block_is_made(world):
    assert world.send(an_order(side=SELL, price=90_000)) == OK
    assert world.send(an_order(trader=1, price=91_000), trader=1) == OK
    assert world.position() == 0
    world.step()
    assert (world.position(0), world.position(1)) == (-100 * STEP, 100 * STEP)
    # 0.01 at the maker's 90,000 is 900 dollars: 0.45 of fee for the taker, 0.09 for the maker.
    assert world.usdc(0) == (100_000 + 900) * 10**6 - 90_000
    assert world.usdc(1) == (100_000 - 900) * 10**6 - 450_000


def test_price_comes_before_time(world):
    for price in (90_002, 90_001, 90_001):
        assert world.send(an_order(side=SELL, price=price)) == OK
    assert world.send(an_order(trader=1, price=90_005, quantums=250 * STEP), trader=1) == OK
    operations = world.network.nodes[0].memclob.operations
    assert [m.maker.subticks // DOLLAR for m in operations] == [90_001, 90_001, 90_002]
    assert [m.quantums // STEP for m in operations] == [100, 100, 50]


def test_post_only_that_would_cross_and_immediate_that_finds_nobody(world):
    assert world.send(an_order(side=SELL, price=90_000)) == OK
    taker = {"trader": 1, "time_in_force": 2}
    assert world.send(an_order(price=90_000, **taker), trader=1) == ("clob", 2003)
    assert world.send(an_order(price=89_999, **taker), trader=1) == OK
    assert world.send(an_order(trader=1, price=89_999, time_in_force=1), trader=1) == OK
    world.step()
    assert world.position(1) == 0


def test_reduce_only_takes_the_position_and_no_more(world):
    assert world.send(an_order(side=SELL, price=90_000, quantums=300 * STEP)) == OK
    assert world.send(an_order(trader=1, price=90_000), trader=1) == OK
    world.step()
    assert world.send(an_order(price=89_000, quantums=500 * STEP)) == OK
    wrong = an_order(trader=1, side=BUY, price=90_000, time_in_force=1, reduce_only=True)
    assert world.send(wrong, trader=1) == ("clob", 2001)
    close = an_order(
        trader=1, side=SELL, price=89_000, quantums=400 * STEP, time_in_force=1, reduce_only=True
    )
    assert world.send(close, trader=1) == OK
    world.step()
    assert world.position(1) == 0


def test_a_taker_without_collateral_is_let_go_without_a_code():
    world = World(usdc=100 * 10**6)
    world.chain.ledger.subaccounts[SubaccountId(WALLETS[1].address, 0)].usdc = 10**12
    world.network.step()
    assert (
        world.send(an_order(trader=1, side=SELL, price=90_000, quantums=10**4 * STEP), trader=1)
        == OK
    )
    assert world.send(an_order(price=90_000, quantums=10**4 * STEP)) == OK
    world.step()
    assert world.position() == 0


def test_nobody_trades_with_himself(world):
    assert world.send(an_order(side=SELL, price=90_000)) == OK
    assert world.send(an_order(price=90_000)) == OK
    world.step()
    assert world.position() == 0
    [resting] = world.network.nodes[0].memclob.resting()
    assert resting.is_buy


@pytest.mark.parametrize(
    ("status", "changes", "expected"),
    [
        (Status.PAUSED, {}, ("clob", 34)),
        (Status.FINAL_SETTLEMENT, {}, ("clob", 34)),
        (Status.POST_ONLY, {"time_in_force": 2}, OK),
        (Status.POST_ONLY, {}, ("clob", 34)),
        (Status.INITIALIZING, {"time_in_force": 2}, OK),
        (Status.INITIALIZING, {"time_in_force": 2, "price": 95_000}, ("clob", 34)),
    ],
)
def test_what_a_market_allows(world, status, changes, expected):
    world.chain.pairs[0].status = status
    assert world.send(an_order(**changes)) == expected


# --- blocks ---------------------------------------------------------------------------------------


def test_a_short_term_order_can_fill_in_its_last_block_and_no_later(world):
    order = an_order(price=90_000, good_til_block=3)
    assert world.send(order) == OK
    world.step()
    assert world.send(an_order(trader=1, side=SELL, price=90_000, quantums=STEP), trader=1) == OK
    world.step()
    assert (world.chain.height, world.position()) == (3, STEP)
    assert world.network.nodes[0].memclob.resting() == []


def test_a_long_term_order_matches_the_block_after_it_came_and_ends_in_time(world):
    assert (
        world.send(an_order(trader=1, side=SELL, price=90_000, good_til_block=40), trader=1) == OK
    )
    order = again(long_term(price=90_000, quantums=300 * STEP), good_til_block_time=T0_S + 4)
    assert world.send(order, sequence=0) == OK
    world.step()
    assert world.position() == 0
    world.step()
    assert world.position() == 100 * STEP
    [item] = world.chain.stateful.values()
    assert world.chain.ledger.filled[item.order.order_id] == 100 * STEP
    world.step(2)
    assert not world.chain.stateful
    assert len(world.network.nodes[0].memclob.resting()) == 0


def test_a_long_term_post_only_order_that_would_cross_goes_a_block_later(world):
    assert (
        world.send(an_order(trader=1, side=SELL, price=90_000, good_til_block=40), trader=1) == OK
    )
    assert world.send(long_term(price=91_000, time_in_force=2), sequence=0) == OK
    world.step()
    assert world.chain.stateful
    world.step()
    assert not world.chain.stateful
    assert world.position() == 0


@pytest.mark.parametrize(
    ("side", "kind", "oracle", "fires"),
    [
        (BUY, 1, 94_999, False),
        (BUY, 1, 95_000, True),
        (SELL, 1, 95_000, True),
        (SELL, 1, 95_001, False),
        (BUY, 2, 95_001, False),
        (BUY, 2, 95_000, True),
        (SELL, 2, 94_999, False),
        (SELL, 2, 95_000, True),
    ],
)
def test_a_trigger_looks_at_the_oracle(world, side, kind, oracle, fires):
    world.chain.pairs[0].oracle_price = oracle * 10**5
    order = conditional(side=side, condition_type=kind, time_in_force=0, price=95_000)
    assert world.send(order, sequence=0) == OK
    world.step()
    [item] = world.chain.stateful.values()
    assert item.triggered is fires
    assert len(world.network.nodes[0].memclob.resting()) == fires


def test_margin_and_withdrawals(world):
    account = wire.SubaccountId(owner=WALLETS[0].address)
    out = wire.MsgWithdrawFromSubaccount(
        recipient=WALLETS[0].address, sender=account, quantums=99_999 * 10**6
    )
    fee = (("ibc/8E27BA2D5493AF5636760E354E46004562C46AB7EC0CC4C1CA14E9E20E2545B5", 5_000),)
    assert world.send(out) == ("sdk", 13)
    assert world.send(out, fee=fee, gas_limit=50_000, memo="a") == ("sdk", 11)
    assert world.send(an_order(side=SELL, price=90_000)) == OK
    assert world.send(an_order(trader=1, price=91_000), trader=1) == OK
    world.step()
    assert world.send(out, fee=fee, gas_limit=200_000) == ("subaccounts", 102)
    out.quantums = 1_000 * 10**6
    assert world.send(out, fee=fee, gas_limit=200_000) == OK
    before = world.usdc()
    world.step()
    assert world.usdc() == before - 1_000 * 10**6


# --- several nodes --------------------------------------------------------------------------------


def test_nodes_know_what_they_heard_and_blocks_make_them_agree():
    world = World(nodes=3)
    world.faults.add(FaultSpec(kind=FaultKind.ISOLATED, node=2, times=None))
    order = an_order(side=SELL, price=90_000)
    assert world.send(order, node=0) == OK
    # The isolated node has not heard of it: no match there.
    assert world.send(an_order(trader=1, price=90_000), trader=1, node=2) == OK
    assert world.network.nodes[2].memclob.operations == []
    assert world.send(order, node=1) == ("sdk", 19)
    world.faults.clear()
    # Gossip catches up, everywhere alike.
    world.step()
    assert (world.position(0), world.position(1)) == (-100 * STEP, 100 * STEP)
    for node in world.network.nodes:
        assert node.memclob.resting() == []
        assert node.memclob.ledger.filled == world.chain.ledger.filled


def test_gossip_takes_blocks_and_mempools_differ_meanwhile():
    world = World(nodes=2, gossip_blocks=1)
    tx_bytes = signed(long_term(), sequence=0)
    assert world.network.broadcast(0, tx_bytes).code == 0
    assert world.network.broadcast(0, tx_bytes).code == 19
    # The other node has not heard of it, and takes the same bytes, or a rival's.
    assert world.send(long_term(), sequence=0, node=1) == OK
    world.step(2)
    # One of the two used the sequence; the other is dropped without a word.
    assert len(world.chain.stateful) == 1
    assert world.chain.accounts[WALLETS[0].address].sequence == 1
    assert not any(node.mempool for node in world.network.nodes)


def test_a_match_that_only_one_node_saw_survives_a_block_of_another():
    world = World(nodes=2, gossip_blocks=2)
    assert world.send(an_order(side=SELL, price=90_000), node=1) == OK
    assert world.send(an_order(trader=1, price=90_000), trader=1, node=1) == OK
    world.step()  # Made by the first node, which knows of nothing.
    assert world.position(1) == 0
    assert len(world.network.nodes[1].memclob.operations) == 1
    world.step()
    assert world.position(1) == 100 * STEP


# --- permissioned keys ----------------------------------------------------------------------------


def _allow(world, parts, kind="AllOf"):
    config = json.dumps([{"type": t, "config": list(c)} for t, c in parts]).encode()
    message = wire.MsgAddAuthenticator(
        sender=WALLETS[0].address, authenticator_type=kind, data=config
    )
    fee = (("adv4tnt", 200_000 * 25 * 10**9),)
    sequence = world.chain.accounts[WALLETS[0].address].sequence
    code = world.send(message, sequence=sequence, fee=fee, gas_limit=200_000)
    world.step()
    return code


PLACE = "/dydxprotocol.clob.MsgPlaceOrder"


@pytest.mark.parametrize(
    ("filters", "order", "expected"),
    [
        ([("MessageFilter", PLACE.encode())], an_order(), OK),
        (
            [("MessageFilter", b"/dydxprotocol.clob.MsgCancelOrder")],
            an_order(),
            ("dydxaccountplus", 104),
        ),
        ([("SubaccountFilter", b"0,1")], an_order(subaccount=1), OK),
        ([("SubaccountFilter", b"1")], an_order(), ("dydxaccountplus", 104)),
        ([("ClobPairIdFilter", b"0,5")], an_order(), OK),
        ([("ClobPairIdFilter", b"0,5")], an_order(pair=ETH), ("dydxaccountplus", 104)),
    ],
)
def test_another_key_may_sign_what_it_was_given_leave_for(world, filters, order, expected):
    assert _allow(world, [("SignatureVerification", WALLETS[1].public_key), *filters]) == OK
    terms = {"trader": 1, "account_number": 1, "authenticators": (0,)}
    assert world.send(order, **terms) == expected, world.log


def test_leave_is_for_one_key_one_number_and_one_message(world):
    _allow(
        world, [("SignatureVerification", WALLETS[1].public_key), ("MessageFilter", PLACE.encode())]
    )
    terms = {"account_number": 1, "authenticators": (0,)}
    assert world.send(an_order(), trader=2, **terms) == ("dydxaccountplus", 104)
    assert world.send(an_order(), trader=1, account_number=2, authenticators=(0,)) == (
        "dydxaccountplus",
        104,
    )
    assert world.send(an_order(), trader=1, account_number=1, authenticators=(9,)) == (
        "dydxaccountplus",
        1,
    )
    assert world.send(an_order(), trader=1, account_number=1, authenticators=(0, 0)) == ("sdk", 18)


def test_an_authenticator_demands_a_signature(world):
    _allow(world, [("MessageFilter", b"x"), ("SubaccountFilter", b"0")])
    assert world.chain.accounts[WALLETS[0].address].authenticators == {}
