"""`tradegw rest ...`. What is heavy is imported inside the commands."""

from __future__ import annotations

import sys
from typing import Annotated, Any, NoReturn

from cyclopts import App, Parameter

__all__ = ["make_app"]

_Json = Annotated[bool, Parameter(negative="")]
# A key in PEM begins with dashes.
_Text = Annotated[str, Parameter(allow_leading_hyphen=True)]


def make_app() -> App:
    """Make the commands."""
    app = App(name="rest", help="Exchanges from definition files.")
    app.command(_definitions, name="definitions")
    app.command(_check, name="check")
    app.command(_render, name="render")
    return app


def _definitions(*, json: _Json = False) -> None:
    """List the definitions that ship."""
    import msgspec

    from tradegw_rest.library import load, names

    rows: list[dict[str, Any]] = []
    for name in names():
        definition = load(name)
        rows.append(
            {
                "definition": name,
                "title": definition.title,
                "version": definition.checked.version,
                "checked": definition.checked.date,
                "hosts": {key: host.rest for key, host in definition.hosts.items()},
                "operations": list(definition.operations),
            }
        )
    if json:
        _print(msgspec.json.encode({"definitions": rows}).decode())
        return
    width = max(len(row["definition"]) for row in rows)
    for row in rows:
        _print(
            f"{row['definition']:{width}}  {row['title']}, API {row['version']}, "
            f"checked {row['checked']}, {' '.join(row['hosts'])}"
        )


def _check(definition: str, /, *, json: _Json = False) -> None:
    """Check a definition, and run its cases. Exit code 1 when something is wrong.

    Parameters
    ----------
    definition
        Path of a file, or name of a definition that ships.
    json
        Print one JSON object.
    """
    import msgspec

    from tradegw import TradegwError
    from tradegw_rest.cases import run_cases
    from tradegw_rest.compiling import compile_definition
    from tradegw_rest.library import source_of
    from tradegw_rest.source import read_source

    try:
        top = read_source(*source_of(definition))
        compiled = compile_definition(top)
        outcomes = list(run_cases(top, compiled))
    except TradegwError as e:
        _fail(e)
    wrong = [one for one in outcomes if one.problem]
    if json:
        cases = [{"case": one.name, "where": one.where, "problem": one.problem} for one in outcomes]
        told = {"definition": compiled.name, "ok": not wrong, "cases": cases}
        _print(msgspec.json.encode(told).decode())
    else:
        for one in wrong:
            _print(f"{one.where}: case {one.name!r}: {one.problem}")
        held = len(outcomes) - len(wrong)
        _print(
            f"{compiled.name}: {len(compiled.operations)} operations, "
            f"{len(compiled.errors.rules)} rules of errors, {held} of {len(outcomes)} cases hold"
        )
    if wrong:
        raise SystemExit(1)


def _render(
    definition: str,
    operation: str,
    /,
    *,
    order: str | None = None,
    key: _Text = "",
    secret: _Text = "",
    passphrase: _Text | None = None,
    clock_ms: int | None = None,
    nonce: str | None = None,
    instrument: str | None = None,
    host: str = "live",
    json: _Json = False,
) -> None:
    """Show what would be sent for an operation, signed. Nothing is sent.

    Parameters
    ----------
    definition
        Name of a definition, or path of a file.
    operation
        Such as place, cancel, replace, order, open-orders, fills, balances.
    order
        JSON, in the field names of orders: symbol, side, ord_type, order_qty, price, client_order_id ...
    key
        API key.
    secret
        Its secret.
    passphrase
        Its passphrase, where there is one.
    clock_ms
        The venue's clock, milliseconds since the epoch. Default: this machine's.
    nonce
        The nonce to sign with. Default: from the definition's source.
    instrument
        JSON: venue_symbol, tick_size, step_size. Default: a sample of the definition.
    host
        Environment: live, test ...
    json
        Print one JSON object: method, url, headers, body.
    """
    import time

    import msgspec

    from tradegw import TradegwError
    from tradegw.venue import Secret
    from tradegw_rest.library import load
    from tradegw_rest.render import operation_named, render
    from tradegw_rest.signers import Credentials

    try:
        request = render(
            load(definition),
            operation_named(operation),
            order=_object(order, "--order"),
            instrument=_object(instrument, "--instrument"),
            credentials=Credentials(
                key=Secret(key),
                secret=Secret(secret),
                passphrase=None if passphrase is None else Secret(passphrase),
            ),
            clock_ms=time.time_ns() // 1_000_000 if clock_ms is None else clock_ms,
            nonce=nonce,
            host=host,
        )
    except TradegwError as e:
        _fail(e)
    if json:
        shown = {
            "method": request.method,
            "url": request.url,
            "headers": dict(request.headers),
            "body": request.body,
        }
        _print(msgspec.json.encode(shown).decode())
        return
    _print(f"{request.method} {request.url}")
    for name, value in request.headers.items():
        _print(f"{name}: {value}")
    if request.body:
        _print(f"\n{request.body}")


def _object(text: str | None, name: str) -> dict[str, Any] | None:
    """Read JSON from the command line; its numbers keep their digits."""
    from tradegw import ConfigError, TranslationError
    from tradegw_rest.wire import read_json

    if text is None:
        return None
    try:
        value = read_json(text)
    except TranslationError as e:
        raise ConfigError(f"{name} must be JSON: {e}") from e
    if not isinstance(value, dict):
        raise ConfigError(f"{name} must be a JSON object; found {text[:60]!r}")
    return value  # pyright: ignore[reportUnknownVariableType]


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _fail(error: Exception) -> NoReturn:
    sys.stderr.write(f"tradegw rest: {error}\n")
    raise SystemExit(1)
