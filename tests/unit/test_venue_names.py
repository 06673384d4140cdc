"""Names of orders at venues, and nonces."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest

from tradegw.engine.venue_ids import hex32
from tradegw.engine.venue_names import Nonces, VenueNames
from tradegw.errors import StoreUnavailable, Unavailable
from tradegw.model import AccountId, AccountName, OrderId
from tradegw.testing import TurnedClock
from tradegw.venue import ClientIdCodec

UINT32, HEX32 = ClientIdCodec.UINT32, ClientIdCodec.HEX32


class Numbers:
    """Gives blocks, as a store does."""

    def __init__(self) -> None:
        self.next: int | None = None
        self.asked = 0
        self.is_away = False

    async def take_client_numbers(self, account_id: AccountId, *, count: int, first: int) -> range:
        await asyncio.sleep(0)
        if self.is_away:
            raise StoreUnavailable("away")
        self.asked += 1
        start = first if self.next is None else self.next
        self.next = start + count
        return range(start, self.next)


def names(store: Numbers, time_s: int = 1_800_000_000, account: str = "main") -> VenueNames:
    clock = TurnedClock(time_ns=time_s * 10**9)
    return VenueNames(AccountId(uuid4()), AccountName(account), "0a0b0c0d", store, clock)  # type: ignore[arg-type]


async def test_numbers_are_all_different_and_fit_32_bits():
    store = Numbers()
    given = names(store)
    order_id = OrderId(uuid4())
    taken = await asyncio.gather(*(given.take(UINT32, order_id, 0) for _ in range(2_500)))
    assert len(set(taken)) == 2_500
    assert store.asked == 3
    assert all(0 <= int(name) < 2**32 for name in taken)


async def test_a_new_start_takes_new_numbers():
    store = Numbers()
    order_id = OrderId(uuid4())
    first = await names(store).take(UINT32, order_id, 0)
    second = await names(store).take(UINT32, order_id, 0)
    assert first != second


async def test_an_account_whose_store_was_lost_begins_later_than_before():
    order_id = OrderId(uuid4())
    before = int(await names(Numbers(), 1_800_000_000).take(UINT32, order_id, 0))
    after = int(await names(Numbers(), 1_800_000_100).take(UINT32, order_id, 0))
    assert after - before == 1_600


async def test_accounts_begin_far_from_each_other():
    order_id = OrderId(uuid4())
    first = int(await names(Numbers()).take(UINT32, order_id, 0))
    other = int(await names(Numbers(), account="other").take(UINT32, order_id, 0))
    assert abs(first - other) > 1_000_000


async def test_hex_names_need_no_store():
    order_id = OrderId(uuid4())
    store = Numbers()
    assert await names(store).take(HEX32, order_id, 3) == hex32("0a0b0c0d", order_id, 3)
    assert store.asked == 0


async def test_no_name_without_the_store_and_none_beyond_32_bits():
    store = Numbers()
    given = names(store)
    store.is_away = True
    with pytest.raises(Unavailable):
        await given.take(UINT32, OrderId(uuid4()), 0)
    store.is_away = False
    store.next = 2**32 - 1_500
    assert int(await given.take(UINT32, OrderId(uuid4()), 0)) == 2**32 - 1_500
    store.next = 2**32 - 500
    with pytest.raises(Unavailable, match="under another account name") as e:
        for _ in range(1_000):
            await given.take(UINT32, OrderId(uuid4()), 0)
    assert e.value.reason == "NAMES_USED_UP"


def test_nonces_rise_though_the_clock_stands_or_goes_back():
    nonces = Nonces()
    assert [nonces.next(t * 1_000_000) for t in (5, 5, 4, 9)] == [5, 6, 7, 9]
