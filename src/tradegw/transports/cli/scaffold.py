"""`tradegw new-venue NAME`: the start of a venue plugin, a distribution of its own."""

from __future__ import annotations

import re
from pathlib import Path
from string import Template
from typing import Annotated, Final

from cyclopts import Parameter

from tradegw.errors import ConfigError
from tradegw.transports.cli.show import console

__all__ = ["new_venue"]

_NAME: Final = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*", re.ASCII)


def new_venue(
    name: str, /, *, directory: Annotated[Path, Parameter(name="--dir")] = Path()
) -> None:
    """Write the start of a venue plugin: it runs, its tests pass, and it says what to replace.

    For example:

        tradegw new-venue acme

        cd tradegw-acme && pip install -e . && pytest && tradegw plugins

    Args:
        name: Name of the venue, such as acme: the distribution is tradegw-acme, the package tradegw_acme.
        directory: Where to make the directory tradegw-NAME. Default: here.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"a venue's name has lower-case letters, digits and single hyphens; found {name[:80]!r}",
            reason="INVALID_FIELD",
        )
    package = f"tradegw_{name.replace('-', '_')}"
    words = {"name": name, "package": package, "Class": name.title().replace("-", "")}
    root = directory / f"tradegw-{name}"
    try:
        root.mkdir(parents=True)
        for path, text in _FILES.items():
            file = root / Template(path).substitute(words)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(Template(text).substitute(words), "utf-8")
    except FileExistsError:
        raise ConfigError(
            f"{root} is there already, and stays as it is", reason="FILE_EXISTS"
        ) from None
    except OSError as e:
        raise ConfigError(f"{root} cannot be written: {e.strerror or e}") from e
    out = console()
    out.print(f"wrote {root}")
    out.print(f"next: cd {root} && pip install -e . pytest && pytest && tradegw plugins")


_PYPROJECT: Final = """\
[build-system]
requires = ["hatchling>=1.27"]
build-backend = "hatchling.build"

[project]
name = "tradegw-$name"
version = "0.1.0"
description = "The venue $name for tradegw."
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["tradegw>=0.1,<0.2"]

# This is how tradegw finds it: a name, and the module with the hooks.
[project.entry-points.tradegw]
$name = "$package.hooks"

[tool.hatch.build.targets.wheel]
packages = ["src/$package"]
"""

_README: Final = """\
# tradegw-$name

The venue `$name` for tradegw. Configure it:

```toml
[venues.$name]
plugin = "$name"

[accounts.main]
venue = "$name"
```
"""

_HOOKS: Final = '''\
"""The plugin's entry point: what it offers to tradegw."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from tradegw import hookimpl
from tradegw.venue import Runtime, Venue, VenueFactory

from $package.venue import ${Class}Config, ${Class}Venue

__all__ = ["tradegw_register_venues"]


@asynccontextmanager
async def _open(config: ${Class}Config, runtime: Runtime) -> AsyncGenerator[Venue]:
    # Connect here, and hang up behind the yield. What fails is tried again by the gateway.
    yield ${Class}Venue(config, runtime)


@hookimpl
def tradegw_register_venues(api_version: int) -> Sequence[VenueFactory[${Class}Config]]:
    """Offer the venue `$name`."""
    return [VenueFactory(name="$name", config_type=${Class}Config, open=_open)]
'''

_VENUE: Final = '''\
"""The venue. What stands here is a venue in memory that trades nothing: replace it with yours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from tradegw import (
    ExecType,
    ExecutionReport,
    Instrument,
    InvalidOrder,
    OrdStatus,
    OrdType,
    OutcomeUnknown,
    TimeInForce,
    VenueClientOrderId,
    VenueOrderId,
)
from tradegw.venue import (
    Cancel,
    Capabilities,
    Command,
    ExpiryKind,
    FetchInstruments,
    FetchOpenOrders,
    FetchOrder,
    Page,
    Query,
    Runtime,
    StreamItem,
    StreamReady,
    Submit,
    TranslateContext,
    Venue,
    VenueRequest,
    VenueTime,
)

__all__ = ["${Class}Config", "${Class}Venue"]

EXPIRY_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ${Class}Config:
    """The keys of `[venues.$name]` and of its accounts. Secrets have the type `tradegw.venue.Secret`.

    Attributes:
        lose_answers: For tests: so many answers get lost on their way.
    """

    lose_answers: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What travels to the venue. Yours holds bytes, and is signed in `execute`."""

    exec_type: ExecType
    name: VenueClientOrderId
    symbol: str


class ${Class}Venue(Venue):
    """One account's access to the venue."""

    def __init__(self, config: ${Class}Config, runtime: Runtime) -> None:
        self._runtime = runtime
        self._answers_to_lose = config.lose_answers
        self._orders: dict[VenueClientOrderId, ExecutionReport] = {}

    @property
    def capabilities(self) -> Capabilities:
        """What the venue can do; the gateway refuses the rest before anything is stored."""
        return Capabilities(
            ord_types=frozenset({OrdType.LIMIT}),
            time_in_force=frozenset({TimeInForce.GTC}),
            expiry=ExpiryKind.TIME,
            expiry_s=EXPIRY_S,
        )

    def translate(self, command: Command, context: TranslateContext) -> VenueRequest:
        """Turn a command into a request. Pure: no I/O, no clock, no randomness."""
        if not isinstance(command, Submit | Cancel):
            raise InvalidOrder(f"$name has no {type(command).__name__}", reason="UNSUPPORTED")
        (name,) = context.venue_client_order_ids
        request = Request(
            exec_type=ExecType.NEW if isinstance(command, Submit) else ExecType.CANCELED,
            name=name,
            symbol=command.order.symbol,
        )
        # From here on the venue refuses it: what makes an unanswered order provable.
        until = VenueTime(time_ns=context.now.time_ns + int(EXPIRY_S * 1_000_000_000))
        digest = f"{request.exec_type} {name}"
        return VenueRequest(payload=request, valid_until=until, digest=digest)

    async def execute(self, request: VenueRequest) -> Sequence[ExecutionReport]:
        """Send a request; return what the venue answered.

        Raise `VenueRejected` only where the venue said no, `NotSent` only where no byte left, and
        `OutcomeUnknown` for all else.
        """
        payload = request.payload
        assert isinstance(payload, Request)
        report = ExecutionReport(
            exec_type=payload.exec_type,
            venue_client_order_id=payload.name,
            venue_order_id=VenueOrderId(f"$name-{payload.name}"),
            symbol=payload.symbol,
        )
        self._orders[payload.name] = report
        if self._answers_to_lose:
            self._answers_to_lose -= 1
            raise OutcomeUnknown("the answer was lost")
        return [report]

    async def fetch(self, query: Query) -> Page[Any]:
        """Answer a query. An empty page is a statement of the venue: raise where there is no answer."""
        items: tuple[Any, ...] = ()
        match query:
            case FetchInstruments():
                items = (
                    Instrument(
                        symbol="BTC/USDT",
                        venue_symbol="BTCUSDT",
                        base_asset="BTC",
                        quote_asset="USDT",
                        tick_size=Decimal("0.01"),
                        step_size=Decimal("0.00001"),
                    ),
                )
            case FetchOrder(venue_client_order_id=name) if name in self._orders:
                items = (self._status(self._orders[name]),)
            case FetchOpenOrders():
                live = [r for r in self._orders.values() if r.exec_type is ExecType.NEW]
                items = tuple(self._status(report) for report in live)
            case _:
                pass
        return Page(items=items, as_of=VenueTime(time_ns=self._runtime.time_ns()))

    def _status(self, report: ExecutionReport) -> ExecutionReport:
        status = OrdStatus.NEW if report.exec_type is ExecType.NEW else OrdStatus.CANCELED
        return replace(
            report, exec_type=ExecType.ORDER_STATUS, ord_status=status, cum_qty=Decimal(0)
        )

    async def stream(self, since: int) -> AsyncIterator[StreamItem]:
        """Yield what happens: ready first, and ready again after a gap."""
        yield StreamReady(instance_id="$name-1", venue_account_id="$name")
        await asyncio.Event().wait()
'''

_TEST: Final = '''\
"""The venue behind a real gateway, whose record is in memory."""

from __future__ import annotations

import time
from typing import Any

import tradegw.sync
from tradegw import OrdStatus

from $package import hooks

ORDER: dict[str, Any] = {
    "account": "main",
    "symbol": "BTC/USDT",
    "side": "buy",
    "ord_type": "limit",
    "order_qty": "0.01",
    "price": "60000",
}


def config(**options: Any) -> dict[str, Any]:
    return {
        "store": {"url": "memory://"},
        "venues": {"$name": {"plugin": "$name", **options}},
        "accounts": {"main": {"venue": "$name"}},
    }


def plugins() -> list[object]:
    """Return the hooks for a gateway, unless the installed package has brought them already."""
    from importlib.metadata import entry_points

    installed = {entry.value for entry in entry_points(group="tradegw")}
    return [] if hooks.__name__ in installed else [hooks]


def test_an_order_is_placed_once_and_canceled() -> None:
    with tradegw.sync.open(config(), plugins=plugins()) as gateway:
        order = gateway.place_order(**ORDER, idempotency_key="k1")
        assert order.ord_status is OrdStatus.NEW
        assert gateway.place_order(**ORDER, idempotency_key="k1").order_id == order.order_id
        assert gateway.cancel_order(order.order_id).ord_status is OrdStatus.CANCELED


def test_a_lost_answer_leaves_the_order_in_doubt_until_the_venue_is_asked() -> None:
    with tradegw.sync.open(config(lose_answers=1), plugins=plugins()) as gateway:
        order = gateway.place_order(**ORDER)
        assert order.in_doubt
        ends = time.monotonic() + 30
        while gateway.get_order(order.order_id).in_doubt:
            assert time.monotonic() < ends, "the doubt was never settled"
            time.sleep(0.05)
        assert gateway.get_order(order.order_id).ord_status is OrdStatus.NEW
'''

_FILES: Final = {
    "pyproject.toml": _PYPROJECT,
    "README.md": _README,
    "src/$package/__init__.py": '"""The venue $name for tradegw."""\n',
    "src/$package/py.typed": "",
    "src/$package/hooks.py": _HOOKS,
    "src/$package/venue.py": _VENUE,
    "tests/test_venue.py": _TEST,
}
