"""The store goes away under load, and comes back elsewhere: the exchange's books are the witness.

The gateway lives through it. Its callers ask again with the same key whenever they are told to, and remember
what they were told. In the end each key has one order, and record, stream and exchange agree.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from tradegw_mock.testing import MockProcess

import tradegw
from codegen.postgres import BundledServer, PostgresUnavailable, database, restartable_server
from tests.e2e.ledgers import (
    Folded,
    all_orders,
    check_claim,
    exchange_trades,
    told_trades,
)
from tests.e2e.orders import an_order, is_settled
from tests.e2e.processes import until, verify, write_config
from tests.e2e.test_kills import Tell, read
from tests.postgres_proxy import Cut, proxy_to
from tests.postgres_servers import NAMES, make_store, unavailable
from tradegw import Gateway, Order
from tradegw.store.postgres_connections import tell_durability

CALLERS = 12
SETTLE_S = 60.0
ASK_AGAIN_S = 0.02

TOLD = {"STORE_UNAVAILABLE", "RECONCILING"}
"""What callers may be told: that nothing was stored, or that the account is being read anew."""


class Load:
    """Callers that place orders until they are told to stop."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._is_over = False
        self._placed = asyncio.Event()
        self.orders: dict[str, Order] = {}
        self.told: Counter[str] = Counter()
        self.texts: set[str] = set()

    async def call(self, caller: int) -> None:
        number = 0
        while not self._is_over:
            key = f"k1-c{caller}-o{number}"
            try:
                self.orders[key] = await self._gateway.place_order(**an_order(key))
            except tradegw.Unavailable as e:
                self.told[e.reason] += 1
                self.texts.add(str(e))
                await asyncio.sleep(ASK_AGAIN_S)
            else:
                number += 1
                self._placed.set()

    async def placed(self, count: int) -> None:
        """Wait for so many more."""
        wanted = len(self.orders) + count
        while len(self.orders) < wanted:
            self._placed.clear()
            await self._placed.wait()

    def stop(self) -> None:
        self._is_over = True


async def trade_through(
    exchange: MockProcess,
    directory: Path,
    store: str,
    outage: Callable[[Load], Awaitable[None]],
    tell: Tell,
    what: str,
) -> Load:
    config = write_config(
        directory, {"mock": exchange.url}, {"paper": {"venue": "mock"}}, store=store
    )
    async with tradegw.open(config) as gateway:
        await until(lambda: is_settled(gateway), SETTLE_S, "the account is ready")
        load, folded = Load(gateway), Folded()
        async with asyncio.TaskGroup() as group:
            for caller in range(CALLERS):
                group.create_task(load.call(caller))
            await outage(load)
            load.stop()
        await until(lambda: is_settled(gateway), SETTLE_S, "nothing is in doubt")
        await folded.read(gateway, to_head=True)
        orders = await all_orders(gateway)
    ledger = read(exchange)
    claim = check_claim(orders, ledger)
    by_key = {str(order.idempotency_key): order.order_id for order in orders}
    assert len(by_key) == len(orders)
    # What was told to be stored is, and what came of a key that was asked again is one order.
    assert by_key == {key: order.order_id for key, order in load.orders.items()}
    assert told_trades(folded.fills) == exchange_trades(ledger)
    assert set(load.told) <= TOLD, load.told
    verify(config)
    tell(f"{what}: {claim.orders} orders, {claim.fills} fills, told meanwhile {dict(load.told)}")
    return load


@contextmanager
def own_server() -> Iterator[BundledServer]:
    try:
        with restartable_server() as server:
            yield server
    except PostgresUnavailable as e:
        unavailable(NAMES[0], e)


def ask(url: str, statement: str) -> int:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(statement.encode()).fetchone()
        return 0 if row is None else int(row[0])


def command(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


# --- a standby is promoted ------------------------------------------------------------------------


_WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


async def promote(
    exchange: MockProcess,
    directory: Path,
    tell: Tell,
    caplog: pytest.LogCaptureFixture,
    *,
    count: int,
) -> None:
    with own_server() as primary, primary.standby() as standby:
        # It is never dropped: in the end nobody can write there.
        command(primary.url, "CREATE DATABASE tradegw")
        url = f"{primary.url.rpartition('/')[0]}/tradegw"

        async def warns() -> bool:
            is_kept, told = await tell_durability(url)
            return not is_kept and "1 follow, and none confirms" in told

        await until(warns, SETTLE_S, "the standby follows, asynchronously")
        command(
            primary.url,
            "ALTER SYSTEM SET synchronous_standby_names = '*'",
            "SELECT pg_reload_conf()",
        )
        make_store(url)
        assert await tell_durability(url) == (True, "synchronous_commit = on, confirmed by *")
        hosts = ",".join(
            server.url.partition("@")[2].partition("/")[0] for server in (primary, standby)
        )
        store = f"postgresql://postgres@{hosts}/tradegw?target_session_attrs=read-write"

        async def outage(load: Load) -> None:
            async def waits() -> bool:
                return bool(await asyncio.to_thread(ask, primary.url, _WAITING))

            await load.placed(count)
            await asyncio.to_thread(command, standby.url, "SELECT pg_promote()")
            # The deposed one has nobody who confirms: whoever asks it is told nothing.
            await until(waits, SETTLE_S, "a commit waits for the standby")
            known = len(load.orders)
            assert await waits()
            assert len(load.orders) == known
            assert load.told == {}
            # It is fenced: whenever it is back, it refuses to be written.
            await asyncio.to_thread(
                command, primary.url, "ALTER SYSTEM SET default_transaction_read_only = on"
            )
            await asyncio.to_thread(primary.stop)
            await load.placed(count)
            await asyncio.to_thread(primary.start)
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                await asyncio.to_thread(command, url, "DELETE FROM halt")
            await load.placed(count)

        load = await trade_through(exchange, directory, store, outage, tell, "a standby promoted")
        # The commit that was cut may have been that of the venue's reports: then nobody's call was in it, and
        # those who call meanwhile hear that the account is being read anew. What it left was found out.
        assert load.told
        assert "COMMIT failed" in caplog.text
        assert "that COMMIT is found" in caplog.text


@pytest.mark.timeout(240)
async def test_a_synchronous_standby_is_promoted_under_load(
    exchange: MockProcess, tmp_path: Path, tell: Tell, caplog: pytest.LogCaptureFixture
) -> None:
    await promote(exchange, tmp_path, tell, caplog, count=25)


@pytest.mark.long
@pytest.mark.timeout(1200)
async def test_a_synchronous_standby_is_promoted_under_more_load(
    exchange: MockProcess, tmp_path: Path, tell: Tell, caplog: pytest.LogCaptureFixture
) -> None:
    await promote(exchange, tmp_path, tell, caplog, count=1500)


# --- a server is restarted, connections are cut ---------------------------------------------------


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("how", ["stop", "crash"])
async def test_a_server_is_restarted_under_load(
    exchange: MockProcess, tmp_path: Path, tell: Tell, how: str
) -> None:
    with own_server() as server, database(server.url) as url:
        make_store(url)

        async def outage(load: Load) -> None:
            for _ in range(5):
                await load.placed(300)
                await asyncio.to_thread(server.stop if how == "stop" else server.crash)
                await asyncio.to_thread(server.start)
            await load.placed(300)

        load = await trade_through(exchange, tmp_path, url, outage, tell, f"5 restarts ({how})")
        assert load.told["STORE_UNAVAILABLE"]


@pytest.mark.long
@pytest.mark.timeout(1200)
async def test_commits_are_cut_under_load(
    exchange: MockProcess, tmp_path: Path, tell: Tell
) -> None:
    with own_server() as server, database(server.url) as url:
        make_store(url)
        async with proxy_to(url) as proxy:

            async def outage(load: Load) -> None:
                for number in range(30):
                    proxy.was_cut.clear()
                    proxy.late.clear()
                    proxy.next_cut = (Cut.BEFORE, Cut.AFTER, Cut.LATE)[number % 3]
                    await proxy.was_cut.wait()
                    await load.placed(20)
                    proxy.late.set()

            load = await trade_through(
                exchange, tmp_path, proxy.url, outage, tell, "30 commits cut"
            )
            assert any("it was undone" in text for text in load.texts), load.texts
