"""A chain of dYdX v4 in miniature, with its nodes and its indexer, to test bots against.

A double that is independent of the plugin's own venue: it checks signatures, sequences, heights, grids and
collateral itself, and answers with the chain's own codes. It shares the messages' classes and nothing else.

The chain is pure and single-threaded: `Chain` holds what is agreed, `Node` what one validator knows,
`Memclob` its order book, `Indexer` what the world is told. Doors (`grpc_door`, `indexer_door`, `admin`) move
the bytes, and `serve` puts it together. Faults act at the doors and at named points of a node.
"""

from tradegw_dydx.localnet.faults import FaultKind, FaultSpec
from tradegw_dydx.localnet.genesis import GenesisAccount, Settings
from tradegw_dydx.localnet.localnet import Localnet, Serving, open_localnet

__all__ = [
    "FaultKind",
    "FaultSpec",
    "GenesisAccount",
    "Localnet",
    "Serving",
    "Settings",
    "open_localnet",
]
