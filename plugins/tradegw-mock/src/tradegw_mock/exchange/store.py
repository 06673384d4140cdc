"""Durability: one SQLite file that holds the whole exchange, committed change by change.

What `commit` returned from survives `kill -9` and a loss of power (WAL, `synchronous=FULL`). An
OS lock beside the file keeps a second process out.
"""

# Names of tables and columns are constants of this package.
# ruff: noqa: S608

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from .core import new_state
from .errors import StoreError, StoreInUse
from .model import (
    AccountState,
    ApiKey,
    AuditDetail,
    AuditRecord,
    Balance,
    Change,
    Counters,
    Fill,
    MarketState,
    Order,
    State,
)
from .schema import (
    APPLICATION_ID,
    FILL_FIELDS,
    INSERT_FILL,
    MAX_INT,
    ORDER_FIELDS,
    SCHEMA_VERSION,
    SELECT_FILL,
    SELECT_ORDER,
    STATEMENTS,
    UPGRADES,
    UPSERT_ORDER,
    insert,
    row,
    text,
    upsert,
    value_of,
)

_ACCOUNT = AccountState.__struct_fields__
_MARKET = MarketState.__struct_fields__
_API_KEY = ApiKey.__struct_fields__
_COUNTERS = Counters.__struct_fields__
_UPSERT_ACCOUNT = upsert("account", _ACCOUNT[:1], _ACCOUNT[1:])
_UPSERT_API_KEY = upsert("api_key", _API_KEY[:1], _API_KEY[1:])
_UPSERT_MARKET = upsert("market", _MARKET[:1], _MARKET[1:])
_UPSERT_BALANCE = upsert("balance", ("account", "asset"), ("free", "held"))
_UPSERT_FUNDING = upsert("funding", ("asset",), ("amount",))
_INSERT_AUDIT = insert("audit", ("number", "change", "time_ns", "account", "detail"))

_encoder = msgspec.json.Encoder()
_detail_decoder: msgspec.json.Decoder[AuditDetail] = msgspec.json.Decoder(AuditDetail)


class Store:
    """The file of one exchange, opened for this process alone.

    `commit` may run in another thread than the queries, one commit at a time.

    Args:
        path: The file, made when it is missing.
        clock: Nanoseconds since the epoch, to date a new file.

    Raises:
        StoreInUse: Another process holds the file.
        StoreError: It is not ours, of a newer schema, corrupt, or cannot be written.
    """

    def __init__(self, path: str | Path, *, clock: Callable[[], int]) -> None:
        self.path = Path(path)
        self._lock = _lock(self.path)
        try:
            with _mapped(self.path):
                self._writer = self._connect()
                self._reader = self._connect()
                self._create_or_check(clock())
                self._reader.execute("PRAGMA query_only = ON")
                (last,) = self._reader.execute("SELECT change FROM instance").fetchone()
                self._last_change: int = last
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file and let go of it; harmless when done twice."""
        for name in ("_reader", "_writer"):
            connection: sqlite3.Connection | None = getattr(self, name, None)
            if connection is not None:
                connection.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    # Writing

    def commit_one(self, change: Change) -> None:
        """Commit one change; what `Exchange` takes as its journal.

        Raises:
            StoreError: See `commit`.
        """
        self.commit((change,))

    def commit(self, changes: Sequence[Change]) -> None:
        """Commit changes in one transaction: durable when this returns.

        They must follow on the last committed one without a gap, so that a change that failed
        to commit can never be skipped.

        Raises:
            StoreError: Nothing of them was committed, or (a failing disk) nobody knows. Stop
                using the exchange and load it again.
        """
        if not changes:
            return
        numbers = [change.number for change in changes]
        first = self._last_change + 1
        if numbers != list(range(first, first + len(numbers))):
            raise StoreError(f"expected changes from {first} on without a gap, found {numbers}")
        with _mapped(self.path):
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                self._write(changes)
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise
        self._last_change = numbers[-1]

    def _write(self, changes: Sequence[Change]) -> None:
        accounts: dict[str, AccountState] = {}
        balances: dict[tuple[str, str], tuple[str, str]] = {}
        orders: dict[int, Order] = {}
        markets: dict[str, MarketState] = {}
        funding: dict[str, str] = {}
        forgotten: dict[int, None] = {}
        for change in changes:
            accounts.update((account.name, account) for account in change.accounts)
            for moved in change.balances:
                key = moved.account, moved.asset
                balances[key] = text(moved.free), text(moved.held)
            orders.update((order.order_id, order) for order in change.orders)
            markets.update((market.symbol, market) for market in change.markets)
            funding.update((asset, text(amount)) for asset, amount in change.funding.items())
            for order_id in change.forgotten:
                orders.pop(order_id, None)
                forgotten[order_id] = None
        many = self._writer.executemany
        many(_UPSERT_ACCOUNT, [row(item) for item in accounts.values()])
        many(_UPSERT_BALANCE, [(*key, *amounts) for key, amounts in balances.items()])
        many(_UPSERT_FUNDING, list(funding.items()))
        many(_UPSERT_MARKET, [row(item) for item in markets.values()])
        many(
            UPSERT_ORDER,
            [[*row(order), order.is_open] for order in orders.values()],
        )
        many(
            INSERT_FILL,
            [row(fill) for change in changes for fill in change.fills],
        )
        for change in changes:
            # In order: a key may be taken away and given again.
            many(_UPSERT_API_KEY, [row(key) for key in change.api_keys])
            many(
                "DELETE FROM api_key WHERE api_key = ?",
                [(key,) for key in change.deleted_api_keys],
            )
        many("DELETE FROM orders WHERE order_id = ?", [(order_id,) for order_id in forgotten])
        many(
            _INSERT_AUDIT,
            [
                (
                    record.number,
                    record.change,
                    record.time_ns,
                    record.account,
                    _encoder.encode(record.detail).decode(),
                )
                for change in changes
                for record in change.audit()
            ],
        )
        self._write_counters(changes[-1].counters)

    def _write_counters(self, counters: Counters) -> None:
        updates = ", ".join(f"{field} = ?" for field in _COUNTERS)
        self._writer.execute(f"UPDATE instance SET {updates}", row(counters))

    # Reading

    def load(self) -> State:
        """Rebuild the exchange as last committed.

        Raises:
            StoreError: The file cannot be read.
        """
        with _mapped(self.path):
            self._reader.execute("BEGIN")
            try:
                return self._load(self._reader)
            finally:
                self._reader.execute("COMMIT")

    def _load(self, db: sqlite3.Connection) -> State:
        (instance_id,) = db.execute("SELECT instance_id FROM instance").fetchone()
        counters = db.execute(f"SELECT {', '.join(_COUNTERS)} FROM instance").fetchone()
        balances: dict[str, list[Balance]] = {}
        for account, *columns in db.execute("SELECT account, asset, free, held FROM balance"):
            balance = value_of(Balance, ("asset", "free", "held"), tuple(columns))
            balances.setdefault(account, []).append(balance)
        funding = db.execute("SELECT asset, amount FROM funding").fetchall()
        return State(
            instance_id=instance_id,
            counters=value_of(Counters, _COUNTERS, counters),
            accounts=tuple(
                value_of(AccountState, _ACCOUNT, columns)
                for columns in db.execute(
                    f"SELECT {', '.join(_ACCOUNT)} FROM account ORDER BY rowid"
                )
            ),
            balances={account: tuple(items) for account, items in balances.items()},
            open_orders=tuple(
                value_of(Order, ORDER_FIELDS, columns)
                for columns in db.execute(f"{SELECT_ORDER} WHERE is_open = 1 ORDER BY order_id")
            ),
            markets=tuple(
                value_of(MarketState, _MARKET, columns)
                for columns in db.execute(f"SELECT {', '.join(_MARKET)} FROM market")
            ),
            funding=msgspec.convert(dict(funding), dict[str, Decimal]),
            api_keys=tuple(
                value_of(ApiKey, _API_KEY, columns)
                for columns in db.execute(
                    f"SELECT {', '.join(_API_KEY)} FROM api_key ORDER BY rowid"
                )
            ),
        )

    def find_order(self, order_id: int) -> Order | None:
        """Find a closed order."""
        orders = self._orders("order_id = ? AND is_open = 0", (order_id,), 1)
        return orders[0] if orders else None

    def find_latest(self, account: str, client_order_id: str) -> Order | None:
        """Find the latest closed order of a client order id."""
        orders = self._orders(
            "account = ? AND client_order_id = ? AND is_open = 0",
            (account, client_order_id),
            1,
            "DESC",
        )
        return orders[0] if orders else None

    def list_orders(
        self,
        account: str | None,
        symbol: str | None,
        since_ns: int,
        after: int,
        limit: int,
        *,
        newest: bool = False,
    ) -> list[Order]:
        """List closed orders updated at or after a time, by rising id; `newest`: by falling id."""
        where, values = _where(("account", account), ("symbol", symbol))
        where += " AND order_id > ? AND updated_time_ns >= ? AND is_open = 0"
        direction = "DESC" if newest else "ASC"
        return self._orders(where, (*values, after, since_ns), limit, direction)

    def list_fills(
        self,
        account: str | None,
        symbol: str | None,
        order_id: int | None,
        after: int,
        limit: int,
        *,
        newest: bool = False,
    ) -> list[Fill]:
        """List fills by rising trade id, the maker's side first; `newest`: the other way round."""
        where, values = _where(("account", account), ("symbol", symbol), ("order_id", order_id))
        direction = "DESC" if newest else "ASC"
        by = f"trade_id {direction}, liquidity {direction}"
        sql = f"{SELECT_FILL} WHERE {where} AND trade_id > ? ORDER BY {by} LIMIT ?"
        rows = self._read(sql, (*values, after, limit))
        return [value_of(Fill, FILL_FIELDS, columns) for columns in rows]

    def list_audit(self, after: int, limit: int) -> list[AuditRecord]:
        """List the audit trail by rising number."""
        sql = (
            "SELECT number, change, time_ns, account, detail FROM audit "
            "WHERE number > ? ORDER BY number LIMIT ?"
        )
        return [
            AuditRecord(
                number=number,
                change=change,
                time_ns=time_ns,
                account=account,
                detail=_detail_decoder.decode(detail),
            )
            for number, change, time_ns, account, detail in self._read(sql, (after, limit))
        ]

    def _orders(
        self, where: str, values: tuple[object, ...], limit: int, direction: str = "ASC"
    ) -> list[Order]:
        sql = f"{SELECT_ORDER} WHERE {where} ORDER BY order_id {direction} LIMIT ?"
        rows = self._read(sql, (*values, limit))
        return [value_of(Order, ORDER_FIELDS, columns) for columns in rows]

    def _read(self, sql: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
        with _mapped(self.path):
            return self._reader.execute(sql, [_bindable(item) for item in values]).fetchall()

    # Opening

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise StoreError(f"{self.path}: expected journal mode wal, found {mode}")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        return connection

    def _create_or_check(self, now_ns: int) -> None:
        db = self._writer
        (tables,) = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        (application,) = db.execute("PRAGMA application_id").fetchone()
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if tables and application != APPLICATION_ID:
            raise StoreError(f"{self.path} is a database, but not of a mock exchange")
        if version > SCHEMA_VERSION or (tables and version < 1):
            raise StoreError(
                f"{self.path}: expected schema version {SCHEMA_VERSION}, found {version}"
            )
        if tables:
            self._upgrade(version)
            return
        state = new_state(now_ns)
        db.execute("BEGIN IMMEDIATE")
        for statement in STATEMENTS:
            db.execute(statement)
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        db.execute(
            insert("instance", ("only_row", "instance_id", *_COUNTERS)),
            (1, state.instance_id, *row(state.counters)),
        )
        db.executemany(insert("account", _ACCOUNT), [row(account) for account in state.accounts])
        db.execute("COMMIT")

    def _upgrade(self, version: int) -> None:
        db = self._writer
        db.execute("BEGIN IMMEDIATE")
        for older in range(version, SCHEMA_VERSION):
            for statement in UPGRADES[older]:
                db.execute(statement)
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        db.execute("COMMIT")


def _where(*conditions: tuple[str, str | int | None]) -> tuple[str, tuple[str | int, ...]]:
    given = [(column, value) for column, value in conditions if value is not None]
    sql = " AND ".join(f"{column} = ?" for column, _ in given) or "1"
    return sql, tuple(value for _, value in given)


def _bindable(item: object) -> object:
    """Bring what strangers ask for, and SQLite cannot hold, to something that matches nothing."""
    if isinstance(item, int):
        return max(-MAX_INT, min(item, MAX_INT))
    return item.encode(errors="replace").decode() if isinstance(item, str) else item


@contextmanager
def _mapped(path: Path) -> Generator[None]:
    try:
        yield
    except (sqlite3.Error, msgspec.ValidationError) as e:
        raise StoreError(f"{path}: {e}") from e


def _lock(path: Path) -> int | None:
    """Take the OS lock beside a file; it ends with the process, however that ends."""
    beside = path.with_name(path.name + ".lock")
    try:
        handle = os.open(beside, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as e:
        raise StoreError(f"{path} cannot be opened: {e}") from e
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(handle, 32).decode(errors="replace").strip()
        os.close(handle)
        raise StoreInUse(f"{path} is served by another process (pid {holder or '?'})") from None
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
    return handle
