"""What the indexer says of orders, fills, positions and balances, as reports. Pure.

Every field may be missing: a removal of an order that the indexer never saw has hardly any.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final, cast
from uuid import UUID, uuid5

from tradegw import (
    AccountName,
    Balance,
    ExecType,
    ExecutionReport,
    Liquidity,
    OrdStatus,
    Position,
    Side,
    TradeId,
    TranslationError,
    VenueClientOrderId,
    VenueOrderId,
)
from tradegw_dydx.markets import symbol_of
from tradegw_dydx.orders import ChainOrderId, OrderFlags

__all__ = [
    "Names",
    "order_uuid",
    "subaccount_uuid",
    "to_balances",
    "to_fill",
    "to_order",
    "to_positions",
]

NAMES_MAX: Final = 100_000
_NAMESPACE: Final = UUID("0f9da948-a6fb-4c45-9edc-4685c3f3317d")
_REPLACED: Final = "ORDER_REMOVAL_REASON_REPLACED"
_EXPIRED: Final = frozenset(
    {"ORDER_REMOVAL_REASON_EXPIRED", "ORDER_REMOVAL_REASON_INDEXER_EXPIRED"}
)
_REASON: Final = "ORDER_REMOVAL_REASON_"
_LIQUIDITY: Final = MappingProxyType({"MAKER": Liquidity.MAKER, "TAKER": Liquidity.TAKER})
_OPEN: Final = frozenset({"OPEN", "BEST_EFFORT_OPENED", "UNTRIGGERED"})
_ENDED: Final = frozenset({"CANCELED", "BEST_EFFORT_CANCELED"})


def subaccount_uuid(address: str, subaccount: int) -> UUID:
    """Return the indexer's name of a subaccount."""
    return uuid5(_NAMESPACE, f"{address}-{subaccount}")


def order_uuid(order_id: ChainOrderId) -> VenueOrderId:
    """Return the indexer's name of an order, which is known before the order is sent."""
    owner = subaccount_uuid(order_id.owner, order_id.subaccount)
    name = f"{owner}-{order_id.client_id}-{order_id.clob_pair_id}-{int(order_id.flags)}"
    return VenueOrderId(str(uuid5(_NAMESPACE, name)))


@dataclass(slots=True)
class Names:
    """Which client id an order of the indexer has, where the order is ours. The oldest are forgotten.

    Attributes:
        metadata: The mark of this gateway's orders. Client ids are unique for each market alone, so that
            another program's order may have one that an order of ours has elsewhere.
    """

    metadata: int
    _by_uuid: OrderedDict[str, VenueClientOrderId] = field(
        default_factory=OrderedDict[str, VenueClientOrderId]
    )

    def learn(self, uuid: str, name: VenueClientOrderId) -> None:
        """Note the name of an order of ours."""
        self._by_uuid[uuid] = name
        self._by_uuid.move_to_end(uuid)
        if len(self._by_uuid) > NAMES_MAX:
            self._by_uuid.popitem(last=False)

    def find(self, uuid: str) -> VenueClientOrderId | None:
        """Return the name of an order, if it is ours."""
        return self._by_uuid.get(uuid)

    def read(self, told: Mapping[str, Any]) -> VenueClientOrderId | None:
        """Return our name of an order as the indexer shows it; learns it when the order bears our mark."""
        uuid = str(told.get("id", ""))
        client_id, metadata = told.get("clientId"), told.get("clientMetadata")
        if client_id is not None and metadata is not None and str(metadata) == str(self.metadata):
            name = VenueClientOrderId(str(client_id))
            self.learn(uuid, name)
            return name
        return self.find(uuid)


def to_order(told: Mapping[str, Any], names: Names) -> ExecutionReport | None:
    """Translate an order; None when the message says nothing new of it.

    A short-term order that is cancelled is not finally so: it may fill until its good-til-block has passed.

    Raises:
        TranslationError: A field is malformed, or the status is new.
    """
    try:
        status = str(told["status"])
        is_short_term = int(told.get("orderFlags", 0)) == OrderFlags.SHORT_TERM
        cum_qty = _decimal(told.get("totalFilled"))
        removal = str(told.get("removalReason") or "")
        final = True
        ord_status: OrdStatus | None = None
        if status in _OPEN:
            exec_type = ExecType.ORDER_STATUS
            ord_status = OrdStatus.PARTIALLY_FILLED if cum_qty else OrdStatus.NEW
        elif status == "FILLED":
            exec_type, ord_status = ExecType.ORDER_STATUS, OrdStatus.FILLED
        elif status in _ENDED:
            if removal == _REPLACED:
                return None
            is_expired = removal in _EXPIRED
            exec_type = ExecType.EXPIRED if is_expired else ExecType.CANCELED
            final = status == "CANCELED" and not is_short_term
            if final:
                ord_status = OrdStatus.EXPIRED if is_expired else OrdStatus.CANCELED
        else:
            raise TranslationError(f"unknown status {status!r} of order {told.get('id')}")
        return ExecutionReport(
            exec_type=exec_type,
            venue_order_id=VenueOrderId(str(told["id"])),
            venue_client_order_id=names.read(told),
            symbol=_symbol(told.get("ticker")),
            side=None if told.get("side") is None else Side.of(str(told["side"])),
            ord_status=ord_status,
            cum_qty=cum_qty,
            order_qty=_decimal(told.get("size")),
            price=_decimal(told.get("price")),
            trigger_price=_decimal(told.get("triggerPrice")),
            triggered=None if status in _ENDED else status != "UNTRIGGERED",
            final=final,
            reason=removal.removeprefix(_REASON),
            transact_time_ns=_time_ns(told.get("updatedAt")),
        )
    except (KeyError, ValueError, ArithmeticError, TypeError) as e:
        raise TranslationError(f"unreadable order {told!r:.500}: {e!r}") from e


def to_fill(told: Mapping[str, Any], names: Names) -> ExecutionReport:
    """Translate a fill, from the REST API or from the stream.

    Raises:
        TranslationError: A field is missing or malformed.
    """
    try:
        uuid = told.get("orderId")
        ticker = told.get("market") or told.get("ticker")
        return ExecutionReport(
            exec_type=ExecType.TRADE,
            venue_order_id=None if uuid is None else VenueOrderId(str(uuid)),
            venue_client_order_id=None if uuid is None else names.find(str(uuid)),
            symbol=_symbol(ticker),
            side=Side.of(str(told["side"])),
            trade_id=TradeId(str(told["id"])),
            last_qty=Decimal(str(told["size"])),
            last_px=Decimal(str(told["price"])),
            fee=_decimal(told.get("fee")),
            fee_asset=None if told.get("fee") is None else "USDC",
            liquidity=_LIQUIDITY.get(str(told.get("liquidity")), Liquidity.UNKNOWN),
            transact_time_ns=_time_ns(told.get("createdAt")),
        )
    except (KeyError, ValueError, ArithmeticError, TypeError) as e:
        raise TranslationError(f"unreadable fill {told!r:.500}: {e!r}") from e


def to_positions(told: Any, account: AccountName) -> tuple[Position, ...]:
    """Translate perpetual positions: a list, or a mapping by ticker. One that is closed has quantity zero.

    Raises:
        TranslationError: A field is missing or malformed.
    """
    try:
        listed: Iterable[Mapping[str, Any]] = (
            cast("Mapping[str, Any]", told).values() if isinstance(told, Mapping) else told
        )
        return tuple(
            Position(
                account=account,
                symbol=symbol_of(str(p["market"])),
                qty=_signed(p),
                entry_px=_decimal(p.get("entryPrice")),
            )
            for p in listed
        )
    except (KeyError, ValueError, ArithmeticError, TypeError) as e:
        raise TranslationError(f"unreadable positions {told!r:.500}: {e!r}") from e


def _signed(told: Mapping[str, Any]) -> Decimal:
    if str(told.get("status", "OPEN")) != "OPEN":
        return Decimal(0)
    size = abs(Decimal(str(told["size"])))
    match told["side"]:
        case "LONG":
            return size
        case "SHORT":
            return -size
        case other:
            raise ValueError(f"a side is LONG or SHORT; found {other!r}")


def to_balances(told: Mapping[str, Any], account: AccountName) -> tuple[Balance, ...]:
    """Translate a subaccount: free is what may be used, held what positions and orders bind; together equity.

    Raises:
        TranslationError: A field is missing or malformed.
    """
    try:
        free = Decimal(str(told["freeCollateral"]))
        equity = Decimal(str(told["equity"]))
    except (KeyError, ValueError, ArithmeticError, TypeError) as e:
        raise TranslationError(f"unreadable subaccount {told!r:.500}: {e!r}") from e
    return (Balance(account=account, asset="USDC", free=free, held=equity - free),)


def _symbol(ticker: Any) -> str | None:
    return None if not ticker else symbol_of(str(ticker))


def _decimal(value: Any) -> Decimal | None:
    return None if value is None else Decimal(str(value))


def _time_ns(text: Any) -> int:
    """Read the indexer's ISO times; 0 when it gives none."""
    if text is None:
        return 0
    moment = datetime.fromisoformat(str(text))
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    # Whole numbers: a float of today's nanoseconds is off by a hundred.
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return ((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * 1_000
