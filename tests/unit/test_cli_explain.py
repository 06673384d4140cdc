"""The words in which `tradegw explain` tells each kind of event."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tradegw.model import (
    AccountName,
    CommandKind,
    EventType,
    Evidence,
    EvidenceKind,
    Fill,
    Liquidity,
    OrderEvent,
    ReplaceTerms,
    Side,
    TradeId,
)
from tradegw.testing import an_order
from tradegw.transports.cli.explain import event_fields, tell

PAPER = AccountName("paper")
FILL = Fill(
    trade_id=TradeId("t7"),
    account=PAPER,
    venue="mock",
    symbol="BTC/USDT",
    side=Side.BUY,
    last_qty=Decimal("0.4"),
    last_px=Decimal(65000),
    fee=Decimal("0.001"),
    fee_asset="BTC",
    liquidity=Liquidity.MAKER,
)


def an_event(kind: EventType, **more: object) -> OrderEvent:
    fields: dict[str, object] = {"account": PAPER, "time_ns": 1, "order": an_order(), **more}
    return OrderEvent(event_type=kind, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("event", "said"),
    [
        pytest.param(
            an_event(EventType.INTENT, request_id="r1"),
            ["asked for BUY", "request r1", "stored before anything was sent"],
            id="who asked, and stored first",
        ),
        pytest.param(
            an_event(EventType.INTENT, order=an_order(queued=True)),
            ["stored before anything was sent", "the venue is out, so it waits here"],
            id="waits here",
        ),
        pytest.param(
            an_event(EventType.PENDING_CANCEL, order=an_order(queued=True), text="out"),
            ["cancel asked", "waits here until the venue can be asked: out"],
            id="its cancel waits here",
        ),
        pytest.param(
            an_event(EventType.DEQUEUED, command=CommandKind.NEW),
            ["the turn of the order has come", "it is sent next"],
            id="its turn has come",
        ),
        pytest.param(
            an_event(EventType.SENT_UNANSWERED, command=CommandKind.CANCEL, text="no answer"),
            ["nobody knows what became of the cancel", "no answer"],
            id="doubt",
        ),
        pytest.param(
            an_event(
                EventType.DOUBT_RESOLVED,
                command=CommandKind.NEW,
                evidence=Evidence(kind=EvidenceKind.FILL, detail="trade t7"),
            ),
            ["the doubt about the order is settled", "a fill proves it", "trade t7"],
            id="doubt settled, on evidence",
        ),
        pytest.param(
            an_event(EventType.TRADE, fill=FILL),
            ["filled 0.4 at 65000", "fee 0.001 BTC", "as maker", "trade t7"],
            id="fill",
        ),
        pytest.param(
            an_event(EventType.TRADE, fill=FILL, late=True),
            ["late: the order had closed"],
            id="late fill",
        ),
        pytest.param(
            an_event(
                EventType.PENDING_REPLACE,
                order=an_order(pending_terms=ReplaceTerms(price=Decimal("64000.50"))),
            ),
            ["replace asked", "price 64000.50", "stored before it was sent"],
            id="replace",
        ),
        pytest.param(
            an_event(
                EventType.REJECTED,
                reason="NEVER_REACHED_VENUE",
                evidence=Evidence(kind=EvidenceKind.NOT_SENT),
            ),
            ["refused: NEVER_REACHED_VENUE", "no byte of it ever left"],
            id="never sent",
        ),
        pytest.param(an_event(EventType.REVIVED), ["ALARM", "after all"], id="revived"),
        pytest.param(an_event(EventType.OVERFILL), ["ALARM", "more was filled"], id="overfill"),
        pytest.param(
            an_event(EventType.HISTORY_GAP, order=None), ["ALARM", "away longer"], id="history gap"
        ),
    ],
)
def test_an_event_is_told(event: OrderEvent, said: list[str]) -> None:
    told = tell(event)
    for words in said:
        assert words in told


@pytest.mark.parametrize("kind", EventType)
def test_every_kind_of_event_is_told(kind: EventType) -> None:
    """No event falls back to its bare name, and one without its order or fill is told as well."""
    assert tell(an_event(kind, fill=FILL)) != kind
    assert tell(an_event(kind, order=None))


def test_an_event_as_json_says_what_it_moved_instead_of_the_whole_order() -> None:
    fields = event_fields(an_event(EventType.TRADE, fill=FILL))
    assert "order" not in fields
    assert fields["fill"]["last_qty"] == "0.4"
    assert {"ord_status", "cum_qty", "leaves_qty", "in_doubt", "told"} <= set(fields)
