"""The tables of an exchange's file, and how values become rows and back.

Decimals are TEXT without exponent, so that SQLite never makes a binary float of them, and a
person can read the ledger with any SQLite tool.
"""

# Names of tables and columns are constants of this package.
# ruff: noqa: S608

from __future__ import annotations

from decimal import Decimal
from typing import Final, TypeVar

import msgspec

from .model import AccountState, ApiKey, Counters, Fill, MarketState, Order, Value

SCHEMA_VERSION: Final = 2
APPLICATION_ID: Final = 0x7467_6D6B
"""Says in the file's header that it is ours."""

MAX_INT: Final = 2**63 - 1

_API_KEYS: Final = """
    CREATE TABLE api_key (
        api_key TEXT PRIMARY KEY,
        account TEXT NOT NULL REFERENCES account (name),
        kind TEXT NOT NULL,
        secret TEXT NOT NULL,
        can_trade INTEGER NOT NULL,
        created_time_ns INTEGER NOT NULL
    ) STRICT
    """

UPGRADES: Final = {1: (_API_KEYS,)}
"""What a file of an older version needs to become one of the next."""

STATEMENTS: Final = (
    _API_KEYS,
    """
    CREATE TABLE instance (
        only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
        instance_id TEXT NOT NULL,
        change INTEGER NOT NULL,
        order_id INTEGER NOT NULL,
        trade_id INTEGER NOT NULL,
        priority INTEGER NOT NULL,
        audit INTEGER NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE account (
        name TEXT PRIMARY KEY,
        kind TEXT NOT NULL,
        maker_fee TEXT NOT NULL,
        taker_fee TEXT NOT NULL,
        created_time_ns INTEGER NOT NULL,
        last_event INTEGER NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE balance (
        account TEXT NOT NULL REFERENCES account (name),
        asset TEXT NOT NULL,
        free TEXT NOT NULL,
        held TEXT NOT NULL,
        PRIMARY KEY (account, asset)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE funding (
        asset TEXT PRIMARY KEY,
        amount TEXT NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE market (
        symbol TEXT PRIMARY KEY,
        last_price TEXT,
        path_price TEXT,
        path_step INTEGER NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE orders (
        order_id INTEGER PRIMARY KEY,
        account TEXT NOT NULL REFERENCES account (name),
        symbol TEXT NOT NULL,
        client_order_id TEXT,
        side TEXT NOT NULL,
        ord_type TEXT NOT NULL,
        time_in_force TEXT NOT NULL,
        order_qty TEXT,
        quote_qty TEXT,
        price TEXT,
        trigger_price TEXT,
        triggered INTEGER NOT NULL,
        post_only INTEGER NOT NULL,
        expire_time_ns INTEGER,
        self_trade_prevention TEXT NOT NULL,
        ord_status TEXT NOT NULL,
        cum_qty TEXT NOT NULL,
        cum_quote TEXT NOT NULL,
        held TEXT NOT NULL,
        priority INTEGER NOT NULL,
        created_time_ns INTEGER NOT NULL,
        updated_time_ns INTEGER NOT NULL,
        working_time_ns INTEGER,
        reason TEXT,
        is_open INTEGER NOT NULL
    ) STRICT
    """,
    "CREATE INDEX orders_open ON orders (order_id) WHERE is_open = 1",
    "CREATE INDEX orders_by_account ON orders (account, order_id)",
    """
    CREATE INDEX orders_by_client_order_id ON orders (account, client_order_id, order_id)
    WHERE client_order_id IS NOT NULL
    """,
    """
    CREATE TABLE fill (
        trade_id INTEGER NOT NULL,
        order_id INTEGER NOT NULL REFERENCES orders (order_id),
        client_order_id TEXT,
        account TEXT NOT NULL REFERENCES account (name),
        symbol TEXT NOT NULL,
        side TEXT NOT NULL,
        price TEXT NOT NULL,
        qty TEXT NOT NULL,
        quote_qty TEXT NOT NULL,
        fee TEXT NOT NULL,
        fee_asset TEXT NOT NULL,
        liquidity TEXT NOT NULL,
        time_ns INTEGER NOT NULL,
        PRIMARY KEY (trade_id, liquidity)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX fill_by_account ON fill (account, trade_id)",
    "CREATE INDEX fill_by_order ON fill (order_id, trade_id)",
    """
    CREATE TABLE audit (
        number INTEGER PRIMARY KEY,
        change INTEGER NOT NULL,
        time_ns INTEGER NOT NULL,
        account TEXT,
        detail TEXT NOT NULL
    ) STRICT
    """,
)

ORDER_FIELDS: Final = Order.__struct_fields__
FILL_FIELDS: Final = Fill.__struct_fields__
_FIXED: Final = frozenset(
    {
        "order_id",
        "account",
        "symbol",
        "side",
        "ord_type",
        "time_in_force",
        "quote_qty",
        "trigger_price",
        "post_only",
        "expire_time_ns",
        "self_trade_prevention",
        "created_time_ns",
    }
)


def insert(table: str, fields: tuple[str, ...]) -> str:
    """Write the INSERT of a table."""
    return f"INSERT INTO {table} ({', '.join(fields)}) VALUES ({', '.join('?' * len(fields))})"


def upsert(table: str, key: tuple[str, ...], fields: tuple[str, ...]) -> str:
    """Write the INSERT of a table that updates the row of the same key."""
    updates = ", ".join(f"{field} = excluded.{field}" for field in fields)
    return f"{insert(table, key + fields)} ON CONFLICT ({', '.join(key)}) DO UPDATE SET {updates}"


UPSERT_ORDER: Final = (
    insert("orders", (*ORDER_FIELDS, "is_open"))
    + " ON CONFLICT (order_id) DO UPDATE SET "
    + ", ".join(f"{f} = excluded.{f}" for f in (*ORDER_FIELDS, "is_open") if f not in _FIXED)
)
INSERT_FILL: Final = insert("fill", FILL_FIELDS)
SELECT_ORDER: Final = f"SELECT {', '.join(ORDER_FIELDS)} FROM orders"
SELECT_FILL: Final = f"SELECT {', '.join(FILL_FIELDS)} FROM fill"

_V = TypeVar("_V", bound=Value)


def _positions(fields: tuple[str, ...], decimals: set[str]) -> tuple[int, ...]:
    return tuple(fields.index(field) for field in sorted(decimals))


_DECIMALS: Final[dict[type[Value], tuple[int, ...]]] = {
    Order: _positions(
        ORDER_FIELDS,
        {"order_qty", "quote_qty", "price", "trigger_price", "cum_qty", "cum_quote", "held"},
    ),
    Fill: _positions(FILL_FIELDS, {"price", "qty", "quote_qty", "fee"}),
    AccountState: _positions(AccountState.__struct_fields__, {"maker_fee", "taker_fee"}),
    ApiKey: (),
    MarketState: _positions(MarketState.__struct_fields__, {"last_price", "path_price"}),
    Counters: (),
}


def row(value: Value) -> list[object]:
    """Take a value apart into what SQLite stores, field by field."""
    # In C, where a Decimal becomes what `str` makes of it, which may have an exponent.
    columns = list(msgspec.to_builtins(value).values())
    for position in _DECIMALS[type(value)]:
        column = columns[position]
        if column is not None and "E" in column:
            columns[position] = text(Decimal(column))
    return columns


def text(amount: Decimal) -> str:
    """Write a decimal without exponent."""
    return format(amount, "f")


def value_of(kind: type[_V], fields: tuple[str, ...], columns: tuple[object, ...]) -> _V:
    """Put a value together from its row."""
    items = dict(zip(fields, columns, strict=True))
    for field in ("triggered", "post_only", "can_trade"):
        if field in items:
            items[field] = bool(items[field])
    return msgspec.convert(items, kind)
