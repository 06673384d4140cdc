"""What someone sets, and what is refused."""

from __future__ import annotations

from decimal import Decimal

import pytest
from tradegw_dydx.config import NETWORKS, DydxConfig

from tradegw.venue import Secret

WORDS = Secret("a b c")


def test_networks_have_names():
    assert NETWORKS["mainnet"].chain_id == "dydx-mainnet-1"
    assert NETWORKS["testnet"].chain_id == "dydx-testnet-4"
    assert NETWORKS["localnet"].chain_id == "localdydxprotocol"
    assert len(NETWORKS["mainnet"].nodes) > 1
    # What is not on this machine is encrypted.
    for name in ("mainnet", "testnet"):
        network = NETWORKS[name]
        urls = (*network.nodes, network.indexer_rest, network.indexer_ws)
        assert all(url.startswith(("https://", "wss://")) for url in urls)


def test_parts_of_a_network_are_replaced():
    config = DydxConfig(mnemonic=WORDS, network="testnet", nodes=("http://127.0.0.1:1",))
    network = config.read_network()
    assert network.nodes == ("http://127.0.0.1:1",)
    assert network.chain_id == "dydx-testnet-4"
    assert DydxConfig(mnemonic=WORDS, slippage_bps="12.5").read_policy().slippage_bps == Decimal(
        "12.5"
    )


def test_no_secret_is_shown():
    assert "a b c" not in repr(DydxConfig(mnemonic=WORDS))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"mnemonic": None}, "found neither"),
        ({"private_key": WORDS}, "found both"),
        ({"authenticators": (7,)}, "give address"),
        ({"subaccount": -1}, "0 to 128000"),
        ({"subaccount": 128_001}, "0 to 128000"),
        ({"block_window": 41}, "1 to 40"),
        ({"block_window": 5}, "ioc_blocks is 1 to 5"),
        ({"ioc_blocks": 0}, "ioc_blocks is 1 to 40"),
        ({"block_time_s": 0.0}, "above zero"),
        ({"node_timeout_s": -1.0}, "above zero"),
        ({"slippage_bps": "10000"}, "below 10000"),
        ({"slippage_bps": "-1"}, "below 10000"),
        ({"slippage_bps": "5%"}, "slippage_bps"),
    ],
)
def test_what_is_refused(settings, told):
    with pytest.raises(ValueError, match=told):
        DydxConfig(**{"mnemonic": WORDS, **settings})
