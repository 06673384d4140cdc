"""Random orders through random nodes: money and positions are only moved, and all nodes end alike."""

from __future__ import annotations

import random

import pytest
from tradegw_dydx.localnet.faults import FaultKind, FaultSpec
from tradegw_dydx.localnet.terms import SubaccountId

from .localnet_client import BUY, SELL, STEP, WALLETS, a_cancel, an_order, signed
from .test_localnet_rules import T0_S, World


def trade_at_random(seed, messages, **settings):
    rng = random.Random(seed)
    world = World(nodes=3, house=True, stateful_limits=(), **settings)
    known = []
    sequences = [0, 0, 0]
    for number in range(messages):
        trader = rng.randrange(3)
        node = rng.randrange(3)
        height = world.chain.height
        dice = rng.random()
        if dice < 0.2 and known:
            order = rng.choice(known)
            trader = next(i for i, w in enumerate(WALLETS) if w.address == order.order_id.owner)
            message = a_cancel(order, good_til_block=height + rng.randint(1, 40))
        else:
            message = an_order(
                trader=trader,
                client_id=number + 1,
                side=rng.choice([BUY, SELL]),
                price=89_919 + rng.randint(-40, 40),
                quantums=rng.randint(1, 5_000) * STEP,
                time_in_force=rng.choice([0, 0, 1, 2]),
                good_til_block=height + rng.randint(1, 40),
            )
            if dice > 0.9:
                message = an_order(
                    trader=trader,
                    client_id=number + 1,
                    flags=64,
                    side=rng.choice([BUY, SELL]),
                    price=89_919 + rng.randint(-40, 40),
                    quantums=rng.randint(1, 100) * STEP,
                    good_til_block_time=T0_S + 10_000,
                )
            else:
                known.append(message)
        # A sequence that the node counts otherwise is refused, which is as good.
        world.network.broadcast(
            node, signed(message, trader=trader, sequence=sequences[trader], memo=str(number))
        )
        if rng.random() < 0.3:
            world.step()
            sequences = [world.chain.accounts[w.address].sequence for w in WALLETS]
        if rng.random() < 0.02:
            kind = rng.choice([FaultKind.ISOLATED, FaultKind.SYNCING, FaultKind.DOWN])
            world.faults.add(FaultSpec(kind=kind, node=rng.randrange(3), times=rng.randint(1, 8)))
        if rng.random() < 0.05:
            world.chain.pairs[0].oracle_price += rng.randint(-20, 20) * 10**5
    world.faults.clear()
    world.step(3)
    return world


def check(world):
    ledger = world.chain.ledger
    fees = 0
    filled = {}
    for told in world.news:
        for match in getattr(told.what, "fills", ()):
            maker, taker = match
            assert maker.quantums == taker.quantums > 0
            assert maker.order.side != taker.order.side
            assert maker.order.order_id.subaccount != taker.order.order_id.subaccount
            better = maker.order.subticks <= taker.order.subticks
            assert better if taker.order.is_buy else maker.order.subticks >= taker.order.subticks
            for fill in match:
                fees += fill.fee
                order_id = fill.order.order_id
                filled[order_id] = filled.get(order_id, 0) + fill.quantums
                assert filled[order_id] == fill.total_filled <= fill.order.quantums
    assert filled
    assert sum(s.positions.get(0, 0) for s in ledger.subaccounts.values()) == 0
    started = 3 * world.chain.settings.usdc + 10**18
    assert sum(s.usdc for s in ledger.subaccounts.values()) == started - fees
    for wallet in WALLETS:
        subaccount = ledger.subaccount(SubaccountId(wallet.address, 0))
        assert ledger.equity(subaccount) > 0
    for node in world.network.nodes:
        mine = node.memclob.ledger
        if not node.memclob.operations:
            assert mine.filled == ledger.filled
            assert {k: s.usdc for k, s in mine.subaccounts.items()} == {
                k: s.usdc for k, s in ledger.subaccounts.items()
            }
        for order in node.memclob.resting():
            assert mine.remaining(order) > 0
            assert order.order_id.is_short_term or order.order_id in world.chain.stateful
        bids = node.memclob.depth(0, is_buy=True)
        asks = node.memclob.depth(0, is_buy=False)
        assert not bids or not asks or max(bids) < min(asks)


@pytest.mark.parametrize("gossip_blocks", [0, 1])
@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_is_made_and_nothing_lost(seed, gossip_blocks):
    check(trade_at_random(seed, 300, gossip_blocks=gossip_blocks))


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_nothing_is_made_and_nothing_lost_in_many_runs():
    for seed in range(100, 160):
        check(trade_at_random(seed, 1000, gossip_blocks=seed % 3))
