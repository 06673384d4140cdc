"""`tradegw mock ...`. What is heavy is imported inside the commands."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal, NoReturn

from cyclopts import App, Parameter

__all__ = ["make_app"]

DEFAULT_PORT = 8100


def make_app() -> App:
    """Make the commands."""
    app = App(name="mock", help="A mock exchange in a process of its own.")
    app.command(_serve, name="serve")
    app.command(_ledger, name="ledger")
    return app


def _serve(
    *,
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    config: Path | None = None,
    seed: int = 1,
    store: Path | None = None,
    scenario: Path | None = None,
    clock: Literal["wall", "virtual"] = "wall",
    json: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Serve a mock exchange until SIGTERM or Ctrl-C.

    Parameters
    ----------
    host
        Address to listen on.
    port
        Port of the Binance-compatible doors; the native door has the next. 0 picks free ones.
    config
        TOML file with what else can be set: accounts, liquidity, limits.
    seed
        What the maker's prices and sizes, and the chances of faults, are drawn from.
    store
        File to keep the exchange in. Nothing that was acknowledged is lost then, even by kill -9. Without
        it the exchange forgets.
    scenario
        TOML file with faults that begin with the exchange.
    clock
        What the exchange goes by. A virtual clock begins in 2025 and stands still but for a millisecond with
        each request, and for what the admin API is told: the same seed and requests give the same history.
    json
        Print one JSON object on one line as soon as it serves.
    """
    import asyncio

    import msgspec

    from tradegw_mock.chaos import ScenarioError
    from tradegw_mock.exchange import ExchangeError, Refusal
    from tradegw_mock.serve import ServeOptions, Serving, serve
    from tradegw_mock.settings import ServeSettings, SettingsError, read_settings

    def announce(serving: Serving) -> None:
        if json:
            _print(msgspec.json.encode(serving).decode())
            return
        _print(f"Mock exchange (pid {serving.pid}), Binance-compatible on {serving.rest}.")
        for account in serving.accounts:
            _print(f"  {account.name}: key {account.api_key}, secret {account.api_secret}")
        kept = f"Kept in {store}." if store else "Kept in memory; give --store FILE to keep it."
        _print(f'{kept} In tradegw.toml: url = "{serving.native}". Ctrl-C stops it.')

    try:
        settings = ServeSettings() if config is None else read_settings(config)
        options = ServeOptions(
            host=host,
            port=port,
            seed=seed,
            store=store,
            settings=settings,
            scenario=scenario,
            clock=clock,
        )
        asyncio.run(serve(options, announce))
    except (ScenarioError, SettingsError, ExchangeError, Refusal, OSError) as e:
        _fail(e)


def _ledger(
    *,
    url: str = f"127.0.0.1:{DEFAULT_PORT + 1}",
    account: str = "",
    audit: Annotated[bool, Parameter(negative="")] = False,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Print the exchange's own books: what really happened there, whatever a gateway believes.

    Parameters
    ----------
    url
        HOST:PORT of the native door.
    account
        Only of this account. Default: of all users.
    audit
        Print the audit trail instead: every request with its decision, every fill, every balance moved.
    json
        One JSON object; of the audit trail one for each line.
    """
    import msgspec

    from tradegw_mock.ledger import LedgerClient
    from tradegw_mock.requests import AnswerError

    try:
        with LedgerClient(url) as client:
            if audit:
                for record in client.audit(account):
                    _print(msgspec.json.encode(record).decode())
                return
            ledger = client.read(account)
    except (AnswerError, OSError, ValueError) as e:
        _fail(e)
    if json:
        _print(msgspec.json.encode(ledger).decode())
        return
    for order in ledger.orders:
        size = order.order_qty if order.order_qty is not None else f"for {order.quote_qty}"
        _print(
            f"order {order.order_id} {order.account} {order.symbol} {order.side} {order.ord_type} "
            f"{size} at {order.price or 'market'}: {order.ord_status} {order.cum_qty} "
            f"({order.client_order_id or '-'})"
        )
    for fill in ledger.fills:
        _print(
            f"fill {fill.trade_id} {fill.account} order {fill.order_id} {fill.symbol} {fill.side} "
            f"{fill.qty} at {fill.price}, fee {fill.fee} {fill.fee_asset}"
        )
    for name, balances in ledger.balances.items():
        for balance in balances.values():
            _print(f"balance {name} {balance.asset} free {balance.free} held {balance.held}")


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _fail(error: Exception) -> NoReturn:
    sys.stderr.write(f"tradegw mock: {error}\n")
    raise SystemExit(1)
