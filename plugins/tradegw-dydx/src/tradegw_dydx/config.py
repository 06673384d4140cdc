"""What someone sets for the venue `dydx`, and the networks that have a name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import Final, Literal

import msgspec

from tradegw import parse_decimal
from tradegw.venue import Secret
from tradegw_dydx.orders import BLOCK_WINDOW_MAX, Policy

__all__ = ["NETWORKS", "DydxConfig", "Network", "NetworkName"]

NetworkName = Literal["mainnet", "testnet", "localnet"]
SUBACCOUNT_MAX: Final = 128_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """Where a chain is reached.

    Attributes:
        nodes: gRPC addresses; `http://` or a loopback address is plain, all else has TLS.
        indexer_rest: Where its `/v4/...` begins.
        indexer_ws: Of the WebSocket.
    """

    chain_id: str
    nodes: tuple[str, ...]
    indexer_rest: str
    indexer_ws: str


NETWORKS: Final[Mapping[str, Network]] = MappingProxyType(
    {
        # Public nodes come and go: https://docs.dydx.xyz/interaction/endpoints lists them.
        "mainnet": Network(
            chain_id="dydx-mainnet-1",
            nodes=(
                "https://oegs.dydx.trade:443",
                "https://dydx-ops-grpc.kingnodes.com:443",
                "https://dydx-dao-grpc-1.polkachu.com:443",
            ),
            indexer_rest="https://indexer.dydx.trade",
            indexer_ws="wss://indexer.dydx.trade/v4/ws",
        ),
        "testnet": Network(
            chain_id="dydx-testnet-4",
            nodes=(
                "https://oegs-testnet.dydx.exchange:443",
                "https://test-dydx-grpc.kingnodes.com:443",
            ),
            indexer_rest="https://indexer.v4testnet.dydx.exchange",
            indexer_ws="wss://indexer.v4testnet.dydx.exchange/v4/ws",
        ),
        "localnet": Network(
            chain_id="localdydxprotocol",
            nodes=("http://127.0.0.1:9090",),
            indexer_rest="http://127.0.0.1:3002",
            indexer_ws="ws://127.0.0.1:3002/v4/ws",
        ),
    }
)


class DydxConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A venue with `plugin = "dydx"`, and its accounts.

    Attributes:
        network: Which chain: `mainnet`, `testnet` or `localnet`.
        chain_id: In place of the network's.
        nodes: gRPC addresses in place of the network's; the more, the better a dead one is borne.
        indexer_rest: In place of the network's, such as `https://indexer.dydx.trade`.
        indexer_ws: In place of the network's, such as `wss://indexer.dydx.trade/v4/ws`.
        mnemonic: Words of the key that signs. Either this or `private_key`.
        private_key: The key that signs, in hex.
        address: Whose orders they are. Default: the key's own address. With another one the key must be
            permitted by `authenticators`; without any, a wrong key is noticed before it is used.
        authenticators: Ids of the authenticators that let the key sign for `address`.
        subaccount: 0 to 128000.
        sequences: `timestamp`: each stateful transaction has a number of its own from the clock. `account`:
            the account's counter, one transaction after the other.
        ioc_blocks: How many blocks an immediate order has to reach the validators.
        block_window: How far ahead the chain takes a good-til-block; 20 before protocol 9.5.
        block_time_s: Expected seconds between blocks, by which the end of a GTD order becomes a height.
        slippage_bps: Bound of a market order that brings none, from the oracle's price.
        node_timeout_s: How long one node may take to answer before the next is asked.
        inclusion_wait_s: How long a stateful order is awaited in a block before it is in doubt.
    """

    network: NetworkName = "mainnet"
    chain_id: str = ""
    nodes: tuple[str, ...] = ()
    indexer_rest: str = ""
    indexer_ws: str = ""
    mnemonic: Secret | None = None
    private_key: Secret | None = None
    address: str = ""
    authenticators: tuple[int, ...] = ()
    subaccount: int = 0
    sequences: Literal["timestamp", "account"] = "timestamp"
    ioc_blocks: int = 8
    block_window: int = BLOCK_WINDOW_MAX
    block_time_s: float = 0.6
    slippage_bps: str = "500"
    node_timeout_s: float = 2.0
    inclusion_wait_s: float = 6.0

    def __post_init__(self) -> None:
        if (self.mnemonic is None) == (self.private_key is None):
            found = "neither" if self.mnemonic is None else "both"
            raise ValueError(f"give exactly one of mnemonic and private_key; found {found}")
        if self.authenticators and not self.address:
            raise ValueError("authenticators let a key sign for another address: give address")
        if not 0 <= self.subaccount <= SUBACCOUNT_MAX:
            raise ValueError(f"subaccount is 0 to {SUBACCOUNT_MAX}; found {self.subaccount}")
        if not 1 <= self.block_window <= BLOCK_WINDOW_MAX:
            raise ValueError(f"block_window is 1 to {BLOCK_WINDOW_MAX}; found {self.block_window}")
        if not 1 <= self.ioc_blocks <= self.block_window:
            raise ValueError(f"ioc_blocks is 1 to {self.block_window}; found {self.ioc_blocks}")
        for name in ("block_time_s", "node_timeout_s", "inclusion_wait_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above zero; found {getattr(self, name)}")
        self.read_policy()

    def read_policy(self) -> Policy:
        """Return how heights and bounds are chosen.

        Raises:
            ValueError: `slippage_bps` is no number from 0 to below 10000.
        """
        bps = parse_decimal(self.slippage_bps, "slippage_bps")
        if not 0 <= bps < Decimal(10_000):
            raise ValueError(f"slippage_bps is 0 to below 10000; found {bps}")
        return Policy(
            ioc_blocks=self.ioc_blocks,
            block_window=self.block_window,
            block_time_s=self.block_time_s,
            slippage_bps=bps,
        )

    def read_network(self) -> Network:
        """Return the network, with what was set in place of its own."""
        named = NETWORKS[self.network]
        return Network(
            chain_id=self.chain_id or named.chain_id,
            nodes=self.nodes or named.nodes,
            indexer_rest=(self.indexer_rest or named.indexer_rest).rstrip("/"),
            indexer_ws=self.indexer_ws or named.indexer_ws,
        )
