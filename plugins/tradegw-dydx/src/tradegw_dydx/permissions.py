"""`tradegw dydx authenticator ...`: which other keys may trade for an account."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

from cyclopts import App, Parameter

from tradegw_dydx.config import NETWORKS, NetworkName

if TYPE_CHECKING:
    from tradegw_dydx.nodes import Nodes
    from tradegw_dydx.wallet import Wallet

__all__ = ["make_app"]

NODE_TIMEOUT_S = 5.0
Json = Annotated[bool, Parameter(negative="")]
Many = Annotated[tuple[int, ...], Parameter(negative="")]
Node = Annotated[tuple[str, ...], Parameter(negative="")]


def make_app() -> App:
    """Make the commands."""
    app = App(name="authenticator", help="Which other keys may trade for an account.")
    app.command(_list, name="list")
    app.command(_add, name="add")
    app.command(_remove, name="remove")
    return app


def _list(
    *,
    address: str,
    network: NetworkName = "mainnet",
    node: Node = (),
    json: Json = False,
) -> None:
    """Show an account's authenticators.

    Parameters
    ----------
    address
        The account.
    network
        Which chain.
    node
        gRPC address of a node, in place of the network's; may be given several times.
    json
        One JSON object.
    """
    from tradegw_dydx.authenticators import list_authenticators

    async def run(nodes: Nodes, chain_id: str) -> None:
        found = await list_authenticators(nodes, address)
        if json:
            _print_json({"authenticators": found})
        for one in () if json else found:
            _print(f"{one.id}  {one.type}  {one.config}")

    _with_nodes(network, node, run)


def _add(
    *,
    mnemonic_file: Path,
    public_key: str,
    subaccount: Many = (),
    clob_pair: Many = (),
    network: NetworkName = "mainnet",
    node: Node = (),
    json: Json = False,
) -> None:
    """Let a key place and cancel orders for the account, and nothing else. Costs gas, in USDC.

    Parameters
    ----------
    mnemonic_file
        File with the account's own words, readable by its owner alone.
    public_key
        The key that will trade, 66 hex digits.
    subaccount
        Only this subaccount; may be given several times. Default: all.
    clob_pair
        Only this market's number; may be given several times. Default: all.
    network
        Which chain.
    node
        gRPC address of a node, in place of the network's; may be given several times.
    json
        One JSON object: the transaction's hash, and the account's authenticators afterwards.
    """
    from tradegw_dydx.authenticators import add_message

    wallet = _wallet(mnemonic_file)
    try:
        message = add_message(
            wallet.address,
            bytes.fromhex(public_key),
            subaccounts=subaccount,
            clob_pairs=clob_pair,
        )
    except ValueError as e:
        _fail(e)
    _change(wallet, message, network, node, as_json=json)


def _remove(
    *,
    mnemonic_file: Path,
    id: int,  # noqa: A002  As the chain calls it.
    network: NetworkName = "mainnet",
    node: Node = (),
    json: Json = False,
) -> None:
    """Take an authenticator back. Costs gas, in USDC.

    Parameters
    ----------
    mnemonic_file
        File with the account's own words, readable by its owner alone.
    id
        The authenticator.
    network
        Which chain.
    node
        gRPC address of a node, in place of the network's; may be given several times.
    json
        One JSON object: the transaction's hash, and the account's authenticators afterwards.
    """
    from tradegw_dydx.authenticators import remove_message

    wallet = _wallet(mnemonic_file)
    _change(wallet, remove_message(wallet.address, id), network, node, as_json=json)


def _change(
    wallet: Wallet, message: Any, network: NetworkName, node: Node, *, as_json: bool
) -> None:
    from tradegw_dydx.authenticators import list_authenticators, pay_and_send

    async def run(nodes: Nodes, chain_id: str) -> None:
        tx = await pay_and_send(nodes, wallet, chain_id, message)
        found = await list_authenticators(nodes, wallet.address)
        if as_json:
            _print_json({"tx_hash": tx.hash, "authenticators": found})
            return
        _print(f"done in transaction {tx.hash}")
        for one in found:
            _print(f"{one.id}  {one.type}  {one.config}")

    _with_nodes(network, node, run)


def _with_nodes(
    network: NetworkName, addresses: Node, run: Callable[[Nodes, str], Awaitable[None]]
) -> None:
    from tradegw import VenueError
    from tradegw_dydx.nodes import open_nodes

    named = NETWORKS[network]

    async def main() -> None:
        async with open_nodes(addresses or named.nodes, timeout_s=NODE_TIMEOUT_S) as nodes:
            await run(nodes, named.chain_id)

    try:
        asyncio.run(main())
    except VenueError as e:
        _fail(e)


def _wallet(file: Path) -> Wallet:
    from tradegw_dydx.render import read_mnemonic
    from tradegw_dydx.wallet import Wallet

    try:
        return Wallet.from_mnemonic(read_mnemonic(file))
    except (ValueError, OSError) as e:
        _fail(e)


def _print_json(value: object) -> None:
    import msgspec

    _print(msgspec.json.encode(value).decode())


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _fail(error: Exception) -> NoReturn:
    sys.stderr.write(f"tradegw dydx: {error}\n")
    raise SystemExit(1)
