"""What both doors share: who asks, may they, what becomes of it. One request is one `Call`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum
from http import HTTPStatus
from typing import Any, Final, cast

from msgspec.structs import replace

from tradegw_mock.binance.errors import BinanceError, mandatory, refused
from tradegw_mock.binance.events import CancelIds
from tradegw_mock.binance.limits import Limits, LimitSettings
from tradegw_mock.binance.listenkeys import ListenKeys
from tradegw_mock.binance.names import make_id
from tradegw_mock.binance.params import Params, to_ns
from tradegw_mock.binance.signing import is_signed
from tradegw_mock.binance.symbols import Symbols
from tradegw_mock.chaos import ErrorAnswer, Target
from tradegw_mock.chaos.desk import ErrorAnswered, Unanswered, face
from tradegw_mock.exchange import ApiKey, Change, ExecType, Instrument, OrderEvent, Refusal
from tradegw_mock.host import ExchangeAway, ExchangeFailed, Host
from tradegw_mock.operations import PastLost
from tradegw_mock.requests import Answer, Mutation, Question
from tradegw_mock.tape import Tape, Trade

__all__ = ["Api", "Call", "Cut", "Endpoint", "Security"]

MS: Final = 1_000_000
_WINDOW_DEFAULT_MS: Final = 5000.0
_WINDOW_MAX_MS: Final = 60_000.0
_AHEAD_NS: Final = 1_000 * MS
_OTHER_TIME_NS: Final = 24 * 3600 * 1_000 * MS


class Security(Enum):
    """Who may call an endpoint."""

    NONE = "NONE"
    KEY = "USER_STREAM"
    """Whoever has a key; nothing is signed."""
    SIGNED = "USER_DATA"
    TRADE = "TRADE"


class Cut(Exception):
    """The request is never answered: the connection is to be cut without a word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Something that can be called, whichever door it comes through.

    Attributes:
        operation: The native door's word for it, by which faults name it.
        weight: What it costs.
        handler: Does it, and gives what the answer holds.
        is_free: Whether it costs nothing when it succeeds.
    """

    operation: str
    weight: int | Callable[[Params], int]
    security: Security
    handler: Callable[[Api, Call], Awaitable[Any]]
    is_free: bool = False


@dataclass(slots=True, kw_only=True)
class Call:
    """One request.

    Attributes:
        route: The door's own name for what is asked.
        address: Whom it comes from.
        api_key: What it says that its key is; `payload` is what it signs with it.
        session: The key that the connection has logged in with; nothing need be signed then.
        now_ns: The exchange's clock, as this request meets it.
        valid_until_ns: Until when, by the exchange's true clock, it may be carried out.
        has_ordered: Whether it has placed an order, which the answer counts.
    """

    endpoint: Endpoint
    params: Params
    route: str
    address: str
    api_key: str | None
    payload: bytes = b""
    session: ApiKey | None = None
    key: ApiKey | None = None
    now_ns: int = 0
    valid_until_ns: int | None = None
    has_ordered: bool = field(default=False)

    @property
    def account(self) -> str:
        """Whose key it is."""
        return "" if self.key is None else self.key.account


class Api:
    """The Binance-compatible side of one exchange.

    Args:
        seed: What ids that clients leave to us are made from.
    """

    def __init__(self, host: Host, *, limits: LimitSettings, listen_keys: bool, seed: int) -> None:
        self.host = host
        self.symbols = Symbols(host.exchange.instruments())
        self.limits = Limits(limits)
        self.cancel_ids = CancelIds()
        self.listen_keys = ListenKeys(host.time_ns) if listen_keys else None
        if self.listen_keys is not None:
            host.faults.on_streams_lost(self.listen_keys.clear)
        self.tape = Tape(i.symbol for i in host.exchange.instruments())
        self.tape.load(host.exchange)
        self._seed = seed
        self._followers: list[Callable[[Change, dict[str, list[Trade]]], None]] = []
        host.listen(self._on_change)

    def follow(
        self, follower: Callable[[Change, dict[str, list[Trade]]], None]
    ) -> Callable[[], None]:
        """Hear of each committed change, with the trades that it made; call the result to stop."""
        self._followers.append(follower)
        return lambda: self._followers.remove(follower)

    def make_id(self) -> str:
        """Make an id for the next order or cancel that has none: unlike those of all open orders."""
        return make_id(self._seed, self.host.exchange.last_change)

    # --- calls ----------------------------------------------------------------------------------

    async def call(self, call: Call) -> Any:
        """Carry a request out, and give what its answer holds.

        Raises:
            BinanceError: It is answered with an error.
            Cut: It is not answered.
        """
        call.key = call.session or self._find_key(call.api_key)
        faults = self.host.faults
        if not faults.chaos.is_active:
            return await self._carry_out(call, 0)
        try:
            # A request that faults hold back arrives, though its sender gives up.
            return await faults.apart(self._call_with_faults(call))
        except Unanswered as e:
            raise Cut from e
        except ErrorAnswered as e:
            raise _faulty(e.error) from e

    async def _call_with_faults(self, call: Call) -> Any:
        chaos, sleep = self.host.faults.chaos, self.host.faults.sleep
        target = self._target(call)
        skew_ns = chaos.skew_ns(target)
        await face(chaos.before(target), sleep)
        try:
            answer = await self._carry_out(call, skew_ns)
        except BinanceError:
            await face(chaos.after(target), sleep)
            raise
        # So that the audit trail names the order, whoever made up its client order id.
        target = replace(target, order_id=_order_id(answer))
        await face(chaos.after(target), sleep)
        return answer

    async def _carry_out(self, call: Call, skew_ns: int) -> Any:
        """Carry a request out, at an exchange whose clock is wrong by so much."""
        endpoint, now_ns = call.endpoint, self.host.time_ns()
        call.now_ns = now_ns + skew_ns
        weight = endpoint.weight
        cost = weight if isinstance(weight, int) else weight(call.params)
        self.limits.charge(call.address, cost, now_ns)
        self._check_access(call, skew_ns)
        answer = await endpoint.handler(self, call)
        if endpoint.is_free:
            self.limits.refund(call.address, cost, now_ns)
        return answer

    async def settled(self) -> None:
        """Wait until all that was seen so far is committed, and may be shown.

        Raises:
            BinanceError: It never will be.
        """
        try:
            await self.host.settle()
        except ExchangeFailed as e:
            raise _unexpected() from e

    async def ask(self, call: Call, request: Mutation | Question) -> Answer:
        """Ask the exchange, for a call.

        Raises:
            BinanceError: It refused, is away, or nobody knows.
        """
        try:
            return await self.host.carry_out(request, route=call.route)
        except Refusal as e:
            raise refused(e) from e
        except PastLost as e:
            raise BinanceError(
                -1000,
                "An unknown error occurred while processing the request.",
                status=HTTPStatus.INTERNAL_SERVER_ERROR,
            ) from e
        except ExchangeAway as e:
            raise BinanceError(
                -1008,
                "Server is currently overloaded with other requests. "
                "Please try again in a few minutes.",
                status=HTTPStatus.SERVICE_UNAVAILABLE,
            ) from e
        except ExchangeFailed as e:
            raise _unexpected() from e

    def _find_key(self, api_key: str | None) -> ApiKey | None:
        return None if api_key is None else self.host.exchange.find_api_key(api_key)

    def _target(self, call: Call) -> Target:
        params = call.params
        instrument = self.symbols.find(params.get("symbol", ""))
        return Target(
            operation=call.endpoint.operation,
            account=call.account,
            symbol="" if instrument is None else instrument.symbol,
            route=call.route,
            client_order_id=params.get("newClientOrderId") or params.get("origClientOrderId"),
        )

    def _check_access(self, call: Call, skew_ns: int) -> None:
        security = call.endpoint.security
        if security is Security.NONE:
            return
        if call.key is None:
            if not call.api_key:
                raise BinanceError(-2014, "API-key format invalid.", status=HTTPStatus.UNAUTHORIZED)
            raise _no_access()
        if security is Security.TRADE and not call.key.can_trade:
            raise _no_access()
        if security is Security.KEY:
            return
        timestamp = call.params.integer("timestamp")
        if timestamp is None:
            raise mandatory("timestamp")
        if call.session is None:
            signature = call.params.need("signature")
            if not is_signed(call.key, call.payload, signature):
                raise BinanceError(-1022, "Signature for this request is not valid.")
        sent_ns, window_ns = to_ns(timestamp), _window_ns(call.params)
        if self.host.virtual is not None and abs(sent_ns - call.now_ns) > _OTHER_TIME_NS:
            # Its sender goes by the wall clock, which a virtual one cannot judge.
            return
        if sent_ns >= call.now_ns + _AHEAD_NS:
            raise BinanceError(
                -1021, "Timestamp for this request was 1000ms ahead of the server's time."
            )
        if call.now_ns - sent_ns > window_ns:
            raise BinanceError(-1021, "Timestamp for this request is outside of the recvWindow.")
        call.valid_until_ns = sent_ns + window_ns - skew_ns

    def _on_change(self, change: Change) -> None:
        for event in change.events:
            if isinstance(event, OrderEvent) and event.exec_type is ExecType.TRADE:
                fill = event.fill
                assert fill is not None
                if event.order.cum_qty == fill.qty:
                    self.limits.filled(event.account, event.time_ns)
        trades = self.tape.on_change(change)
        for follower in tuple(self._followers):
            follower(change, trades)

    def name(self, instrument: Instrument) -> str:
        """Give Binance's name of an instrument."""
        return self.symbols.name(instrument.symbol)


def _window_ns(params: Params) -> int:
    text = params.text("recvWindow")
    if text is None:
        return int(_WINDOW_DEFAULT_MS) * MS
    window = params.decimal("recvWindow")
    assert window is not None
    if window > _WINDOW_MAX_MS:
        raise BinanceError(-1131, "recvWindow must be less than 60000.")
    if window.as_tuple().exponent < -3:  # type: ignore[operator]  # It is finite.
        raise BinanceError(-1111, "Parameter 'recvWindow' has too much precision.")
    return int(window * MS)


def _unexpected() -> BinanceError:
    return BinanceError(
        -1006,
        "An unexpected response was received from the message bus. Execution status unknown.",
        status=HTTPStatus.SERVICE_UNAVAILABLE,
    )


def _order_id(answer: Any) -> int | None:
    """Find which order an answer is about, if it is about one."""
    if not isinstance(answer, dict):
        return None
    order_id = cast("dict[str, Any]", answer).get("orderId")
    return order_id if isinstance(order_id, int) else None


def _no_access() -> BinanceError:
    return BinanceError(
        -2015,
        "Invalid API-key, IP, or permissions for action.",
        status=HTTPStatus.UNAUTHORIZED,
    )


def _faulty(error: ErrorAnswer) -> BinanceError:
    """Word the answer that a fault puts in the place of the true one."""
    return BinanceError(
        -1000 if error.code is None else error.code,
        error.text or "An unknown error occurred while processing the request.",
        status=error.status,
        retry_after_s=error.retry_after_s,
    )
