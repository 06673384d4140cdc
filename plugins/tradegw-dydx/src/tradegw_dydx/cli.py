"""`tradegw dydx ...`. What is heavy is imported inside the commands."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

from cyclopts import App, Parameter

from tradegw_dydx import permissions

if TYPE_CHECKING:
    from tradegw_dydx.render import Rendered

__all__ = ["make_app"]

_NODES_MAX = 32
_BLOCK_TIME_MAX_S = 3600
_WALK_MAX_PPM = 100_000


def make_app() -> App:
    """Make the commands."""
    app = App(name="dydx", help="dYdX v4: orders on a chain.")
    app.command(_render, name="render")
    app.command(permissions.make_app())
    app.command(_localnet, name="localnet")
    return app


def _render(
    what: Literal["place", "cancel"],
    /,
    *,
    order: str,
    mnemonic_file: Path,
    account_number: int,
    sequence: int,
    height: int,
    chain_id: str,
    instrument: str | None = None,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Show the bytes of an order, signed, without sending them.

    Parameters
    ----------
    what
        What is done with the order.
    order
        JSON in the gateway's field names, and venue_client_order_id (0 to 4294967295), order_flags,
        good_til_block or good_til_block_time, subaccount, client_metadata, memo.
    mnemonic_file
        File with the words, readable by its owner alone.
    account_number
        The account's number on the chain.
    sequence
        The account's sequence, or a timestamp nonce in milliseconds.
    height
        The chain's height, from which a good-til-block is chosen when the order brings none.
    chain_id
        Such as dydx-mainnet-1.
    instrument
        JSON of the market as the indexer's /v4/perpetualMarkets shows it. Default: a bundled sample.
    json
        One JSON object: order (of a cancel: the order's id), sign_bytes and tx, in hex.
    """
    import msgspec

    from tradegw import TradegwError
    from tradegw_dydx.render import TxNumbers, read_mnemonic, render_cancel, render_place
    from tradegw_dydx.wallet import Wallet

    numbers = TxNumbers(
        account_number=account_number, sequence=sequence, height=height, chain_id=chain_id
    )
    try:
        wallet = Wallet.from_mnemonic(read_mnemonic(mnemonic_file))
        renderer = render_place if what == "place" else render_cancel
        rendered: Rendered = renderer(order, instrument, wallet, numbers)
    except (TradegwError, ValueError, OSError) as e:
        _fail(e)
    if json:
        _print(msgspec.json.encode(rendered).decode())
        return
    for name in ("order", "sign_bytes", "tx"):
        _print(f"{name:<10} {getattr(rendered, name)}")


def _localnet(
    *,
    nodes: int = 1,
    grpc_port: int = 9090,
    indexer_port: int = 3002,
    block_time: float = 0.6,
    walk_ppm: int = 0,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Run a chain of dYdX v4 in miniature, with its nodes and its indexer, to test bots against.

    Parameters
    ----------
    nodes
        How many nodes share the chain.
    grpc_port
        Of the first node; the others listen on the ports that follow. 0 picks free ones.
    indexer_port
        Of REST, streams and the admin door. 0 picks a free one.
    block_time
        Seconds between blocks; 0 makes them by command, POST /admin/step.
    walk_ppm
        How far the oracle's prices move with each block, in millionths, at most.
    json
        The first line is one JSON object, printed when all doors listen.
    """
    import asyncio

    from tradegw_dydx.localnet.genesis import Settings
    from tradegw_dydx.localnet.serve import run

    if not 1 <= nodes <= _NODES_MAX:
        _fail(ValueError(f"--nodes is 1 to {_NODES_MAX}; found {nodes}"))
    if not 0 <= block_time <= _BLOCK_TIME_MAX_S:
        _fail(ValueError(f"--block-time is 0 to {_BLOCK_TIME_MAX_S} seconds; found {block_time}"))
    if not 0 <= walk_ppm <= _WALK_MAX_PPM:
        _fail(ValueError(f"--walk-ppm is 0 to {_WALK_MAX_PPM}; found {walk_ppm}"))
    try:
        asyncio.run(
            run(
                Settings(nodes=nodes, walk_ppm=walk_ppm),
                grpc_port=grpc_port,
                indexer_port=indexer_port,
                block_time_s=block_time,
                is_json=json,
            )
        )
    except (OSError, OverflowError) as e:
        _fail(e)


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _fail(error: Exception) -> NoReturn:
    sys.stderr.write(f"tradegw dydx: {error}\n")
    raise SystemExit(1)
