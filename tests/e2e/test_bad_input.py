"""Bad input, through the doors of a real gateway: each is refused with what was expected and found.

And it loses nothing: the record is the same before and after, the gateway lives and trades on.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import resource
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from tradegw_mock.exchange import OrderRequest
from tradegw_mock.exchange import OrdType as MockOrdType
from tradegw_mock.exchange import Side as MockSide
from tradegw_mock.native.client import open_client
from tradegw_mock.requests import Place
from tradegw_mock.testing import MockProcess

import tradegw
from tests.e2e.ledgers import all_orders, check_claim, recorded_orders
from tests.e2e.orders import an_order, is_settled
from tests.e2e.processes import TRADEGW, readiness, run, serving, until, verify, write_config
from tests.e2e.processes import tradegw as command
from tradegw import Order
from tradegw.trading.v1 import enums_pb2, order_pb2, trading_gateway_pb2_grpc
from tradegw.trading.v1 import trading_gateway_pb2 as pb
from tradegw.transports.grpc.asked import place_request
from tradegw.transports.grpc.errors import read_status
from tradegw.transports.grpc.retry import translate

STRANGER = "6f1ce0a2-3f1d-4a55-9df6-6b2a8e2f9d10"
KEY = "used"


class Door:
    """A gateway that is served, with one order that rests.

    Attributes:
        rests: That order; its key is `KEY`, its client order id too.
    """

    def __init__(self, target: str, config: Path, rests: Order) -> None:
        self.target = target
        self.config = config
        self.rests = rests


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    directory = tmp_path_factory.mktemp("door")
    with MockProcess(store=directory / "exchange.db", accounts=["paper"]) as exchange:
        config = write_config(directory, {"mock": exchange.url}, {"paper": {"venue": "mock"}})
        with serving(directory, config=config) as served:

            async def rest() -> Order:
                async with tradegw.connect(served.grpc) as gateway:
                    return await gateway.place_order(
                        account="paper",
                        symbol="BTC/USDT",
                        side="buy",
                        ord_type="limit",
                        order_qty="0.01",
                        price="50000",
                        client_order_id=KEY,
                    )

            yield Door(served.grpc, config, asyncio.run(rest()))
            assert served.is_alive
            assert served.stop() == 0
    assert "Traceback" not in served.log.read_text("utf-8")


@asynccontextmanager
async def nothing_changes(door: Door) -> AsyncIterator[None]:
    """Hold the record before to the record after, and see that the gateway still answers."""
    before, heads = await recorded_orders(door.config), verify(door.config)
    yield
    async with tradegw.connect(door.target, timeout_s=5) as gateway:
        assert await gateway.get_order(door.rests.order_id) == door.rests
        assert await is_settled(gateway)
    assert await recorded_orders(door.config) == before
    assert verify(door.config) == heads


def a_request(*, price: str = "50000", **fields: Any) -> pb.PlaceOrderRequest:
    """Return a good request but for the given fields; None leaves one out."""
    good = {
        "account": "paper",
        "symbol": "BTC/USDT",
        "side": enums_pb2.SIDE_BUY,
        "time_in_force": enums_pb2.TIME_IN_FORCE_GTC,
        "order_qty": "0.01",
        **fields,
    }
    given = {name: value for name, value in good.items() if value is not None}
    return pb.PlaceOrderRequest(
        order=order_pb2.NewOrder(limit=order_pb2.LimitTerms(price=price), **given)
    )


PLAIN = "a plain decimal such as 0.01, without exponent"
BAD_ORDERS: Sequence[tuple[str, Mapping[str, Any], str, Sequence[str]]] = [
    ("unknown symbol", {"symbol": "DOGE/USDT"}, "UNKNOWN_SYMBOL", ["DOGE/USDT", "BTC/USDT"]),
    ("unknown account", {"account": "nobody"}, "UNKNOWN_ACCOUNT", ["nobody", "paper"]),
    ("unknown venue", {"account": None, "venue": "acme"}, "NO_ROUTE", ["acme", "paper"]),
    ("price off the tick", {"price": "50000.001"}, "PRICE_OFF_TICK", ["50000.001", "0.01"]),
    ("quantity off the step", {"order_qty": "0.000001"}, "QTY_OFF_STEP", ["0.000001", "0.00001"]),
    ("negative quantity", {"order_qty": "-1"}, "INVALID_FIELD", ["above zero", "-1"]),
    ("zero", {"order_qty": "0"}, "INVALID_FIELD", ["above zero", "found 0"]),
    ("not a number", {"order_qty": "NaN"}, "INVALID_FIELD", [PLAIN, "NaN"]),
    ("infinite", {"order_qty": "Infinity"}, "INVALID_FIELD", [PLAIN, "Infinity"]),
    ("too many digits", {"order_qty": "9" * 60}, "INVALID_FIELD", ["38 digits", "999"]),
    ("huge", {"order_qty": "9" * 20}, "QTY_TOO_LARGE", ["9" * 20, "100000"]),
    ("exponent", {"order_qty": "1e-2"}, "INVALID_FIELD", [PLAIN, "1e-2"]),
    ("other digits", {"order_qty": "\u0661"}, "INVALID_FIELD", [PLAIN, "\u0661"]),
    ("no quantity", {"order_qty": None}, "INVALID_QUANTITY", ["exactly one", "neither"]),
    (
        # On the wire they are a `oneof`, so both cannot be said; the last one counts.
        "quantity of the wrong kind",
        {"order_qty": None, "quote_qty": "500"},
        "INVALID_QUANTITY",
        ["MARKET", "LIMIT"],
    ),
    (
        "reused key",
        {"client_order_id": KEY, "price": "40000"},
        "IDEMPOTENCY_KEY_REUSED",
        [KEY, "other parameters"],
    ),
    (
        "known client order id under another key",
        {"client_order_id": KEY, "idempotency_key": "another"},
        "DUPLICATE_CLIENT_ORDER_ID",
        [KEY],
    ),
    ("unknown enum number", {"side": 77}, "INVALID_FIELD", ["SIDE_BUY, SIDE_SELL", "77"]),
    ("unknown time in force", {"time_in_force": 99}, "INVALID_FIELD", ["TIME_IN_FORCE_GTC", "99"]),
    ("no side", {"side": 0}, "INVALID_FIELD", ["SIDE_BUY, SIDE_SELL", "nothing"]),
    (
        "control characters",
        {"client_order_id": "a\x00\n"},
        "INVALID_FIELD",
        ["printable ASCII", "a\\x00\\n"],
    ),
]


@pytest.mark.parametrize(
    ("fields", "reason", "says"),
    [pytest.param(*case, id=name) for name, *case in BAD_ORDERS],
)
async def test_bad_order_on_the_wire(
    door: Door, fields: Mapping[str, Any], reason: str, says: Sequence[str]
) -> None:
    async with nothing_changes(door), grpc.aio.insecure_channel(door.target) as channel:
        stub = trading_gateway_pb2_grpc.TradingGatewayStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.PlaceOrder(a_request(**fields), timeout=60)
    error = read_status(refused.value)
    assert error is not None, refused.value
    assert error.reason == reason, error
    assert not isinstance(error, tradegw.Unavailable)
    for text in says:
        assert text in str(error)


BAD_COMMANDS: Sequence[tuple[str, Mapping[str, str], str, Sequence[str]]] = [
    ("unknown symbol", {"--symbol": "DOGE/USDT"}, "UNKNOWN_SYMBOL", ["DOGE/USDT", "BTC/USDT"]),
    ("unknown account", {"--account": "nobody"}, "UNKNOWN_ACCOUNT", ["nobody", "paper"]),
    ("price off the tick", {"--price": "50000.001"}, "PRICE_OFF_TICK", ["50000.001", "0.01"]),
    ("negative quantity", {"--qty": "-1"}, "INVALID_FIELD", ["above zero", "-1"]),
    ("not a number", {"--qty": "NaN"}, "INVALID_FIELD", [PLAIN, "NaN"]),
    ("exponent", {"--qty": "1e-2"}, "INVALID_FIELD", [PLAIN, "1e-2"]),
    ("both quantities", {"--quote-qty": "500"}, "INVALID_QUANTITY", ["exactly one", "both"]),
    ("unknown side", {"--side": "up"}, "INVALID_FIELD", ["BUY, SELL", "up"]),
    ("reused key", {"--client-order-id": KEY, "--qty": "1"}, "IDEMPOTENCY_KEY_REUSED", [KEY]),
]


@pytest.mark.parametrize(
    ("options", "reason", "says"), [pytest.param(*case, id=name) for name, *case in BAD_COMMANDS]
)
async def test_bad_order_on_the_command_line(
    door: Door, options: Mapping[str, str], reason: str, says: Sequence[str]
) -> None:
    good = {
        "--account": "paper",
        "--symbol": "BTC/USDT",
        "--side": "buy",
        "--type": "limit",
        "--qty": "0.01",
        "--price": "50000",
    }
    words = [word for pair in {**good, **options}.items() for word in pair]
    async with nothing_changes(door):
        done = await asyncio.to_thread(
            command, "order", "place", *words, "--json", "--target", door.target, cwd=Path.cwd()
        )
    assert done.returncode == 1
    assert not done.stdout
    error = json.loads(done.stderr)["error"]
    assert error["reason"] == reason
    for text in says:
        assert text in error["text"]


@pytest.mark.parametrize(
    ("cancel", "reason"),
    [
        pytest.param({"order_id": STRANGER}, "UNKNOWN_ORDER", id="nobody's"),
        pytest.param({"order_id": "1 OR 1=1"}, "INVALID_FIELD", id="no id"),
        pytest.param({}, "INVALID_FIELD", id="nothing"),
        pytest.param(
            {"account": "paper", "client_order_id": "theirs"}, "UNKNOWN_ORDER", id="no such name"
        ),
    ],
)
async def test_cancel_of_nothing_of_ours(
    door: Door, cancel: Mapping[str, str], reason: str
) -> None:
    async with nothing_changes(door), grpc.aio.insecure_channel(door.target) as channel:
        stub = trading_gateway_pb2_grpc.TradingGatewayStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.CancelOrder(pb.CancelOrderRequest(**cancel), timeout=60)
    error = read_status(refused.value)
    assert error is not None
    assert error.reason == reason


async def test_message_of_ten_megabytes(door: Door) -> None:
    async with nothing_changes(door), grpc.aio.insecure_channel(door.target) as channel:
        stub = trading_gateway_pb2_grpc.TradingGatewayStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.PlaceOrder(a_request(tags={"a": "x" * 10_000_000}), timeout=60)
    error = translate(refused.value)
    assert isinstance(error, tradegw.InvalidOrder), "not one to be repeated"
    assert error.reason == "MESSAGE_TOO_LARGE"
    assert "4194304" in str(error), "what was expected"
    assert "100000" in str(error), "what was found"


async def test_bytes_that_are_no_message(door: Door) -> None:
    async with nothing_changes(door), grpc.aio.insecure_channel(door.target) as channel:
        call = channel.unary_unary("/tradegw.trading.v1.TradingGateway/PlaceOrder")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(b"\xff\xff\xff", timeout=60)
    error = read_status(refused.value)
    assert error is not None
    assert error.reason == "MALFORMED_MESSAGE"


async def test_strangers_order_is_never_touched(exchange: MockProcess, tmp_path: Path) -> None:
    """Somebody else trades on the same account at the exchange, beside the gateway."""
    host, _, port = exchange.url.rpartition(":")
    config = write_config(tmp_path, {"mock": exchange.url}, {"paper": {"venue": "mock"}})
    theirs = OrderRequest(
        symbol="BTC/USDT",
        side=MockSide.BUY,
        ord_type=MockOrdType.LIMIT,
        order_qty=tradegw.parse_decimal("0.01"),
        price=tradegw.parse_decimal("40000"),
        client_order_id="theirs",
    )
    with serving(tmp_path, config=config) as served:
        async with tradegw.connect(served.grpc) as gateway, open_client(host, int(port)) as other:
            ours = await gateway.place_order(**an_order("k0-c0-o0"))
            await other.ask(Place(account="paper", order=theirs))
            with exchange.ledger() as client:
                (held,) = [o for o in client.orders("paper") if o.client_order_id == "theirs"]
            shown = await gateway.find_order(account="paper", venue_order_id=str(held.order_id))
            if shown is not None:
                assert shown.origin is tradegw.Origin.EXTERNAL
                with pytest.raises(tradegw.Conflict):
                    await gateway.cancel_order(shown.order_id)
            with pytest.raises(tradegw.NotFound):
                await gateway.cancel_order(account="paper", client_order_id="theirs")
            canceled = await gateway.cancel_all_orders(account="paper")
            assert [order.order_id for order in canceled] == [ours.order_id]
        assert await asyncio.to_thread(served.stop) == 0
    with exchange.ledger() as client:
        after = {o.client_order_id: o.ord_status.value for o in client.orders("paper")}
    assert after["theirs"] == "NEW"
    assert after[str(ours.venue_client_order_id)] == "CANCELED"
    verify(config)


# --- the file -------------------------------------------------------------------------------------


def fingerprint(directory: Path) -> Mapping[str, str]:
    """Return a digest of each file that belongs to the store."""
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(directory.glob("tradegw.db*"))
        # Readers make an empty one beside the file.
        if not file.name.endswith((".lock", "-shm")) and file.stat().st_size
    }


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """A configuration whose store holds an order, and that nobody runs."""
    config = tmp_path / "tradegw.toml"
    config.write_text(
        f'[store]\nurl = "sqlite:///{tmp_path}/tradegw.db"\n'
        '[venues.mock]\nplugin = "mock"\n[accounts.paper]\nvenue = "mock"\n',
        "utf-8",
    )

    async def place() -> None:
        async with tradegw.open(config) as gateway:
            await gateway.place_order(**an_order("k0-c0-o0"))

    asyncio.run(place())
    return config


def serve(config: Path, *, through: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    """Run `tradegw serve`, which is expected to give up."""
    words = [*through, *TRADEGW, "serve", "--json", "--port", "0", "--config", str(config)]
    return run(words, cwd=config.parent, timeout_s=30)


def assert_refused(
    done: subprocess.CompletedProcess[str], code: int, reason: str, *says: str
) -> None:
    assert done.returncode == code, done.stderr
    assert not done.stdout
    error = json.loads(done.stderr.splitlines()[-1])["error"]
    assert error["reason"] == reason
    for text in says:
        assert text in error["text"], error["text"]


def test_second_writer_on_the_same_file(stored: Path) -> None:
    with serving(stored.parent, config=stored) as served:
        before = asyncio.run(recorded_orders(stored))
        assert_refused(serve(stored), 5, "STORE_IN_USE", str(served.pid), served.grpc, "one writer")
        # Readers are welcome all the same.
        assert command("orders", "--config", str(stored), cwd=stored.parent).returncode == 0
        assert served.is_alive
        assert asyncio.run(recorded_orders(stored)) == before
        assert served.stop() == 0
    verify(stored)


def test_second_writer_in_a_bot(stored: Path) -> None:
    with serving(stored.parent, config=stored):

        async def open_too() -> None:
            async with tradegw.open(stored):
                pass

        with pytest.raises(tradegw.StoreInUse):
            asyncio.run(open_too())


def test_corrupt_file(stored: Path) -> None:
    database = stored.parent / "tradegw.db"
    database.write_bytes(b"this is not a database, but it was one once" * 200)
    before = fingerprint(stored.parent)
    assert_refused(serve(stored), 5, "STORE_CORRUPT", str(database))
    done = command("orders", "--json", "--config", str(stored), cwd=stored.parent)
    assert_refused(done, 5, "STORE_CORRUPT", str(database))
    assert fingerprint(stored.parent) == before


def test_file_whose_pages_were_overwritten(stored: Path) -> None:
    """Its header is fine. `serve` may start on it, but nobody may take it for the whole truth."""
    database = stored.parent / "tradegw.db"
    with database.open("r+b") as file:
        size = file.seek(0, 2)
        for offset in range(4096, size, 4096):
            file.seek(offset)
            file.write(b"\xde\xad" * 512)
    done = command("verify", "--json", "--config", str(stored), cwd=stored.parent)
    assert done.returncode in (1, 5), done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert_refused(serve(stored), 5, "STORE_CORRUPT", str(database))


def test_newer_schema(stored: Path) -> None:
    connection = sqlite3.connect(stored.parent / "tradegw.db")
    with connection:
        connection.execute("INSERT INTO schema_migration VALUES (9000, 'future', 1, '99.1.0')")
    connection.close()
    before = fingerprint(stored.parent)
    assert_refused(serve(stored), 5, "SCHEMA_MISMATCH", "9000", "future", "99.1.0", "0.1.0")
    done = command("orders", "--json", "--config", str(stored), cwd=stored.parent)
    assert_refused(done, 5, "SCHEMA_MISMATCH", "99.1.0")
    assert fingerprint(stored.parent) == before


OBEDIENT = (
    sys.executable,
    "-c",
    # PR_CAPBSET_DROP of CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH; without effect where nobody is root.
    (
        "import ctypes, os, sys\n"
        "for capability in (1, 2): ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)\n"
        "os.execv(sys.argv[1], sys.argv[1:])"
    ),
)
"""Before a program: has it obey the permissions of files, even where root runs the tests."""


def test_read_only_file(stored: Path) -> None:
    database = stored.parent / "tradegw.db"
    before = fingerprint(stored.parent)
    database.chmod(0o444)
    assert_refused(serve(stored, through=OBEDIENT), 2, "CONFIG_INVALID", str(database), "read-only")
    assert fingerprint(stored.parent) == before


async def ask_once(target: str, key: str) -> Exception | None:
    """Place the order of a key without the client's repetitions; return why it was refused."""
    request, _ = place_request(None, an_order(key))  # type: ignore[arg-type]
    async with grpc.aio.insecure_channel(target) as channel:
        try:
            await trading_gateway_pb2_grpc.TradingGatewayStub(channel).PlaceOrder(
                request, timeout=60
            )
        except grpc.aio.AioRpcError as e:
            return translate(e)
    return None


async def test_read_only_directory(stored: Path) -> None:
    """The store is away: the gateway stays up, is not ready and takes no order, until it is back."""
    directory, before = stored.parent, fingerprint(stored.parent)
    with serving(directory, config=stored, through=OBEDIENT, locked=True) as served:
        refused = await ask_once(served.grpc, "k1-c0-o0")
        assert isinstance(refused, tradegw.Unavailable), refused
        assert "store" in str(refused)
        status, ready = await asyncio.to_thread(readiness, served.http)
        assert status == 503
        assert str(directory) in ready["store"]["why"]
        assert fingerprint(directory) == before
        directory.chmod(0o755)
        async with tradegw.connect(served.grpc) as gateway:
            assert not (await gateway.place_order(**an_order("k1-c0-o0"))).in_doubt
            assert len(await all_orders(gateway)) == 2
        status, _ = await asyncio.to_thread(readiness, served.http)
        assert status == 200
        assert await asyncio.to_thread(served.stop) == 0
    verify(stored)


async def test_full_disk(
    exchange: MockProcess, tmp_path: Path, tell: Callable[[str], None]
) -> None:
    """No byte more can be written, for a while. The limit on the size of files stands for the disk."""
    config = write_config(tmp_path, {"mock": exchange.url}, {"paper": {"venue": "mock"}})
    keys = [f"k1-c{number}-o0" for number in range(8)]
    with serving(tmp_path, config=config) as served:
        async with tradegw.connect(served.grpc) as gateway:
            for number in range(20):
                await gateway.place_order(**an_order(f"k0-c0-o{number}"))
            resource.prlimit(served.pid, resource.RLIMIT_FSIZE, (1024, resource.RLIM_INFINITY))
            for error in await asyncio.gather(*(ask_once(served.grpc, key) for key in keys)):
                assert isinstance(error, tradegw.Unavailable), error
            # What is stored can be read all the while.
            assert len(await all_orders(gateway)) == 20
            unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            resource.prlimit(served.pid, resource.RLIMIT_FSIZE, unlimited)
            for key in keys:
                assert not (await gateway.place_order(**an_order(key))).in_doubt
            await until(lambda: is_settled(gateway), 60, "nothing is in doubt")
            orders = await all_orders(gateway)
        assert await asyncio.to_thread(served.stop) == 0
    assert len(orders) == 20 + len(keys)
    with exchange.ledger() as client:
        check_claim(orders, client.read("paper"))
    verify(config)
    tell(f"full disk: {len(keys)} refused with nothing stored, and placed once there was room")


# --- the configuration ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("[gatway]\n", ["gatway", "gateway"], id="unknown section"),
        pytest.param('[gateway]\nnmae = "x"\n', ["gateway", "nmae"], id="unknown key"),
        pytest.param('[server]\ngrpc_port = "x"\n', ["server.grpc_port", "int"], id="wrong type"),
        pytest.param(
            '[venues.mock]\nplugin = "mock"\nsed = 3\n[accounts.paper]\nvenue = "mock"\n',
            ["venues.mock.sed", "seed"],
            id="unknown key of a plugin",
        ),
        pytest.param(
            '[venues.mock]\nplugin = "mock"\n[accounts.paper]\nvenue = "mok"\n',
            ["accounts.paper.venue", "mok", "mock"],
            id="unknown venue",
        ),
        pytest.param(
            '[venues.mock]\nplugin = "mock"\n[accounts.paper]\nvenue = "mock"\n'
            "limits = { max_open_order = 1 }\n",
            ["accounts.paper.limits", "max_open_order"],
            id="misspelt limit",
        ),
        pytest.param("[store\n", ["not TOML", "line 1"], id="no TOML"),
        pytest.param('[store]\nurl = "mysql://x"\n', ["mysql://x", "sqlite:///"], id="no store"),
    ],
)
def test_broken_configuration(tmp_path: Path, text: str, says: Sequence[str]) -> None:
    config = tmp_path / "tradegw.toml"
    config.write_text(text, "utf-8")
    assert_refused(serve(config), 2, "CONFIG_INVALID", *says)
    assert [file.name for file in tmp_path.iterdir()] == ["tradegw.toml"], "nothing has run"


def test_broken_variable(tmp_path: Path) -> None:
    done = run(
        [*TRADEGW, "serve", "--json"], cwd=tmp_path, TRADEGW__SERVER__GRPC_PORT="fifty thousand"
    )
    assert_refused(done, 2, "CONFIG_INVALID", "server.grpc_port", "TRADEGW__SERVER__GRPC_PORT")
