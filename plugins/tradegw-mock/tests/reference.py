"""A second exchange, as slow and plain as can be, to compare the real one with.

Written from the rules alone: one list of orders, scanned and sorted anew for every step, and
fractions for money. It shares nothing with the package but the words for sides and types.
"""

from __future__ import annotations

import dataclasses
from fractions import Fraction

MAKER_FEE = Fraction(1, 2000)
TAKER_FEE = Fraction(1, 1000)
STOPS = ("STOP", "STOP_LIMIT")


class No(Exception):
    """The request is refused."""


@dataclasses.dataclass
class Row:
    number: int
    account: str
    side: str
    kind: str
    qty: Fraction | None
    quote: Fraction | None
    price: Fraction | None
    trigger: Fraction | None
    tif: str
    post_only: bool
    ends: int | None
    stp: str
    held: Fraction = Fraction(0)
    cum: Fraction = Fraction(0)
    cum_quote: Fraction = Fraction(0)
    status: str = "NEW"
    triggered: bool = False
    since: int = 0

    @property
    def open(self) -> bool:
        return self.status in ("NEW", "PARTIALLY_FILLED")

    @property
    def waiting(self) -> bool:
        return self.open and self.trigger is not None and not self.triggered

    @property
    def buys(self) -> bool:
        return self.side == "BUY"


class Reference:
    def __init__(self, funds: dict[str, tuple[Fraction, Fraction]]) -> None:
        self.base = {name: base for name, (base, _) in funds.items()}
        self.quote = {name: quote for name, (_, quote) in funds.items()}
        self.base["house"] = self.quote["house"] = Fraction(0)
        self.rows: list[Row] = []
        self.fills: list[tuple[int, int, Fraction, Fraction]] = []
        self.last: Fraction | None = None
        self.arrivals = 0
        self.prints: list[Fraction] = []

    # Funds: totals per account; what is held is the sum over open orders.

    def held(self, account: str) -> tuple[Fraction, Fraction]:
        mine = [row for row in self.rows if row.open and row.account == account]
        return (
            sum((row.held for row in mine if not row.buys), Fraction(0)),
            sum((row.held for row in mine if row.buys), Fraction(0)),
        )

    def free(self, account: str, *, quote: bool) -> Fraction:
        total = self.quote if quote else self.base
        return total[account] - self.held(account)[quote]

    # Requests

    def place(self, row: Row) -> None:
        if row.trigger is not None and self.last is not None and self.reached(row, self.last):
            raise No("trigger")
        if row.post_only and self.opposite(row):
            raise No("cross")
        held = self.cost(row)
        if self.free(row.account, quote=row.buys) < held:
            raise No("funds")
        row.held = held
        row.number = len(self.rows) + 1
        self.rows.append(row)
        if row.trigger is None:
            self.work(row)
            self.fire()

    def cancel(self, row: Row) -> None:
        if not row.open:
            raise No("closed")
        self.close(row, "CANCELED")

    def replace(self, row: Row, qty: Fraction, price: Fraction) -> None:
        if not row.open:
            raise No("closed")
        if row.qty is None or row.price is None or qty <= row.cum:
            raise No("malformed or below the fills")
        new = dataclasses.replace(row, qty=qty, price=price)
        if row.post_only and self.opposite(new):
            raise No("cross")
        held = (qty - row.cum) * (price if row.buys else 1)
        if self.free(row.account, quote=row.buys) < held - row.held:
            raise No("funds")
        moves = price != row.price or qty > row.qty
        row.qty, row.price, row.held = qty, price, held
        if moves and not row.waiting:
            self.work(row)
            self.fire()

    def expire(self, now: int) -> None:
        due = [row for row in self.rows if row.open and row.ends is not None and row.ends <= now]
        for row in due:
            self.close(row, "EXPIRED")

    # Matching

    def opposite(self, row: Row) -> list[Row]:
        """List the resting orders that a row may trade with, in the order of their claims."""
        found = [
            other
            for other in self.rows
            if other.open
            and not other.waiting
            and other is not row
            and other.buys != row.buys
            and other.price is not None
            and (
                row.price is None
                or (other.price <= row.price if row.buys else other.price >= row.price)
            )
        ]
        sign = 1 if row.buys else -1
        return sorted(found, key=lambda other: (sign * (other.price or 0), other.since))

    def dry_run(self, row: Row) -> tuple[Fraction, Fraction, Fraction | None, bool]:
        """Give quantity, quote and last price of what a row would get, and whether that is all."""
        got, spent = Fraction(0), Fraction(0)
        at: Fraction | None = None
        for other in self.opposite(row):
            if other.account == row.account and row.stp != "NONE":
                if row.stp == "EXPIRE_MAKER":
                    continue
                return got, spent, at or other.price, False
            price, left = other.price, other.qty - other.cum  # type: ignore[operator]
            assert price is not None
            want = row.qty - row.cum - got if row.qty is not None else None
            if want is None:
                want = Fraction((row.quote - spent) // price)  # type: ignore[operator]
            part = min(want, left)
            got, spent, at = got + part, spent + part * price, price
            if part == want and (row.qty is not None or (row.quote - spent) // price == 0):  # type: ignore[operator]
                return got, spent, at, True
        return got, spent, at, False

    def cost(self, row: Row) -> Fraction:
        if row.price is not None:
            assert row.qty is not None
            return row.qty * (row.price if row.buys else 1)
        if row.buys and row.quote is not None:
            return row.quote
        if not row.buys and row.qty is not None:
            return row.qty
        if row.trigger is not None and not row.triggered:
            got, spent, worst, complete = Fraction(0), Fraction(0), row.trigger, False
        else:
            got, spent, seen, complete = self.dry_run(row)
            worst = seen or self.last or Fraction(0)
        if row.qty is not None:
            return spent + (row.qty - got) * worst
        assert row.quote is not None
        return got if complete or not worst else got + (row.quote - spent) // worst

    def work(self, row: Row) -> None:
        self.arrivals += 1
        row.since = self.arrivals
        if row.tif == "FOK" and not self.dry_run(row)[3]:
            self.close(row, "EXPIRED")
            return
        while row.open and (others := self.opposite(row)):
            other = others[0]
            if other.account == row.account and row.stp != "NONE":
                if row.stp in ("EXPIRE_MAKER", "EXPIRE_BOTH"):
                    self.close(other, "EXPIRED")
                if row.stp != "EXPIRE_MAKER":
                    self.close(row, "EXPIRED")
                continue
            price = other.price
            assert price is not None
            if row.qty is not None:
                want = row.qty - row.cum
            else:
                want = Fraction((row.quote - row.cum_quote) // price)  # type: ignore[operator]
                if want == 0:
                    self.close(row, "EXPIRED")
                    continue
            self.trade(row, other, min(want, other.qty - other.cum), price)  # type: ignore[operator]
        if row.open and (row.tif in ("IOC", "FOK") or row.price is None):
            self.close(row, "EXPIRED")

    def trade(self, taker: Row, maker: Row, qty: Fraction, price: Fraction) -> None:
        self.fills.append((maker.number, taker.number, price, qty))
        for row, rate in ((maker, MAKER_FEE), (taker, TAKER_FEE)):
            received = qty if row.buys else qty * price
            fee = Fraction(int(received * rate * 10**8), 10**8)
            into, out = (self.base, self.quote) if row.buys else (self.quote, self.base)
            into[row.account] += received - fee
            into["house"] += fee
            out[row.account] -= qty * price if row.buys else qty
            row.held -= qty * (row.price or price) if row.buys else qty
            row.cum += qty
            row.cum_quote += qty * price
            done = row.cum == row.qty if row.quote is None else (row.quote - row.cum_quote) < price
            if done:
                self.close(row, "FILLED")
            else:
                row.status = "PARTIALLY_FILLED"
        self.last = price
        self.prints.append(price)

    def close(self, row: Row, status: str) -> None:
        row.status, row.held = status, Fraction(0)

    # Stops

    def reached(self, row: Row, price: Fraction) -> bool:
        assert row.trigger is not None
        rising = row.buys == (row.kind in STOPS)
        return price >= row.trigger if rising else price <= row.trigger

    def fire(self) -> None:
        queue: list[Row] = []
        while self.prints or queue:
            for row in self.rows:
                fires = any(self.reached(row, price) for price in self.prints if row.waiting)
                if fires and row not in queue:
                    queue.append(row)
            self.prints = []
            if queue:
                self.trigger(queue.pop(0))

    def trigger(self, row: Row) -> None:
        row.triggered = True
        if row.price is None:
            held = self.cost(row)
            if self.free(row.account, quote=row.buys) + row.held < held:
                self.close(row, "REJECTED")
                return
            row.held = held
        self.work(row)
