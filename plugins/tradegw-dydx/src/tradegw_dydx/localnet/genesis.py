"""How a local chain begins: markets, accounts, limits. Settings of `tradegw dydx localnet`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from tradegw_dydx.localnet.ledger import Pair

__all__ = ["ACCOUNTS", "CHAIN_ID", "GAS_DENOM", "USDC_DENOM", "GenesisAccount", "Settings", "pairs"]

CHAIN_ID: Final = "localdydxprotocol"
USDC_DENOM: Final = "ibc/8E27BA2D5493AF5636760E354E46004562C46AB7EC0CC4C1CA14E9E20E2545B5"
GAS_DENOM: Final = "adv4tnt"


@dataclass(frozen=True, slots=True, kw_only=True)
class GenesisAccount:
    """An account that exists from the first block on, with a public key phrase."""

    name: str
    address: str
    mnemonic: str


ACCOUNTS: Final = (
    # The phrases of the official client's own tests, and BIP-39's best known: play money for everyone.
    GenesisAccount(
        name="account-1",
        address="dydx14zzueazeh0hj67cghhf9jypslcf9sh2n5k6art",
        mnemonic=(
            "mirror actor skill push coach wait confirm orchard lunch mobile athlete gossip awake miracle "
            "matter bus reopen team ladder lazy list timber render wait"
        ),
    ),
    GenesisAccount(
        name="account-2",
        address="dydx1wldnytkerzs39rs28djn0p9vvqer2x2k5x8hjy",
        mnemonic=(
            "mandate glove carry despair area gloom sting round toddler deal face vague receive shallow "
            "confirm south green cup rain drill monkey method tongue fence"
        ),
    ),
    GenesisAccount(
        name="account-3",
        address="dydx19rl4cm2hmr8afy4kldpxz3fka4jguq0a4erelz",
        mnemonic=" ".join(["abandon"] * 11 + ["about"]),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a local chain is like.

    Attributes:
        nodes: How many nodes share it.
        block_window: How many blocks ahead a short-term order may end.
        gossip_blocks: How many blocks a transaction takes from one node to the others.
        lag_blocks: How many blocks the indexer is behind.
        lag_s: How many seconds it is behind besides.
        usdc: Collateral of each account's subaccount 0, in millionths of a dollar.
        short_term_limits: Pairs of blocks, and places and cancels of one owner within them.
        stateful_limits: The same for places of stateful orders.
        equity_tiers: Pairs of least equity in millionths of a dollar, and open stateful orders.
        house: Whether the house quotes around the oracle's price.
        walk_ppm: How far the oracle's prices move with each block, in millionths, up to that.
        seed: Decides how they move.
        websocket_ping_s: Between pings of the indexer.
        requests_per_window: Of one address to the indexer, in ten seconds.
    """

    chain_id: str = CHAIN_ID
    nodes: int = 1
    block_window: int = 40
    gossip_blocks: int = 0
    lag_blocks: int = 0
    lag_s: float = 0.0
    usdc: int = 100_000 * 10**6
    taker_fee_ppm: int = 500
    maker_fee_ppm: int = 100
    short_term_limits: tuple[tuple[int, int], ...] = ((5, 4000),)
    stateful_limits: tuple[tuple[int, int], ...] = ((1, 2), (100, 20))
    equity_tiers: tuple[tuple[int, int], ...] = (
        (0, 0),
        (20 * 10**6, 10),
        (100 * 10**6, 20),
        (1_000 * 10**6, 40),
        (10_000 * 10**6, 100),
        (50_000 * 10**6, 200),
    )
    house: bool = True
    walk_ppm: int = 0
    seed: int = 1
    websocket_ping_s: float = 30.0
    requests_per_window: int = 100
    accounts: tuple[GenesisAccount, ...] = field(default=ACCOUNTS)


def pairs() -> dict[int, Pair]:
    """Return the markets, fresh, by number."""
    made = (
        Pair(
            clob_pair_id=0,
            ticker="BTC-USD",
            atomic_resolution=-10,
            quantum_conversion_exponent=-9,
            step_base_quantums=1_000_000,
            subticks_per_tick=100_000,
            price_exponent=-5,
            oracle_price=8_991_920_000,
            initial_margin_ppm=20_000,
            maintenance_margin_ppm=12_000,
        ),
        Pair(
            clob_pair_id=1,
            ticker="ETH-USD",
            atomic_resolution=-9,
            quantum_conversion_exponent=-9,
            step_base_quantums=1_000_000,
            subticks_per_tick=100_000,
            price_exponent=-6,
            oracle_price=3_103_010_000,
            initial_margin_ppm=20_000,
            maintenance_margin_ppm=12_000,
        ),
        Pair(
            clob_pair_id=5,
            ticker="SOL-USD",
            atomic_resolution=-7,
            quantum_conversion_exponent=-9,
            step_base_quantums=1_000_000,
            subticks_per_tick=1_000_000,
            price_exponent=-8,
            oracle_price=13_530_000_000,
            initial_margin_ppm=50_000,
            maintenance_margin_ppm=30_000,
        ),
    )
    return {pair.clob_pair_id: pair for pair in made}
