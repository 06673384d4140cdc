"""A private stream, without its socket: what to send, and what the messages mean.

A `StreamSession` is one connection. Whoever holds the socket sends what it says, hands it every message, and
connects anew, with a new session, when it says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tradegw import AccountName, VenueError
from tradegw.venue import BalanceUpdate, StreamItem, StreamReady
from tradegw_rest.inputs import Inputs, Read
from tradegw_rest.markets import Markets
from tradegw_rest.operations import Emit, compile_emits, emitted
from tradegw_rest.reports import Rows, compile_balance
from tradegw_rest.signers import Signer, Stamp
from tradegw_rest.source import Spot
from tradegw_rest.values import Compiler, to_text
from tradegw_rest.wire import encode_json, read_json

__all__ = ["STREAM_KEYS", "Received", "StreamRecipe", "StreamRefused", "StreamSession"]

STREAM_KEYS: Final[Mapping[str, str]] = {
    "open": "Frames to send, one step after the other: list of steps.",
    "needs_token": "`true`: the operation `stream_token` is asked before each connection.",
    "heartbeat": "`{every_s, send}`: what to send when nothing was sent for so long.",
    "silence_s": "A connection on which nothing came for so long is dead.",
    "lifetime_s": "A connection is given up, and made anew, after so long.",
    "sequence": "Path of a number that each message of a connection raises by one.",
    "events": "List of `{when, answer, balances}`: messages that say something.",
    "ends": "List of conditions: messages after which the connection is to be made anew.",
    "resync": "In words: what a reader fetches after a gap.",
}
STEP_KEYS: Final[Mapping[str, str]] = {
    "send": "The frame: text, or an object or list that is sent as JSON.",
    "login": "`true` when the frame uses `$login`.",
    "each_market": "`true`: one frame for each market that the account trades; `$venue_symbol` names it.",
    "ack": "Condition on the message that confirms a frame. The next step waits for it.",
    "refused": "Condition on a message that is no `ack`, and refuses the frame.",
}
EVENT_KEYS: Final[Mapping[str, str]] = {
    "when": "Condition on the message.",
    "rows": "Path of its rows, each of which is read; the message itself without it.",
    "entries": "Path of an object whose members are rows.",
    "keep": "Condition on a row to count.",
    "answer": "Reports that a row makes: list of `{when, rows, report}`.",
    "balances": "`{rows, balance}`: balances that a row makes.",
}


class StreamRefused(VenueError):
    """The venue refused the login or a subscription. The text holds its words, never the frame."""

    reason = "STREAM_REFUSED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """What one message comes to.

    Attributes:
        send: Texts to send now.
        again: Why the connection is to be made anew; `""` when it is not.
    """

    items: tuple[StreamItem, ...] = ()
    send: tuple[str, ...] = ()
    again: str = ""


_NOTHING: Final = Received()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    frame: Read
    is_login: bool
    each_market: bool
    ack: Callable[[Any, Inputs], bool] | None
    refused: Callable[[Any, Inputs], bool] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Event:
    test: Callable[[Any, Inputs], bool]
    rows: Rows
    emits: tuple[Emit, ...]
    balances: tuple[Rows, Callable[..., Any]] | None


class StreamRecipe:
    """The private stream of a definition.

    Attributes:
        needs_token: Whether the operation `stream_token` is to be asked before each connection.
        heartbeat_s: Send `session.heartbeat()` when nothing was sent for so long; None: never.
        silence_s: Connect anew when nothing came for so long.
        lifetime_s: Connect anew after so long; None: never.
        resync: In words, for people.
    """

    def __init__(self, spot: Spot, requests: Compiler, answers: Compiler) -> None:
        needed = ("open", "silence_s", "events")
        items = spot.keys(needed, [key for key in STREAM_KEYS if key not in needed])
        self.needs_token = "needs_token" in items and items["needs_token"].flag()
        self.silence_s = items["silence_s"].seconds()
        self.lifetime_s = items["lifetime_s"].seconds() if "lifetime_s" in items else None
        self.resync = items["resync"].text() if "resync" in items else ""
        self.heartbeat_s: float | None = None
        self._heartbeat: Read | None = None
        if "heartbeat" in items:
            beat = items["heartbeat"].keys(("every_s", "send"))
            self.heartbeat_s = beat["every_s"].seconds()
            self._heartbeat = requests.value(beat["send"])
        self._sequence = None
        if "sequence" in items:
            self._sequence = answers.path(items["sequence"], items["sequence"].text())
        self._steps = tuple(_step(part, requests, answers) for part in items["open"].list())
        self._events = tuple(_event(part, answers) for part in items["events"].list())
        ends = items["ends"].list() if "ends" in items else ()
        self._ends = tuple(answers.condition(part) for part in ends)

    def begin(
        self,
        *,
        account: AccountName,
        signer: Signer,
        stamp: Callable[[], Stamp],
        markets: Markets,
        symbols: Sequence[str] = (),
        token: Any = None,
    ) -> StreamSession:
        """Begin a connection.

        Args:
            stamp: Yields the venue time, and a nonce where the signer needs one, at each login.
            symbols: Unified symbols to subscribe to, where the venue wants each market named.
            token: What `Definition.token` read, where `needs_token`.
        """
        return StreamSession(
            self,
            account=account,
            signer=signer,
            stamp=stamp,
            markets=markets,
            symbols=symbols,
            token=token,
        )


def _step(spot: Spot, requests: Compiler, answers: Compiler) -> _Step:
    items = spot.keys(("send",), [key for key in STEP_KEYS if key != "send"])
    return _Step(
        frame=requests.value(items["send"]),
        is_login="login" in items and items["login"].flag(),
        each_market="each_market" in items and items["each_market"].flag(),
        ack=answers.condition(items["ack"]) if "ack" in items else None,
        refused=answers.condition(items["refused"]) if "refused" in items else None,
    )


def _event(spot: Spot, answers: Compiler) -> _Event:
    items = spot.keys(("when",), [key for key in EVENT_KEYS if key != "when"])
    balances = None
    if "balances" in items:
        parts = items["balances"].keys(("balance",), Rows.KEYS)
        balances = (Rows(parts, answers), compile_balance(parts["balance"], answers))
    rows = {key: part for key, part in items.items() if key in Rows.KEYS}
    return _Event(
        test=answers.condition(items["when"]),
        rows=Rows(rows, answers),
        emits=compile_emits(items["answer"], answers) if "answer" in items else (),
        balances=balances,
    )


class StreamSession:
    """One connection of a private stream. Made by `StreamRecipe.begin`.

    Attributes:
        is_ready: Whether every frame is confirmed; `StreamReady` has been among the items then.
    """

    def __init__(
        self,
        recipe: StreamRecipe,
        *,
        account: AccountName,
        signer: Signer,
        stamp: Callable[[], Stamp],
        markets: Markets,
        symbols: Sequence[str],
        token: Any,
    ) -> None:
        self._recipe = recipe
        self._account = account
        self._signer = signer
        self._stamp = stamp
        self._markets = markets
        self._symbols = tuple(symbols)
        self._token = token
        self._step = -1
        self._awaited = 0
        self._sequence: int | None = None
        self.is_ready = False

    def start(self) -> Received:
        """Return what to send, or already has come about, once connected."""
        return self._advance()

    def heartbeat(self) -> str | None:
        """Return the heartbeat to send, or None."""
        beat = self._recipe._heartbeat  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        return None if beat is None else _as_frame(beat(None, self._inputs()))

    def receive(self, text: str | bytes, *, received_time_ns: int) -> Received:
        """Read one message.

        Raises:
            StreamRefused: The venue refused the login or a subscription.
            TranslationError: A message that should be understood is not. Connect anew.
        """
        if text in {"pong", b"pong"}:
            return _NOTHING
        message = read_json(text)
        inputs = self._inputs().reading(message)
        if (why := self._gap(message)) is not None:
            return Received(again=why)
        for ends in self._recipe._ends:  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
            if ends(message, inputs):
                return Received(again=f"the venue ends the connection: {text[:200]!r}")
        settled = self._settle(message, inputs)
        items = tuple(self._items(message, inputs, received_time_ns))
        # What comes with an acknowledgement, or before it, is the venue's word all the same.
        return Received(items=(*settled.items, *items), send=settled.send)

    def _inputs(self, symbol: str | None = None, login: Mapping[str, Any] | None = None) -> Inputs:
        instrument = None if symbol is None else self._markets.get(symbol)
        return Inputs(
            now_ns=0, markets=self._markets, token=self._token, instrument=instrument, login=login
        )

    def _gap(self, message: Any) -> str | None:
        at = self._recipe._sequence  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        number = None if at is None else at(message)
        if not isinstance(number, int):
            return None
        last, self._sequence = self._sequence, number
        if last is None or number == last + 1:
            return None
        return f"message {number} followed {last}"

    def _settle(self, message: Any, inputs: Inputs) -> Received:
        if self.is_ready:
            return _NOTHING
        step = self._recipe._steps[self._step]  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        if step.ack is None or not step.ack(message, inputs):
            if step.refused is not None and step.refused(message, inputs):
                raise StreamRefused(
                    f"the venue refused step {self._step + 1}: {str(message)[:200]}"
                )
            return _NOTHING
        self._awaited -= 1
        return self._advance() if self._awaited <= 0 else _NOTHING

    def _advance(self) -> Received:
        """Go to the next step, and on over those that wait for nothing."""
        send: list[str] = []
        steps = self._recipe._steps  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        while self._step + 1 < len(steps):
            self._step += 1
            frames = list(self._frames(steps[self._step]))
            send.extend(frames)
            if steps[self._step].ack is not None and frames:
                self._awaited = len(frames)
                return Received(send=tuple(send))
        self.is_ready = True
        return Received(items=(StreamReady(),), send=tuple(send))

    def _frames(self, step: _Step) -> Iterator[str]:
        for symbol in self._symbols if step.each_market else (None,):
            login = self._signer.login(self._stamp()) if step.is_login else None
            yield _as_frame(step.frame(None, self._inputs(symbol, login)))

    def _items(self, message: Any, inputs: Inputs, received_ns: int) -> Iterator[StreamItem]:
        for event in self._recipe._events:  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
            if not event.test(message, inputs):
                continue
            for row in event.rows.kept(event.rows.all(message), inputs):
                yield from emitted(event.emits, row, inputs, received_ns)
                if event.balances is not None:
                    rows, make = event.balances
                    yield BalanceUpdate(
                        balances=tuple(
                            [
                                make(one, inputs, self._account, received_ns)
                                for one in rows.kept(rows.all(row), inputs)
                            ]
                        )
                    )


def _as_frame(value: Any) -> str:
    if isinstance(value, str):
        return value
    text = encode_json(value)
    assert to_text(text) is not None
    return text
